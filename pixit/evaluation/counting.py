"""The errors of one recording's diarization, counted in one sweep over time.

What is counted is what pyannote.metrics 4 counts; the tests compare the two. For each turn pyannote.metrics looks
at every earlier one again: 50,000 of them take it many minutes, and this less than a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pixit.types import Turn

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INSTANT_S = 1e-6
"""Nothing shorter counts, as in pyannote.core."""
BLOCK_EDGES = 4096


@dataclass(frozen=True)
class Tracks:
    """Turns of one side as arrays (n,), without empty ones; `speakers` are places in `names`, which are sorted."""

    names: list[str]
    speakers: Ints
    starts_s: Floats
    ends_s: Floats

    @classmethod
    def of(cls, turns: Sequence[Turn] | Annotation) -> Tracks:
        """Read turns, or an Annotation of pyannote.core."""
        if hasattr(turns, "itertracks"):
            found = [(s.start, s.end, str(who)) for s, _, who in turns.itertracks(yield_label=True)]
        else:
            found = [(turn.start_s, turn.end_s, turn.speaker) for turn in turns]
        found = [turn for turn in found if turn[1] - turn[0] > INSTANT_S]
        names = sorted({speaker for *_, speaker in found})
        places = {name: place for place, name in enumerate(names)}
        times = np.array([turn[:2] for turn in found], float).reshape(-1, 2)
        speakers = np.array([places[speaker] for *_, speaker in found], np.int64)
        return cls(names, speakers, times[:, 0], times[:, 1])

    @property
    def extent_s(self) -> list[tuple[float, float]]:
        """From the first to the last turn, if there is one."""
        return [(float(self.starts_s.min()), float(self.ends_s.max()))] if len(self.speakers) else []


@dataclass(frozen=True)
class Stretch:
    """Some time in which nothing changes, many times over: speakers (R or H, n) are counted by their turns at once.

    `evaluated_s` and `scored_s` (n,) are the seconds of each stretch that lie in the UEM, and that are scored.
    """

    reference: Ints
    hypothesis: Ints
    evaluated_s: Floats
    scored_s: Floats


@dataclass(frozen=True)
class Counts:
    """Seconds that add up over speakers, and what the Jaccard error is made of."""

    total_s: float
    correct_s: float
    false_alarm_s: float
    missed_s: float
    confusion_s: float
    jaccard_errors: float
    jaccard_speakers: int
    reference_speakers: int
    hypothesis_speakers: int
    doubled_s: float
    """Seconds, of both sides, in which a speaker is in two turns at once."""


def count_errors(
    reference: Tracks,
    hypothesis: Tracks,
    uem: Timeline | None,
    collar_s: float,
    skip_overlap: bool,
    md_eval: bool,
) -> Counts:
    """Count the errors of one recording.

    Parameters
    ----------
    uem
        What is evaluated; None for all from the first to the last turn.
    collar_s
        The whole width, not scored around each boundary of a reference turn.
    skip_overlap
        Do not score where two reference turns overlap.
    md_eval
        Assign speakers in all that is evaluated, and count one in two turns at once once; else assign them in what
        is scored, and count such a speaker twice.
    """
    both = reference.extent_s + hypothesis.extent_s
    whole = [(min(start for start, _ in both), max(end for _, end in both))] if both else []
    regions = np.array(whole if uem is None else [(s.start, s.end) for s in uem], float).reshape(-1, 2)

    def stretches() -> Iterator[Stretch]:
        return _sweep(reference, hypothesis, regions, collar_s, skip_overlap)

    shared = _Shared.of(stretches(), (len(reference.names), len(hypothesis.names)))
    in_evaluated, in_scored = zip(
        shared.reference_s > INSTANT_S, shared.hypothesis_s > INSTANT_S, strict=True
    )
    assigned = (shared.evaluated_s, *in_evaluated) if md_eval else (shared.agreement_s, *in_scored)
    pairs = _assign(*assigned, number_all=md_eval)
    sums = sum((_count(part, pairs, md_eval) for part in stretches()), start=np.zeros(5))
    jaccard = _assign(shared.agreement_s, *in_scored, by_reference=True)
    unlike = [1 - shared.similarity(r, h) for r, h in jaccard]
    total_s, correct_s, false_alarm_s, missed_s, confusion_s = map(float, sums)
    return Counts(
        total_s,
        correct_s,
        false_alarm_s,
        missed_s,
        confusion_s,
        jaccard_errors=float(sum(unlike)) + int(in_scored[0].sum()) - len(unlike),
        jaccard_speakers=int(in_scored[0].sum()),
        reference_speakers=int(in_evaluated[0].sum()),
        hypothesis_speakers=int(in_evaluated[1].sum()),
        doubled_s=shared.doubled_s,
    )


@dataclass(frozen=True)
class _Shared:
    """What speakers of reference and hypothesis (R, H) share, and what each of them has: evaluated, scored (2, n)."""

    common_s: Floats
    agreement_s: Floats
    evaluated_s: Floats
    reference_s: Floats
    hypothesis_s: Floats
    doubled_s: float

    def similarity(self, r: int, h: int) -> float:
        """Return the Jaccard index of two speakers, where it is scored."""
        common_s = self.common_s[r, h]
        return float(common_s / (self.reference_s[1, r] + self.hypothesis_s[1, h] - common_s))

    @classmethod
    def of(cls, stretches: Iterator[Stretch], shape: tuple[int, int]) -> _Shared:
        """Sum over stretches: `common_s` as sets, `agreement_s` by all pairs of turns, both where it is scored."""
        common_s, agreement_s, evaluated_s = np.zeros((3, *shape))
        reference_s, hypothesis_s = (np.zeros((2, number)) for number in shape)
        doubled_s = 0.0
        for part in stretches:
            r, h = part.reference, part.hypothesis
            has_r, has_h = np.minimum(r, 1), np.minimum(h, 1)
            agreement_s += (r * part.scored_s) @ h.T
            common_s += (has_r * part.scored_s) @ has_h.T
            evaluated_s += (has_r * part.evaluated_s) @ has_h.T
            weights = np.stack([part.evaluated_s, part.scored_s])
            reference_s += weights @ has_r.T
            hypothesis_s += weights @ has_h.T
            doubled_s += float(part.evaluated_s @ ((r - has_r).sum(0) + (h - has_h).sum(0)))
        return cls(common_s, agreement_s, evaluated_s, reference_s, hypothesis_s, doubled_s)


def _count(part: Stretch, pairs: Sequence[tuple[int, int]], once: bool) -> Floats:
    """Return total, correct, false alarm, missed, confusion; a speaker counts `once`, or as often as in turns."""
    most = 1 if once else None
    r, h = np.clip(part.reference, 0, most), np.clip(part.hypothesis, 0, most)
    spoken, heard = r.sum(0), h.sum(0)
    correct = np.zeros_like(spoken)
    for speaker, name in pairs:
        correct += np.minimum(r[speaker], h[name])
    confused = np.minimum(spoken, heard) - correct
    parts = spoken, correct, np.maximum(heard - spoken, 0), np.maximum(spoken - heard, 0), confused
    return np.stack(parts) @ part.scored_s


def _sweep(
    reference: Tracks, hypothesis: Tracks, regions: Floats, collar_s: float, skip_overlap: bool
) -> Iterator[Stretch]:
    """Yield the recording in stretches, some thousands at a time."""
    num_reference, num_hypothesis = len(reference.names), len(hypothesis.names)
    inside, near = num_reference + num_hypothesis, num_reference + num_hypothesis + 1
    rows = [(reference.speakers, reference.starts_s, reference.ends_s)]
    rows.append((num_reference + hypothesis.speakers, hypothesis.starts_s, hypothesis.ends_s))
    rows.append((np.full(len(regions), inside), regions[:, 0], regions[:, 1]))
    if collar_s > 0:
        boundaries = np.concatenate([reference.starts_s, reference.ends_s])
        rows.append(
            (np.full(len(boundaries), near), boundaries - 0.5 * collar_s, boundaries + 0.5 * collar_s)
        )
    row, start_s, end_s = (np.concatenate(column) for column in zip(*rows, strict=True))
    edges_s, places = np.unique(np.concatenate([start_s, end_s]), return_inverse=True)
    order = np.argsort(places, kind="stable")
    places = places[order]
    row, change = np.tile(row, 2)[order], np.repeat([1, -1], len(row))[order]
    counts = np.zeros(near + 1, np.int64)
    for first in range(0, len(edges_s) - 1, BLOCK_EDGES):
        last = min(first + BLOCK_EDGES, len(edges_s) - 1)
        events = slice(*np.searchsorted(places, [first, last]))
        steps = np.zeros((len(counts), last - first), np.int64)
        steps[:, 0] = counts
        np.add.at(steps, (row[events], places[events] - first), change[events])
        active = np.cumsum(steps, axis=1)
        counts = active[:, -1]
        durations_s = np.diff(edges_s[first : last + 1])
        evaluated_s = np.where((active[inside] > 0) & (durations_s > INSTANT_S), durations_s, 0.0)
        skipped = active[near] > 0
        if skip_overlap:
            skipped |= active[:num_reference].sum(0) > 1
        scored_s = np.where(skipped, 0.0, evaluated_s)
        yield Stretch(active[:num_reference], active[num_reference:inside], evaluated_s, scored_s)


def _assign(
    agreement_s: Floats,
    reference: NDArray[np.bool_],
    hypothesis: NDArray[np.bool_],
    by_reference: bool = False,
    number_all: bool = False,
) -> list[tuple[int, int]]:
    """Pair the speakers of both sides that are there, one to one, so that the pairs agree most (R, H).

    Of equally good ways the one is taken that pyannote.metrics takes: it names reference speakers A … Z, AA … and
    hypothesis speakers 0, 1, 2 …, all or those that are there, sorts the names as text, and gives SciPy the one side
    or the other as rows.
    """
    rows, columns = _order(reference, number_all, _letters), _order(hypothesis, number_all, str)
    matrix = -agreement_s[np.ix_(rows, columns)]
    chosen = linear_sum_assignment(matrix) if by_reference else linear_sum_assignment(matrix.T)[::-1]
    pairs = [(rows[row], columns[column]) for row, column in zip(*chosen, strict=True)]
    return [(r, h) for r, h in pairs if agreement_s[r, h] > 0]


def _order(present: NDArray[np.bool_], number_all: bool, name: Callable[[int], str]) -> list[int]:
    numbered = range(len(present)) if number_all else np.flatnonzero(present).tolist()
    named = sorted((name(number), place) for number, place in enumerate(numbered))
    return [place for _, place in named if present[place]]


def _letters(number: int) -> str:
    text = ""
    while number >= 0:
        number, letter = divmod(number, 26)
        text, number = chr(ord("A") + letter) + text, number - 1
    return text
