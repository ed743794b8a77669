"""What does waiting bring? A stream's errors against its latency, beside those of the recording as a whole.

The networks hear every window once: what they say does not depend on the latency. A stream for each latency takes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation

from pixit.evaluation.diarization import COLUMNS as ERRORS
from pixit.evaluation.diarization import DiarizationCounts, evaluate_diarization, make_row
from pixit.evaluation.tables import Column, Table
from pixit.experiments.benchmark import describe_machine
from pixit.experiments.heard_live import annotate_updates, open_for_stream, push_all
from pixit.files import whole_file
from pixit.pipeline.compute import one_thread
from pixit.pipeline.live import Update
from pixit.pipeline.separate import Separator
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import Hook, PixitError, Recording

LATENCIES_S = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
COLUMNS = (
    Column("latency_s", "latency (s)", 2),
    *(column for column in ERRORS if column.key != "recording"),
    Column("real_time_factor", "real-time factor", 3),
    Column("delay_median_ms", "delay, median (ms)", 1),
    Column("delay_99_ms", "99 % below (ms)", 1),
)


@dataclass(frozen=True)
class Lane:
    """What was measured at one latency.

    Parameters
    ----------
    latency_s
        After how many seconds a moment is final; None for the recording as a whole.
    counts
        The errors of all recordings together.
    duration_s, elapsed_s
        How long they are, and how long it took to separate them.
    delays_s
        From the moment at which a window is full to its update, for each window of each stream.
    """

    latency_s: float | None
    counts: DiarizationCounts = field(default_factory=DiarizationCounts)
    duration_s: float = 0.0
    elapsed_s: float = 0.0
    delays_s: tuple[float, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the row of a table with `COLUMNS`."""
        figures: dict[str, Any] = {"real_time_factor": self.elapsed_s / max(self.duration_s, 1e-9)}
        if self.delays_s:
            median, late = np.percentile(self.delays_s, [50, 99])
            figures |= {"delay_median_ms": 1000 * median, "delay_99_ms": 1000 * late}
        latency = "offline" if self.latency_s is None else self.latency_s
        return make_row("", self.counts) | figures | {"latency_s": latency}


def latencies_of(
    separator: StreamingSeparator, asked: Sequence[float] = ()
) -> dict[float, StreamingSeparator]:
    """Return a stream with the networks of this one for each latency.

    By default those of `LATENCIES_S` that are between its step and its window; a PixitError if one that is asked for
    is not.
    """
    shortest, window = separator.settings.step_s, separator.geometry.window_samples / separator.rate_hz
    latencies = asked or [latency for latency in LATENCIES_S if shortest <= latency <= window]
    if not latencies:
        raise PixitError(f"a step of {shortest:g} s: name latencies from it to the window, {window:g} s")
    networks = separator.model, separator.embedder
    return {
        latency: StreamingSeparator(
            *networks,
            separator.settings.model_copy(update={"latency_s": latency}),
            str(separator.device),
            name=separator.name,
        )
        for latency in sorted(set(latencies))
    }


def benchmark_streaming(
    separator: Separator,
    streams: Mapping[float, StreamingSeparator],
    recordings: Sequence[Recording],
    hook: Hook | None = None,
    tell: Callable[[Recording, Mapping[str, DiarizationCounts]], None] = lambda recording, found: None,
) -> list[Lane]:
    """Separate recordings as streams of several latencies, and as a whole.

    Parameters
    ----------
    separator, streams
        With the same networks; the streams as `latencies_of` gives them.
    recordings
        With their references, which are scored where they are annotated, without a collar.
    hook
        Progress callback, as in pyannote.audio.
    tell
        Called with the errors of each recording, by latency.

    Returns
    -------
    list of Lane
        One for each latency, and the last for the recordings as a whole.
    """
    lanes = [Lane(latency) for latency in streams] + [Lane(None)]
    for recording in recordings:
        with one_thread():  # as `pixit stream`
            found, delays = _stream(streams, recording, hook)
        started = time.perf_counter()
        audio = separator.open({"audio": recording.audio, "uri": recording.uri})
        found.append(separator(audio, hook=hook).diarization)
        elapsed = [*map(sum, delays), time.perf_counter() - started]
        errors = [_count(recording, one) for one in found]
        for number, counts in enumerate(errors):
            lane = lanes[number]
            own = tuple(delays[number]) if number < len(delays) else ()
            lanes[number] = replace(
                lane,
                counts=lane.counts + counts,
                duration_s=lane.duration_s + audio.duration_s,
                elapsed_s=lane.elapsed_s + elapsed[number],
                delays_s=lane.delays_s + own,
            )
        names = [*(f"{latency:g} s" for latency in streams), "offline"]
        tell(recording, dict(zip(names, errors, strict=True)))
    return lanes


def _stream(
    streams: Mapping[float, StreamingSeparator], recording: Recording, hook: Hook | None
) -> tuple[list[Annotation], list[list[float]]]:
    """Return who spoke when by each latency, and the seconds that each window took."""
    first, *others = streams.values()
    for stream in streams.values():
        stream.reset()
    audio = open_for_stream(first, recording)
    updates: list[list[Update]] = [[] for _ in streams]
    delays: list[list[float]] = [[] for _ in streams]
    follow = [iter(push_all(stream, audio)) for stream in others]
    for windows in push_all(first, audio):
        for one in follow:
            next(one)
        for window in windows:
            started = time.perf_counter()
            heard = first.hear([window])
            heard_s = time.perf_counter() - started
            for number, stream in enumerate(streams.values()):
                started = time.perf_counter()
                update = stream.take(heard)
                delays[number].append(heard_s + time.perf_counter() - started)
                updates[number].append(replace(update, tracks={}))
            if hook is not None:
                end = min(window.start_samples + window.valid, audio.num_samples)
                hook("streams", None, file=audio, total=audio.num_samples, completed=end)
    for own, stream in zip(updates, streams.values(), strict=True):
        own.append(replace(stream.take([]), tracks={}))  # a recording of whole steps ends without a window
    return [annotate_updates(own, recording.uri) for own in updates], delays


def _count(recording: Recording, found: Annotation) -> DiarizationCounts:
    uri = recording.uri
    return evaluate_diarization(
        {uri: recording.turns}, {uri: found}, annotated={uri: recording.annotated}
    ).total


def tabulate(lanes: Sequence[Lane]) -> Table:
    """Return a row each latency; the title says the machine and the day."""
    hours = lanes[0].duration_s / 3600
    title = f"Streams of {hours:.2g} h, errors in %; {describe_machine()}"
    return Table(title, COLUMNS, [lane.row() for lane in lanes])


def plot(lanes: Sequence[Lane], path: Path) -> None:
    """Draw DER and JER against the latency, as PNG; dashed, those of the recordings as a whole."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    live = [(lane.latency_s, lane) for lane in lanes if lane.latency_s is not None]
    for colour, metric in (("tab:blue", "der"), ("tab:orange", "jer")):
        percent = [100 * getattr(lane.counts, metric) for _, lane in live]
        axes.plot(
            [latency_s for latency_s, _ in live], percent, marker="o", color=colour, label=metric.upper()
        )
        for lane in lanes:
            if lane.latency_s is None:
                axes.axhline(100 * getattr(lane.counts, metric), linestyle="--", color=colour)
    axes.set(xlabel="latency (s); dashed: the recordings as a whole", ylabel="error (%)", ylim=(0, None))
    axes.legend()
    with whole_file(path) as new:
        figure.savefig(new, format="png", dpi=150)
