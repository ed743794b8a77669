"""Who may do what: looks at every request before anything else does, and writes down what became of it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixit.serve.limits import Rate, Refusal, ServeSettings
from pixit.serve.logs import Log
from pixit.serve.metrics import Metrics

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPEN = ("/healthz", "/openapi.json", "/", "/assets/")
"""Paths that need no token: what is in them is in the package too."""


def is_token(given: str | None, token: str) -> bool:
    """Compare a token in constant time."""
    return given is not None and hmac.compare_digest(given.encode(), token.encode())


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """Return the token of an Authorization header."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def key_of(job_id: str, token: str | None) -> str | None:
    """Return what stands for the token in links to the results of one job; None if there is no token."""
    if token is None:
        return None
    return hmac.new(token.encode(), job_id.encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses what must not be, before the application sees it.

    Parameters
    ----------
    app
        The application.
    settings, token, metrics, log
        Without a token the server listens to its own machine only, and every page in a browser there could write to
        it: then the ``Host`` must be this machine, and the ``Origin``, if there is one, the same or an allowed one.
    """

    def __init__(
        self, app: ASGIApp, settings: ServeSettings, token: str | None, metrics: Metrics, log: Log
    ) -> None:
        self._app, self._settings, self._token = app, settings, token
        self._metrics, self._log = metrics, log
        self._rate = Rate(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except Refusal as refusal:
            status = refusal.status
            await error_response(refusal)(scope, receive, send_and_note)
        else:
            await self._app(scope, receive, send_and_note)
        endpoint = scope.get("endpoint")
        route = getattr(endpoint, "__name__", "none")
        status = status or 101  # of a socket, what became of it is told by its stream
        self._metrics.requests.labels(route, str(status)).inc()
        if route != "healthz":
            ms = round(1000 * (time.perf_counter() - started_s))
            self._log("request", method=scope.get("method", "WS"), route=route, status=status, ms=ms)

    def _check(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        is_open = path in OPEN or path.startswith(OPEN[-1])
        address = scope["client"][0] if scope.get("client") else ""
        if path != "/healthz" and not self._rate.allows(address):
            raise Refusal(429, "too_many_requests", "too many requests; wait a minute", {"Retry-After": "60"})
        if self._token is None:
            self._check_origin(headers)
        elif scope["type"] == "http" and not is_open and scope["method"] != "OPTIONS":
            self._check_token(scope, headers, path)

    def _check_origin(self, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_loopback(_split(f"//{host}").hostname or ""):
            raise Refusal(
                403, "wrong_host", "without a token the server is for its own machine, as 127.0.0.1"
            )
        if origin is not None and origin not in self._settings.cors and _split(origin).netloc != host:
            raise Refusal(403, "wrong_origin", "pages of other sites may not use this server (see --cors)")

    def _check_token(self, scope: Scope, headers: Headers, path: str) -> None:
        assert self._token is not None
        if is_token(bearer_of(headers), self._token):
            return
        parts = path.split("/")  # "", "v1", "jobs", ID, …: a link to a result carries a key of its own
        query = dict(pair.partition("=")[::2] for pair in scope["query_string"].decode("latin-1").split("&"))
        is_link = scope["method"] in ("GET", "HEAD") and parts[1:3] == ["v1", "jobs"] and len(parts) > 4
        if is_link and is_token(query.get("key"), key_of(parts[3], self._token) or ""):
            return
        raise Refusal(
            *(401, "unauthorized", "the token is missing or wrong; send it as Authorization: Bearer TOKEN"),
            {"WWW-Authenticate": "Bearer"},
        )


def _split(address: str) -> SplitResult:
    """Return the parts of an address; empty ones of what is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", "", "", "")


def error_response(refusal: Refusal) -> JSONResponse:
    """Return a refusal as JSON."""
    content = {"error": {"code": refusal.code, "message": refusal.message}}
    return JSONResponse(content, refusal.status, refusal.headers)
