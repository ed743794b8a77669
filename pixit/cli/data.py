"""``pixit data`` and ``pixit simulate``: look after databases, and make one of simulated meetings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import (
    PATH,
    SettingsCommand,
    collect_overrides,
    examples,
    progress,
    quiet_option,
    say,
    set_option,
)
from pixit.evaluation.tables import Column, Table, check_path

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

paths_option = partial(click.option, multiple=True, type=PATH)


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

    if output is not None:
        check_path(output)
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


@click.command(
    cls=SettingsCommand,
    settings="pixit.simulation.simulate.MeetingSettings",
    fields={"duration_s": "--duration", "num_speakers": "-n/--speakers/--num-speakers"},
    epilog=examples("pixit simulate --speech utterances/ --turns rttm/ -n 2-4 --train 100 -o simulated"),
)
@paths_option("--speech", required=True, help="folder of utterances, a folder each speaker; may be repeated")
@paths_option(
    "--unlabelled", help="folder of speech, each recording of a speaker of its own; may be repeated"
)
@paths_option("--turns", required=True, help="RTTM of real meetings, file or folder; may be repeated")
@paths_option("--noise", help="recording of noise, or folder of them; may be repeated")
@paths_option(
    "--room",
    help="measured response of a room, or folder of them, besides the simulated rooms; may be repeated",
)
@click.option("-o", "--output", default="simulated", type=PATH, show_default=True)
@click.option("--train", default=100, show_default=True, type=click.IntRange(0), help="meetings to train on")
@click.option(
    "--development", default=10, show_default=True, type=click.IntRange(0), help="meetings to validate on"
)
@click.option("--test", default=0, show_default=True, type=click.IntRange(0), help="meetings to test on")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@set_option
@quiet_option
def simulate(
    speech: tuple[Path, ...],
    unlabelled: tuple[Path, ...],
    turns: tuple[Path, ...],
    noise: tuple[Path, ...],
    room: tuple[Path, ...],
    output: Path,
    train: int,
    development: int,
    test: int,
    seed: int,
    overrides: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Make meetings from single utterances: mixtures, reference sources, RTTM and a database.yml."""
    from pixit.config import load_settings
    from pixit.simulation.corpus import DATABASE, PROTOCOL, split_speakers, write_corpus
    from pixit.simulation.simulate import Ingredients, MeetingSettings

    settings = load_settings(MeetingSettings, overrides=collect_overrides(overrides, **options))
    ingredients = Ingredients.from_folders(speech, turns, noise, unlabelled, room, seed=seed)
    numbers = {"train": train, "development": development, "test": test}
    subsets = split_speakers(ingredients, numbers, settings.num_speakers[1], seed)
    with progress(output.name, quiet) as hook:
        database = write_corpus(output, subsets, settings, seed, hook)
    protocol = f"{DATABASE}.SpeakerDiarization.{PROTOCOL}"
    say(f"{output}: {train + development + test} meetings. Train on them:\n", quiet)
    say(f"    pixit train --database {database} --protocol {protocol}", quiet)
