"""Who separates recordings for others: what such a worker is given, and what it tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixit.pipeline.batch import Job, separate_unclaimed
from pixit.pipeline.separate import Separator
from pixit.types import PixitError

PROGRESS_S = 0.2
"""A worker tells its progress no more often than that."""
Load = Callable[..., Separator]
"""Loads the separator of a worker, as ``load(device="cpu")``; can be pickled."""


@dataclass(frozen=True)
class Task:
    """One recording for a worker; with `wait`, to be done after another process that is at it."""

    uri: str
    path: Path
    job: Job
    wait: bool = False


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its networks."""

    worker: int


@dataclass(frozen=True)
class Unfit:
    """A worker cannot load its networks, and no other could."""

    worker: int
    error: str


@dataclass(frozen=True)
class Progressed:
    """How far a worker is with a step of its recording."""

    worker: int
    step: str
    completed: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A worker is done with its recording: with a result in its folder, an error, or since another process has it."""

    worker: int
    elapsed_s: float | None = None
    error: str | None = None
    is_elsewhere: bool = False


@dataclass(frozen=True)
class Lost:
    """A worker is no more; `reason` says why: ``"its worker was killed"``."""

    worker: int
    reason: str


Event = Ready | Unfit | Progressed | Finished | Lost


class Workers(Protocol):
    """Those who separate; each is known by its number, and has one recording at a time.

    `count` is how many there should be at most, `advice` what helps where they die.
    """

    count: int
    advice: str

    def start(self) -> int:
        """Start one more and return its number; it says later that it is `Ready`."""
        ...

    def give(self, worker: int, task: Task) -> None:
        """Give a worker that has none a recording."""
        ...

    def listen(self, timeout_s: float | None = None) -> list[Event]:
        """Wait for what the workers say, and return it; nothing after `timeout_s`."""
        ...

    def end(self, worker: int) -> None:
        """End one worker, whatever it is at; it says later that it is `Lost`."""
        ...

    def stop(self) -> None:
        """End all workers, whatever they are at, without leaving half of a result."""
        ...


def perform(separator: Separator, task: Task, worker: int, tell: Callable[[Progressed], None]) -> Finished:
    """Do what a worker does with a recording; `tell` takes the progress, which may end it by raising."""
    told_s = 0.0

    def hook(step: str, artifact: Any, total: int | None = None, completed: int = 0, **_: Any) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if total is not None and (completed == total or now_s - told_s >= PROGRESS_S):
            tell(Progressed(worker, step, completed, total))
            told_s = now_s

    try:
        outcome = separate_unclaimed(separator, task.uri, task.path, task.job, hook, task.wait)
    except OSError as error:  # of a full disk, say; here it must not end the others' work
        place = error.filename or "temporary files"
        return Finished(
            worker, error=f"{task.path}: {place}: {error.strerror or error}; check space and rights"
        )
    except PixitError as error:  # of the output
        return Finished(worker, error=str(error))
    if outcome is None:
        return Finished(worker, is_elsewhere=True)
    return Finished(worker, outcome.elapsed_s, None if outcome.error is None else str(outcome.error))
