"""``pixit train-speaker``: speech of known speakers in, a speaker embedder out."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import PATH, examples, say


@click.command(
    epilog=examples(
        "pixit train-speaker --data voices/train --validation voices/dev --noise noise/ -o experiments/voices"
    )
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    *("--data", "speech"), multiple=True, type=PATH, help="<speaker>/*.flac, or a CSV list; may be repeated"
)
@click.option("--validation", multiple=True, type=PATH, help="the same, of other speakers; may be repeated")
@click.option("--noise", multiple=True, type=PATH, help="a recording of noise, or a folder of them")
@click.option(
    "--room", "rooms", multiple=True, type=PATH, help="a measured room response, or a folder of them"
)
@click.option("--separator", help="a model whose separated sources are trained on too")
@click.option("--init", help="an embedder to start from, folder or hub id; by default a new one")
@click.option("--cache", type=PATH, help="folder that keeps decoded speech from one run to the next")
@click.option("--config", type=PATH, help="YAML file of differences from the defaults")
@click.option(
    "-o", "--output", type=PATH, required=True, help="folder of the training; OUTPUT/model is the best"
)
@click.option("--quiet", is_flag=True, help="print errors and the end only")
def train_speaker(
    overrides: tuple[str, ...],
    speech: tuple[Path, ...],
    validation: tuple[Path, ...],
    noise: tuple[Path, ...],
    rooms: tuple[Path, ...],
    separator: str | None,
    init: str | None,
    cache: Path | None,
    config: Path | None,
    output: Path,
    quiet: bool,
) -> None:
    """Train a speaker embedder: sub-center ArcFace on short, overlapped, separated and noisy crops.

    A CSV list has the columns speaker and path. Any setting can be changed by KEY=VALUE, as in training.steps=5000.
    The best encoder, by equal error rate on the unseen speakers of --validation, is in OUTPUT/model. The same
    command again goes on where a killed training stopped.
    """
    from pixit.config import load_settings
    from pixit.training.train_speaker import SpeakerRun
    from pixit.training.train_speaker import train_speaker as run_training

    places = {"speech": speech, "validation": validation, "noise": noise, "rooms": rooms}
    named = {"separator": separator, "init": init, "cache": cache}
    given = {name: value for name, value in (places | named).items() if value}
    run = load_settings(SpeakerRun, config, overrides, given)
    exported = run_training(run, output, lambda line: say(line, quiet))
    say(f"{exported}: the trained embedder. Use it:\n\n    pixit separate --embedder {exported} meeting.wav")
