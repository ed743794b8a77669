"""What a report says beside its sound: speakers and their reference, scores, settings, words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation, Segment
from scipy.optimize import linear_sum_assignment

from pixit.diarized import Diarization
from pixit.files import file_name, read_json
from pixit.formats.names import match_names
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.types import PixitError, Turn

TOTAL = ("total", "overall", "all", "mean", "average")
"""Names of rows of scores that are of no single recording."""

NAMES = ("recording", "session", "session_id", "uri", "file")
"""Columns that say of which recording a row of scores is."""

Stretches = list[tuple[float, float]]  # (start_s, end_s)


@dataclass(frozen=True)
class Lane:
    """A row of the page: the mixture, a speaker, or a speaker of the reference whom none found matches."""

    name: str
    kind: str  # "mixture", "track" (a speaker found), or "reference"
    turns: Stretches  # where the speaker talks, turn by turn
    reference: Stretches  # where the one of the reference talks
    reference_name: str | None = None  # who of the reference this is, if anyone
    has_sound: bool = True


@dataclass(frozen=True)
class Scores:
    """A table of scores as it is shown; a row whose place is in `totals` is of several recordings."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    totals: set[int]


@dataclass(frozen=True)
class Content:
    """All that a page shows but its sound and the pictures of it."""

    result: Diarization
    lanes: list[Lane]  # those that have sound first
    origin: str  # what the mixture is, for people
    sound: str  # "flac", "opus" or "none"
    scores: list[Scores]
    words: list[Utterance]  # those that have words and times, ordered by time
    has_reference: bool  # one without turns is one, too

    def lane_of(self, speaker: str) -> int:
        """Return the place of a speaker's lane, by its name, in files or in the reference; -1 without one."""
        for index, lane in enumerate(self.lanes):
            if lane.kind != "mixture" and speaker in (lane.name, file_name(lane.name)):
                return index
        names = [lane.reference_name for lane in self.lanes]
        return names.index(speaker) if speaker in names else -1


def list_lanes(
    result: Diarization, reference: Iterable[Turn] | None, with_mixture: bool = True
) -> list[Lane]:
    """Return the mixture, the speakers with those of the reference that they are, and the other ones of these."""
    truth = Annotation(uri=result.uri)
    for turn in reference or ():
        truth[Segment(turn.start_s, turn.end_s), turn.speaker] = turn.speaker
    pairs = match_speakers(result.diarization, truth)
    turns: dict[str, Stretches] = {}
    for turn in result.turns:
        turns.setdefault(turn.speaker, []).append((round(turn.start_s, 3), round(turn.end_s, 3)))
    lanes = [Lane("Mixture", "mixture", [], [])] if with_mixture else []
    for speaker in result.speakers:
        name = pairs.get(speaker)
        known = stretches(truth, name) if name is not None else []
        has_sound = isinstance(result, Separation)
        lanes.append(Lane(speaker, "track", turns.get(speaker, []), known, name, has_sound))
    others = [name for name in truth.labels() if name not in pairs.values()]
    rest = ((str(name), stretches(truth, name)) for name in others)
    return lanes + [Lane(name, "reference", [], known, name, has_sound=False) for name, known in rest]


def match_speakers(found: Annotation, truth: Annotation) -> dict[str, str]:
    """Pair speakers found with those of the reference so that they talk together for the longest time.

    That is the pairing that the diarization error rate is counted with. Those who never talk together are not paired.
    """
    names, true_names = found.labels(), truth.labels()
    together_s = np.asarray(found * truth).reshape(len(names), len(true_names))
    rows, columns = linear_sum_assignment(together_s, maximize=True)
    return {
        names[row]: true_names[column]
        for row, column in zip(rows, columns, strict=True)
        if together_s[row, column] > 0
    }


def stretches(annotation: Annotation, speaker: str) -> Stretches:
    """Return where a speaker talks, in whole milliseconds, ordered and disjoint."""
    support = annotation.label_timeline(speaker, copy=False).support()
    return [(round(segment.start, 3), round(segment.end, 3)) for segment in support]


def read_scores(path: Path, uri: str) -> Scores | None:
    """Read a table that ``pixit evaluate … --output scores.json`` wrote, or a JSON object of any scores.

    That is ``{"title": …, "rows": [{…}, …]}``, a list of rows, or one row; a `PixitError` for anything else. Where
    rows are named by recordings, only those of `uri` and the totals are kept; None if all are of other recordings.
    """
    tree = read_json(path, "scores that pixit evaluate wrote as .json")
    title = str(tree.get("title") or path.stem) if isinstance(tree, dict) else path.stem
    rows = tree.get("rows", [tree]) if isinstance(tree, dict) else tree
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise PixitError(f'{path}: expected scores as {{"title": …, "rows": [{{…}}, …]}} or a list of rows')
    rows = [flatten(row) for row in rows]
    headings = list(dict.fromkeys(key for row in rows for key in row))
    column = next((name for name in NAMES if name in headings), None)
    if column is not None:
        found, _ = match_names([uri], {str(row.get(column)) for row in rows}, str(path))
        if not found:
            return None
        rows = [row for row in rows if str(row.get(column)) == found[uri] or _is_total(row, headings)]
    totals = {index for index, row in enumerate(rows) if _is_total(row, headings)}
    return Scores(title, headings, [[_written(row.get(key)) for key in headings] for row in rows], totals)


def _is_total(row: Mapping[str, Any], headings: Sequence[str]) -> bool:
    return bool(headings) and str(row.get(headings[0])).strip().lower() in TOTAL


def _written(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
    return str(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
