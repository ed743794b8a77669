"""``pixit train``: a database in, a model out."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import PATH, examples, say
from pixit.types import PixitError


@click.command(
    epilog=examples(
        "pixit train --database database.yml --config configs/cpu-small.yaml -o experiments/mine",
        "pixit train -o experiments/mine --resume trainer.max_steps=200000",
    )
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--database", type=PATH, help="a database.yml of pyannote.database")
@click.option("--protocol", help="name of its protocol, as AMI-SDM.SpeakerDiarization.only_words")
@click.option("--config", type=PATH, help="YAML file of differences from the paper")
@click.option("-o", "--output", type=PATH, help="folder of the training  [default: experiments/CONFIG]")
@click.option("--init", help="checkpoint to begin with: a folder, hub name or pyannote file")
@click.option("--resume", is_flag=True, help="continue the training in OUTPUT, which knows all the rest")
@click.option("--moved", is_flag=True, help="with --resume: the same data are in other folders now")
@click.option("-q", "--quiet", is_flag=True, help="no progress bar")
def train(
    overrides: tuple[str, ...],
    database: Path | None,
    protocol: str | None,
    config: Path | None,
    output: Path | None,
    init: str | None,
    resume: bool,
    moved: bool,
    quiet: bool,
) -> None:
    """Train a model on real meetings, simulated ones, or both.

    Any setting can be changed by KEY=VALUE, as in trainer.max_steps=1000.

    OUTPUT/run.yaml keeps what a training was started with. `pixit train -o OUTPUT --resume` takes everything from
    there. trainer.*, data.num_workers and data.simulation.cache may be changed; anything else that differs is
    refused. Where the data lie in other folders now, say so with --moved and give their paths (--database,
    data.simulation.speech=…); the names of the last folders or files must be the same.
    """
    from pytorch_lightning.utilities import rank_zero_only

    from pixit.config import load_settings
    from pixit.training.run import Run, TrainSettings
    from pixit.training.train import train as run_training

    if moved and not resume:
        raise PixitError("--moved: says where the data of a training to resume lie now; pass --resume too")
    folder = output or Path("experiments") / (config.stem if config is not None else "paper")
    if resume and config is None:
        settings = Run.read(folder, overrides).settings
    else:
        settings = load_settings(TrainSettings, config, overrides)
    exported = run_training(settings, folder, database, protocol, init, resume, not quiet, moved, say)
    rank_zero_only(say)(
        f"{exported}: the trained model. Use it:\n\n    pixit separate --model {exported} meeting.wav"
    )
