"""Which channel of a recording to take."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixit.audio.decode import Samples

Channel = int | Literal["best", "mean"]
"""0-based channel; the one in which speech stands out most; or the mean of all, in which the sound of one person,
who is not equally far from all microphones, partly cancels itself."""

FRAME_S = 0.064
BAND_EDGES_HZ = (150, 300, 600, 1200, 2400, 3800)
DEPTH = 1e-4
"""Power, relative to the mean, below which nothing counts: the digital silence of a gate is no merit."""
CLOSE = 0.95
"""Channels whose score is at least this share of the best one's are equally good: the first of them is taken."""


def best_channel(blocks: Iterable[Samples], sample_rate_hz: int) -> int:
    """Return the channel in which speech stands out most from what is always there.

    Speech comes and goes by the syllable in every band of its spectrum; noise, hum and silence stay, and
    reverberation fills the pauses. So a channel's score is by how many decibels its power changes from one frame to
    the next, averaged over frames and bands; its level does not matter.

    Parameters
    ----------
    blocks
        Stretches (n, channels) of the recording, from all over it.
    sample_rate_hz
        Their sample rate.

    Returns
    -------
    int
        0-based; the first of channels that are as good as each other.
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
