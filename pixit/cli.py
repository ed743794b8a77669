"""The command line: parses, calls, prints.

Everything heavy is imported by the command that needs it, so that ``pixit --help`` is quick.
"""

from __future__ import annotations

import errno
import hashlib
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_origin

import click

from pixit.types import PixitError

if TYPE_CHECKING:
    from pixit.audio import Audio
    from pixit.config import Settings
    from pixit.pipeline.separate import Separator

RECORDINGS = (
    ".aac .aif .aifc .aiff .amr .ape .au .avi .caf .flac .m4a .m4v .mka .mkv .mov .mp3 .mp4 .mpeg .mpg .oga "
    ".ogg .opus .rf64 .snd .sph .w64 .wav .webm .wma .wv .3gp"
)
"""Endings of the files that are taken from a folder."""

EXTRAS = {
    "pytorch_lightning": "train",
    "tensorboard": "train",
    "pyannote.database": "train",
    "pyroomacoustics": "train",
    "transformers": "wavlm",
    "peft": "wavlm",
}
"""Optional package -> extra of pixit-audio that brings it."""

ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
"""What a machine may refuse: no bug of ours."""

NAMES = {"token_normalize_func": lambda name: name.replace("_", "-")}  # --num_speakers is --num-speakers


class Face(click.Group):
    """The group of all commands; tells what went wrong in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PixitError as error:
            fail(ctx, error)
        except ModuleNotFoundError as error:
            package = next((name for name in EXTRAS if f"{error.name}.".startswith(f"{name}.")), None)
            if package is None:
                raise
            fail(ctx, f"{package} is not installed; run pip install 'pixit-audio[{EXTRAS[package]}]'")
        except OSError as error:
            if error.errno not in ENVIRONMENT:
                raise
            place = error.filename or "temporary files"
            fail(ctx, f"{place}: {error.strerror}; check space and rights (TMPDIR is for temporary files)")
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


class SettingsCommand(click.Command):
    """A command with options for fields of a settings class, which show its defaults and descriptions.

    The class is imported only when the command runs or shows its help: that may take a second.

    Parameters
    ----------
    settings
        The class, as ``"module.Class"``.
    fields
        Field -> name of its option. An option that is not given is None.
    """

    def __init__(self, *args: Any, settings: str, fields: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings, self.fields = settings, fields

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        module, _, name = self.settings.rpartition(".")
        kind = getattr(import_module(module), name)
        options = [settings_option(kind, field, option) for field, option in self.fields.items()]
        *own, help_option = super().get_params(ctx)
        return [*own, *options, help_option]


def settings_option(kind: type[Settings], name: str, option: str) -> click.Option:
    """Make the option of a field; a pair of numbers is written as ``2-4``."""
    field = kind.model_fields[name]
    is_pair = get_origin(field.annotation) is tuple
    default = "-".join(map(str, field.default)) if is_pair else str(field.default)
    return click.Option(
        [option, name],
        type=str if is_pair else field.annotation,
        metavar="MIN-MAX" if is_pair else None,
        help=f"{field.description or name.replace('_', ' ')}  [default: {default}]",
    )


def collect_overrides(overrides: Iterable[str], **options: Any) -> list[str]:
    """Return options that were given, and those of ``--set`` after them, as ``key=value``."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, str) and (pair := re.fullmatch(r"(\d+)(?:-(\d+))?", value)):
            given[name] = [int(pair[1]), int(pair[2] or pair[1])]
    return [*(f"{name}={value}" for name, value in given.items()), *overrides]


set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting, as section.key=value"
)


@click.group(cls=Face, context_settings={**NAMES, "help_option_names": ["-h", "--help"]})
@click.version_option(message="pixit %(version)s", package_name="pixit-audio")
def cli() -> None:
    """One clean audio track per speaker of a real meeting, and who spoke when."""


# --- pixit separate ------------------------------------------------------------------------------------


@cli.command(
    cls=SettingsCommand,
    settings="pixit.pipeline.separate.SeparationSettings",
    fields={"step_s": "--step", "batch_size": "--batch-size"},
)
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", default="separated", type=click.Path(path_type=Path), show_default=True)
@click.option("--model", help="folder or hub name of another model, or of model and embedder together")
@click.option("--embedder", help="folder or hub name of another speaker embedder")
@click.option("--num-speakers", type=int, help="how many speak, if that is known")
@click.option("--min-speakers", type=int, help="how many speak at least")
@click.option("--max-speakers", type=int, help="how many speak at most")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, …")
@click.option("--channel", type=int, help="channel to take, counted from 0  [default: mean of all]")
@click.option("--format", default="wav", type=click.Choice(["wav", "flac"]), show_default=True)
@set_option
@click.option("--overwrite", is_flag=True, help="do again what is done")
@click.option("--quiet", is_flag=True, help="say nothing but errors")
@click.pass_context
def separate(
    ctx: click.Context,
    recordings: tuple[Path, ...],
    output: Path,
    model: str | None,
    embedder: str | None,
    num_speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
    device: str,
    channel: int | None,
    format: str,
    overrides: tuple[str, ...],
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Separate RECORDINGS, audio or video files or folders of them.

    For meeting.wav the folder OUTPUT/meeting gets meeting.rttm and meeting.json (who spoke when),
    SPEAKER_00.wav, SPEAKER_01.wav … (as long as the recording, at their true level) and timeline.png.
    """
    from pixit.config import load_settings
    from pixit.pipeline.separate import SeparationSettings, Separator

    paths = find_recordings(recordings)
    check_names(paths)
    settings = load_settings(SeparationSettings, overrides=collect_overrides(overrides, **options))
    call = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
    failed = False
    with writable(output):
        changes = settings.model_dump(exclude_unset=True)
        separator = Separator.from_pretrained(model, embedder, device, settings=changes)
        request = describe(separator) | {"call": call | {"channel": channel}, "format": format}
        for path in paths:
            try:
                separate_one(separator, path, output, request, overwrite, quiet)
            except PixitError as error:
                failed = True
                complain(error)
    if failed:
        ctx.exit(2)


def separate_one(
    separator: Separator, path: Path, output: Path, request: dict[str, Any], overwrite: bool, quiet: bool
) -> None:
    """Separate and save one recording, unless that is done; `request` is all that decides about the result."""
    from pixit.audio import open_audio
    from pixit.results import clock, file_name

    started_s = time.perf_counter()
    audio = open_audio(path, channel=request["call"]["channel"])
    request = request | {"source_sha256": file_hash(path)}
    target = output / file_name(audio.uri)
    if target.exists() and not overwrite:
        check_done(target, request)
        say(f"{path}: is done, see {target}", quiet)
        return
    with progress(path.name, quiet) as hook:
        result = separator(audio, hook=hook, **request["call"])
    result.settings["request"] = request
    result.save(output, request["format"], overwrite)
    speed = result.duration_s / (time.perf_counter() - started_s)
    number = f"{len(result.speakers)} speaker{'' if len(result.speakers) == 1 else 's'}"
    told = f"{clock(result.duration_s)}, {channels(audio)}, {number}, {speed:.3g} × real time"
    say(f"{path}: {told} → {target}", quiet)


def check_done(target: Path, request: dict[str, Any]) -> None:
    """Raise a `PixitError` if `target` is not a whole result of this very request."""
    from pixit.results import Separation

    found = Separation.load(target).settings.get("request", {})
    changed = [key for key in request if found.get(key) != request[key]]
    if changed:
        raise PixitError(
            f"{target}: exists, made from another file or with other settings ({', '.join(changed)}); "
            "pass --overwrite to replace it, or another --output"
        )


def find_recordings(given: Iterable[Path]) -> list[Path]:
    """Return the files among `given` and in its folders, each once."""
    found: dict[Path, Path] = {}
    for path in given:
        inside = [path]
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in RECORDINGS.split() and p.is_file()
            )
            inside = [p for p in inside if not p.name.startswith(".")]
        if not inside:
            raise PixitError(f"{path}: holds no recordings; expected files as {RECORDINGS}")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def check_names(paths: list[Path]) -> None:
    """Raise a `PixitError` if the results of two recordings would have the same name."""
    from pixit.results import file_name

    first: dict[str, Path] = {}
    for path in paths:
        name = file_name(path.stem)
        if name in first:
            raise PixitError(
                f"{first[name]} and {path}: the results of both would be named {name}; rename one, "
                "or separate it into another --output"
            )
        first[name] = path


def describe(separator: Separator) -> dict[str, Any]:
    """Return what decides about the result: settings and weights."""
    settings = separator.settings.model_dump(mode="json", exclude={"batch_size"})
    networks = {"model_sha256": separator.model, "embedder_sha256": separator.embedder}
    return {"separation": settings} | {key: weights_hash(network) for key, network in networks.items()}


def weights_hash(network: Any) -> str:
    """Return the SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def channels(audio: Audio) -> str:
    """Say what of a recording was taken."""
    if audio.num_channels == 1:
        return "mono"
    if audio.channel is None:
        return f"mean of {audio.num_channels} channels"
    return f"channel {audio.channel} of {audio.num_channels} (from 0)"


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make a folder and try to write into it; if it is new and stays empty, remove it at the end.

    Raises
    ------
    PixitError
        If that cannot be done.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".pixit-", dir=folder).cleanup()
    except OSError as error:
        raise PixitError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


# --- pixit train ---------------------------------------------------------------------------------------


@cli.command()
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


# --- pixit simulate ------------------------------------------------------------------------------------


@cli.command(
    cls=SettingsCommand,
    settings="pixit.data.simulate.MeetingSettings",
    fields={"duration_s": "--duration", "num_speakers": "--speakers"},
)
@click.option(
    "--speech",
    required=True,
    type=click.Path(path_type=Path),
    help="folder of utterances, a folder each speaker",
)
@click.option(
    "--turns",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="RTTM of real meetings, file or folder; may be repeated",
)
@click.option(
    "--noise",
    multiple=True,
    type=click.Path(path_type=Path),
    help="recording of noise, or folder of them; may be repeated",
)
@click.option("-o", "--output", default="simulated", type=click.Path(path_type=Path), show_default=True)
@click.option("--train", default=100, show_default=True, type=click.IntRange(0), help="meetings to train on")
@click.option(
    "--development", default=10, show_default=True, type=click.IntRange(0), help="meetings to validate on"
)
@click.option("--test", default=0, show_default=True, type=click.IntRange(0), help="meetings to test on")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@set_option
@click.option("--quiet", is_flag=True, help="say nothing but errors")
def simulate(
    speech: Path,
    turns: tuple[Path, ...],
    noise: tuple[Path, ...],
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
    import numpy as np

    from pixit.config import load_settings
    from pixit.data.corpus import DATABASE, PROTOCOL, split_speakers, write_corpus
    from pixit.data.simulate import Ingredients, MeetingSettings

    settings = load_settings(MeetingSettings, overrides=collect_overrides(overrides, **options))
    noises = find_recordings(noise) if noise else []
    ingredients = Ingredients.from_folders(speech, turns, noises, seed=seed)
    numbers = {"train": train, "development": development, "test": test}
    subsets = split_speakers(ingredients, numbers, settings.num_speakers[1], np.random.default_rng(seed))
    with progress(output.name, quiet) as hook:
        database = write_corpus(output, subsets, settings, seed, hook)
    protocol = f"{DATABASE}.SpeakerDiarization.{PROTOCOL}"
    say(f"{output}: {train + development + test} meetings. Train on them:\n", quiet)
    say(f"    pixit train --database {database} --protocol {protocol}", quiet)


# --- what the commands share ---------------------------------------------------------------------------


def say(line: str, quiet: bool = False) -> None:
    """Print a line."""
    if not quiet:
        click.echo(line)


def complain(error: PixitError | str) -> None:
    """Print an error as one line."""
    click.echo(f"pixit: error: {' '.join(str(error).split())}", err=True)


def fail(ctx: click.Context, error: PixitError | str) -> NoReturn:
    """Print an error and end the program."""
    complain(error)
    ctx.exit(2)


@contextmanager
def progress(name: str, quiet: bool) -> Iterator[Any]:
    """Show a bar for each step of a hook in pyannote.audio's form; none where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bars: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:

        def hook(
            step: str, artifact: Any, file: Any = None, total: int | None = None, completed: int | None = None
        ) -> None:
            if total is not None:
                if step not in bars:
                    bars[step] = bar.add_task(f"{name}: {step}")
                bar.update(bars[step], total=total, completed=completed)

        yield hook


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary folders are removed
    cli(prog_name="pixit")
