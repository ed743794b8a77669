"""Recordings shared out among workers that may die: each is separated by one, and once more where that one died.

What a worker is does not matter here: `pixit.pipeline.processes` has those of one machine, and
`pixit.pipeline.ray_cluster` those of many. None of them holds more than the recording that it is at, so that with a
worker nothing else is lost.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pixit.diarized import Diarization
from pixit.files import file_name, writable
from pixit.ownership import remove_leftovers
from pixit.pipeline.batch import ELSEWHERE, Job, Outcome, find_recordings
from pixit.pipeline.workers import Event, Finished, Lost, Progressed, Ready, Task, Unfit, Workers
from pixit.types import Hook, PixitError, Recording

ATTEMPTS = 2
"""How often a recording is begun, if the workers that are at it die."""
FALSE_STARTS = 3
"""How many workers may die one after the other before one of them is ready."""


class Dispatcher:
    """Gives recordings to workers, and takes their outcomes; all from one thread.

    Parameters
    ----------
    workers
        They are started as they are needed. `close` ends them.
    hook
        Progress callback, as in pyannote.audio; its ``file`` is the uri of the recording.
    say
        Called with a line for each recording that another process is separating, or whose worker died.
    """

    def __init__(
        self, workers: Workers, hook: Hook | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.workers, self._hook, self._say = workers, hook, say
        self._waiting: deque[Task] = deque()
        self._starting: set[int] = set()
        self._idle: set[int] = set()
        self._at_work: dict[int, Task] = {}
        self._done: deque[Outcome] = deque()
        self._deaths: Counter[tuple[str, Path]] = Counter()
        self._dropped: set[int] = set()
        self._false_starts = 0

    @property
    def num_open(self) -> int:
        """Number of recordings whose outcome was not taken yet."""
        return len(self._waiting) + len(self._at_work) + len(self._done)

    def submit(self, task: Task) -> None:
        """Add a recording to those that are to be separated; the folder of its output must exist."""
        self._waiting.append(task)

    def drop(self, uri: str) -> None:
        """Give up a recording that was submitted: it has no outcome, and a worker that is at it is ended."""
        self._waiting = deque(task for task in self._waiting if task.uri != uri)
        for worker, task in self._at_work.items():
            if task.uri == uri and worker not in self._dropped:
                self._dropped.add(worker)
                self.workers.end(worker)

    def next(self, timeout_s: float | None = None) -> Outcome | None:
        """Return the next outcome; None if nothing is open, or there is none yet after `timeout_s`.

        Raises
        ------
        PixitError
            If no worker can load its networks, or they die before they have.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self.num_open and not self._done:
            self._hand_out()
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            for event in self.workers.listen(left_s):
                self._hear(event)
            if left_s == 0.0:
                break
        return self._done.popleft() if self._done else None

    def close(self) -> None:
        """End all workers, whatever they are at."""
        self.workers.stop()

    def _hand_out(self) -> None:
        needed = min(self.workers.count, len(self._waiting) + len(self._at_work))
        while len(self._starting) + len(self._idle) + len(self._at_work) < needed:
            self._starting.add(self.workers.start())
        while self._idle and self._waiting:
            worker, task = self._idle.pop(), self._waiting.popleft()
            self._at_work[worker] = task
            self.workers.give(worker, task)

    def _hear(self, event: Event) -> None:
        match event:
            case Ready(worker):
                self._false_starts = 0
                self._starting.discard(worker)
                self._idle.add(worker)
            case Unfit(_, error):
                raise PixitError(error)
            case Progressed(worker, step, completed, total):
                task = self._at_work.get(worker)
                if task is not None and self._hook is not None:
                    self._hook(step, None, file=task.uri, total=total, completed=completed)
            case Finished(worker) if worker in self._dropped:  # just before it was ended
                del self._at_work[worker]
            case Finished(worker):
                self._idle.add(worker)
                self._finish(self._at_work.pop(worker), event)
            case Lost(worker, reason):
                self._starting.discard(worker)
                self._idle.discard(worker)
                task = self._at_work.pop(worker, None)
                if worker in self._dropped:
                    self._dropped.discard(worker)
                else:
                    self._bury(task, reason)

    def _finish(self, task: Task, told: Finished) -> None:
        if told.is_elsewhere:
            self._say(ELSEWHERE.format(path=task.path))
            self._waiting.append(replace(task, wait=True))  # behind all others
            return
        folder = task.job.output / file_name(task.uri)
        outcome = Outcome(task.uri, task.path, folder, elapsed_s=told.elapsed_s)
        try:
            if told.error is not None:
                raise PixitError(told.error)
            outcome = replace(outcome, result=Diarization.load(folder))
        except PixitError as error:
            outcome = replace(outcome, error=PixitError(str(error)), elapsed_s=None)
        self._done.append(outcome)

    def _bury(self, task: Task | None, reason: str) -> None:
        """Give a recording whose worker died to another one, but not for ever."""
        if task is None:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise PixitError(f"no worker begins: {reason}; {self.workers.advice}")
            return
        self._deaths[task.uri, task.job.output] += 1
        if self._deaths[task.uri, task.job.output] < ATTEMPTS:
            self._say(f"{task.path}: {reason}; it is begun once more")
            self._waiting.append(task)
            return
        error = PixitError(f"{task.path}: {reason}, for the second time; {self.workers.advice}")
        self._done.append(Outcome(task.uri, task.path, task.job.output / file_name(task.uri), error=error))


def share_out(
    workers: Workers,
    recordings: Iterable[str | Path | Recording],
    job: Job,
    hook: Hook | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Separate recordings into ``job.output/NAME``, several at a time; as `separate_all` does in all else.

    Parameters
    ----------
    workers
        Who separates them; they are ended when the iterator is.
    recordings, job
        As for `separate_all`.
    hook, say
        As for `Dispatcher`; the hook hears of a step ``"recordings"`` too.

    Yields
    ------
    Outcome
        One each recording, in the order in which they are done.

    Raises
    ------
    PixitError
        At once, if a folder holds no recordings, two results would have the same name, or the output cannot be
        written; later, if no worker can begin.
    """
    named = find_recordings(recordings)
    with writable(job.output):
        pass
    return _share_out(workers, named, job, hook, say)


def _share_out(
    workers: Workers, named: Mapping[str, Path], job: Job, hook: Hook | None, say: Callable[[str], None]
) -> Iterator[Outcome]:
    dispatcher = Dispatcher(workers, hook, say)
    with writable(job.output):
        try:
            for uri, path in named.items():
                dispatcher.submit(Task(uri, path, job))
            while left := dispatcher.num_open:
                if hook is not None:
                    hook("recordings", None, total=len(named), completed=len(named) - left)
                if (outcome := dispatcher.next()) is not None:
                    yield outcome
        finally:
            dispatcher.close()
            remove_leftovers(job.output)  # of workers that were killed
