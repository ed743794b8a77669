"""``pixit separate`` and ``diarize``: recordings in, a folder with diarization, and tracks, each out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import (
    PATH,
    Bars,
    SettingsCommand,
    collect_overrides,
    examples,
    known_option,
    networks_options,
    progress,
    quiet_option,
    set_option,
    settings_option,
    telling_warnings,
    warn,
)

if TYPE_CHECKING:
    from pixit.audio import Channel
    from pixit.diarized import Diarization
    from pixit.pipeline.batch import Job, Outcome


def parse_channel(ctx: click.Context, option: click.Parameter, value: str) -> Channel:
    """Return a channel by its name or number."""
    if value in ("best", "mean"):
        return value  # type: ignore[return-value]
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither best, mean nor a number") from None


@click.command(
    cls=SettingsCommand,
    settings="pixit.pipeline.settings.SeparationSettings",
    fields={"step_s": "--step", "batch_size": "--batch-size"},
    epilog=examples(
        "pixit separate meeting.wav -n 4",
        "pixit separate recordings/ --recursive -o separated --format flac",
        "pixit separate recordings/ --jobs 4",
        "pixit separate meeting.wav --known-speakers voices/",
        "pixit separate meeting.wav --model experiments/mine/model --set clustering.threshold=0.5",
    ),
)
@click.argument("recordings", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", default="separated", type=PATH, show_default=True)
@networks_options
@click.option("-n", "--num-speakers", type=int, help="number of speakers, if known")
@click.option("--min-speakers", type=int, help="smallest number of speakers")
@click.option("--max-speakers", type=int, help="largest number of speakers")
@click.option(
    "--channel",
    default="best",
    metavar="best|mean|N",
    show_default=True,
    callback=parse_channel,
    help="the channel in which speech stands out most, the mean of all, or one, counted from 0",
)
@click.option("--stream", type=int, help="the audio stream, counted from 0, of a video with several")
@click.option(
    "--channels-are-speakers",
    is_flag=True,
    help="every channel is the microphone or the line of one talker, and becomes their track",
)
@click.option(
    "--reference", type=PATH, help="RTTM file or folder with the truth, for clustering.method=oracle alone"
)
@known_option
@click.option(
    "--keep-room/--clean",
    default=None,
    help="leave the noise and the room of the recording in the tracks, or take only what the model separated  "
    "[default: --keep-room]",
)
@click.option("--format", default="wav", type=click.Choice(["wav", "flac"]), show_default=True)
@settings_option
@set_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="recordings at a time, each in a process of its own that takes its share of the cores  [default: 1, "
    "with --cluster as many as it has GPUs or cores]",
)
@click.option(
    "--cluster",
    metavar="auto|ADDRESS",
    help="separate on the machines of a Ray cluster, which share the folders of recordings and results",
)
@click.option("-r", "--recursive", is_flag=True, help="take the recordings in folders of a folder, too")
@click.option("--overwrite", is_flag=True, help="redo what is done")
@quiet_option
def separate(
    recordings: tuple[Path, ...],
    output: Path,
    model: str | None,
    embedder: str | None,
    num_speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
    device: str,
    channel: Channel,
    stream: int | None,
    channels_are_speakers: bool,
    reference: Path | None,
    known_speakers: Path | None,
    keep_room: bool | None,
    format: str | None,
    settings: Path | None,
    overrides: tuple[str, ...],
    jobs: int | None,
    cluster: str | None,
    recursive: bool,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Separate RECORDINGS, audio or video files or folders of them.

    For meeting.wav the folder OUTPUT/meeting gets meeting.rttm and meeting.json (who spoke when),
    SPEAKER_00.wav, SPEAKER_01.wav … (as long as the recording, at their true level) and timeline.png.
    """
    from pixit.config import load_settings
    from pixit.files import writable
    from pixit.pipeline.batch import Job, find_recordings
    from pixit.pipeline.enrolment import find_voices
    from pixit.pipeline.settings import SeparationSettings

    # what cannot be done is said before the networks are loaded
    files = list(find_recordings(recordings, recursive).values())
    chosen = collect_overrides(overrides, **options, **{"stitching.keep_room": keep_room})
    changes = load_settings(SeparationSettings, settings, chosen).model_dump(exclude_unset=True)
    if known_speakers is not None:
        find_voices(known_speakers)
    bounds = num_speakers, min_speakers, max_speakers
    job = Job(
        *(output, *bounds, channel, format, overwrite),
        *(stream, channels_are_speakers, reference, known_speakers),
    )
    with writable(output), progress(None, quiet) as bars:
        failed, num_outcomes = [], 0
        for outcome in begin(files, job, (model, embedder, device, changes), jobs, cluster, bars):
            num_outcomes += 1
            if not show(outcome, bars):
                failed.append(str(outcome.path))
        if failed and num_outcomes > 1:
            bars.say(
                f"{len(failed)} of {num_outcomes} recordings failed or are not whole: {', '.join(failed)}"
            )


def begin(
    files: Sequence[Path],
    job: Job,
    networks: tuple[str | None, str | None, str, dict[str, Any]],
    jobs: int | None,
    cluster: str | None,
    bars: Bars,
) -> Iterator[Outcome]:
    """Return the outcomes to come: of this process, of several, or of a cluster."""
    from pixit.pipeline.batch import separate_each
    from pixit.pipeline.dispatch import share_out
    from pixit.pipeline.separate import Separator
    from pixit.pipeline.workers import Workers

    model, embedder, device, settings = networks
    workers: Workers
    if cluster is not None:
        from pixit.pipeline.ray_cluster import RayWorkers

        load = partial(Separator.from_pretrained, model, embedder, settings=settings)
        workers = RayWorkers(load, device, cluster, len(files), jobs)
    elif (count := min(jobs or 1, len(files))) > 1:
        from pixit.pipeline.processes import Processes

        load = partial(Separator.from_pretrained, model, embedder, settings=settings)
        workers = Processes(load, device, count)
    else:
        with telling_warnings():
            separator = Separator.from_pretrained(model, embedder, device, settings=settings)
        return separate_each(separator, files, job, bars, bars.say)
    return share_out(workers, files, job, bars, bars.say)


@click.command(
    cls=SettingsCommand,
    settings=separate.settings,
    fields=separate.fields,
    params=[option for option in separate.params if option.name not in ("output", "format", "keep_room")],
    epilog=examples(
        "pixit diarize meeting.wav -n 4",
        "pixit diarize recordings/ --recursive -o diarized",
        "pixit diarize meeting.wav --model pyannote/speaker-diarization-3.1",
    ),
)
@click.option("-o", "--output", default="diarized", type=PATH, show_default=True)
def diarize(**options: Any) -> None:
    """Find who spoke when in RECORDINGS, audio or video files or folders of them, without making tracks.

    For meeting.wav the folder OUTPUT/meeting gets meeting.rttm and meeting.json (who spoke when) and
    timeline.png. The turns are those of pixit separate, in less time. Models that only diarize serve as well.
    """
    assert separate.callback is not None
    separate.callback(**options, format=None, keep_room=None)


def show(outcome: Outcome, bars: Bars) -> bool:
    """Say what became of a recording; return whether all of it was taken."""
    if outcome.result is None:
        bars.complain(outcome.error or "failed")
        return False
    lines = [f"{outcome.path}: {warning}" for warning in outcome.result.settings.get("warnings", ())]
    is_whole = not outcome.result.settings.get("loss")
    if not is_whole:
        bars.complain(lines[0])  # of several it is the first
    if outcome.elapsed_s is None:
        bars.say(f"{outcome.path}: is done, see {outcome.folder}")
    else:
        facts = f"{describe(outcome.result)}, {outcome.result.duration_s / outcome.elapsed_s:.3g} × real time"
        bars.say(f"{outcome.path}: {facts} → {outcome.folder}")
        warn(lines if is_whole else lines[1:])
    return is_whole


def describe(result: Diarization) -> str:
    """Say how long a recording is, what of it was taken, and how many speakers were found."""
    from pixit.report.timeline import clock

    number, channel = result.settings["source_channels"], result.settings["channel"]
    is_best = result.settings["request"]["call"]["channel"] == "best"
    taken = f"channel {channel} of {number} (from 0{', the best' if is_best else ''})"
    taken = f"mean of {number} channels" if channel == "mean" else taken
    taken = f"each of {number} channels" if channel == "each" else taken
    speakers = f"{len(result.speakers)} speaker{'' if len(result.speakers) == 1 else 's'}"
    if result.settings.get("known_speakers"):
        speakers += f" ({', '.join(result.speakers) or 'nobody who is known'})"
    stream, num_streams = result.settings.get("stream", 0), result.settings.get("source_streams", 1)
    source = f"stream {stream} of {num_streams} (from 0), " if num_streams > 1 else ""
    return f"{clock(result.duration_s)}, {source}{taken if number > 1 else 'mono'}, {speakers}"
