"""How fast a separation is and how much memory it takes, measured in processes of their own, in turns."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixit.audio import TrackWriter, open_audio
from pixit.evaluation.diarization import DiarizationCounts, evaluate_diarization
from pixit.evaluation.tables import Column, Table
from pixit.experiments.agreement import agreement
from pixit.files import whole_file
from pixit.formats.names import some
from pixit.formats.rttm import read_rttm
from pixit.types import PixitError, Turn, one_line

RATE_HZ = 16000
MOST_READ_S = 3600
"""What is taken of a recording at most; a longer excerpt repeats it."""
OWN_PROGRAM = sys.executable, "-P", "-m", "pixit.experiments.benchmark"
"""Without what lies in the folder in which it runs (``-P``)."""

COLUMNS = {
    column.key: column
    for column in (
        Column("length_s", "length (s)", 0),
        Column("threads", "threads", 0),
        Column("real_time_factor", "real-time factor", 3),
        Column("fastest", "fastest", 3, detail=True),
        Column("slowest", "slowest", 3, detail=True),
        Column("cpu_factor", "of all threads", 3),
        Column("peak_gb", "peak memory (GB)", 2),
        Column("segmentation", "windows", 3),
        Column("embeddings", "embeddings", 3),
        Column("separations", "stitching", 3),
        Column("der_percent", "DER", 1),
        Column("agreement_percent", "agreement", 2),
    )
}


@dataclass(frozen=True)
class Job:
    """A separation to be measured: the words that head its row, the program, and what that is asked.

    The program reads `request` as JSON from its standard input and prints an `Answer` as JSON in its last line;
    it keeps to the number of threads in ``OMP_NUM_THREADS``, which is set where `threads` is given.
    """

    labels: Mapping[str, str]
    length_s: float
    request: Mapping[str, Any]
    command: Sequence[str] = OWN_PROGRAM
    threads: int | None = None

    @property
    def name(self) -> str:
        """The words of the labels."""
        return ", ".join(filter(None, self.labels.values()))


@dataclass(frozen=True)
class Answer:
    """What a program measured of itself: seconds, those of all its threads, peak memory; and what it found.

    ``turns`` are ``(start_s, end_s, speaker)``; ``stages_s`` the seconds of the parts of the work.
    """

    elapsed_s: float
    cpu_s: float
    peak_bytes: int
    turns: Sequence[tuple[float, float, str]]
    stages_s: Mapping[str, float]


@dataclass(frozen=True)
class Grid:
    """What is measured: every combination; None is the separator's step, and all threads of the machine."""

    lengths_s: Sequence[float]
    steps_s: Sequence[float | None]
    precisions: Sequence[str]
    threads: Sequence[int | None]


def make_jobs(recording: Path, grid: Grid, request: Mapping[str, Any], folder: Path) -> list[Job]:
    """Return a job for each combination, and write the excerpts that they hear into `folder`.

    `request` says the model, embedder and device, as `pixit.Separator.from_pretrained` takes them.
    """
    jobs = []
    for length_s in grid.lengths_s:
        excerpt = folder / f"{length_s:g}.flac"
        write_excerpt(recording, length_s, excerpt)
        for step_s, precision, threads in itertools.product(grid.steps_s, grid.precisions, grid.threads):
            settings = {"precision": precision} | ({"step_s": step_s} if step_s else {})
            asked = {**request, "recording": str(excerpt), "settings": settings}
            labels = {"step": f"{step_s:g} s" if step_s else "default", "precision": precision}
            jobs.append(Job(labels, length_s, asked, threads=threads))
    return jobs


def read_reference(rttm: Path, recording: Path) -> tuple[list[Turn], float]:
    """Return who speaks when in a recording, and its length; a PixitError if a file of several does not name it."""
    turns = read_rttm(rttm)
    if len(turns) > 1 and recording.stem not in turns:
        raise PixitError(f"{rttm}: holds {some(turns)}; expected the turns of {recording.stem}")
    own = turns[recording.stem] if recording.stem in turns else next(iter(turns.values()))
    return own, open_audio(recording).duration_s


def write_excerpt(recording: Path, length_s: float, path: Path) -> None:
    """Write a recording of a given length at 16 kHz: the beginning, again and again where it is too short."""
    samples = open_audio(recording, RATE_HZ, channel="mean").read()[: MOST_READ_S * RATE_HZ]
    left = round(length_s * RATE_HZ) if math.isfinite(length_s) else 0
    if len(samples) == 0 or left < 1:
        raise PixitError(f"{recording}: holds no sound for {length_s:g} s; expected a recording and a length")
    with TrackWriter(path, RATE_HZ, "flac") as writer:
        while left > 0:
            writer.write(samples[:left])
            left -= len(samples[:left])


def measure(
    jobs: Sequence[Job], num_rounds: int, report: Callable[[int, int], None] = lambda done, total: None
) -> list[list[Answer]]:
    """Run every job once a round, one after the other, so that what else the machine does falls on all alike.

    Returns
    -------
    list of list of Answer
        Those of each job, in the order of the jobs.

    Raises
    ------
    PixitError
        If a program fails, or prints no measurement.
    """
    answers: list[list[Answer]] = [[] for _ in jobs]
    for done in range(num_rounds * len(jobs)):
        answers[done % len(jobs)].append(_ask(jobs[done % len(jobs)]))
        report(done + 1, num_rounds * len(jobs))
    return answers


def _ask(job: Job) -> Answer:
    environment = os.environ | ({"OMP_NUM_THREADS": str(job.threads)} if job.threads else {})
    question = json.dumps(dict(job.request))
    done = subprocess.run(job.command, input=question, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = one_line(done.stderr.strip().rpartition("\n")[2])
        raise PixitError(f"{job.name}: the program ended with {done.returncode} ({reason})")
    try:
        return Answer(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):
        raise PixitError(
            f"{job.name}: printed no measurement, found {one_line(done.stdout[-200:])!r}"
        ) from None


def summarize(
    jobs: Sequence[Job],
    answers: Sequence[Sequence[Answer]],
    reference: tuple[Sequence[Turn], float] | None = None,
    agree_with: Callable[[Job], Job | None] = lambda job: None,
) -> Table:
    """Return a row each job: medians of the times in seconds a second of recording, and the largest memory.

    Parameters
    ----------
    reference
        Who really spoke when, and up to which second that is known: gives the DER.
    agree_with
        Gives the job with whose diarization that of another is compared (`agreement`).
    """
    rows = []
    for job, own in zip(jobs, answers, strict=True):
        factors = [answer.elapsed_s / job.length_s for answer in own]
        row: dict[str, Any] = dict(job.labels) | {"length_s": job.length_s, "threads": job.threads}
        row |= {
            "real_time_factor": statistics.median(factors),
            "fastest": min(factors),
            "slowest": max(factors),
        }
        row["cpu_factor"] = statistics.median(answer.cpu_s for answer in own) / job.length_s
        row["peak_gb"] = max(answer.peak_bytes for answer in own) / 1e9
        for stage in own[0].stages_s:
            row[stage] = statistics.median(answer.stages_s[stage] for answer in own) / job.length_s
        if reference is not None:
            turns, known_s = reference
            row["der_percent"] = 100 * _errors(turns, own[0], min(known_s, job.length_s)).der
        if (other := agree_with(job)) is not None:
            both = _turns(own[0]), _turns(answers[jobs.index(other)][0])
            row["agreement_percent"] = 100 * agreement(*both, job.length_s)[0]
        rows.append(row)
    keys = [*jobs[0].labels, *(key for key in COLUMNS if any(row.get(key) is not None for row in rows))]
    return Table(describe_machine(), [COLUMNS.get(key, Column(key, key)) for key in keys], rows)


def _turns(answer: Answer) -> list[Turn]:
    return [Turn(start_s, end_s, speaker) for start_s, end_s, speaker in answer.turns]


def _errors(reference: Sequence[Turn], answer: Answer, length_s: float) -> DiarizationCounts:
    return evaluate_diarization({"": reference}, {"": _turns(answer)}, {"": [(0.0, length_s)]}).total


def describe_machine() -> str:
    """Return the processor, its cores, torch and the day: what a published table has to say."""
    import torch

    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # Linux alone has it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"


def plot(jobs: Sequence[Job], table: Table, path: Path) -> None:
    """Draw real-time factor and peak memory against the length of the recording, as PNG.

    A line each name, and number of threads if there are several.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    shown = COLUMNS["real_time_factor"], COLUMNS["peak_gb"]
    names = [job.name for job in jobs]
    if len({job.threads for job in jobs}) > 1:
        names = [f"{job.name}, {job.threads or 'all'} threads" for job in jobs]
    for axes, column in zip(figure.subplots(1, 2), shown, strict=True):
        for name in dict.fromkeys(names):
            pairs = [(row["length_s"] / 60, row[column.key]) for own, row in zip(names, table.rows, strict=True)
                     if own == name]  # fmt: skip
            axes.plot(*np.transpose(sorted(pairs)), marker="o", label=name)
        axes.set(xlabel="length of the recording (min)", ylabel=column.heading, ylim=(0, None))
    figure.axes[0].legend()
    with whole_file(path) as new:
        figure.savefig(new, format="png", dpi=150)


def answer_request() -> None:
    """Measure one separation: JSON from standard input, an `Answer` as JSON to standard output."""
    import resource

    from pixit.pipeline.separate import Separator

    request = json.load(sys.stdin)
    separator = Separator.from_pretrained(
        request["model"], request["embedder"], request["device"], request["settings"]
    )
    ends: dict[str, float] = {}

    def hook(step: str, artifact: Any, file: Any = None, total: Any = None, completed: Any = None) -> None:
        ends[step] = time.perf_counter()

    started, used = time.perf_counter(), time.process_time()
    result = separator(request["recording"], hook=hook)
    elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - used
    stages_s: dict[str, float] = {}
    before = started
    for step in ("segmentation", "embeddings", "separations"):
        if step in ends:
            stages_s[step], before = ends[step] - before, ends[step]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    turns = [(s.start, s.end, name) for s, _, name in result.diarization.itertracks(yield_label=True)]
    print(json.dumps(asdict(Answer(elapsed_s, cpu_s, peak, turns, stages_s))))


if __name__ == "__main__":
    answer_request()
