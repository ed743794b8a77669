"""Diarization error rate and Jaccard error rate of any system's RTTM.

The numbers are those of pyannote.metrics (Bredin, Interspeech 2017). `counting` does the arithmetic; here are the
reading, the rules for recordings that only one side has, the two conventions of the collar, and counts that add up,
so that nobody averages ratios.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixit.evaluation.counting import Tracks, count_errors
from pixit.evaluation.tables import Column, Table
from pixit.formats.names import match_names, match_sides, some
from pixit.formats.rttm import read_rttm, read_uem
from pixit.types import PixitError, Turn

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

Regions = Sequence[tuple[float, float]]
Diarizations = Path | str | Mapping[str, "Sequence[Turn] | Annotation"]
Uem = Path | str | Mapping[str, "Regions | Timeline"]

CONVENTIONS = ("pyannote", "md-eval")
"""What a collar means; the first is the default.

``"pyannote"``: the whole width, half on each side of a boundary; speakers are assigned in what is scored; a
speaker in two turns at once counts twice. ``"md-eval"`` (NIST md-eval 22, as dscore calls it): the width on each
side; speakers are assigned before collars and overlap are cut out; a speaker in two turns at once counts once.
JER is that of pyannote.metrics in the same regions.
"""

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


@dataclass(frozen=True)
class DiarizationCounts:
    """What is counted in a recording, or summed over several; durations add up over speakers.

    Parameters
    ----------
    total_s
        Reference speech that is scored.
    correct_s, confusion_s, missed_s
        Its parts: attributed to the right speaker, to a wrong one, to none.
    false_alarm_s
        Hypothesis speech beyond the reference speech.
    jaccard_errors
        Sum of the Jaccard error, 0 to 1, of each scored reference speaker.
    jaccard_speakers
        Number of these speakers.
    reference_speakers, hypothesis_speakers
        Number of speakers who talk in the evaluated regions, collars and overlap included.
    """

    total_s: float = 0.0
    correct_s: float = 0.0
    false_alarm_s: float = 0.0
    missed_s: float = 0.0
    confusion_s: float = 0.0
    jaccard_errors: float = 0.0
    jaccard_speakers: float = 0.0
    reference_speakers: int = 0
    hypothesis_speakers: int = 0

    def __add__(self, other: DiarizationCounts) -> DiarizationCounts:
        return DiarizationCounts(*map(operator.add, astuple(self), astuple(other)))

    @property
    def der(self) -> float:
        """Diarization error rate; without reference speech 0 if there is no error and else 1."""
        errors_s = self.confusion_s + self.false_alarm_s + self.missed_s
        return errors_s / self.total_s if self.total_s else float(errors_s > 0)

    @property
    def jer(self) -> float:
        """Jaccard error rate, the mean over reference speakers; 1 if there are none (pyannote.metrics)."""
        return self.jaccard_errors / self.jaccard_speakers if self.jaccard_speakers else 1.0


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
        rows = [make_row(name, counts) for name, counts in self.recordings.items()]
        return Table(self.title, COLUMNS, [*rows, make_row("TOTAL", self.total)], has_total=True)


def make_row(name: str, counts: DiarizationCounts) -> dict[str, Any]:
    """Return counts as a row of a table with `COLUMNS`; rates in percent."""
    row = vars(counts) | {"recording": name, "der_percent": 100 * counts.der, "jer_percent": 100 * counts.jer}
    for part in ("false_alarm", "missed", "confusion") if counts.total_s else ():
        row[f"{part}_percent"] = 100 * row[f"{part}_s"] / counts.total_s
    return row


def evaluate_diarization(
    reference: Diarizations,
    hypothesis: Diarizations,
    uem: Uem | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    convention: str = CONVENTIONS[0],
    annotated: Mapping[str, Regions] | None = None,
) -> DiarizationScores:
    """Score diarizations, equal to pyannote.metrics or to md-eval in every digit that is printed.

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
        Timeline. None for what is `annotated`, or else for all from the first to the last turn of reference
        and hypothesis together, as pyannote.metrics and dscore have it.
    collar
        Seconds around each boundary of a reference turn that are not scored; see `CONVENTIONS`.
    skip_overlap
        Leave out where more than one reference speaker talks.
    convention
        One of `CONVENTIONS`.
    annotated
        Recording -> stretches (start_s, end_s) where its reference is complete; nothing else is scored.

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
    if not 0 <= collar < math.inf:
        raise PixitError(f"collar of {collar} s: expected 0 or more seconds")
    if convention not in CONVENTIONS:
        raise PixitError(f"unknown convention {convention!r}; expected one of {', '.join(CONVENTIONS)}")
    references = read_rttm(reference) if isinstance(reference, Path | str) else reference
    hypotheses = read_rttm(hypothesis) if isinstance(hypothesis, Path | str) else hypothesis
    if not references:
        raise PixitError("the reference holds no recordings; expected at least one")
    found, notes = match_sides(references, hypotheses, "recording", "all speech is missed")
    areas, more = _find_areas(references, uem, annotated)
    each_side_s = collar if convention == "md-eval" else collar / 2
    counts, doubled = {}, []
    for name in references if areas is None else areas:
        spoken, heard = (
            Tracks.of(references[name]),
            Tracks.of(hypotheses[found[name]] if name in found else ()),
        )
        area = None if areas is None else areas[name]
        counted = count_errors(spoken, heard, area, 2 * each_side_s, skip_overlap, convention == "md-eval")
        counts[name] = DiarizationCounts(
            **{f.name: getattr(counted, f.name) for f in fields(DiarizationCounts)}
        )
        if convention == "pyannote" and counted.doubled_s > 1e-3:
            doubled.append(name)
    notes += more + _doubts(counts, doubled)
    has_uem = uem is not None or annotated is not None
    title = _title(collar, each_side_s, skip_overlap, convention, has_uem)
    return DiarizationScores(counts, title, tuple(notes))


def _doubts(counts: Mapping[str, DiarizationCounts], doubled: Collection[str]) -> list[str]:
    """Return notes on recordings whose scores are not what they seem."""
    doubts = {
        "turns of the same speaker overlap and count twice, as in pyannote.metrics": doubled,
        "no reference speech is scored; DER is 100 % with any false alarm, else 0": [
            name for name, count in counts.items() if not count.total_s
        ],
    }
    return [f"{doubt}: {some(names)}" for doubt, names in doubts.items() if names]


def _title(collar: float, each_side_s: float, skip_overlap: bool, convention: str, has_uem: bool) -> str:
    edges = f"collar {each_side_s:g} s on each side of a boundary" if collar else "no collar"
    overlap = "overlap skipped" if skip_overlap else "overlap scored"
    extent = "no UEM: scored from the first to the last turn of reference and hypothesis"
    scored = "scored in the regions of the UEM" if has_uem else extent
    return f"Diarization, errors in %; {edges} ({convention}); {overlap}; {scored}"


def _find_areas(
    recordings: Collection[str], uem: Uem | None, annotated: Mapping[str, Regions] | None
) -> tuple[Mapping[str, Timeline | None], list[str]]:
    """Return what of each recording is scored, None for all; those that the UEM does not hold are left out."""
    given = annotated if uem is None else uem
    if given is None:
        return dict.fromkeys(recordings), []
    regions = read_uem(given) if isinstance(given, Path | str) else given
    found, notes = match_names(recordings, regions, "the UEM")
    if not found:
        held = some(regions) or "none at all"
        raise PixitError(f"the UEM holds none of the recordings: it has {held}, expected {some(recordings)}")
    if missing := [name for name in recordings if name not in found]:
        notes.append(f"not in the UEM, left out: {some(missing)}")
    if surplus := sorted(set(regions) - set(found.values())):
        notes.append(f"in the UEM alone, left out: {some(surplus)}")
    areas = {name: _timeline(regions[other]) for name, other in found.items()}
    if annotated is not None:
        areas = {name: area.crop(_timeline(annotated[name])) for name, area in areas.items()}
    return areas, notes


def _timeline(regions: Regions | Timeline) -> Timeline:
    from pyannote.core import Segment, Timeline

    return Timeline([Segment(start_s, end_s) for start_s, end_s in regions]).support()
