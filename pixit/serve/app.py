"""The server as an ASGI application: its parts put together, its routes, its beginning and its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import resources
from importlib.metadata import version
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pixit.pipeline.workers import Workers
from pixit.serve.guard import Guard, error_response
from pixit.serve.jobs import Jobs
from pixit.serve.limits import Refusal, ServeSettings
from pixit.serve.logs import Log
from pixit.serve.metrics import Metrics
from pixit.serve.recordings import Recordings
from pixit.serve.results import Results
from pixit.serve.scheduler import Scheduler
from pixit.serve.sessions import Open, Sessions
from pixit.serve.storage import Storage, StorageError
from pixit.serve.streams import Socket, StreamService

HOUSEKEEPING_S = 5.0
PAGE = {"page.css": "text/css", "page.js": "text/javascript", "live.js": "text/javascript"} | {
    "jobs.js": "text/javascript",
    "timeline.js": "text/javascript",
    "microphone.js": "text/javascript",
}
"""Files of the page in ``pixit/serve/page``, beside ``index.html``; its look is the report's ``style.css``."""


def make_app(
    settings: ServeSettings,
    storage: Storage,
    make_workers: Callable[[], Workers],
    open_stream: Open,
    *,
    token: str | None = None,
    batch_size: int = 1,
    num_threads: int = 1,
    log: Log | None = None,
) -> Starlette:
    """Put a server together.

    Parameters
    ----------
    settings, storage
        What is allowed; where jobs are kept.
    make_workers, open_stream
        Make those who separate recordings, and the state of a new stream.
    token
        What clients have to know; None for a server of this machine alone.
    batch_size, num_threads
        Of the windows of streams, as for `Scheduler`.
    log
        Where events go.
    """
    log = log or Log()
    metrics = Metrics(storage.count, lambda: sessions.count())
    scheduler = Scheduler(metrics, batch_size, num_threads)
    sessions = Sessions(settings, scheduler, metrics, open_stream)
    jobs = Jobs(settings, storage, make_workers, log)
    recordings = Recordings(settings, jobs, Results(jobs, log), token)
    service = StreamService(settings, sessions, metrics, log, token)
    middleware = [Middleware(partial(Guard, settings=settings, token=token, metrics=metrics, log=log))]
    if settings.cors:
        methods, headers = ["GET", "POST", "DELETE"], ["Authorization"]
        cors = partial(CORSMiddleware, allow_methods=methods, allow_headers=headers)
        middleware.append(Middleware(partial(cors, allow_origins=settings.cors)))
    return Starlette(
        routes=[*_routes(recordings, service), *_routes_about(jobs, sessions, metrics)],
        middleware=middleware,
        exception_handlers=HANDLERS,
        lifespan=lambda _: _living(scheduler, jobs, sessions, storage, log),
    )


def _routes(recordings: Recordings, service: StreamService) -> list[BaseRoute]:
    """Return what clients use: recordings, streams and the page."""

    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await Socket(websocket, service).run()

    return [
        Route("/v1/recordings", recordings.create, methods=["POST"]),
        Route("/v1/jobs/{job_id}", recordings.show, methods=["GET"]),
        Route("/v1/jobs/{job_id}", recordings.remove, methods=["DELETE"]),
        Route("/v1/jobs/{job_id}/tracks/{speaker}", recordings.track, methods=["GET"]),
        Route("/v1/jobs/{job_id}/{name}", recordings.result, methods=["GET"]),
        WebSocketRoute("/v1/stream", stream),
        Route("/", show_page, methods=["GET"]),
        Route("/assets/{name}", show_asset, methods=["GET"]),
    ]


def _routes_about(jobs: Jobs, sessions: Sessions, metrics: Metrics) -> list[BaseRoute]:
    """Return what is asked about the server itself."""

    async def healthz(_: Request) -> Response:
        state = {"status": "ok" if jobs.is_alive else "failing", "version": version("pixit-audio")}
        return JSONResponse(state | {"streams": sessions.count()}, 200 if jobs.is_alive else 503)

    async def show_metrics(_: Request) -> Response:
        return Response(await run_in_threadpool(metrics.render), media_type="text/plain; version=0.0.4")

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/metrics", show_metrics, methods=["GET"]),
        Route("/openapi.json", show_openapi, methods=["GET"]),
    ]


@asynccontextmanager
async def _living(
    scheduler: Scheduler, jobs: Jobs, sessions: Sessions, storage: Storage, log: Log
) -> AsyncIterator[None]:
    """Begin what goes on beside the requests, and end it with the server."""
    scheduler.start()
    await run_in_threadpool(jobs.start)
    house = asyncio.create_task(_keep_house(sessions))
    log("server_begins", version=version("pixit-audio"))
    try:
        yield
    finally:
        house.cancel()
        await scheduler.stop()
        await run_in_threadpool(jobs.stop)
        storage.close()
        log("server_ends")


async def _keep_house(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        sessions.expire()


async def _answer_refusal(_: Request, error: Refusal) -> Response:
    return error_response(error)


async def _answer_storage_error(_: Request, __: StorageError) -> Response:
    return error_response(Refusal(503, "busy", "the database does not answer; try again later"))


async def _answer_http_error(_: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    headers = dict(error.headers or {})
    return error_response(Refusal(error.status_code, code, f"{error.detail}; see /openapi.json", headers))


HANDLERS: dict[Any, Callable[..., Awaitable[Response]]] = {
    Refusal: _answer_refusal,
    StorageError: _answer_storage_error,
    HTTPException: _answer_http_error,
}


def read_openapi() -> dict[str, Any]:
    """Return the description of the HTTP interface (OpenAPI 3.1)."""
    text = (resources.files("pixit.serve") / "openapi.yaml").read_text(encoding="utf-8")
    described: dict[str, Any] = yaml.safe_load(text)
    described["info"]["version"] = version("pixit-audio")
    return described


async def show_openapi(_: Request) -> Response:
    """``GET /openapi.json``."""
    return Response(json.dumps(read_openapi()), media_type="application/json")


async def show_page(_: Request) -> Response:
    """``GET /``."""
    page = resources.files("pixit.serve") / "page" / "index.html"
    return Response(
        page.read_bytes(), media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"}
    )


async def show_asset(request: Request) -> Response:
    """``GET /assets/NAME``: a file of the page."""
    name, found = request.path_params["name"], None
    with suppress(FileNotFoundError):
        if name == "style.css":
            found = (resources.files("pixit.report") / "style.css").read_bytes()
        elif name in PAGE:
            found = (resources.files("pixit.serve") / "page" / name).read_bytes()
    if found is None:
        raise Refusal(404, "not_found", "there is no such file")
    kind = PAGE.get(name, "text/css")
    return Response(found, media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})
