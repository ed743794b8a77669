"""A track of one speaker, which stays on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pixit.audio.decode import Samples
from pixit.audio.recording import BLOCK_SAMPLES, AudioFile

ENVELOPE_POINTS = 2000


@dataclass
class Track:
    """One mono track in a file; ``np.asarray(track)`` loads all of it, float32 (num_samples,).

    Parameters
    ----------
    path
        The audio file.
    sample_rate_hz, num_samples
        Of the file.
    temporary
        Folder of the file, if it is to be removed with the last track that needs it.
    """

    path: Path
    sample_rate_hz: int
    num_samples: int
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str) -> Track:
        """Open a mono file; a `PixitError` if it is missing or damaged."""
        audio = AudioFile(path)
        return cls(Path(path), audio.sample_rate_hz, audio.num_samples)

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read the samples [start, stop), float32 (stop - start,)."""
        return AudioFile(self.path).read(start, stop)

    def blocks(self, block_samples: int = BLOCK_SAMPLES) -> Iterator[Samples]:
        """Stream the track as blocks (n,)."""
        return AudioFile(self.path).blocks(block_samples)

    def envelope(self, num_points: int = ENVELOPE_POINTS) -> NDArray[np.float32]:
        """Return lowest and highest sample, and zero, of each of `num_points` stretches: (2, num_points).

        A track of fewer samples has one point for each.
        """
        edges = np.linspace(0, self.num_samples, min(num_points, self.num_samples) + 1).astype(np.int64)
        low, high = np.zeros((2, len(edges) - 1), np.float32)
        position = 0
        for block in self.blocks():
            first = np.searchsorted(edges, position, side="right") - 1
            last = np.searchsorted(edges, position + len(block), side="left")
            starts = np.maximum(edges[first:last] - position, 0)
            low[first:last] = np.minimum(low[first:last], np.minimum.reduceat(block, starts))
            high[first:last] = np.maximum(high[first:last], np.maximum.reduceat(block, starts))
            position += len(block)
        return np.stack([low, high])

    def __len__(self) -> int:
        return self.num_samples

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read().astype(dtype or np.float32, copy=False)
