"""How well known speakers are found again, and what it does for the diarization.

    pixit simulate --speech voices --turns rttm --train 0 --development 24 -o meetings
    python scripts/evaluate_known_speakers.py --database meetings/database.yml --voices enrolled --out known.md

``enrolled`` has a folder for each speaker, called as in the references (``enrolled/librispeech-4481/*.flac``), best
with other words than those in the meetings. Every meeting is diarized three times: without known speakers; with all
of its speakers enrolled; and with half of them, and ``--absent`` people of whom nobody is in the meeting. A name is
right if most of what has it was said by that speaker.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixit.audio import read_info
from pixit.cli.console import run
from pixit.evaluation.diarization import COLUMNS, DiarizationCounts, evaluate_diarization, make_row
from pixit.evaluation.tables import Column, Table
from pixit.experiments.references import find_references
from pixit.files import list_files
from pixit.formats.names import AUDIO_ENDINGS
from pixit.pipeline.enrolment import LEAST_S, UNKNOWN
from pixit.pipeline.separate import Separator
from pixit.types import PixitError, Recording, Turn

Row = tuple[DiarizationCounts, int, int, int]
"""Errors of a meeting, the enrolled among its speakers, and how many names are right and wrong."""


def choose_files(folder: Path, seconds: float) -> list[Path]:
    """Return the last files of a speaker, of together so many seconds or all there are."""
    chosen, total_s = [], 0.0
    for path in reversed(list_files(folder, AUDIO_ENDINGS)):
        chosen.append(path)
        total_s += read_info(path).duration_s
        if total_s >= seconds:
            break
    return chosen


def lasts(folder: Path) -> bool:
    """Return whether a speaker has enough speech to be enrolled, beyond doubt."""
    return sum(read_info(path).duration_s for path in choose_files(folder, 5 * LEAST_S)) >= 5 * LEAST_S


def count_names(found: Sequence[Turn], truth: Sequence[Turn]) -> tuple[int, int]:
    """Return how many names are right and wrong: of speakers in `found` who have one."""
    right = wrong = 0
    for name in {turn.speaker for turn in found if not UNKNOWN.fullmatch(turn.speaker)}:
        own = [turn for turn in found if turn.speaker == name]
        total_s = sum(turn.end_s - turn.start_s for turn in own)
        true_s = sum(
            max(0.0, min(turn.end_s, other.end_s) - max(turn.start_s, other.start_s))
            for turn in own
            for other in truth
            if other.speaker == name
        )
        is_right = true_s > total_s / 2
        right, wrong = right + is_right, wrong + (not is_right)
    return right, wrong


def try_meeting(
    separator_name: str | None,
    folders: dict[str, Path],
    seconds: float,
    num_absent: int,
    recording: Recording,
) -> dict[str, Row]:
    """Diarize one meeting with nobody, all and half of its speakers enrolled."""
    torch.set_num_threads(1)
    separator = Separator.from_pretrained(separator_name, device="cpu")
    names = sorted({turn.speaker for turn in recording.turns})
    rng = np.random.default_rng(list(recording.uri.encode()))
    others = [
        name for name in rng.permutation(sorted(set(folders) - set(names))).tolist() if lasts(folders[name])
    ]
    half = names[: (len(names) + 1) // 2]
    rows = {}
    for label, enrolled, absent in (
        ("nobody", [], []),
        ("all who talk", names, []),
        (f"half of them, and {num_absent} who are not there", half, others[:num_absent]),
    ):
        known = {name: choose_files(folders[name], seconds) for name in (*enrolled, *absent)}
        found = separator.diarize(recording.audio, known_speakers=known or None)
        scores = evaluate_diarization(
            {"meeting": recording.turns},
            {"meeting": found.turns},
            annotated={"meeting": recording.annotated},
        )
        rows[label] = scores.total, len(enrolled), *count_names(found.turns, recording.turns)
    return rows


def main() -> None:
    """Parse, diarize, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--separator", help="folder or hub id; by default the bundled one")
    parser.add_argument("--database", type=Path, action="append", required=True, help="may be repeated")
    parser.add_argument("--subset", default="development")
    parser.add_argument("--voices", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each voice")
    parser.add_argument("--absent", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the table, as .md, .csv, .json or .txt")
    asked = parser.parse_args()
    recordings = [
        one for path in asked.database for one in find_references([], database=path, subset=asked.subset)[0]
    ]
    folders = {path.name: path for path in sorted(asked.voices.iterdir()) if path.is_dir()}
    if missing := {turn.speaker for one in recordings for turn in one.turns} - set(folders):
        raise PixitError(f"{asked.voices}: has no folder of {min(missing)}, who talks in the meetings")
    with get_context("spawn").Pool(asked.jobs) as pool:
        work = partial(try_meeting, asked.separator, folders, asked.seconds, asked.absent)
        found = pool.map(work, recordings, chunksize=1)
    totals: dict[str, list[Row]] = defaultdict(list)
    for rows in found:
        for label, row in rows.items():
            totals[label].append(row)
    table = make_table(totals, len(recordings))
    print(table.render("markdown"))
    if asked.out:
        table.save(asked.out)


def make_table(totals: dict[str, list[Row]], num_meetings: int) -> Table:
    """Return a row for each way of enrolling."""
    rows: list[dict[str, Any]] = []
    for label, trials in totals.items():
        counts, enrolled, right, wrong = zip(*trials, strict=True)
        named = {"enrolled": sum(enrolled), "right": sum(right), "wrong": sum(wrong)}
        rows.append(make_row("", sum(counts, start=DiarizationCounts())) | {"recording": label} | named)
    columns = (Column("recording", "enrolled are"), *COLUMNS[1:])
    names = (
        Column("enrolled", "of them enrolled"),
        Column("right", "named right"),
        Column("wrong", "wrong names"),
    )
    return Table(f"Known speakers in {num_meetings} meetings; errors in %", (*columns, *names), rows)


if __name__ == "__main__":
    run(main)
