"""``pixit client``: a source through a server, told as `pixit stream` tells it, and kept on disk the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from math import log10
from pathlib import Path
from typing import Any

import numpy as np

from pixit.audio.blocks import Source
from pixit.audio.sources import open_source
from pixit.pipeline.live import Update
from pixit.pipeline.live_run import Moment, stopping
from pixit.pipeline.recorder import StreamRecorder
from pixit.pipeline.turns import TurnChange
from pixit.serve.client import ClientSettings, Received, Samples, SessionLost, StreamClient

ATTEMPTS = 5
"""How often a file is sent anew, if the server loses the stream."""


@dataclass
class Following:
    """One source through a server; iterated once, it yields a `Moment` for every update.

    Parameters
    ----------
    source, server, token
        As `open_source` takes it; address of the server, and what it asks for.
    settings
        What is asked for. Tracks are asked for where they are kept.
    output, overwrite
        Folder of the result, which grows there; replace an older one.
    realtime
        Send a file as slowly as it was spoken.
    say
        Called with a line when the connection breaks, and the like.

    Attributes
    ----------
    folder, duration_s, speakers
        The finished result; seconds of sound that were separated; who was heard.
    """

    source: str
    server: str
    settings: ClientSettings
    token: str | None = None
    output: Path | None = None
    overwrite: bool = False
    realtime: bool = False
    say: Callable[[str], None] = lambda _: None
    folder: Path | None = None
    duration_s: float = 0.0
    speakers: tuple[str, ...] = ()
    _talking: dict[str, None] = field(default_factory=dict)
    _talk_s: dict[str, float] = field(default_factory=dict)
    _is_begun: bool = False

    def __iter__(self) -> Iterator[Moment]:
        """Send the sound, and yield what becomes final of it.

        Where the server was started again, a file is sent anew from its beginning: what was told before is void.
        A PixitError as of `open_source`, `StreamClient.run` and `StreamRecorder`.
        """
        for attempt in range(ATTEMPTS):
            source = open_source(self.source, paced=self.realtime)
            try:
                yield from self._follow(source)
            except SessionLost as error:
                if attempt + 1 == ATTEMPTS or source.name in ("microphone", "stdin", "websocket"):
                    raise
                self.say(f"{error}: the file is sent again, from its beginning")
                self._talking, self._talk_s = {}, {}
            else:
                return

    def _follow(self, source: Source) -> Iterator[Moment]:
        settings = self.settings
        if self.output is not None:
            settings = settings.model_copy(update={"tracks": "float32"})
        recorder: StreamRecorder | None = None
        client = StreamClient(self.server, source.sample_rate_hz, settings, self.token, self.say)
        loop = asyncio.new_event_loop()
        try:
            with stopping(source):
                for received in _step_through(loop, client.run(_mono(source))):
                    if self.output is not None and recorder is None:
                        recorder = self._record(self.output, source.name, received.sample_rate_hz)
                    yield self._tell(source, received, recorder)
        finally:
            source.stop()
            loop.close()
        if source.note:
            self.say(source.note)
        if recorder is not None:
            self.folder = recorder.finish(self._describe(source))

    def _record(self, output: Path, name: str, rate_hz: int) -> StreamRecorder:
        """Begin a result; what an attempt that was lost has begun is ours to replace, an older result is not."""
        overwrite = self.overwrite or self._is_begun
        recorder = StreamRecorder(output, name, rate_hz, overwrite)
        self._is_begun = True
        return recorder

    def _tell(self, source: Source, received: Received, recorder: StreamRecorder | None) -> Moment:
        message, rate_hz = received.message, received.sample_rate_hz
        turns = tuple(TurnChange(t["kind"], t["speaker"], t["start_s"], t["end_s"]) for t in message["turns"])
        self.speakers = tuple(message["speakers"])
        update = Update(message["start"], message["end"], received.tracks, turns, self.speakers)
        if recorder is not None:
            recorder.write(update)
        for turn in turns:
            if turn.end_s is None:
                self._talking[turn.speaker] = None
            else:
                self._talking.pop(turn.speaker, None)
                self._talk_s[turn.speaker] = self._talk_s.get(turn.speaker, 0) + turn.end_s - turn.start_s
        levels = {name: 20 * log10(max(1e-5, level)) for name, level in message["levels"].items()}
        self.duration_s = update.end_samples / rate_hz
        heard_s = message["received"] / source.sample_rate_hz
        who = tuple(self._talking), dict(self._talk_s), levels
        return Moment(source.name, update, heard_s, self.duration_s, *who)

    def _describe(self, source: Source) -> dict[str, Any]:
        return {
            "pixit": version("pixit-audio"),
            "source": source.name,
            "source_sample_rate": source.sample_rate_hz,
            "source_channels": 1,
            "channel": 0,
            "loss": source.note,
            "warnings": [source.note] if source.note else [],
            "server": self.server,
            "streaming": self.settings.model_dump(mode="json", exclude_none=True),
        }


async def _mono(source: Source) -> AsyncIterator[Samples]:
    async for block in source:
        samples = block.astype(np.float32)
        if block.dtype == np.int16:
            samples /= np.float32(32768)
        yield samples.mean(axis=1)


def _step_through(
    loop: asyncio.AbstractEventLoop, updates: AsyncGenerator[Received, None]
) -> Iterator[Received]:
    """Iterate in a loop that runs only while it is waited for."""

    async def take() -> Received | None:
        return await anext(updates, None)

    try:
        while (received := loop.run_until_complete(take())) is not None:
            yield received
    finally:
        loop.run_until_complete(updates.aclose())
        loop.run_until_complete(loop.shutdown_default_executor())
