"""A client of a server's streams: sends sound, gets updates, and goes on after a broken connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from pixit.config import Settings
from pixit.serve.protocol import FORMATS, PATH, VERSION, Format, decode_tracks, to_json
from pixit.types import PixitError, one_line

Samples = NDArray[np.float32]
RETRY_S = (0.1, 2.0)
"""First and longest pause before the next try; each is twice the one before it."""
SHORTEST_S = 0.1
"""Sound is sent in messages of at least this length, where there is so much."""
BROKEN = ("idle", "internal")
"""Errors after which a client may come back."""


class SessionLost(PixitError):
    """The server does not know the stream any more: it was started again, or the client was away for too long."""


class ClientSettings(Settings):
    """What a client asks for."""

    latency_s: float | None = Field(None, gt=0, description="seconds after which a moment is given out")
    step_s: float | None = Field(None, gt=0, description="seconds from one window to the next")
    max_speakers: int | None = Field(None, ge=1, description="most speakers")
    tracks: Format | None = None
    patience_s: float = Field(60, ge=0, description="how long a server that is out of reach is waited for")


@dataclass(frozen=True)
class Received:
    """An update as it came: the message, and the tracks if they were asked for, speaker -> (end - start,)."""

    message: dict[str, Any]
    tracks: dict[str, Samples]
    sample_rate_hz: int


class StreamClient:
    """One stream.

    Parameters
    ----------
    server, token
        Address of the server, as ``"http://127.0.0.1:8000"``; what it asks for.
    sample_rate_hz
        Of the sound that is sent.
    settings
        What is asked for.
    say
        Called with a line when the connection breaks and when it is there again.

    Raises
    ------
    PixitError
        If the address is none.
    """

    def __init__(
        self,
        server: str,
        sample_rate_hz: int,
        settings: ClientSettings | None = None,
        token: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.address, self._token, self._say = stream_address(server), token, say
        self._rate_hz, self._settings = sample_rate_hz, settings or ClientSettings()
        self._kept: deque[Samples] = deque()  # from `received` on
        self._received = self._sent = self._read = self._num_updates = 0
        self._ahead = self._most = sample_rate_hz  # until the server says
        self._session: str | None = None
        self._track_rate_hz = sample_rate_hz
        self._is_at_end = False
        self._changed = asyncio.Condition()
        self._failure: BaseException | None = None

    async def run(self, blocks: AsyncIterator[Samples]) -> AsyncGenerator[Received, None]:
        """Send mono blocks (n,), full scale 1, and yield each update once, until the last.

        An update counts as arrived when the next one is asked for.

        Raises
        ------
        PixitError
            If the server refuses, or stays out of reach.
        SessionLost
            If it is there and the stream is not.
        """
        reading = asyncio.create_task(self._fill(blocks))
        broken_s: float | None = None
        try:
            while True:
                try:
                    async with self._connect() as socket:
                        await self._greet(socket)
                        if broken_s is not None:
                            self._say("the connection is there again")
                        broken_s = None
                        async for received in self._exchange(socket):
                            yield received
                    if self._failure is not None:
                        raise self._failure
                    return
                except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
                    broken_s = await self._wait(error, broken_s)
        finally:
            reading.cancel()

    def _connect(self) -> connect:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            return connect(
                self.address,
                additional_headers=headers,
                max_size=None,
                compression=None,
                open_timeout=10,
                ping_timeout=60,  # a server that is behind reads later
            )
        except (InvalidURI, ValueError) as error:
            raise PixitError(f"{self.address}: is no address ({one_line(error)})") from None

    async def _wait(self, error: Exception, broken_s: float | None) -> float:
        """Wait before the next try; a PixitError if there is none."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        is_too_often = status == HTTPStatus.TOO_MANY_REQUESTS
        if is_too_often and self._session is None:
            raise PixitError(
                f"{self.address}: takes no more requests from here for now; try again in a minute"
            )
        if status is not None and status < 500 and not is_too_often:
            raise PixitError(f"{self.address}: answers {status}; is it a pixit server, and open to you?")
        reason = one_line(error) or type(error).__name__
        if self._session is None:
            raise PixitError(f"{self.address}: cannot be reached ({reason}); is the server started?")
        now_s = time.monotonic()
        if broken_s is None:
            self._say(f"the connection broke ({reason}); trying again")
            broken_s = now_s
        if now_s - broken_s > self._settings.patience_s:
            raise PixitError(f"{self.address}: is out of reach for {now_s - broken_s:.0f} s; giving up")
        await asyncio.sleep(min(RETRY_S[1], max(RETRY_S[0], now_s - broken_s)))
        return broken_s

    async def _fill(self, blocks: AsyncIterator[Samples]) -> None:
        """Read the source, but not far ahead of the server."""
        try:
            async for block in blocks:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._read - self._received < 2 * self._ahead)
                    self._kept.append(np.asarray(block, np.float32))
                    self._read += len(block)
                    self._changed.notify_all()
        except PixitError as error:
            self._failure = error
        async with self._changed:
            self._is_at_end = True
            self._changed.notify_all()

    async def _greet(self, socket: ClientConnection) -> None:
        asked = self._settings
        if self._session is not None:
            first: dict[str, Any] = {"type": "resume", "session": self._session, "update": self._num_updates}
        else:
            first = {"type": "hello", "sample_rate": self._rate_hz, "format": "float32", "resume": True}
            first |= asked.model_dump(exclude_none=True, exclude={"patience_s"})
        await socket.send(to_json({**first, "version": VERSION}))
        told = self._check(json.loads(await socket.recv()))
        self._session, self._track_rate_hz = told["session"], told["sample_rate"]
        self._ahead = round(told["ahead_s"] * self._rate_hz)
        self._most = min(self._rate_hz, told["max_message_bytes"] // FORMATS["float32"].itemsize)
        await self._advance(told["received"])
        self._sent = self._received

    def _check(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["type"] != "error":
            return message
        code, text = message["code"], f"the server refuses: {message['message']}"
        if code in ("unknown_session", "lost"):
            raise SessionLost(text)
        if code in BROKEN:
            raise ConnectionError(message["message"])
        raise PixitError(text)

    async def _advance(self, received: int) -> None:
        """Let go of sound that the server has taken; an update that comes again may tell of less."""
        async with self._changed:
            received = max(received, self._received)
            passed = received - self._received
            while passed > 0 and self._kept:
                first = self._kept.popleft()
                if len(first) > passed:
                    self._kept.appendleft(first[passed:])
                passed -= len(first)
            self._received = received
            self._changed.notify_all()

    async def _exchange(self, socket: ClientConnection) -> AsyncIterator[Received]:
        sending = asyncio.create_task(self._send(socket))
        try:
            while True:
                message = self._check(json.loads(await socket.recv()))
                tracks: dict[str, Samples] = {}
                if message["tracks"]:
                    data = await socket.recv()
                    assert isinstance(data, bytes)
                    assert self._settings.tracks is not None
                    tracks = decode_tracks(data, message, self._settings.tracks)
                yield Received(message, tracks, self._track_rate_hz)
                self._num_updates = message["update"]
                await self._advance(message["received"])
                await socket.send(to_json({"type": "ack", "update": self._num_updates}))
                if message["final"]:
                    return
        finally:
            sending.cancel()

    async def _send(self, socket: ClientConnection) -> None:
        """Send what is kept, as far ahead of the server as it allows, and at the end say so."""
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(self._may_send)
                    block = self._next_block()
                if block is None:
                    await socket.send('{"type":"finish"}')
                    return
                self._sent += len(block)
                await socket.send(block.astype(FORMATS["float32"]).tobytes())
        except ConnectionClosed:  # `_exchange` sees it too
            return

    def _may_send(self) -> bool:
        waiting = self._read - self._sent
        enough = waiting >= SHORTEST_S * self._rate_hz or self._is_at_end
        return (self._is_at_end and not waiting) or (enough and self._sent - self._received < self._ahead)

    def _next_block(self) -> Samples | None:
        """Return the next message's samples; None at the end."""
        passed, most = self._sent - self._received, self._most
        parts: list[Samples] = []
        for block in self._kept:
            if passed < len(block):
                parts.append(block[passed : passed + most])
                most -= len(parts[-1])
            passed = max(0, passed - len(block))
            if most <= 0:
                break
        return np.concatenate(parts) if parts else None


def stream_address(server: str) -> str:
    """Return the address of a server's streams, given its own; a PixitError if it is none."""
    parts = urlsplit(server if "://" in server else f"http://{server}")
    kinds = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    try:
        is_address = parts.scheme in kinds and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    if not is_address:
        raise PixitError(f"--server {server}: is no address, expected as in http://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    path = path if path.endswith(PATH) else f"{path}{PATH}"
    return urlunsplit((kinds[parts.scheme], parts.netloc, path, "", ""))
