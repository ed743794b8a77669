"""Resampling of a stream, without delay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from pixit.audio.decode import Samples

RESAMPLER_MARGIN_S = 0.1
"""Longer than soxr's filter: what lies farther away has no effect on a sample."""


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
