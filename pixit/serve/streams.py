"""The socket of a stream: reads what a client sends, one message at a time, and answers.

No message is read before the one ahead of it is heard: a client that sends too much is slowed down by its own
connection, and one that does not read is not heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from pixit.serve.guard import bearer_of, is_token
from pixit.serve.limits import ServeSettings
from pixit.serve.logs import Log
from pixit.serve.metrics import Metrics
from pixit.serve.protocol import (
    CLOSE_CODES,
    FINISHED,
    Ack,
    Hello,
    Resume,
    StreamError,
    decode_audio,
    parse_first,
    parse_later,
    to_json,
)
from pixit.serve.sessions import Numbered, Session, Sessions

HELLO_S = 10.0
"""How long a client may take to say what it wants."""
CLIENT_FAULTS = (1002, 1003, 1007, 1009)
"""Codes of a socket that was closed since the client broke its protocol: it need not come back."""


@dataclass(frozen=True)
class StreamService:
    """What all sockets share."""

    settings: ServeSettings
    sessions: Sessions
    metrics: Metrics
    log: Log
    token: str | None


class Socket:
    """One connection.

    Parameters
    ----------
    websocket, service
        The connection, accepted; what it shares with others.
    """

    def __init__(self, websocket: WebSocket, service: StreamService) -> None:
        self._socket, self._service = websocket, service
        self._taken_over: asyncio.Event | None = None

    async def run(self) -> None:
        """Serve the client until the stream or the connection is at its end; raises nothing."""
        try:
            await self._serve()
        except StreamError as error:
            await self._refuse(error)
        except ConnectionError:
            self._service.log("stream_broken")
        except Exception as error:
            self._service.log(
                "stream_failed", level="error", error=type(error).__name__, reason=str(error)[:200]
            )
            await self._refuse(StreamError("internal", "an error of the server; its log says more"))
        else:
            await self._quietly(self._socket.close(FINISHED))

    async def _serve(self) -> None:
        first = parse_first(await self._receive(HELLO_S, text_only=True))  # type: ignore[arg-type]
        token = self._service.token
        if token is not None and not is_token(first.token or bearer_of(self._socket.headers), token):
            raise StreamError("unauthorized", "the token is missing or wrong")
        sessions = self._service.sessions
        session = await sessions.open(first) if isinstance(first, Hello) else sessions.find(first.session)
        async with sessions.attached(session):
            self._taken_over = session.taken_over
            self._service.log("stream_begins" if isinstance(first, Hello) else "stream_resumed")
            await self._greet(session, first)
            await self._listen(session)
        self._service.log("stream_ends", seconds=round(session.received / session.hello.sample_rate, 2))

    async def _greet(self, session: Session, first: Hello | Resume) -> None:
        settings, stream = self._service.settings, session.stream
        updates = session.since(first.update) if isinstance(first, Resume) else []
        message = {
            "type": "ready" if isinstance(first, Hello) else "resumed",
            "version": 1,
            "session": session.id,
            "received": session.received,
            "sample_rate": stream.rate_hz,
            "step_s": round(stream.geometry.step_samples / stream.rate_hz, 4),
            "latency_s": round(stream.latency_samples / stream.rate_hz, 4),
            "resume_s": settings.resume_s if session.hello.resume else 0,
            "ahead_s": settings.ahead_s,
            "max_message_bytes": settings.max_message_bytes,
            "max_stream_s": settings.max_stream_s,
        }
        await self._send(to_json(message))
        await self._send_updates(updates)

    async def _listen(self, session: Session) -> None:
        idle_s = self._service.settings.idle_s
        while not session.is_finished:
            message = await self._receive(idle_s)
            if isinstance(message, bytes):
                await self._hear(session, message)
            elif isinstance(later := parse_later(message), Ack):
                session.acknowledge(later.update)
            else:
                await self._send_updates(await session.finish())
        while session.hello.resume and not session.is_acknowledged:
            message = await self._receive(idle_s, text_only=True)
            assert isinstance(message, str)
            if isinstance(later := parse_later(message), Ack):
                session.acknowledge(later.update)

    async def _hear(self, session: Session, message: bytes) -> None:
        samples = decode_audio(message, session.hello.format, session.hello.channels)
        for piece in session.pieces(samples):
            await self._send_updates(await session.hear(piece))
            if session.taken_over.is_set():
                raise _taken_over()

    async def _send_updates(self, updates: Sequence[Numbered]) -> None:
        for numbered in updates:
            await self._send(numbered.text)
            if numbered.tracks is not None:
                await self._send(numbered.tracks)

    async def _send(self, content: str | bytes) -> None:
        is_text = isinstance(content, str)
        sending = self._socket.send_text(content) if is_text else self._socket.send_bytes(content)  # type: ignore[arg-type]
        try:
            await self._unless_taken_over(sending, self._service.settings.idle_s)
        except TimeoutError:
            raise ConnectionError("the client does not read") from None

    async def _receive(self, timeout_s: float, text_only: bool = False) -> str | bytes:
        try:
            message = await self._unless_taken_over(self._socket.receive(), timeout_s)
        except TimeoutError:
            raise StreamError("idle", f"nothing came for {timeout_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            if message.get("code") in CLIENT_FAULTS:
                raise StreamError("bad_message", "the connection broke its protocol")
            raise ConnectionError("the client is gone")
        text = message.get("text")
        if text is not None:
            return str(text)
        if text_only:
            raise StreamError("bad_message", "found binary data, expected JSON in a text message")
        return bytes(message["bytes"])

    async def _unless_taken_over(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        """Wait for a message to come or to go; not if another connection takes the stream, nor for ever."""
        waiting = [asyncio.ensure_future(work)]
        if self._taken_over is not None:
            waiting.append(asyncio.ensure_future(self._taken_over.wait()))
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting[0].done():
                return waiting[0].result()
        except (WebSocketDisconnect, RuntimeError) as error:  # Starlette's, of a socket that is closed
            raise ConnectionError(str(error)) from None
        finally:
            for task in waiting:
                task.cancel()
        if len(waiting) > 1 and waiting[1].done():
            raise _taken_over()
        raise TimeoutError

    async def _refuse(self, error: StreamError) -> None:
        self._service.metrics.errors.labels(error.code).inc()
        self._service.log("stream_refused", code=error.code)
        self._taken_over = None
        message = {"type": "error", "code": error.code, "message": error.message}
        await self._quietly(self._socket.send_text(to_json(message)))
        await self._quietly(self._socket.close(CLOSE_CODES[error.code], error.code))

    async def _quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        """Say something to a client that may be gone, or not listen."""
        try:
            await asyncio.wait_for(work, 5)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, ConnectionError):
            self._service.log("stream_unheard", level="debug")


def _taken_over() -> StreamError:
    return StreamError("taken_over", "another connection goes on with this stream")
