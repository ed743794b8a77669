"""Settings of a separator side by side, on the same recordings: DER and its parts, and the number of speakers.

    pixit simulate --speech voices --turns rttm --train 0 --development 24 -o meetings
    python scripts/compare_settings.py candidates.yaml --database meetings/database.yml --work heard --out table.md

``candidates.yaml`` gives each row of the table a name, and what is different in it::

    as it is: {}
    spectral: {clustering.method: spectral}
    VBx: {clustering.method: vbx, clustering.fa: 0.1, clustering.plda: plda/}

The networks hear every recording once, in as many processes as ``--jobs`` says, and what they said is kept in the
folder ``--work``; so settings that need other outputs of theirs (step, thresholds of activity) cannot be compared.
"""

from __future__ import annotations

import argparse
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from pixit.config import read_yaml
from pixit.evaluation.diarization import COLUMNS, evaluate_diarization, make_row
from pixit.evaluation.tables import Column, Table
from pixit.experiments.references import find_references
from pixit.experiments.subjects import OfflineSubject
from pixit.pipeline.separate import Separator
from pixit.types import Recording

THRESHOLDS = ("activity.onset", "activity.offset")
"""Are the separator's own: the networks would be asked anew for others."""


def open_subject(separator: str | None, recordings: list[Recording], work: Path) -> OfflineSubject:
    """Return what decides who speaks when in recordings that the networks have heard."""
    subject = OfflineSubject(Separator.from_pretrained(separator, device="cpu"), recordings, work, THRESHOLDS)
    subject.hear()
    return subject


def _hear(separator: str | None, work: Path, recording: Recording) -> None:
    torch.set_num_threads(1)
    open_subject(separator, [recording], work)


def score(subject: OfflineSubject, recordings: list[Recording], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: errors of all recordings together, and in how many the number is right."""
    turns = {one.uri: one.turns for one in recordings}
    found = {one.uri: subject.decide(one.uri, changes) for one in recordings}
    scores = evaluate_diarization(turns, found, annotated={one.uri: one.annotated for one in recordings})
    right = sum(one.hypothesis_speakers == one.reference_speakers for one in scores.recordings.values())
    return make_row("", scores.total) | {"right_percent": 100 * right / len(recordings)}


def main() -> None:
    """Parse, hear, decide, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("candidates", type=Path)
    parser.add_argument("--separator", help="folder or hub id; by default the bundled one")
    parser.add_argument("--database", type=Path, action="append", required=True, help="may be repeated")
    parser.add_argument("--subset", default="development")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the table, as .md, .csv, .json or .txt")
    asked = parser.parse_args()
    candidates, rows = read_yaml(asked.candidates), []
    for database in asked.database:
        recordings, _ = find_references([], database=database, subset=asked.subset)
        name = database.parent.name
        work = asked.work / name
        with get_context("spawn").Pool(asked.jobs) as pool:
            pool.map(partial(_hear, asked.separator, work), recordings, chunksize=1)
        subject = open_subject(asked.separator, recordings, work)
        for settings, changes in candidates.items():
            rows.append(score(subject, recordings, changes) | {"recording": settings, "meetings": name})
    head = Column("meetings", "recordings"), Column("recording", "settings")
    columns = (*head, *COLUMNS[1:], Column("right_percent", "number right (%)", 0))
    table = Table("Settings side by side; errors in %", columns, rows)
    print(table.render("markdown"))
    if asked.out:
        table.save(asked.out)


if __name__ == "__main__":
    main()
