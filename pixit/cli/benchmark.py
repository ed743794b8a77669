"""``pixit benchmark``: how fast a separation is on this machine, and how much memory it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from pixit.cli.console import (
    PATH,
    device_option,
    examples,
    format_option,
    outputs_option,
    progress,
    quiet_option,
    show_table,
)


@click.command(
    epilog=examples(
        "pixit benchmark meeting.wav",
        "pixit benchmark meeting.wav --length 60 --length 1800 --step 1 --step 0.5 -o speed.md --plot speed.png",
        "pixit benchmark meeting.wav --reference meeting.rttm --precision float32 --precision bfloat16",
    )
)
@click.argument("recording", type=PATH)
@click.option("--length", "lengths_s", multiple=True, type=float, metavar="SECONDS",
              help="how much of the recording, which is repeated where it is shorter  [default: 60]")  # fmt: skip
@click.option("--step", "steps_s", multiple=True, type=float, metavar="SECONDS",
              help="seconds from one window to the next  [default: the separator's]")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(["auto", "float32", "bfloat16"]),
              help="of the networks  [default: auto]")  # fmt: skip
@click.option("--threads", multiple=True, type=click.IntRange(1),
              help="threads of the processor  [default: all cores]")  # fmt: skip
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1), help="of which the median counts"
)
@click.option("--model", help="folder or hub name of another model, or of model and embedder together")
@click.option("--embedder", help="folder or hub name of another speaker embedder")
@device_option
@click.option("--reference", type=PATH, help="RTTM of the recording: adds the DER")
@format_option
@outputs_option
@click.option("--plot", type=PATH, help="draw time and memory against the length, as PNG")
@quiet_option
def benchmark(
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
