"""A server that runs: its address, its networks, its signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import h11
import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pixit.config import settings_from_mapping
from pixit.files import writable
from pixit.ownership import claim
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.serve.app import make_app
from pixit.serve.guard import is_loopback
from pixit.serve.limits import ServeSettings
from pixit.serve.logs import Log
from pixit.serve.protocol import Hello
from pixit.serve.sessions import Open
from pixit.serve.storage import Storage
from pixit.serve.workers import make_workers_here, make_workers_on
from pixit.types import PixitError

GPU_BATCH = 16
SHORTEST_TOKEN = 16
REQUEST_S = 15.0
"""How long a client may take for the head of a request, and for the rest of one that is answered already."""


class HttpProtocol(H11Protocol):
    """uvicorn's, but that a client who does not say what it wants cannot keep its connection."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            self._set_deadline()
        super().data_received(data)
        is_at_request = self.conn.their_state is not h11.IDLE and self.conn.our_state is not h11.DONE
        if self._deadline is not None and is_at_request:
            self._deadline.cancel()
            self._deadline = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if (
            self.conn.their_state is h11.SEND_BODY and self._deadline is None
        ):  # a recording that was refused, say
            self._set_deadline()

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, but that a client who does not read cannot keep its connection, nor fill the memory with pongs."""

    _pong = b""

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:  # the answer to the latest ping is one to those before it, and waits until the client reads
            self._pong = b"".join(self.conn.data_to_send()) or self._pong

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.write(self._pong)
        self._pong = b""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":  # refused, in order: no handshake is missing
            self.handshake_complete = True

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's, but that it ends with status 0 when it is asked to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # signals are its own
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def check_address(host: str, token: str | None) -> None:
    """Raise a PixitError if a server would be open to a network without a token, or with one that is guessed."""
    if token is None and not is_loopback(host):
        raise PixitError(
            f"--host {host}: can be reached from other machines; set PIXIT_TOKEN, or pass --token, which clients "
            "have to know"
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise PixitError(
            f"the token has {len(token)} characters; expected at least {SHORTEST_TOKEN} printable ones of ASCII, "
            "as from openssl rand -hex 24"
        )


def serve(
    host: str,
    port: int,
    token: str | None,
    networks: tuple[str | None, str | None, str],
    settings: ServeSettings,
    separation: Mapping[str, Any],
    streaming: Mapping[str, Any],
    cluster: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    host, port, token
        Address; port 0 is any free one. Clients have to know the token, without which only loopback is served.
    networks
        Model, embedder and device, as for `Separator.from_pretrained`.
    settings, separation, streaming
        What is allowed; differences from the settings of jobs, and of streams.
    cluster
        Address of a Ray cluster that does the jobs.

    Raises
    ------
    PixitError
        If the address is not safe or not free, the networks cannot be loaded, another server has the folder, or the
        database cannot be opened.
    """
    check_address(host, token)
    os.environ.pop("PIXIT_TOKEN", None)  # the processes that read strangers' files need not know it
    listener = _listen(host, port)
    host_name = socket.gethostname()  # other machines may share the folder
    owner = f"{host_name}:{settings.folder.resolve()}"
    with listener, writable(settings.folder), claim(settings.folder / f"server {host_name}") as is_ours:
        if not is_ours:
            raise PixitError(f"{settings.folder}: another server has it; choose another --folder")
        storage = (
            Storage.in_folder(settings.folder, owner)
            if settings.storage is None
            else Storage(settings.storage, owner)
        )
        model, embedder, device = networks
        loaded = StreamingSeparator.from_pretrained(
            model, embedder, device, streaming or None, known_speakers=settings.known_speakers
        )
        asked = model, embedder, device, separation
        workers = (
            make_workers_here(asked, settings)
            if cluster is None
            else make_workers_on(cluster, asked, settings)
        )
        on_cpu = loaded.device.type == "cpu"
        num_threads = share_threads() if on_cpu else 1  # after the workers have counted them
        batch_size = settings.batch_size or (1 if on_cpu else GPU_BATCH)
        log = Log()
        app = make_app(
            settings,
            storage,
            workers,
            open_streams_of(loaded),
            token=token,
            batch_size=batch_size,
            num_threads=num_threads,
            log=log,
        )
        log("listening", host=host, port=listener.getsockname()[1], streams_at_a_time=num_threads)
        Server(configure(app, settings)).run(sockets=[listener])


def configure(app: Any, settings: ServeSettings) -> uvicorn.Config:
    """Return how uvicorn runs the application."""
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=HttpProtocol,
        ws=SocketProtocol,
        ws_max_size=settings.max_message_bytes,
        ws_ping_interval=None,  # a client that is slowed down does not hear pings; who says nothing is idle
        ws_per_message_deflate=False,  # a small message could be a large one
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        limit_concurrency=2 * settings.max_streams + 100,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )


def share_threads() -> int:
    """Give every window a thread of its own for its arithmetic, and return how many may be heard at a time."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return num_threads


def open_streams_of(loaded: StreamingSeparator) -> Open:
    """Return what makes new streams with the networks and settings of one that is loaded."""

    def open_stream(hello: Hello) -> StreamingSeparator:
        tree = loaded.settings.model_dump(exclude_unset=True)
        for name in ("step_s", "latency_s"):
            if (value := getattr(hello, name)) is not None:
                tree[name] = value
        if hello.max_speakers is not None:
            tree.setdefault("clustering", {})["max_speakers"] = hello.max_speakers
        settings = settings_from_mapping(StreamingSettings, tree, "hello")
        place = str(loaded.device), hello.sample_rate, hello.channel
        return StreamingSeparator(
            loaded.model, loaded.embedder, settings, *place, known_speakers=loaded.known
        )

    return open_stream


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PixitError(
            f"--host {host} --port {port}: cannot be listened to ({error.strerror or error}); choose another one"
        ) from None
    except OverflowError:
        raise PixitError(f"--port {port}: expected 0 to 65535") from None
