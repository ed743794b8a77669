"""Scores of separation as a table: each speaker, each recording, and all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pixit.evaluation.separation.score import RecordingScores, SpeakerScores
from pixit.evaluation.tables import Column, Table

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


def separation_table(scores: Sequence[RecordingScores], regions: Sequence[str], title: str) -> Table:
    """Return a row for each speaker, each recording (its speakers' mean) and, last, all (the mean of all speakers).

    Parameters
    ----------
    scores
        Of `pixit.evaluation.separation.score_separation`.
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
