"""``pixit evaluate verification`` and ``identification``: how well a speaker embedder knows voices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pixit.cli.console import (
    PATH,
    device_option,
    examples,
    format_option,
    is_given,
    outputs_option,
    progress,
    quiet_option,
    show_table,
)
from pixit.evaluation.tables import Column, Table


def voice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    network = click.option(
        "--embedder", help="folder or hub name of a speaker embedder  [default: the bundled one]"
    )
    crop = click.option(
        *("--crop", "crop_s"),
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="the loudest stretch only  [default: all]",
    )
    return network(crop(device_option(format_option(outputs_option(quiet_option(command))))))


@click.command(epilog=examples("pixit evaluate verification voices/dev --crop 3 --save-trials trials.txt"))
@click.argument("trials", type=PATH)
@click.option("--root", type=PATH, help="what the paths of the list are seen from  [default: its folder]")
@click.option(
    "--pairs",
    default=10_000,
    show_default=True,
    type=click.IntRange(2),
    help="trials to draw from a folder, at most",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="of the drawing")
@click.option("--save-trials", type=PATH, help="write the drawn trials as a list")
@click.option(
    "--prior",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="probability of one speaker, of minDCF",
)
@voice_options
def verification(
    trials: Path,
    root: Path | None,
    pairs: int,
    seed: int,
    save_trials: Path | None,
    prior: float,
    embedder: str | None,
    crop_s: float | None,
    device: str,
    format: str,
    outputs: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Score an embedder on pairs of recordings, of one speaker or of two.

    TRIALS is a list, with lines as '1 a.wav b.wav' and '0 a.wav c.wav' (VoxCeleb) or 'a.wav b.wav target' (Kaldi);
    or a folder of one folder of recordings a speaker, or a CSV file with speaker and path, to draw trials from.

    Prints equal error rate (EER), minDCF, the share of one speaker's trials accepted at 1 % false acceptance
    (TAR@1%FAR), and accuracy at the threshold of the EER.
    """
    from pixit.experiments.speakers import evaluate_verification, gather_trials, load_embedder

    context = click.get_current_context()
    given = [name for name in ("pairs", "seed", "save_trials", "root") if is_given(context, name)]
    wrong = (
        {"root"} if trials.is_dir() or trials.suffix.lower() == ".csv" else {"pairs", "seed", "save_trials"}
    )
    for name in given:
        if name in wrong:
            kind = "list of trials" if name == "root" else "folder or CSV file of speakers"
            raise click.UsageError(f"--{name.replace('_', '-')} goes with a {kind}, which {trials} is not")
    listed = gather_trials(trials, root, pairs, seed, save_trials)
    with progress(str(trials), quiet) as hook:
        scores = evaluate_verification(load_embedder(embedder, device), listed, crop_s, prior, hook)
    percent = {name: 100 * getattr(scores, name) for name in ("eer", "tar_at_1_far", "accuracy")}
    columns = (
        Column("same", "one speaker"),
        Column("different", "two speakers"),
        Column("eer", "EER %"),
        Column("min_dcf", "minDCF", 3),
        Column("tar_at_1_far", "TAR@1%FAR %"),
        Column("accuracy", "accuracy %"),
        Column("threshold", "threshold", 3),
    )
    show_table(Table("Verification", columns, [asdict(scores) | percent]), format, outputs)


@click.command(epilog=examples("pixit evaluate identification voices/dev --crop 3"))
@click.argument("speech", type=PATH)
@click.option(
    *("--enrol", "num_enrolled"),
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="recordings that stand for a speaker",
)
@voice_options
def identification(
    speech: Path,
    num_enrolled: int,
    embedder: str | None,
    crop_s: float | None,
    device: str,
    format: str,
    outputs: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Score an embedder on finding the speaker of a recording among all of SPEECH.

    SPEECH is a folder of one folder of recordings a speaker, or a CSV file with speaker and path. The first
    recordings of each are enrolled, all others are tests.
    """
    from pixit.experiments.speakers import evaluate_identification, load_embedder
    from pixit.simulation.pool import find_speakers

    with progress(str(speech), quiet) as hook:
        network = load_embedder(embedder, device)
        scores = evaluate_identification(network, find_speakers(speech), num_enrolled, crop_s, hook)
    percent = {"top_1": 100 * scores.top_1, "top_5": 100 * scores.top_5}
    columns = (
        Column("speakers", "speakers"),
        Column("tests", "tests"),
        Column("top_1", "accuracy %"),
        Column("top_5", "among five %"),
    )
    show_table(Table("Identification", columns, [asdict(scores) | percent]), format, outputs)
