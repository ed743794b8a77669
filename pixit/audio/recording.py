"""Audio in: any format, any rate, any number of channels, one block at a time.

Whatever the source, what comes out is mono float32 at the asked rate, in step with the source, and
``max(1, round(num_source_samples * rate / source_rate))`` samples long.
"""

from __future__ import annotations

import copy
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pixit.audio.decode import Samples, TruncatedError, decode_from, decode_whole, read_info
from pixit.audio.signals import RESAMPLER_MARGIN_S, Channel, best_channel, resample_blocks, resampled_length
from pixit.types import PixitError

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_SAMPLES = 1 << 18
LOUDEST = 2.0**33
"""Samples of 32-bit integers that were never scaled are smaller; energies of larger ones overflow."""
MOST_CHANNELS = 64
"""An array of more channels is one of (time, channel), if it is longer that way."""
RATES_HZ = (10, 10_000_000)
"""Lowest and highest sample rate of a recording: what lies outside stands in damaged headers only."""


def _cut(blocks: Iterable[Samples], start: int, stop: int | None) -> Iterator[Samples]:
    """Keep the stretch [start, stop) of a stream of blocks."""
    position = 0
    for block in blocks:
        kept = block[max(0, start - position) : None if stop is None else stop - position]
        position += len(block)
        if len(kept):
            yield kept
        if stop is not None and position >= stop:
            return


class Audio(ABC):
    """A recording as mono float32 at `sample_rate_hz`: one of its channels, or the mean of them.

    `open_audio` makes one: `AudioFile` stays on disk, `MemoryAudio` holds an array.

    Parameters
    ----------
    source_rate_hz, num_channels, num_source_samples
        Of the recording as it is stored; the length is None where only decoding reveals it.
    sample_rate_hz
        Rate to resample to; None keeps the stored rate.
    channel
        0-based channel to read; ``"best"``, the one in which speech stands out most, or ``"mean"``. None, nothing
        asked for, is the mean too.
    uri
        Name of the recording.

    Attributes
    ----------
    stream, asked_stream, num_streams
        0-based audio stream that is read; the same as it was asked for, None if none was; and how many there are.
    loss
        What is missing at the end of a file that was opened as `partial`; known as soon as `num_samples` is.
    """

    stream, num_streams = 0, 1
    asked_stream: int | None = None
    loss: str | None = None

    def __init__(
        self,
        source_rate_hz: int,
        num_channels: int,
        num_source_samples: int | None,
        sample_rate_hz: int | None,
        channel: Channel | None,
        uri: str,
    ) -> None:
        self.source_rate_hz = source_rate_hz
        self.num_channels = num_channels
        self.uri = uri
        self._num_source_samples = num_source_samples
        self._best: list[int] = []  # once it is known; shared with the same recording at other rates
        self._configure(sample_rate_hz or source_rate_hz, channel)

    def _configure(self, sample_rate_hz: int, channel: Channel | None) -> None:
        for rate_hz in (self.source_rate_hz, sample_rate_hz):
            if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
                raise PixitError(
                    f"{self.uri}: has a sample rate of {rate_hz} Hz; expected {RATES_HZ[0]} to {RATES_HZ[1]}"
                )
        is_number = isinstance(channel, Integral) and 0 <= channel < self.num_channels
        if not is_number and channel not in (None, "best", "mean"):
            raise PixitError(
                f"{self.uri}: has no channel {channel}; expected one of 0 to {self.num_channels - 1}, best or mean"
            )
        self.sample_rate_hz = sample_rate_hz
        self.asked_channel = channel

    def at(self, sample_rate_hz: int | None = None, channel: Channel | None = None) -> Self:
        """Return the same recording at another rate or of another channel; None keeps what it has."""
        twin = copy.copy(self)
        asked = self.asked_channel if channel is None else channel
        twin._configure(sample_rate_hz or self.sample_rate_hz, asked)
        return twin

    @property
    def channel(self) -> int | Literal["mean"]:
        """Channel that is read, 0-based, or the mean; to find the best one, the recording is read once."""
        if self.num_channels == 1:
            return 0
        if self.asked_channel is None or self.asked_channel == "mean":
            return "mean"
        if self.asked_channel != "best":
            return self.asked_channel
        if not self._best:  # judged by blocks of 2 s: all, or of a long recording 150 evenly spread ones
            every = max(1, int(self.duration_s / (2 * 150)))
            blocks = islice(self._decode(0, max(1, 2 * self.source_rate_hz)), 0, None, every)
            self._best.append(best_channel(blocks, self.source_rate_hz))
        return self._best[0]

    @abstractmethod
    def _decode(self, start: int, block_samples: int) -> Iterator[Samples]:
        """Yield (n, channels) blocks as stored, from sample `start` to the end."""

    @property
    def num_samples(self) -> int:
        """Length in samples at `sample_rate_hz`; the first call decodes a file whose header does not say."""
        if self._num_source_samples is None:
            self._num_source_samples = sum(len(block) for block in self._decode(0, BLOCK_SAMPLES))
        return resampled_length(self._num_source_samples, self.source_rate_hz, self.sample_rate_hz)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz

    def blocks(
        self, block_samples: int = BLOCK_SAMPLES, start: int = 0, stop: int | None = None
    ) -> Iterator[Samples]:
        """Stream the samples [start, stop) as float32 blocks (n,), one in memory at a time; None: to the end.

        `block_samples` are decoded at a time; the blocks that come out are about as long in time.

        Raises
        ------
        PixitError
            Where the stream meets damaged or missing data, or NaN or infinite samples.
        """
        source_hz, target_hz = self.source_rate_hz, self.sample_rate_hz
        margin = 0 if source_hz == target_hz else math.ceil(RESAMPLER_MARGIN_S * source_hz)
        # Begin where a stored and a resampled sample coincide, so that the phase is that of the whole
        # recording; twice the common period, so that round(), half to even, gives the same end.
        period = 2 * source_hz // math.gcd(source_hz, target_hz)
        first = max(0, start * source_hz // target_hz - margin) // period * period
        offset = first * target_hz // source_hz
        last = None if stop is None else math.ceil(stop * source_hz / target_hz) + margin - first
        stored = _cut(self._decode(first, block_samples), 0, last)
        resampled = resample_blocks(self._to_mono(stored, first), source_hz, target_hz)
        yield from _cut(resampled, start - offset, None if stop is None else stop - offset)

    def _to_mono(self, blocks: Iterable[Samples], position: int) -> Iterator[Samples]:
        channel = self.channel
        for block in blocks:
            mono = block.mean(axis=1) if channel == "mean" else block[:, channel]
            if not np.isfinite(mono).all():
                at_s = (position + int(np.argmin(np.isfinite(mono)))) / self.source_rate_hz
                raise PixitError(
                    f"{self.uri}: holds NaN or infinite samples, first at {at_s:.3f} s; repair it"
                )
            if (peak := float(np.abs(mono).max(initial=0.0))) > LOUDEST:
                raise PixitError(
                    f"{self.uri}: holds samples as large as {peak:.3g}, where 1 is full scale; scale it down"
                )
            position += len(mono)
            yield mono

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read the samples [start, stop) at once: float32 (stop - start,).

        Only the stretch is decoded, but for mp3, ogg, m4a, mkv …, which are decoded from their beginning. A
        PixitError as from `blocks`, and if the stretch is not inside the recording.
        """
        stop = self.num_samples if stop is None else stop
        if not 0 <= start <= stop <= self.num_samples:
            start_s, stop_s = start / self.sample_rate_hz, stop / self.sample_rate_hz
            raise PixitError(
                f"{self.uri}: lasts {self.duration_s:.3f} s, asked for {start_s:.3f} to {stop_s:.3f} s; "
                "does its annotation outlast it?"
            )
        num_stored = math.ceil((stop - start) / self.sample_rate_hz * self.source_rate_hz)
        block_samples = min(num_stored + self.source_rate_hz, BLOCK_SAMPLES)
        blocks = self.blocks(block_samples, start, stop) if start < stop else ()
        return np.concatenate([np.zeros(0, np.float32), *blocks])


class AudioFile(Audio):
    """A recording on disk; `uri` is the file's stem by default. See `Audio`, and `read_info` for the rest."""

    def __init__(
        self,
        path: str | Path,
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
        uri: str | None = None,
        stream: int | None = None,
        partial: bool = False,
    ) -> None:
        self.info = info = read_info(path, stream, partial)
        self.stream, self.num_streams, self.loss = info.stream, info.num_streams, info.loss
        self.asked_stream, self.partial = stream, partial
        stored = info.sample_rate_hz, info.num_channels, info.num_samples
        super().__init__(*stored, sample_rate_hz, channel, uri or info.path.stem)

    def _decode(self, start: int, block_samples: int) -> Iterator[Samples]:
        try:
            if self.info.is_seekable:
                yield from decode_from(self.info, start, block_samples)
            else:
                yield from _cut(decode_whole(self.info, block_samples), start, None)
        except TruncatedError as error:
            if not self.partial:
                raise
            self.loss = error.loss


class MemoryAudio(Audio):
    """A recording in memory: `waveform` (channel, time), floating point, NumPy or torch. See `Audio`."""

    def __init__(
        self,
        waveform: NDArray[Any] | Tensor,
        source_rate_hz: int,
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
        uri: str = "waveform",
    ) -> None:
        if hasattr(waveform, "detach"):
            waveform = waveform.detach().cpu()
            waveform = (waveform.float() if waveform.is_floating_point() else waveform).numpy()
        array = np.asarray(waveform)
        if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.floating):
            raise PixitError(
                f"{uri}: expected a floating point waveform (channel, time), "
                f"found {array.dtype} of shape {array.shape}"
            )
        if array.shape[0] > max(MOST_CHANNELS, array.shape[1]):
            raise PixitError(
                f"{uri}: has shape {array.shape}, that is {array.shape[0]} channels of {array.shape[1]} samples; "
                "expected (channel, time): transpose it"
            )
        try:
            source_rate_hz = operator.index(source_rate_hz)
        except TypeError:
            if not float(source_rate_hz if isinstance(source_rate_hz, float) else math.nan).is_integer():
                raise PixitError(
                    f"{uri}: expected a sample rate in whole Hz, found {source_rate_hz!r}"
                ) from None
        self.waveform: Samples = array.astype(np.float32, copy=False)
        num_channels, num_samples = array.shape
        super().__init__(int(source_rate_hz), num_channels, num_samples, sample_rate_hz, channel, uri)

    def _decode(self, start: int, block_samples: int) -> Iterator[Samples]:
        for first in range(start, self.waveform.shape[1], block_samples):
            yield self.waveform[:, first : first + block_samples].T


def open_audio(
    source: str | Path | Mapping[str, Any] | Audio,
    sample_rate_hz: int | None = None,
    channel: Channel | None = None,
    stream: int | None = None,
    partial: bool = False,
) -> Audio:
    """Open a path, a mapping as pyannote.audio takes it, or what is open already.

    A mapping has ``audio`` (a path), or ``waveform`` (channel, time) and ``sample_rate``; it may have ``uri``,
    ``channel`` and ``stream`` (0-based). Rate and channel are as for `Audio`, stream and `partial` as for
    `read_info`; a `channel` or `stream` given here goes first. A PixitError if another stream is asked for than
    that of what is open already, or than the first of a waveform.
    """
    if isinstance(source, Audio):
        if stream not in (None, source.stream):
            raise PixitError(f"{source.uri}: is open at audio stream {source.stream}, asked for {stream}")
        return source.at(sample_rate_hz, channel)
    if isinstance(source, (str, Path)):
        return AudioFile(source, sample_rate_hz, channel, None, stream, partial)
    keys = set(source) if isinstance(source, Mapping) else set()
    channel = source["channel"] if channel is None and "channel" in keys else channel
    stream = source["stream"] if stream is None and "stream" in keys else stream
    uri = source["uri"] if "uri" in keys else None
    if {"waveform", "sample_rate"} <= keys:
        if stream not in (None, 0):
            raise PixitError(f"{uri or 'waveform'}: has no audio stream {stream}; expected 0")
        return MemoryAudio(
            source["waveform"], source["sample_rate"], sample_rate_hz, channel, uri or "waveform"
        )
    if "audio" in keys and isinstance(source["audio"], (str, Path)):
        return AudioFile(source["audio"], sample_rate_hz, channel, uri, stream, partial)
    raise PixitError(
        f"expected a path, or a mapping with 'audio' (a path) or 'waveform' and 'sample_rate'; "
        f"found {type(source).__name__} {sorted(keys) or ''}".rstrip()
    )
