"""``pixit data``: look after databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import progress, say

if TYPE_CHECKING:
    from pixit.data.check import DatabaseReport, SubsetReport
    from pixit.data.check_file import Finding


@click.group()
def data() -> None:
    """Look after databases of recordings."""


@data.command()
@click.argument("database", required=False, type=click.Path(path_type=Path))
@click.option(
    "--protocol", help="name of its protocol, as AMI-SDM.SpeakerDiarization.only_words  [default: all]"
)
@click.option("--subset", help="train, development or test  [default: all]")
@click.option(
    "--sample-rate",
    type=click.IntRange(1),
    help="rate that all audio should have, in Hz  [default: most files']",
)
@click.option("--full", is_flag=True, help="decode all audio, not only its ends")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="write the findings to a .csv, .json, .md or .txt file",
)
@click.option("--quiet", is_flag=True, help="print errors and warnings only")
@click.pass_context
def check(
    ctx: click.Context,
    database: Path | None,
    protocol: str | None,
    subset: str | None,
    sample_rate: int | None,
    full: bool,
    output: Path | None,
    quiet: bool,
) -> None:
    """Find mistakes in the protocols of DATABASE, a database.yml of pyannote.database.

    Missing, unreadable, truncated or unlike audio; empty or overlong annotation; recordings listed twice.
    Without DATABASE, what pyannote.database finds by itself is checked. Ends with status 2 if there are
    errors; warnings and infos do not count.
    """
    from pixit.data.check import check_database
    from pixit.evaluation.tables import Table

    with progress(str(database or "databases"), quiet) as hook:
        report = check_database(database, protocol, subset, sample_rate, full, hook)
    shown = [finding for finding in report.findings if not quiet or finding.severity != "info"]
    for line in align([describe(finding) for finding in shown]):
        say(line)
    say(Table("Recordings", summary_columns(), summary_rows(report.subsets)).render(), quiet)
    if output is not None:
        Table("Findings", finding_columns(), [vars(finding) for finding in report.findings]).save(output)
    say(verdict(report), quiet)
    if report.count("error"):
        ctx.exit(2)


def describe(finding: Finding) -> Sequence[str]:
    """Return the cells of a finding."""
    place = f"{finding.protocol}.{finding.subset}"
    return finding.severity, place, finding.uri or "–", finding.message


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width; the last column, which may be long, is not padded."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(row[:-1], widths, strict=False)), row[-1]]) for row in rows
    ]


def finding_columns() -> list[Any]:
    """Return the columns of the table of findings."""
    from pixit.evaluation.tables import Column

    keys = ("severity", "protocol", "subset", "uri", "message")
    return [Column(key, "recording" if key == "uri" else key) for key in keys]


def summary_columns() -> list[Any]:
    """Return the columns of the summary."""
    from pixit.evaluation.tables import Column

    return [
        Column("subset", "subset"),
        Column("files", "recordings"),
        Column("audio", "audio (h)"),
        Column("annotated", "annotated (h)"),
        Column("speech", "speech (h)"),
        Column("overlap", "overlap (% of speech)", 1),
        Column("speakers", "speakers"),
    ]


def summary_rows(subsets: Sequence[SubsetReport]) -> list[Mapping[str, Any]]:
    """Return the rows of the summary."""
    return [
        {
            "subset": f"{found.protocol}.{found.subset}",
            "files": found.num_files,
            "audio": found.audio_s / 3600,
            "annotated": found.annotated_s / 3600,
            "speech": found.speech_s / 3600,
            "overlap": 100 * found.overlap_s / found.speech_s if found.speech_s else None,
            "speakers": len(found.speakers),
        }
        for found in subsets
    ]


def verdict(report: DatabaseReport) -> str:
    """Say how many findings there are."""
    counts = {kind: report.count(kind) for kind in ("error", "warning", "info")}
    return ", ".join(f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in counts.items())
