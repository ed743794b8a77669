"""Chunks of recordings: which speakers talk in them, and how one is drawn.

The speakers of the chunk ``[t, t + d)`` change only where a turn begins (at ``t = start − d``) or ends (at
``t = end``). Between these points the set is constant, so that all starts fall into finitely many
*stretches*, and drawing a chunk is drawing a set of speakers, then a start: exact, and without rejection.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixit.types import PixitError, Recording

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROUNDING_S = 1e-6
"""Differences below this (less than a sample at any rate) come from floating-point arithmetic."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of `recording` from `start_s` on; `speakers` (sorted) are all who talk in it, if shortly."""

    recording: Recording
    start_s: float
    speakers: tuple[str, ...]


class ChunkTable:
    """All chunks of one recording with at most K speakers: their sets of speakers, and the stretches of starts.

    Attributes
    ----------
    problem
        Why there are none, or None.
    usable_s
        Annotated time in stretches that are long enough for a chunk.
    sets
        Who talks, (S, speakers), a row each set.
    weights
        How long the starts of each set last, (S,); a short annotated stretch counts by its length, not by its few
        possible starts.
    """

    def __init__(self, recording: Recording, duration_s: float, max_speakers: int) -> None:
        self.recording = recording
        self.problem: str | None = None
        regions = [(a, b) for a, b in recording.annotated if b - a >= duration_s - _ROUNDING_S]
        self.usable_s = sum(b - a for a, b in regions)
        if not regions:
            self.problem = f"no annotated stretch of {duration_s:g} s"
            return
        low_s, high_s, weights = _stretches(recording, regions, duration_s)
        speakers, active = _who_talks(recording, (low_s + high_s) / 2, duration_s)
        few = active.sum(axis=1) <= max_speakers
        if not few.any():
            self.problem = f"over {max_speakers} speakers in every chunk"
            return
        self._low_s, self._high_s, self._stretch_weights = low_s[few], high_s[few], weights[few]
        self.sets, set_of = np.unique(active[few], axis=0, return_inverse=True)
        self._set_of = set_of.reshape(-1)  # NumPy 2.0 keeps an axis
        self._names = [tuple(s for s, on in zip(speakers, row, strict=True) if on) for row in self.sets]
        self.weights = np.bincount(self._set_of, weights=weights[few], minlength=len(self.sets))

    def chunk(self, index: int, rng: np.random.Generator) -> Chunk:
        """Draw a chunk of a set of speakers."""
        stretches = np.flatnonzero(self._set_of == index)
        stretch = stretches[draw(np.cumsum(self._stretch_weights[stretches]), rng)]
        start_s = rng.uniform(self._low_s[stretch], self._high_s[stretch])
        return Chunk(self.recording, float(start_s), self._names[index])


class ChunkSampler:
    """Draw single chunks with at most K speakers, silent ones too: all of the usable time alike.

    Raises
    ------
    PixitError
        If no recording has one.
    """

    def __init__(self, recordings: Sequence[Recording], duration_s: float, max_speakers: int) -> None:
        self.duration_s, self.max_speakers = duration_s, max_speakers
        tables = [ChunkTable(recording, duration_s, max_speakers) for recording in recordings]
        self._tables = [table for table in tables if table.problem is None]
        if not self._tables:
            reasons = "; ".join(f"{table.recording.uri} ({table.problem})" for table in tables)
            raise PixitError(f"no chunk can be drawn: {reasons or 'there are no recordings'}")
        self._cumulative = np.cumsum([table.usable_s for table in self._tables])

    def sample(self, rng: np.random.Generator) -> Chunk:
        """Draw one chunk."""
        table = self._tables[draw(self._cumulative, rng)]
        return table.chunk(draw(np.cumsum(table.weights), rng), rng)


def _stretches(
    recording: Recording, regions: Sequence[tuple[float, float]], duration_s: float
) -> tuple[Floats, Floats, Floats]:
    """Cut the possible starts where the speakers change: first start, last start and weight, each (P,)."""
    changes_s = [turn.start_s - duration_s for turn in recording.turns] + [t.end_s for t in recording.turns]
    stretches = []
    for region_start_s, region_end_s in regions:
        length_s = region_end_s - region_start_s
        last_s = region_end_s - duration_s
        if last_s - region_start_s < _ROUNDING_S:  # as long as a chunk: there is one start
            stretches.append((region_start_s, region_start_s, length_s))
            continue
        inside_s = [t for t in changes_s if region_start_s < t < last_s]
        edges_s = np.unique([region_start_s, *inside_s, last_s])
        density = length_s / (last_s - region_start_s)
        stretches += [
            (low_s, high_s, density * (high_s - low_s))
            for low_s, high_s in itertools.pairwise(edges_s)
            if high_s - low_s > 1e-3 * _ROUNDING_S  # else two changes at once, but for rounding
        ]
    low_s, high_s, weights = np.array(stretches).T
    return low_s, high_s, weights


def _who_talks(recording: Recording, starts_s: Floats, duration_s: float) -> tuple[list[str], Bools]:
    """Speakers of the recording, and which of them talk in the chunks at `starts_s`, (P, speakers)."""
    speakers = sorted({turn.speaker for turn in recording.turns})
    active = np.zeros((len(starts_s), len(speakers)), dtype=bool)
    for turn in recording.turns:
        overlaps = (starts_s + duration_s > turn.start_s) & (starts_s < turn.end_s)
        active[:, speakers.index(turn.speaker)] |= overlaps
    return speakers, active


def draw(cumulative: Floats, rng: np.random.Generator) -> int:
    """Draw an index by the cumulative sum of non-negative weights; one of weight 0 is never drawn."""
    total = cumulative[-1]
    level = min(rng.random() * total, np.nextafter(total, 0.0))  # the product may be rounded up to the total
    return int(np.searchsorted(cumulative, level, side="right"))
