"""Score, or measure, the tracks of all recordings of a folder; and the table of the scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pixit.evaluation.separation.files import find_sources, pair_recordings
from pixit.evaluation.separation.score import (
    RecordingScores,
    ScoringOptions,
    SpeakerScores,
    score_separation,
)
from pixit.evaluation.separation.statistics import MixtureStatistics, measure_tracks
from pixit.evaluation.tables import Column, Table
from pixit.files import list_files
from pixit.formats.names import find_files, match_items, some
from pixit.formats.rttm import read_rttm
from pixit.types import Hook, PixitError, Turn

NAMES = (Column("recording", "recording"), Column("speaker", "speaker"), Column("region", "region"))
SCORES = (
    Column("si_sdr_db", "SI-SDR dB"),
    Column("si_sdr_improvement_db", "SI-SDRi dB"),
    Column("sdr_db", "SDR dB"),
    Column("sir_db", "SIR dB"),
    Column("sar_db", "SAR dB"),
    Column("pesq_wb", "PESQ-WB"),
    Column("pesq_nb", "PESQ-NB"),
    Column("stoi", "STOI", 3),
)
COUNTS = (Column("scored_s", "scored s", 1), Column("missing", "missing"), Column("surplus", "surplus"))


def evaluate_separation(
    reference: Path,
    estimate: Path,
    mixture: Path | None = None,
    rttm: Path | None = None,
    options: ScoringOptions | None = None,
    hook: Hook | None = None,
) -> tuple[list[RecordingScores], list[str]]:
    """Score the tracks of recordings against their clean sources.

    Parameters
    ----------
    reference, estimate
        Folders as `find_sources` reads them.
    mixture
        What was separated: a file, or a folder of files named as the recordings; by default the sums of the
        references.
    rttm
        Who spoke when, for regions: as `read_rttm`.
    options
        What is scored.
    hook
        Progress callback; ``file`` is the name of the recording.

    Returns
    -------
    scores
        Of each recording that has references.
    notes
        What the user should know: recordings on one side only, other names.

    Raises
    ------
    PixitError
        As `pair_recordings`, `find_files`, `read_rttm` and `score_separation`, or if a recording has no turns.
    """
    pairs, notes = pair_recordings(find_sources(reference), find_sources(estimate))
    names = [pair.recording for pair in pairs]
    mixtures, more = ({}, []) if mixture is None else find_files(mixture, names)
    turns, yet_more = ({}, []) if rttm is None else _find_turns(rttm, names)
    scores = []
    for pair in pairs:
        name = pair.recording
        step = None if hook is None else partial(hook, file=name)
        signals = pair.references, pair.tracks, mixtures.get(name), turns.get(name)
        scores.append(score_separation(*signals, options, name, step))
    return scores, [*notes, *more, *yet_more]


def measure_separation(
    mixture: Path, estimate: Path, rttm: Path | None = None, hook: Hook | None = None
) -> tuple[list[MixtureStatistics], list[str]]:
    """Measure the tracks of recordings against their mixtures, without references.

    Parameters
    ----------
    mixture
        What was separated: a file, or a folder of files named as the recordings.
    estimate
        Folder as `find_sources` reads it.
    rttm
        Who spoke when, as `read_rttm`; by default what the folder of a recording's tracks holds.
    hook
        Progress callback; ``file`` is the name of the recording.

    Returns
    -------
    statistics, notes
        Of each recording, and other names.

    Raises
    ------
    PixitError
        As `find_sources`, `find_files`, `read_rttm` and `measure_tracks`, or if a recording has no turns.
    """
    estimates = find_sources(estimate)
    mixtures, notes = find_files(mixture, estimates.recordings)
    turns: dict[str, list[Turn]] = {}
    if rttm is not None:
        turns, more = _find_turns(rttm, estimates.recordings)
        notes += more
    statistics = []
    for name, tracks in estimates.recordings.items():
        folder = estimate if estimates.is_single else estimate / name
        if rttm is None and list_files(folder, [".rttm"]):
            turns |= _find_turns(folder, [name])[0]
        step = None if hook is None else partial(hook, file=name)
        statistics.append(measure_tracks(mixtures[name], tracks, turns.get(name), name, step))
    return statistics, notes


def _find_turns(rttm: Path, recordings: Collection[str]) -> tuple[dict[str, list[Turn]], list[str]]:
    """Return the turns of all recordings; one recording has those of one RTTM whatever their names."""
    found = read_rttm(rttm)
    if len(recordings) == len(found) == 1:
        return dict(zip(recordings, found.values(), strict=True)), []
    turns, notes = match_items(recordings, found, str(rttm))
    if missing := [name for name in recordings if name not in turns]:
        raise PixitError(f"{rttm}: has no turns of {some(missing)}; found {some(found)}")
    return turns, notes


def separation_table(scores: Sequence[RecordingScores], regions: Sequence[str], title: str) -> Table:
    """Return a row for each speaker, each recording (its speakers' mean) and, last, all (the mean of all speakers).

    Parameters
    ----------
    scores
        Of `evaluate_separation`.
    regions
        What was scored, in this order.
    title
        Of the table.
    """
    rows: list[dict[str, Any]] = []
    for recording in scores:
        own = [s for region in regions for s in recording.speakers if s.region == region]
        rows += [_speaker_row(recording.recording, score) for score in own]
        if len(scores) > 1:
            rows += _mean_rows(recording.recording, [recording], regions)
    rows += _mean_rows("TOTAL", scores, regions)
    values = {key for row in rows for key, value in row.items() if value is not None}
    shown = [column for column in SCORES if column.key in values]
    return Table(title, [*NAMES, Column("track", "track"), *shown, *COUNTS], rows)


def _speaker_row(recording: str, score: SpeakerScores) -> dict[str, Any]:
    return {
        "recording": recording,
        "speaker": score.speaker,
        "region": score.region,
        "track": score.track,
        **score.values,
        "scored_s": score.scored_s,
        "missing": int(score.track is None),
    }


def _mean_rows(name: str, scores: Sequence[RecordingScores], regions: Iterable[str]) -> list[dict[str, Any]]:
    """Return a row for each region: means over the speakers who have the score, and sums of counts."""
    rows = []
    for region in regions:
        speakers = [s for recording in scores for s in recording.speakers if s.region == region]
        row: dict[str, Any] = {"recording": name, "region": region}
        for column in SCORES:
            values = [s.values[column.key] for s in speakers if column.key in s.values]
            if values:
                row[column.key] = sum(values) / len(values)
        row["scored_s"] = float(sum(s.scored_s for s in speakers))
        row["missing"] = sum(s.track is None for s in speakers)
        row["surplus"] = sum(len(recording.surplus) for recording in scores)
        rows.append(row)
    return rows
