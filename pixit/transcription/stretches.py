"""Which stretches of a recording a recogniser is given: where someone speaks, neither too short nor too long.

A recogniser that is given the long silences of a separated track invents words; one that is given a single
word without its surroundings misses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pyannote.core import Segment, Timeline

from pixit.audio import Audio
from pixit.types import Turn

QUIET_S = 0.2  # a cut goes through the middle of the quietest stretch of this length


@dataclass(frozen=True)
class Stretch:
    """Samples [start, stop) of a recording, and who speaks there."""

    speaker: str
    start: int
    stop: int


def active_intervals(
    turns: Iterable[Turn],
    within: Sequence[tuple[float, float]],
    merge_gap_s: float,
    padding_s: float,
    keep_apart: bool = False,
) -> list[Turn]:
    """Merge the turns of each speaker over short gaps, pad them, and cut them to `within`.

    Parameters
    ----------
    turns
        In any order; they may overlap, and those of no length count for nothing.
    within
        Stretches ``(start_s, end_s)`` that nothing may leave: the recording, or what of it is annotated.
    merge_gap_s
        Turns of one speaker that are less than this apart become one.
    padding_s
        What is added before and after.
    keep_apart
        For a mixture: neither gaps nor padding may reach where only others speak, whose words would be
        taken for the speaker's.

    Returns
    -------
    list of Turn
        Ordered by start; those of one speaker do not overlap.
    """
    scope = Timeline(Segment(*interval) for interval in within).support()
    spoken: dict[str, Timeline] = {}
    for turn in turns:
        spoken.setdefault(turn.speaker, Timeline()).add(Segment(turn.start_s, turn.end_s))
    found = []
    for speaker, own in spoken.items():
        merged = own.support(collar=merge_gap_s)
        padded = Timeline(Segment(s.start - padding_s, s.end + padding_s) for s in merged).support()
        active = padded.crop(scope)
        if keep_apart:
            others = Timeline(s for name, timeline in spoken.items() if name != speaker for s in timeline)
            active = active.extrude(others.support().extrude(own.support()))
        # a piece that holds no turn is the rest of a gap
        found += [Turn(s.start, s.end, speaker) for s in active if own.crop(s)]
    return sorted(found, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker))


def split(audio: Audio, start: int, stop: int, max_samples: int) -> list[tuple[int, int]]:
    """Split the samples [start, stop) where it is quietest, so that no part is longer than `max_samples`.

    Each part but the last is at least half as long. Memory holds half a part.
    """
    parts = []
    while stop - start > max_samples:
        cut = _quietest(audio, start + max_samples // 2, start + max_samples)
        parts.append((start, cut))
        start = cut
    return [*parts, (start, stop)]


def _quietest(audio: Audio, start: int, stop: int) -> int:
    """Return the sample in [start, stop) around which there is least energy."""
    energy = np.cumsum(np.square(audio.read(start, stop), dtype=np.float64))
    width = min(round(QUIET_S * audio.sample_rate_hz), len(energy) - 1)
    return start + int(np.argmin(energy[width:] - energy[: len(energy) - width])) + width // 2 + 1
