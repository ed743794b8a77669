"""Live sound: blocks that are pushed, of any size and kind, become mono at a model's rate, as a recording's do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray

from pixit.audio.decode import Samples
from pixit.audio.recording import LOUDEST, MOST_CHANNELS, RATES_HZ
from pixit.audio.signals import RESAMPLER_MARGIN_S, resampled_length
from pixit.types import PixitError

SEGMENT_S = 4.0
"""Seconds after which resampling begins anew, so that all it depends on is known, and little."""
MARGIN_SAMPLES = 2000
"""Longer than soxr's filter at any rate, counted at the lower of the two."""

State = dict[str, NDArray[Any]]
"""What something consists of at a moment: names and arrays, numbers among them."""


class Resampler:
    """soxr as a stream whose state can be saved: from the same samples the same come out, in whatever blocks.

    soxr hides its state. So every few seconds a new one takes over, which has heard a margin before; the state is
    what the one at work has heard. What comes out is that of `resample_blocks`, within rounding, and as long.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self.source_hz, self.target_hz = source_hz, target_hz
        # as `Audio.blocks`: a new one begins where a sample of either rate falls on one of the other
        period = 2 * source_hz // math.gcd(source_hz, target_hz)
        margin = max(RESAMPLER_MARGIN_S * source_hz, MARGIN_SAMPLES * max(1, source_hz / target_hz))
        self._margin = math.ceil(margin / period) * period
        self._segment = max(2 * self._margin, math.ceil(SEGMENT_S * source_hz / period) * period)
        self._number = self._num_in = self._num_out = self._skipped = 0
        self._parts: list[Samples] = []  # what the one at work has heard
        self._soxr = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32")
        self._early = np.zeros(0, np.float32)  # what came out again when a state was restored

    def push(self, block: Samples) -> Samples:
        """Return what has become known by a block (n,)."""
        if self.source_hz == self.target_hz:
            self._num_in += len(block)
            return block
        found, self._early = [self._early], np.zeros(0, np.float32)
        for first in range(0, len(block), self._segment):
            piece = np.ascontiguousarray(block[first : first + self._segment])
            self._num_in += len(piece)
            self._parts.append(piece)
            found.extend(self._take(self._soxr.resample_chunk(piece)))
        return np.concatenate(found)

    def finish(self) -> Samples:
        """Return the rest, up to the length that the whole has at the other rate."""
        if self.source_hz == self.target_hz:
            return np.zeros(0, np.float32)
        rest = self._soxr.resample_chunk(np.zeros(0, np.float32), last=True)[self._skipped :]
        missing = resampled_length(self._num_in, self.source_hz, self.target_hz) - self._num_out
        rest = np.pad(rest[:missing], (0, max(0, missing - len(rest))))
        return np.concatenate([self._early, rest])

    def _take(self, samples: Samples) -> Iterator[Samples]:
        """Yield what is new in what came out; where a segment ends, let the next resampler take over."""
        while True:
            dropped = min(self._skipped, len(samples))
            self._skipped -= dropped
            samples = samples[dropped:]
            room = (self._number + 1) * self._segment * self.target_hz // self.source_hz - self._num_out
            self._num_out += min(room, len(samples))
            yield samples[:room]
            if len(samples) < room:
                return
            begun, self._number = self._begun, self._number + 1
            self._parts = [np.concatenate(self._parts)[self._begun - begun :]]
            self._soxr = soxr.ResampleStream(self.source_hz, self.target_hz, 1, dtype="float32")
            self._skipped = self._num_out - self._begun * self.target_hz // self.source_hz
            samples = self._soxr.resample_chunk(self._parts[0])

    @property
    def _begun(self) -> int:
        """The first sample that the one at work has heard."""
        return max(0, self._number * self._segment - self._margin)

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        counts = np.array([self._number, self._num_in, self._num_out - len(self._early)])
        return {"counts": counts, "raw": np.concatenate([np.zeros(0, np.float32), *self._parts])}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._number, self._num_in, self._num_out = state["counts"].tolist()
        if self.source_hz == self.target_hz:
            return
        self._parts = [state["raw"]]
        self._soxr = soxr.ResampleStream(self.source_hz, self.target_hz, 1, dtype="float32")
        self._skipped = self._num_out - self._begun * self.target_hz // self.source_hz
        self._early = np.concatenate(list(self._take(self._soxr.resample_chunk(state["raw"]))))


class Intake:
    """Checks what is pushed, takes a channel, and resamples.

    Parameters
    ----------
    source_rate_hz, sample_rate_hz
        Of what is pushed, and of what comes out.
    channel
        0-based channel to take; None for the mean of all.

    Raises
    ------
    PixitError
        If a rate is none of sound.
    """

    def __init__(self, source_rate_hz: int, sample_rate_hz: int, channel: int | None) -> None:
        is_whole = isinstance(source_rate_hz, int | np.integer) and not isinstance(source_rate_hz, bool)
        if not is_whole or not RATES_HZ[0] <= source_rate_hz <= RATES_HZ[1]:
            raise PixitError(
                f"a stream at {source_rate_hz!r} Hz; expected a whole sample rate of {RATES_HZ[0]} to {RATES_HZ[1]}"
            )
        if channel is not None and not 0 <= channel < MOST_CHANNELS:
            raise PixitError(f"channel {channel} of a stream; expected 0 to {MOST_CHANNELS - 1}, or none")
        self.source_rate_hz, self.channel = int(source_rate_hz), channel
        self.num_channels = 0  # not known before the first block
        self.num_samples = 0
        self._resampler = Resampler(self.source_rate_hz, sample_rate_hz)

    def push(self, samples: ArrayLike) -> Samples:
        """Return what is new at the other rate (m,), for a block (n,) or (n, channels) of float or int16.

        A PixitError, after which nothing has changed, if it is anything else, or holds NaN or infinite values.
        """
        block = self._check(samples)
        mono = block.mean(axis=1) if self.channel is None else block[:, self.channel]
        at_s = f"at {self.num_samples / self.source_rate_hz:.3f} s of the stream"
        if not np.isfinite(mono).all():
            raise PixitError(f"{at_s}: a block holds NaN or infinite samples; repair its source")
        if (peak := float(np.abs(mono).max(initial=0.0))) > LOUDEST:
            raise PixitError(
                f"{at_s}: a block holds samples as large as {peak:.3g}, where 1 is full scale; scale it down"
            )
        if len(mono):
            self.num_channels, self.num_samples = block.shape[1], self.num_samples + len(mono)
        return self._resampler.push(mono)

    def _check(self, samples: ArrayLike) -> Samples:
        """Return a block as float32 (n, channels)."""
        try:
            array = np.asarray(samples)
        except (ValueError, TypeError, RuntimeError):  # ragged lists; tensors of other devices
            array = np.asarray(None)
        is_known = array.dtype == np.int16 or np.issubdtype(array.dtype, np.floating)
        if not is_known or array.ndim not in (1, 2):
            raise PixitError(
                f"a block of {array.dtype} with shape {array.shape}; expected float or int16 samples, (n,) or "
                "(n, channels)"
            )
        block = array[:, None] if array.ndim == 1 else array
        channels = block.shape[1]
        if not 1 <= channels <= MOST_CHANNELS:
            raise PixitError(
                f"a block of shape {array.shape}, {channels} channels; expected (n, channels), 1 to {MOST_CHANNELS} "
                "of them: transpose it"
            )
        if len(block) and self.num_channels not in (0, channels):
            raise PixitError(f"a block of {channels} channels in a stream of {self.num_channels}")
        if self.channel is not None and self.channel >= channels:
            raise PixitError(f"a block of {channels} channels has none of number {self.channel}, from 0")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told as such
            # in one order, as the mean of many channels depends on it
            floats: Samples = block.astype(np.float32, order="C")
        return floats / np.float32(32768) if array.dtype == np.int16 else floats

    def finish(self) -> Samples:
        """Return the rest at the other rate."""
        return self._resampler.finish()

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        return {**self._resampler.state(), "seen": np.array([self.num_channels, self.num_samples])}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.num_channels, self.num_samples = state["seen"].tolist()
        self._resampler.restore(state)
