"""Diarization error rate and Jaccard error rate of any system's RTTM.

pyannote.metrics (Bredin, Interspeech 2017) does the arithmetic; here are the reading, the rules for recordings
that only one side has, the two conventions of the collar, and counts that add up, so that nobody averages ratios.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixit.evaluation.diarization_errors import CONVENTIONS, DiarizationCounts, count_errors, speaks_twice
from pixit.evaluation.tables import Column, Table
from pixit.formats.names import match_names, some
from pixit.formats.rttm import read_rttm, read_uem
from pixit.types import PixitError, Turn

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

Regions = Sequence[tuple[float, float]]
Diarizations = Path | str | Mapping[str, "Sequence[Turn] | Annotation"]
Uem = Path | str | Mapping[str, "Regions | Timeline"]


@dataclass(frozen=True)
class DiarizationScores:
    """What `evaluate_diarization` found.

    Parameters
    ----------
    recordings
        Recording of the reference -> its counts.
    title
        How they were counted.
    notes
        What the user should know: recordings on one side only, different names, missing UEM.
    """

    recordings: dict[str, DiarizationCounts]
    title: str
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> DiarizationCounts:
        """The summed counts of all recordings."""
        return sum(self.recordings.values(), start=DiarizationCounts())

    def table(self) -> Table:
        """Return a row each recording and the total; rates in percent."""
        rows = [_row(name, counts) for name, counts in self.recordings.items()]
        return Table(self.title, COLUMNS, [*rows, _row("TOTAL", self.total)], has_total=True)


COLUMNS = (
    Column("recording", "recording"),
    Column("der_percent", "DER"),
    Column("false_alarm_percent", "false alarm"),
    Column("missed_percent", "missed"),
    Column("confusion_percent", "confusion"),
    Column("jer_percent", "JER"),
    Column("total_s", "speech (s)"),
    Column("correct_s", "correct (s)", detail=True),
    Column("false_alarm_s", "false alarm (s)", detail=True),
    Column("missed_s", "missed (s)", detail=True),
    Column("confusion_s", "confusion (s)", detail=True),
    Column("reference_speakers", "speakers"),
    Column("hypothesis_speakers", "found"),
)


def _row(name: str, counts: DiarizationCounts) -> dict[str, Any]:
    row = vars(counts) | {"recording": name, "der_percent": 100 * counts.der, "jer_percent": 100 * counts.jer}
    for part in ("false_alarm", "missed", "confusion") if counts.total_s else ():
        row[f"{part}_percent"] = 100 * row[f"{part}_s"] / counts.total_s
    return row


@dataclass(frozen=True)
class DiarizationRules:
    """What of a diarization is scored, and how.

    Parameters
    ----------
    collar_s
        Seconds around each boundary of a reference turn that are not scored. Convention ``"pyannote"``: the
        whole width, half on each side. Convention ``"md-eval"``: the width on each side.
    skip_overlap
        Leave out where more than one reference speaker talks.
    convention
        ``"pyannote"``: collar as said; speakers are assigned in what is scored; a speaker in two turns at once
        counts twice. ``"md-eval"`` (NIST md-eval 22, as dscore calls it): collar as said; speakers are assigned
        before collars and overlap are cut out; a speaker in two turns at once counts once. JER is that of
        pyannote.metrics in the same regions.

    Raises
    ------
    PixitError
        If the collar is no length, or the convention is unknown.
    """

    collar_s: float = 0.0
    skip_overlap: bool = False
    convention: str = CONVENTIONS[0]

    def __post_init__(self) -> None:
        if not 0 <= self.collar_s < math.inf:
            raise PixitError(f"collar of {self.collar_s} s: expected 0 or more seconds")
        if self.convention not in CONVENTIONS:
            raise PixitError(
                f"unknown convention {self.convention!r}; expected one of {', '.join(CONVENTIONS)}"
            )

    @property
    def each_side_s(self) -> float:
        """Seconds on each side of a boundary that are not scored."""
        return self.collar_s if self.convention == "md-eval" else self.collar_s / 2

    def title(self, has_uem: bool) -> str:
        """Return the title of a table of scores."""
        collar = f"collar {self.each_side_s:g} s on each side of a boundary" if self.collar_s else "no collar"
        overlap = "overlap skipped" if self.skip_overlap else "overlap scored"
        area = (
            "scored in the regions of the UEM"
            if has_uem
            else "no UEM: scored from the first to the last turn of reference and hypothesis"
        )
        return f"Diarization, errors in %; {collar} ({self.convention}); {overlap}; {area}"


def evaluate_diarization(
    reference: Diarizations,
    hypothesis: Diarizations,
    uem: Uem | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    convention: str = CONVENTIONS[0],
) -> DiarizationScores:
    """Score diarizations, equal to pyannote.metrics or to md-eval to the last printed digit.

    Every recording of the reference (that the UEM holds, if there is one) is scored; without hypothesis all of
    it is missed. Recordings that only the hypothesis has are left out. Names are compared as in `match_names`.
    `DiarizationScores.notes` tells of all that.

    Parameters
    ----------
    reference, hypothesis
        RTTM as `read_rttm` reads it (the output of ``pixit separate`` is such a folder), or recording -> its turns
        or its pyannote Annotation.
    uem
        Regions to score: UEM as `read_uem` reads it, or recording -> its regions (start_s, end_s) or its
        Timeline. None for all from the first to the last turn of reference and hypothesis together, as
        pyannote.metrics and dscore have it.
    collar, skip_overlap, convention
        See `DiarizationRules`.

    Raises
    ------
    PixitError
        If a file cannot be read, no recording is on both sides, a name could mean two recordings, or an option
        is out of its range.

    Examples
    --------
    >>> from pixit.types import Turn
    >>> reference = {"meeting": [Turn(0.0, 8.0, "ann"), Turn(8.0, 10.0, "bob")]}
    >>> hypothesis = {"meeting": [Turn(0.0, 10.0, "SPEAKER_00")]}
    >>> evaluate_diarization(reference, hypothesis).total.der
    0.2
    """
    rules = DiarizationRules(collar, skip_overlap, convention)
    references = read_rttm(reference) if isinstance(reference, Path | str) else reference
    hypotheses = read_rttm(hypothesis) if isinstance(hypothesis, Path | str) else hypothesis
    pairs, notes = _pair(references, hypotheses)
    regions = read_uem(uem) if isinstance(uem, Path | str) else uem
    areas, more_notes = (None, []) if regions is None else _choose(pairs, regions)
    counts, doubled = {}, []
    for name, found in pairs.items() if areas is None else ((name, pairs[name]) for name in areas):
        spoken = _annotation(name, references[name])
        heard = _annotation(name, hypotheses[found] if found is not None else ())
        area = _extent(spoken, heard) if areas is None else areas[name]
        counts[name] = count_errors(spoken, heard, area, 2 * rules.each_side_s, skip_overlap, convention)
        if speaks_twice(spoken) or speaks_twice(heard):
            doubled.append(name)
    notes += more_notes + _doubts(counts, doubled if convention == "pyannote" else [])
    return DiarizationScores(counts, rules.title(uem is not None), tuple(notes))


def _doubts(counts: Mapping[str, DiarizationCounts], doubled: Collection[str]) -> list[str]:
    """Return notes on recordings whose scores are not what they seem."""
    notes = []
    if doubled:
        notes.append(
            f"turns of the same speaker overlap and count twice, as in pyannote.metrics: {some(doubled)}"
        )
    if silent := [name for name, count in counts.items() if not count.total_s]:
        notes.append(
            f"no reference speech is scored; DER is 100 % with any false alarm, else 0: {some(silent)}"
        )
    return notes


def _annotation(name: str, turns: Sequence[Turn] | Annotation) -> Annotation:
    """Make an Annotation as pyannote.database makes it of RTTM: a track each line."""
    from pyannote.core import Annotation, Segment

    if isinstance(turns, Annotation):
        return turns
    annotation = Annotation(uri=name)
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    return annotation


def _timeline(regions: Regions | Timeline) -> Timeline:
    from pyannote.core import Segment, Timeline

    if isinstance(regions, Timeline):
        return regions.support()
    return Timeline([Segment(start_s, end_s) for start_s, end_s in regions]).support()


def _extent(reference: Annotation, hypothesis: Annotation) -> Timeline:
    from pyannote.core import Timeline

    extent = reference.get_timeline().extent() | hypothesis.get_timeline().extent()
    return Timeline([extent] if extent else [])


def _pair(
    references: Collection[str], hypotheses: Mapping[str, Sequence[Turn] | Annotation]
) -> tuple[dict[str, str | None], list[str]]:
    """Find the hypothesis of each recording; None where there is none."""
    if not references:
        raise PixitError("the reference holds no recordings; expected at least one")
    found, notes = match_names(references, hypotheses, "the hypothesis")
    if not found and any(map(bool, hypotheses.values())):
        raise PixitError(
            f"no recording in common: the reference has {some(references)}, the hypothesis {some(hypotheses)}; "
            "give both the same names"
        )
    if missing := [name for name in references if name not in found]:
        notes.append(f"not in the hypothesis, all speech is missed: {some(missing)}")
    if surplus := sorted(name for name in set(hypotheses) - set(found.values()) if hypotheses[name]):
        notes.append(f"not in the reference, left out: {some(surplus)}")
    return {name: found.get(name) for name in references}, notes


def _choose(
    recordings: Collection[str], uem: Mapping[str, Regions | Timeline]
) -> tuple[dict[str, Timeline], list[str]]:
    """Return what of each recording a UEM has scored, without those that it does not hold."""
    found, notes = match_names(recordings, uem, "the UEM")
    if not found:
        raise PixitError(
            f"the UEM holds none of the recordings: it has {some(uem) or 'none at all'}, "
            f"expected {some(recordings)}"
        )
    if missing := [name for name in recordings if name not in found]:
        notes.append(f"not in the UEM, left out: {some(missing)}")
    return {name: _timeline(uem[other]) for name, other in found.items()}, notes


def within_annotated(
    uem: Path | str, annotated: Mapping[str, Regions]
) -> tuple[dict[str, Timeline], list[str]]:
    """Return the regions of UEM (as `read_uem` reads it) in which the reference is complete, and notes.

    Parameters
    ----------
    uem
        The file or folder.
    annotated
        Recording -> stretches (start_s, end_s) where its reference is complete.

    Raises
    ------
    PixitError
        If `uem` cannot be read, or holds none of the recordings.
    """
    chosen, notes = _choose(annotated, read_uem(uem))
    return {name: area.crop(_timeline(annotated[name])) for name, area in chosen.items()}, notes
