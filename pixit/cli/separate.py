"""``pixit separate``: recordings in, a folder with tracks and diarization each out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import complain, find_recordings, progress, say, writable
from pixit.cli.options import SettingsCommand, collect_overrides, set_option
from pixit.types import PixitError

if TYPE_CHECKING:
    from pixit.audio import Audio
    from pixit.pipeline.separate import Separator


@click.command(
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
        job = Job(separator, separator.fingerprint, call, channel, output, format, overwrite, quiet)
        for path in paths:
            try:
                separate_one(job, path)
            except PixitError as error:
                failed = True
                complain(error)
    if failed:
        ctx.exit(2)


@dataclass(frozen=True)
class Job:
    """What is the same for all recordings: how they are separated, and where the results go."""

    separator: Separator
    fingerprint: dict[str, Any]
    call: dict[str, int | None]
    channel: int | None
    output: Path
    format: str
    overwrite: bool
    quiet: bool


def separate_one(job: Job, path: Path) -> None:
    """Separate and save one recording, unless that is done."""
    from pixit.audio import open_audio
    from pixit.files import file_name
    from pixit.pipeline.provenance import make_request
    from pixit.report.timeline import clock

    started_s = time.perf_counter()
    audio = open_audio(path, channel=job.channel)
    request = make_request(job.fingerprint, audio, **job.call) | {"format": job.format}
    target = job.output / file_name(audio.uri)
    if target.exists() and not job.overwrite:
        check_done(target, request)
        say(f"{path}: is done, see {target}", job.quiet)
        return
    with progress(path.name, job.quiet) as hook:
        result = job.separator(audio, hook=hook, channel=job.channel, **job.call)
    result.settings["request"] = request
    result.save(job.output, job.format, job.overwrite)
    speed = result.duration_s / (time.perf_counter() - started_s)
    number = f"{len(result.speakers)} speaker{'' if len(result.speakers) == 1 else 's'}"
    told = f"{clock(result.duration_s)}, {channels(audio)}, {number}, {speed:.3g} × real time"
    say(f"{path}: {told} → {target}", job.quiet)


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


def check_names(paths: list[Path]) -> None:
    """Raise a `PixitError` if the results of two recordings would have the same name."""
    from pixit.files import file_name

    first: dict[str, Path] = {}
    for path in paths:
        name = file_name(path.stem)
        if name in first:
            raise PixitError(
                f"{first[name]} and {path}: the results of both would be named {name}; rename one, "
                "or separate it into another --output"
            )
        first[name] = path


def channels(audio: Audio) -> str:
    """Say what of a recording was taken."""
    if audio.num_channels == 1:
        return "mono"
    if audio.channel is None:
        return f"mean of {audio.num_channels} channels"
    return f"channel {audio.channel} of {audio.num_channels} (from 0)"
