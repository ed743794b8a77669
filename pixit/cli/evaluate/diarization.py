"""``pixit evaluate diarization``: who spoke when, against a reference."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import say, warn
from pixit.evaluation.diarization import (
    CONVENTIONS,
    Diarizations,
    Uem,
    evaluate_diarization,
    within_annotated,
)
from pixit.evaluation.tables import FORMATS, check_path

SUBSETS = ["train", "development", "test"]


@click.command()
@click.argument("paths", nargs=-1, metavar="[REF] HYP", type=click.Path(path_type=Path))
@click.option("--database", type=click.Path(path_type=Path), help="database.yml that gives reference and UEM")
@click.option("--protocol", help="its name, as AMI-SDM.SpeakerDiarization.only_words")
@click.option("--subset", type=click.Choice(SUBSETS), default="test", show_default=True)
@click.option(
    "--uem",
    type=click.Path(path_type=Path),
    help="UEM file or folder: what to score  [default: first to last turn, or what the protocol says]",
)
@click.option(
    "--collar",
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="not scored around the boundaries of reference turns: the whole width, half on each side",
)
@click.option(
    "--collar-convention",
    "convention",
    type=click.Choice(CONVENTIONS),
    default=CONVENTIONS[0],
    show_default=True,
    help="md-eval: the collar is the width on EACH side, and speakers are assigned before it is cut out",
)
@click.option("--skip-overlap", is_flag=True, help="leave out where more than one reference speaker talks")
@click.option("--format", type=click.Choice(list(FORMATS.values())), default="text", show_default=True)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"write the table to a file: {', '.join(FORMATS)}; may be repeated",
)
def diarization(
    paths: tuple[Path, ...],
    database: Path | None,
    protocol: str | None,
    subset: str,
    uem: Path | None,
    collar: float,
    convention: str,
    skip_overlap: bool,
    format: str,
    outputs: tuple[Path, ...],
) -> None:
    """Score who spoke when: HYP against REF, RTTM files or folders of them (as pixit separate writes).

    Prints diarization error rate (DER) with false alarm, missed detection and confusion, Jaccard error rate (JER)
    and numbers of speakers, each recording and TOTAL, from summed counts; equal to pyannote.metrics.
    With --database or --protocol the reference is a protocol of pyannote.database, and only HYP is given.

    --collar 0.5 is the same width as md-eval's and dscore's collar of 0.25: use
    --collar-convention md-eval --collar 0.25 to repeat their numbers.

    A recording without hypothesis counts as missed, one without reference or UEM is left out; both are named.
    """
    for output in outputs:
        check_path(output)
    reference: Diarizations
    regions: Uem | None = uem
    if database is not None or protocol is not None:
        (hypothesis,) = expect(paths, "HYP")
        reference, regions, notes = read_protocol(database, protocol, subset, uem)
    else:
        notes = []
        reference, hypothesis = expect(paths, "REF HYP")
    scores = evaluate_diarization(reference, hypothesis, regions, collar, skip_overlap, convention)
    warn(dict.fromkeys([*notes, *scores.notes]))  # what both found is said once
    table = scores.table()
    for output in outputs:
        table.save(output)
    say(table.render(format).rstrip("\n"))


def expect(paths: tuple[Path, ...], names: str) -> tuple[Path, ...]:
    """Return the paths if there is one for each name."""
    if len(paths) != len(names.split()):
        raise click.UsageError(f"expected {names} (one path each), got {len(paths)} paths")
    return paths


def read_protocol(
    database: Path | None, protocol: str | None, subset: str, uem: Path | None
) -> tuple[Diarizations, Uem, list[str]]:
    """Return turns and annotated regions, those of `uem` only if it is given, of a protocol, and notes."""
    from pixit.data.database import load_recordings

    recordings = load_recordings(protocol, subset, database)
    turns = {recording.uri: recording.turns for recording in recordings}
    annotated = {recording.uri: recording.annotated for recording in recordings}
    if uem is None:
        return turns, annotated, []
    return turns, *within_annotated(uem, annotated)
