"""``pixit evaluate transcript``: word error rates of transcripts with speakers."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import say, warn
from pixit.evaluation.tables import FORMATS
from pixit.evaluation.transcript import NORMALIZERS, evaluate_transcript
from pixit.evaluation.word_errors import METRICS
from pixit.files import write_text


@click.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("hypothesis", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(list(METRICS), case_sensitive=False),
    default=("cpwer",),
    show_default=True,
    help="may be given several times",
)
@click.option(
    "--collar", default=5.0, show_default=True, help="of tcpwer and tcorcwer, seconds; MeetEval's convention"
)
@click.option(
    "--normalizer",
    type=click.Choice(NORMALIZERS),
    default=NORMALIZERS[0],
    show_default=True,
    help="what both texts go through",
)
@click.option("--per-speaker/--no-per-speaker", default=True, show_default=True, help="of cpwer and tcpwer")
@click.option("--format", type=click.Choice(list(FORMATS.values())), default="text", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help=f"write the table to a file: {', '.join(FORMATS)}"
)
@click.option(
    "--html", "page", type=click.Path(path_type=Path), help="write the alignment as a page to look at"
)
def transcript(
    reference: Path,
    hypothesis: Path,
    metrics: tuple[str, ...],
    collar: float,
    normalizer: str,
    per_speaker: bool,
    format: str,
    output: Path | None,
    page: Path | None,
) -> None:
    """Score transcripts HYPOTHESIS against REFERENCE, files or folders.

    SegLST (.json), STM, SRT and WebVTT hold speakers; of CTM give a folder with a file for each speaker.
    A session without hypothesis is all deletions; one without reference is left out with a warning.
    """
    scores = evaluate_transcript(reference, hypothesis, metrics, collar, normalizer)
    table = scores.table(per_speaker)
    warn(scores.notes)
    if page is not None:
        _write_page(page, reference, hypothesis, normalizer)
    if output is not None:
        table.save(output)
    say(table.render(format).rstrip("\n"))


def _write_page(page: Path, reference: Path, hypothesis: Path, normalizer: str) -> None:
    from pixit.evaluation.alignment_page import alignment_page

    write_text(page, alignment_page(reference, hypothesis, normalizer))
