"""``pixit stream``: sound that goes on, who speaks as it is known, and tracks that grow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import (
    PATH,
    SettingsCommand,
    collect_overrides,
    examples,
    known_option,
    networks_options,
    quiet_option,
    set_option,
    settings_option,
    telling_warnings,
    warn,
)
from pixit.types import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

    from pixit.pipeline.live_run import LiveRun, Moment

FAINTEST_DB = 60
"""Levels are drawn from so many decibels below full scale."""


@click.command(
    cls=SettingsCommand,
    settings="pixit.pipeline.settings.StreamingSettings",
    fields={"latency_s": "--latency", "step_s": "--step"},
    epilog=examples(
        "pixit stream microphone -o live",
        "pixit stream meeting.wav --latency 2 > meeting.rttm",
        "arecord -q -t raw -f S16_LE -r 16000 | pixit stream - --rate 16000 --realtime --jsonl",
        "pixit stream ws://recorder:9000/pcm --rate 48000 --dtype float32 -o live",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.option("-o", "--output", type=PATH, help="folder of the result, which grows in OUTPUT/NAME")
@click.option("--name", help="of the recording  [default: of the file, or the kind of source]")
@click.option("--overwrite", is_flag=True, help="replace an older result of that name")
@click.option("--jsonl", is_flag=True, help="print a line of JSON for all that happens")
@click.option(
    "--rate", type=int, help="sample rate in Hz of raw samples (by default 16000), or of a microphone"
)
@click.option(
    "--dtype",
    default="int16",
    type=click.Choice(["int16", "float32"]),
    show_default=True,
    help="of raw samples",
)
@click.option("--channels", default=1, type=click.IntRange(1, 64), show_default=True, help="of raw samples")
@click.option(
    "--channel", type=click.IntRange(0, 63), help="take one channel, from 0  [default: the mean of all]"
)
@click.option(
    "--realtime", is_flag=True, help="pace a file as it was spoken; take a pipe for one that cannot wait"
)
@click.option("--max-speakers", type=int, help="most speakers that are told apart")
@known_option
@networks_options
@settings_option
@set_option
@quiet_option
def stream(
    source: str,
    output: Path | None,
    name: str | None,
    overwrite: bool,
    jsonl: bool,
    rate: int | None,
    dtype: Any,
    channels: int,
    channel: int | None,
    realtime: bool,
    max_speakers: int | None,
    known_speakers: Path | None,
    model: str | None,
    embedder: str | None,
    device: str,
    settings: Path | None,
    overrides: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Separate SOURCE while it goes on.

    SOURCE is a file, microphone or microphone:ID, - for raw samples on standard input, or an address ws://…
    that sends them. A terminal shows who speaks; elsewhere turns are printed as RTTM when they close. Ctrl-C ends
    a stream, and what came is finished.
    """
    from pixit.audio.blocks import FileSource
    from pixit.audio.sources import open_source
    from pixit.config import load_settings
    from pixit.pipeline.compute import one_thread
    from pixit.pipeline.live_run import LiveRun
    from pixit.pipeline.recorder import StreamRecorder
    from pixit.pipeline.settings import StreamingSettings
    from pixit.pipeline.streaming import StreamingSeparator

    chosen = collect_overrides(overrides, **options, **{"clustering.max_speakers": max_speakers})
    changes = load_settings(StreamingSettings, settings, chosen).model_dump(exclude_unset=True)
    opened = open_source(source, rate, dtype, channels, channel, realtime)
    taken = None if isinstance(opened, FileSource) else channel
    rate_hz = opened.sample_rate_hz
    with telling_warnings():
        heard = changes, rate_hz, taken, known_speakers
        separator = StreamingSeparator.from_pretrained(model, embedder, device, *heard)
    opened.name = name or opened.name
    recorder = None
    if output is not None:
        recorder = StreamRecorder(output, opened.name, separator.rate_hz, overwrite)
    run = LiveRun(separator, opened, recorder)
    with one_thread():
        show(run, jsonl, quiet)
    if opened.note and not quiet:
        warn([f"{opened.name}: {opened.note}"])
    finish(run, opened.name, jsonl, quiet)


def show(run: Iterable[Moment], jsonl: bool, quiet: bool) -> None:
    """Show the moments of a run as they come: as JSON, in a terminal as a picture, and elsewhere as RTTM.

    Where it is to be `quiet`, JSON alone, if it is asked for.
    """
    live = None
    if sys.stdout.isatty() and not (jsonl or quiet):
        from rich.console import Console
        from rich.live import Live

        live = Live(console=Console(), auto_refresh=False)
    with live or nullcontext():
        for moment in run:
            if jsonl or not quiet:
                show_moment(moment, live, jsonl)


def show_moment(moment: Moment, live: Live | None, jsonl: bool) -> None:
    """Show a moment, and what is to be told of it."""
    if jsonl:
        for event in moment.events:
            click.echo(json.dumps(event))
        return
    if live is not None:
        live.update(draw(moment), refresh=True)
    else:
        for line in moment.rttm:
            click.echo(line)
    warn(moment.notes)


def draw(moment: Moment) -> Group:
    """Draw who speaks, how loud, and for how long they did."""
    from rich.console import Group
    from rich.text import Text

    from pixit.report.timeline import clock

    behind_s = moment.heard_s - moment.final_s
    lines = [Text(f"{printable(moment.name)}   {clock(moment.final_s)}   {behind_s:.1f} s behind", "bold")]
    for speaker, level in moment.levels_db.items():
        talks = speaker in moment.talking
        bar = "█" * max(0, round((level + FAINTEST_DB) / 3))
        talked = clock(moment.talk_s.get(speaker, 0))
        line = f"{'●' if talks else ' '} {speaker}  {bar.ljust(FAINTEST_DB // 3)} {talked.rjust(8)}"
        lines.append(Text(line, "green" if talks else "dim"))
    return Group(*lines)


def finish(run: LiveRun, name: str, jsonl: bool, quiet: bool) -> None:
    """Tell how a stream went."""
    facts = {
        "duration": round(run.duration_s, 3),
        "speakers": len(run.speakers),
        "real_time_factor": round(run.real_time_factor, 3),
        "slowest_step": round(run.slowest_s, 3),
        "skipped_windows": run.num_skipped,
        "folder": None if run.folder is None else str(run.folder),
    }
    if jsonl:
        click.echo(json.dumps({"event": "end", **facts}))
    elif not quiet:
        from pixit.report.timeline import clock

        number = len(run.speakers)
        told = f"{clock(run.duration_s)}, {number} speaker{'' if number == 1 else 's'}"
        told += f", {run.real_time_factor:.2f} of real time"
        told += f", {run.num_skipped} of {run.num_windows} windows skipped" if run.num_skipped else ""
        place = "" if run.folder is None else f" → {run.folder}"
        click.echo(printable(f"{name}: {told}{place}"), err=not sys.stdout.isatty())
