"""``pixit data``: look after databases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import PATH, examples, progress, say
from pixit.evaluation.tables import Column, Table

if TYPE_CHECKING:
    from pixit.data.check import SubsetReport

FINDINGS = [
    Column(key, "recording" if key == "uri" else key)
    for key in ("severity", "protocol", "subset", "uri", "message")
]
SUMMARY = [
    Column("subset", "subset"),
    Column("files", "recordings"),
    Column("audio", "audio (h)"),
    Column("annotated", "annotated (h)"),
    Column("speech", "speech (h)"),
    Column("overlap", "overlap (% of speech)", 1),
    Column("speakers", "speakers"),
]


@click.group(epilog=examples("pixit data check database.yml"))
def data() -> None:
    """Look after databases of recordings."""


@data.command(
    epilog=examples("pixit data check database.yml", "pixit data check database.yml --full -o findings.csv")
)
@click.argument("database", required=False, type=PATH)
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
@click.option("-o", "--output", type=PATH, help="write the findings to a .csv, .json, .md or .txt file")
@click.option("-q", "--quiet", is_flag=True, help="print errors and warnings only")
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

    with progress(str(database or "databases"), quiet) as hook:
        report = check_database(database, protocol, subset, sample_rate, full, hook)
    cells = [
        (found.severity, f"{found.protocol}.{found.subset}", found.uri or "–", found.message)
        for found in report.findings
        if not quiet or found.severity != "info"
    ]
    for line in align(cells):
        say(line)
    summary = [summarise(subset) for subset in report.subsets]
    say(Table("Recordings", SUMMARY, summary).render(), quiet)
    if output is not None:
        Table("Findings", FINDINGS, [vars(finding) for finding in report.findings]).save(output)
    counts = {kind: report.count(kind) for kind in ("error", "warning", "info")}
    say(", ".join(f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items()), quiet)
    if counts["error"]:
        ctx.exit(2)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width; the last column, which may be long, is not padded."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(row[:-1], widths, strict=False)), row[-1]]) for row in rows
    ]


def summarise(subset: SubsetReport) -> dict[str, Any]:
    """Return the row of a subset."""
    return {
        "subset": f"{subset.protocol}.{subset.subset}",
        "files": subset.num_files,
        "audio": subset.audio_s / 3600,
        "annotated": subset.annotated_s / 3600,
        "speech": subset.speech_s / 3600,
        "overlap": 100 * subset.overlap_s / subset.speech_s if subset.speech_s else None,
        "speakers": len(subset.speakers),
    }
