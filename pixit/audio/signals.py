"""What is done to samples on their way in: the choice of a channel, and resampling without delay."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from pixit.audio.decode import Samples

Channel = int | Literal["best", "mean"]
"""0-based channel; the one in which speech stands out most; or the mean of all, in which the sound of one
person, who is not equally far from all microphones, partly cancels itself."""

FRAME_S = 0.064
BAND_EDGES_HZ = (150, 300, 600, 1200, 2400, 3800)
DEPTH = 1e-4
"""Power, relative to the mean, below which nothing counts: the digital silence of a gate is no merit."""
CLOSE = 0.95
"""Channels with at least this share of the best one's score are equally good: the first of them is taken."""

RESAMPLER_MARGIN_S = 0.1
"""Longer than soxr's filter: what lies farther away has no effect on a sample."""


def best_channel(blocks: Iterable[Samples], sample_rate_hz: int) -> int:
    """Return the channel, 0-based, in which speech stands out most; `blocks` (n, channels) are from all over.

    Speech comes and goes by the syllable in every band of its spectrum; noise, hum and silence stay, and
    reverberation fills the pauses. So a channel's score is by how many decibels its power changes from one
    frame to the next, averaged over frames and bands; its level does not matter.
    """
    power = np.concatenate([_band_power(block, sample_rate_hz) for block in blocks])
    if len(power) < 2:
        return 0
    power = np.where(np.isfinite(power).all(axis=(0, 1)), power, 0)  # a broken channel is none
    level = power.mean(axis=(0, 1))
    relative = np.where(level > 0, power / np.where(level > 0, level, 1), 1)
    scores = np.abs(np.diff(10 * np.log10(relative + DEPTH), axis=0)).sum(axis=(0, 1))
    return int(np.argmax(scores >= CLOSE * scores.max()))


def _band_power(block: Samples, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the power of each frame, band and channel; of one wide band at rates that have no more."""
    size = max(2, round(FRAME_S * sample_rate_hz))
    num_frames = len(block) // size
    frames = block[: num_frames * size].reshape(num_frames, size, block.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and the like stay in their channel
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(size)[:, None], axis=1)) ** 2
    edges = [round(edge * size / sample_rate_hz) for edge in BAND_EDGES_HZ]
    bands = [(low, high) for low, high in itertools.pairwise(edges) if high <= size // 2]
    power = [spectrum[:, low:high].sum(axis=1) for low, high in bands or [(1, size // 2 + 1)]]
    return np.stack(power, axis=1).astype(np.float32)


def resampled_length(num_samples: int, source_hz: int, target_hz: int) -> int:
    """Return the length after resampling: rounded, and at least one sample of a recording of any."""
    return max(min(num_samples, 1), round(num_samples * target_hz / source_hz))


def resample_blocks(blocks: Iterable[Samples], source_hz: int, target_hz: int) -> Iterator[Samples]:
    """Resample a stream of mono blocks (n,) without delay, to `resampled_length` in all.

    soxr's own end may lie a sample off that length: it is trimmed, or padded with zeros.
    """
    if source_hz == target_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32")
    num_in = num_out = 0
    for block in blocks:
        num_in += len(block)
        resampled = resampler.resample_chunk(np.ascontiguousarray(block))
        num_out += len(resampled)
        if len(resampled):
            yield resampled
    rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    missing = resampled_length(num_in, source_hz, target_hz) - num_out
    yield np.pad(rest[:missing], (0, max(0, missing - len(rest))))
