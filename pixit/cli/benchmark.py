"""``pixit benchmark``: how fast a separation is on this machine; and what a stream loses by not waiting."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from pixit.cli.console import (
    PATH,
    REFERENCES,
    check_file_option,
    examples,
    format_option,
    networks_options,
    outputs_option,
    progress,
    quiet_option,
    set_option,
    settings_option,
    show_table,
    warn,
)


class Benchmarks(click.Group):
    """A group, of which ``pixit benchmark RECORDING…`` is ``pixit benchmark speed RECORDING…``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["speed", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=Benchmarks,
    epilog=examples(
        "pixit benchmark meeting.wav", "pixit benchmark streaming --recordings meetings --references rttm"
    ),
)
def benchmark() -> None:
    """Measure a separation on this machine.

    `pixit benchmark RECORDING` is `pixit benchmark speed RECORDING`.
    """


@benchmark.command(
    epilog=examples(
        "pixit benchmark speed meeting.wav",
        "pixit benchmark meeting.wav --length 60 --length 1800 --step 1 --step 0.5 -o speed.md --plot speed.png",
        "pixit benchmark meeting.wav --reference meeting.rttm --precision float32 --precision bfloat16",
    )
)
@click.argument("recording", type=PATH)
@click.option("--length", "lengths_s", multiple=True, type=float, metavar="SECONDS",
              help="how much of the recording, which is repeated where it is shorter  [default: 60]")  # fmt: skip
@click.option("--step", "steps_s", multiple=True, type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="seconds from one window to the next  [default: the separator's]")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(["auto", "float32", "bfloat16"]),
              help="of the networks  [default: auto]")  # fmt: skip
@click.option("--threads", multiple=True, type=click.IntRange(1),
              help="threads of the processor  [default: all cores]")  # fmt: skip
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1), help="of which the median counts"
)
@networks_options
@click.option("--reference", type=PATH, help="RTTM of the recording: adds the DER")
@format_option
@outputs_option
@click.option(
    "--plot", type=PATH, callback=check_file_option, help="draw time and memory against the length, as PNG"
)
@quiet_option
def speed(
    recording: Path,
    lengths_s: tuple[float, ...],
    steps_s: tuple[float, ...],
    precisions: tuple[str, ...],
    threads: tuple[int, ...],
    rounds: int,
    model: str | None,
    embedder: str | None,
    device: str,
    reference: Path | None,
    format: str,
    outputs: tuple[Path, ...],
    plot: Path | None,
    quiet: bool,
) -> None:
    """Measure the separation of RECORDING: real-time factor, memory, DER.

    Every combination of the options that may be repeated is a row. Each is measured in a process of its own, one
    after the other, several rounds; loading the networks is not counted. Times are seconds for a second of
    the recording: 0.1 is ten times as fast as it was spoken.
    """
    from pixit.experiments.benchmark import Grid, make_jobs, measure, read_reference, summarize
    from pixit.experiments.benchmark import plot as draw

    truth = read_reference(reference, recording) if reference is not None else None
    grid = Grid(lengths_s or (60.0,), steps_s or (None,), precisions or ("auto",), threads or (None,))
    with tempfile.TemporaryDirectory() as folder, progress("benchmark", quiet) as bars:
        request = {"model": model, "embedder": embedder, "device": device}
        jobs = make_jobs(recording, grid, request, Path(folder))
        answers = measure(jobs, rounds, lambda done, total: bars("separations", None, None, total, done))
    table = summarize(jobs, answers, truth)
    show_table(table, format, outputs)
    if plot is not None:
        draw(jobs, table, plot)


@benchmark.command(
    params=list(REFERENCES),
    epilog=examples(
        "pixit benchmark streaming --recordings meetings --references rttm -o live.csv --plot live.png",
        "pixit benchmark streaming --database database.yml --subset test --latency 0.5 --latency 1.5",
    ),
)
@click.option("--latency", "latencies_s", multiple=True, type=float, metavar="SECONDS",
              help="may be repeated  [default: 0.5 1 2 3 4 5, as far as the model's window goes]")  # fmt: skip
@networks_options
@settings_option
@set_option
@format_option
@outputs_option
@click.option(
    "--plot", type=PATH, callback=check_file_option, help="draw DER and JER against the latency, as PNG"
)
@quiet_option
def streaming(
    latencies_s: tuple[float, ...],
    model: str | None,
    embedder: str | None,
    device: str,
    settings: Path | None,
    overrides: tuple[str, ...],
    format: str,
    outputs: tuple[Path, ...],
    plot: Path | None,
    quiet: bool,
    **places: Any,
) -> None:
    """Measure what waiting brings: recordings as streams of several latencies, and as a whole.

    Prints a row for each latency: errors of who spoke when; the real-time factor, with the tracks; and the delay from
    a window that is full to what it makes final. The networks hear each window once for all latencies. --settings
    and --set are those of streams.
    """
    from pixit.config import load_settings
    from pixit.experiments.references import find_references
    from pixit.experiments.streaming import benchmark_streaming, latencies_of, tabulate
    from pixit.experiments.streaming import plot as draw
    from pixit.pipeline.separate import Separator
    from pixit.pipeline.settings import StreamingSettings
    from pixit.pipeline.streaming import StreamingSeparator

    recordings, notes = find_references(**places)
    warn(notes)
    changes = load_settings(StreamingSettings, settings, overrides).model_dump(exclude_unset=True)
    stream = StreamingSeparator.from_pretrained(model, embedder, device, changes)
    separator = Separator.from_pretrained(model, embedder, device)
    with progress(None, quiet) as bars:
        lanes = benchmark_streaming(separator, latencies_of(stream, latencies_s), recordings, bars)
    show_table(tabulate(lanes), format, outputs, quiet)
    if plot is not None:
        draw(lanes, plot)
