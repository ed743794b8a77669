"""Streams as the server keeps them: each with its own state, which outlives a broken connection.

Sound is numbered by its samples and updates are numbered from 1, so that after a break both sides go on where they
were: nothing is lost, and nothing comes twice.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixit.serve.limits import ServeSettings
from pixit.serve.metrics import Metrics
from pixit.serve.protocol import Hello, StreamError, encode_tracks, to_json
from pixit.serve.scheduler import Scheduler
from pixit.types import PixitError

if TYPE_CHECKING:
    from pixit.pipeline.streaming import StreamingSeparator, Update

PIECE_S = 0.5
"""Sound is heard in pieces of at most this length, so that no message keeps the others waiting."""

Open = Callable[[Hello], "StreamingSeparator"]
"""Makes the state of a new stream; a PixitError says what does not fit."""


@dataclass(frozen=True)
class Numbered:
    """An update as it is sent: JSON, and the tracks if they were asked for."""

    number: int
    text: str
    tracks: bytes | None

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.text) + len(self.tracks or b"")


class Session:
    """One stream.

    Parameters
    ----------
    hello
        What the client asked for.
    stream
        State of the separation.
    settings, scheduler, metrics
        Of the server.

    Attributes
    ----------
    received
        Samples that were taken, of each channel.
    lock, taken_over, num_wanting
        Held by the connection that the stream is attached to; set while others want it, and how many they are.
    left_s
        When the last connection broke.
    """

    def __init__(
        self,
        hello: Hello,
        stream: StreamingSeparator,
        settings: ServeSettings,
        scheduler: Scheduler,
        metrics: Metrics,
    ) -> None:
        self.id = secrets.token_urlsafe(24)
        self.hello, self.stream = hello, stream
        self._settings, self._scheduler, self._metrics = settings, scheduler, metrics
        self.received, self.num_updates = 0, 0
        self.is_finished = False
        self.lock, self.taken_over, self.num_wanting = asyncio.Lock(), asyncio.Event(), 0
        self.left_s: float | None = None
        self._kept: deque[Numbered] = deque()
        self._kept_bytes = 0

    @property
    def is_acknowledged(self) -> bool:
        """Whether the client has all updates."""
        return not self._kept

    def pieces(self, samples: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Cut a message (n, channels) into the pieces that are heard one by one; a StreamError beyond the length."""
        most = self._settings.max_stream_s * self.hello.sample_rate
        if self.received + len(samples) > most:
            raise StreamError("too_long", f"a stream lasts at most {self._settings.max_stream_s:.0f} s")
        size = max(1, round(PIECE_S * self.hello.sample_rate))
        for start in range(0, len(samples), size):
            yield samples[start : start + size]

    async def hear(self, piece: NDArray[Any]) -> list[Numbered]:
        """Take a piece (n, channels), and return its updates; none if it filled no window."""
        windows = await self._scheduler.run(self.stream.feed, piece)
        # of what was taken, the updates are made whatever becomes of the connection
        self.received += len(piece)
        self._metrics.audio_s.inc(len(piece) / self.hello.sample_rate)
        if not windows:
            return []
        heard = await self._scheduler.hear(self.stream, windows)
        return self._number(await self._scheduler.run(self.stream.take, heard))

    async def finish(self) -> list[Numbered]:
        """Return the last updates."""
        heard = await self._scheduler.hear(self.stream, await self._scheduler.run(self.stream.end))
        update = await self._scheduler.run(self.stream.take, heard)
        self.is_finished = True
        return self._number(update)

    def _number(self, update: Update) -> list[Numbered]:
        """Return an update as it is sent: in parts, so that no message is large."""
        parts = cut_update(update, max(1, round(PIECE_S * self.stream.rate_hz)))
        return [self._number_part(part, part is parts[-1] and self.is_finished) for part in parts]

    def _number_part(self, update: Update, is_final: bool) -> Numbered:
        self.num_updates += 1
        asked = (
            self.hello.tracks is not None and update.end_samples > update.start_samples and update.speakers
        )
        message = {
            "type": "update",
            "update": self.num_updates,
            "received": self.received,
            "start": update.start_samples,
            "end": update.end_samples,
            "speakers": list(update.speakers),
            "turns": [
                {
                    "kind": turn.kind,
                    "speaker": turn.speaker,
                    "start_s": round(turn.start_s, 4),
                    "end_s": None if turn.end_s is None else round(turn.end_s, 4),
                }
                for turn in update.turns
            ],
            "levels": {name: _level(update.tracks[name]) for name in update.speakers},
            "tracks": bool(asked),
            "final": is_final,
        }
        tracks = None
        if asked:
            assert self.hello.tracks is not None
            signals = [update.tracks[name] for name in update.speakers]
            tracks = encode_tracks(self.num_updates, signals, self.hello.tracks)
        numbered = Numbered(self.num_updates, to_json(message), tracks)
        if self.hello.resume:
            self._keep(numbered)
        return numbered

    def _keep(self, numbered: Numbered) -> None:
        self._kept.append(numbered)
        self._kept_bytes += numbered.size
        while self._kept_bytes > self._settings.replay_bytes and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popleft().size

    def acknowledge(self, number: int) -> None:
        """Let go of updates that the client has."""
        if number > self.num_updates:
            raise StreamError(
                "bad_message", f"update {number} was never sent, expected at most {self.num_updates}"
            )
        while self._kept and self._kept[0].number <= number:
            self._kept_bytes -= self._kept.popleft().size

    def since(self, number: int) -> list[Numbered]:
        """Return the updates after one that the client has; a StreamError if they are not kept any more."""
        self.acknowledge(number)
        missing = self.num_updates - number
        if len(self._kept) < missing:
            raise StreamError(
                "lost", f"update {number + 1} is not kept any more: too much was not acknowledged"
            )
        return list(self._kept)


def cut_update(update: Update, most_samples: int) -> list[Update]:
    """Cut an update into such of at most so many samples; its turns are in the first."""
    if update.end_samples - update.start_samples <= most_samples:
        return [update]
    parts: list[Update] = []
    for start in range(update.start_samples, update.end_samples, most_samples):
        stop = min(start + most_samples, update.end_samples)
        place = slice(start - update.start_samples, stop - update.start_samples)
        tracks = {name: track[place] for name, track in update.tracks.items()}
        turns = () if parts else update.turns
        parts.append(replace(update, start_samples=start, end_samples=stop, tracks=tracks, turns=turns))
    return parts


def _level(track: NDArray[np.float32]) -> float:
    """Return the root mean square of a stretch, 0 if it is empty."""
    return round(float(np.sqrt(np.mean(np.square(track, dtype=np.float64)))), 5) if len(track) else 0.0


class Sessions:
    """All streams: those that are attached to a connection, and those that wait for their client to come back."""

    def __init__(
        self, settings: ServeSettings, scheduler: Scheduler, metrics: Metrics, open_stream: Open
    ) -> None:
        self._settings, self._scheduler, self._metrics = settings, scheduler, metrics
        self._open = open_stream
        self._sessions: dict[str, Session] = {}
        self._opening = 0

    def count(self) -> dict[str, int]:
        """Return how many streams are attached, and how many wait."""
        waiting = sum(session.left_s is not None for session in self._sessions.values())
        return {"attached": len(self._sessions) - waiting, "waiting": waiting}

    async def open(self, hello: Hello) -> Session:
        """Begin a stream; a StreamError if there are too many, or what is asked does not fit."""
        self.expire()
        if len(self._sessions) + self._opening >= self._settings.max_streams:
            raise StreamError("busy", f"all {self._settings.max_streams} streams are taken; try again later")
        if hello.max_speakers is not None and hello.max_speakers > self._settings.max_speakers:
            raise StreamError("bad_message", f"max_speakers: expected at most {self._settings.max_speakers}")
        if hello.channel is not None and hello.channel >= hello.channels:
            raise StreamError("bad_message", f"channel: expected one of 0 to {hello.channels - 1}")
        self._opening += 1
        try:
            stream = await self._scheduler.run(self._open, hello)
        except PixitError as error:
            raise StreamError("bad_message", str(error)) from None
        finally:
            self._opening -= 1
        session = Session(hello, stream, self._settings, self._scheduler, self._metrics)
        self._sessions[session.id] = session
        return session

    def find(self, session_id: str) -> Session:
        """Return a stream by its name; a StreamError if there is none."""
        self.expire()
        session = self._sessions.get(session_id)
        if session is None:
            raise StreamError("unknown_session", "there is no such stream any more; begin a new one")
        return session

    @asynccontextmanager
    async def attached(self, session: Session) -> AsyncIterator[None]:
        """Attach a stream to one connection, taking it from another one that may not know yet that it is broken.

        At the end it waits for its client, if that may come back; after an error it is forgotten.
        """
        session.num_wanting += 1
        session.taken_over.set()
        async with session.lock:  # until the other connection has let go
            session.num_wanting -= 1
            if not session.num_wanting:
                session.taken_over.clear()
            if self._sessions.get(session.id) is not session:
                raise StreamError("unknown_session", "this stream has just ended; begin a new one")
            session.left_s = None
            try:
                yield
            except StreamError as error:
                if error.code == "idle":
                    self._leave(session)
                elif error.code != "taken_over":
                    self.end(session)
                raise
            except ConnectionError:
                self._leave(session)
                raise
            except BaseException:
                self.end(session)
                raise
            else:
                self.end(session)

    def _leave(self, session: Session) -> None:
        """Keep a stream whose connection broke for its client, or end it if that cannot come back."""
        if session.hello.resume:
            session.left_s = time.monotonic()
        else:
            self.end(session)

    def end(self, session: Session) -> None:
        """Forget a stream."""
        self._sessions.pop(session.id, None)

    def expire(self) -> None:
        """Forget streams whose client did not come back."""
        oldest_s = time.monotonic() - self._settings.resume_s
        for session in list(self._sessions.values()):
            if session.left_s is not None and session.left_s < oldest_s:
                self.end(session)
