"""``pixit train``: a database in, a model out."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import say


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--database", type=click.Path(path_type=Path), help="a database.yml of pyannote.database")
@click.option("--protocol", help="name of its protocol, as AMI-SDM.SpeakerDiarization.only_words")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file of differences from the paper")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="folder of the training  [default: experiments/CONFIG]",
)
@click.option("--init", help="checkpoint to begin with: a folder, hub name or pyannote file")
@click.option("--resume", is_flag=True, help="go on with the training in OUTPUT")
@click.option("--quiet", is_flag=True, help="no progress bar")
def train(
    overrides: tuple[str, ...],
    database: Path | None,
    protocol: str | None,
    config: Path | None,
    output: Path | None,
    init: str | None,
    resume: bool,
    quiet: bool,
) -> None:
    """Train a model on real meetings, simulated ones, or both.

    Any setting can be changed by KEY=VALUE, as in trainer.max_steps=1000.
    """
    from pytorch_lightning.utilities import rank_zero_only

    from pixit.config import load_settings
    from pixit.training.train import TrainSettings
    from pixit.training.train import train as run_training

    folder = output or Path("experiments") / (config.stem if config is not None else "paper")
    if resume and config is None:
        config = folder / "settings.yaml"
    settings = load_settings(TrainSettings, config, overrides)
    exported = run_training(settings, folder, database, protocol, init, resume, not quiet)
    rank_zero_only(say)(
        f"{exported}: the trained model. Use it:\n\n    pixit separate --model {exported} meeting.wav"
    )
