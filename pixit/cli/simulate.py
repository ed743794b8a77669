"""``pixit simulate``: single utterances in, meetings with references out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

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

paths_option = partial(click.option, multiple=True, type=PATH)


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
