"""Sound that comes in blocks: what all sources have in common, files, and raw samples from a pipe.

A source is iterated once, by ``for`` or by ``async for``. Blocks are (n, channels), float32 or int16, as
`pixit.StreamingSeparator.push` takes them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from pixit.audio.recording import RATES_HZ, AudioFile
from pixit.types import PixitError

Blocks = NDArray[np.float32] | NDArray[np.int16]
SampleType = Literal["int16", "float32"]
BLOCK_S = 0.1
"""Seconds of sound in a block."""
DEFAULT_RATE_HZ = 16000


class Source(ABC):
    """Blocks of sound at `sample_rate_hz`, which come when they come.

    Attributes
    ----------
    name, sample_rate_hz
        What results are called; of the blocks.
    is_live
        Sound goes on whether it is heard or not. What is not live waits.
    note
        What is to be told of the sound after its end.
    """

    is_live = False
    note: str | None = None

    def __init__(self, name: str, sample_rate_hz: int) -> None:
        self.name, self.sample_rate_hz = name, sample_rate_hz
        self._stopped = threading.Event()

    @abstractmethod
    def _blocks(self) -> Iterator[Blocks]:
        """Yield the blocks, until the end or until `_stopped` is set."""

    def stop(self) -> None:
        """Let the blocks end; from any thread."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def __iter__(self) -> Iterator[Blocks]:
        for block in self._blocks():
            if self._stopped.is_set():
                return
            yield block

    async def __aiter__(self) -> AsyncIterator[Blocks]:
        """Yield the blocks; they are waited for in a thread of their own."""
        blocks = iter(self)
        try:
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                yield block
        finally:
            self.stop()


class FileSource(Source):
    """A recording, as fast as it is asked for, or `paced` as it was spoken: then it is live.

    Mono: one `channel`, or the mean of all. A PixitError as of `read_info`, and while it is read of `Audio.blocks`.
    """

    def __init__(self, path: str | Path, channel: int | None = None, paced: bool = False) -> None:
        self.audio = AudioFile(path, channel="mean" if channel is None else channel, partial=True)
        super().__init__(self.audio.uri, self.audio.source_rate_hz)
        self.is_live = paced

    def _blocks(self) -> Iterator[Blocks]:
        started, position = time.monotonic(), 0
        size = max(1, round(BLOCK_S * self.sample_rate_hz))
        for block in self.audio.blocks(size):
            position += len(block)
            if self.is_live:  # a block is there when its last sample was spoken
                self._stopped.wait(max(0.0, started + position / self.sample_rate_hz - time.monotonic()))
            yield block[:, None]
        self.note = self.audio.loss


class PcmSource(Source):
    """Raw samples from a pipe, little-endian; channels take turns. It is live if whoever writes cannot wait."""

    def __init__(
        self,
        file: BinaryIO,
        sample_rate_hz: int = DEFAULT_RATE_HZ,
        sample_type: SampleType = "int16",
        channels: int = 1,
        live: bool = False,
        name: str = "stdin",
    ) -> None:
        super().__init__(name, check_rate(sample_rate_hz))
        self.is_live, self._pcm, self._file = live, Pcm(sample_type, channels), file

    def _blocks(self) -> Iterator[Blocks]:
        size = max(1, round(BLOCK_S * self.sample_rate_hz)) * self._pcm.frame_bytes
        # what is there at once, instead of whole blocks
        read: Callable[[int], bytes] = getattr(self._file, "read1", self._file.read)
        while data := read(size):
            yield self._pcm.decode(data)
        self.note = self._pcm.note


class Pcm:
    """Raw samples, in pieces that may end anywhere."""

    def __init__(self, sample_type: SampleType, channels: int) -> None:
        if sample_type not in ("int16", "float32") or channels < 1:
            raise PixitError(
                f"samples of {sample_type!r}, {channels} channels; expected int16 or float32, 1 or more"
            )
        self._type = np.dtype(sample_type).newbyteorder("<")
        self._channels = channels
        self.frame_bytes = self._type.itemsize * channels
        self._rest = b""

    def decode(self, data: bytes) -> Blocks:
        """Return the samples (n, channels) that are whole."""
        data = self._rest + data
        whole = len(data) - len(data) % self.frame_bytes
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], self._type).reshape(-1, self._channels)
        native: Blocks = samples.astype(self._type.newbyteorder("="))
        return native

    @property
    def note(self) -> str | None:
        """What is to be told if the samples end here."""
        return (
            f"ends with {len(self._rest)} bytes that are no whole sample; is its type right?"
            if self._rest
            else None
        )


def check_rate(sample_rate_hz: int) -> int:
    """Return a sample rate; a PixitError if it is none of sound."""
    if not RATES_HZ[0] <= sample_rate_hz <= RATES_HZ[1]:
        raise PixitError(f"{sample_rate_hz} Hz; expected a sample rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    return sample_rate_hz
