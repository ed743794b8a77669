"""Workers that are processes of this machine, which share its cores."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from pixit.pipeline.workers import Event, Load, Lost, Progressed, Ready, Task, Unfit, perform
from pixit.types import PixitError

GRACE_S = 10.0
"""How long a worker may take to remove its temporary files when it is ended."""


class Processes:
    """Workers that are processes of this machine (`pixit.pipeline.workers.Workers`).

    Parameters
    ----------
    load
        Loads the networks, once in every process.
    device
        ``"cpu"``, ``"cuda"``, …, ``"auto"``; the same for all.
    count
        How many.
    num_threads
        Are shared out among them, and each has one at least; by default those that this process would take
        (``torch.get_num_threads``).
    """

    advice = "is there memory enough? Try fewer --jobs"

    def __init__(self, load: Load, device: str, count: int, num_threads: int | None = None) -> None:
        self.count, self.num_threads = count, max(1, (num_threads or torch.get_num_threads()) // count)
        self._load, self._device = load, device
        self._context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._numbers = itertools.count()
        self._members: dict[int, tuple[BaseProcess, Connection]] = {}

    def start(self) -> int:
        number = next(self._numbers)
        ours, theirs = self._context.Pipe()
        arguments = number, theirs, self._load, self._device, self.num_threads
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        with _interrupts_held_back():
            process.start()
        theirs.close()  # so that the pipe ends with the process
        self._members[number] = process, ours
        return number

    def give(self, worker: int, task: Task) -> None:
        with suppress(OSError):  # it has just died: `listen` says so
            self._members[worker][1].send(task)

    def listen(self, timeout_s: float | None = None) -> list[Event]:
        numbers = {pipe: number for number, (_, pipe) in self._members.items()}
        events: list[Event] = []
        for pipe in wait(list(numbers), timeout_s):
            number = numbers[pipe]  # type: ignore[index]
            try:
                events.append(self._members[number][1].recv())
            except (EOFError, OSError):
                events.append(Lost(number, self._bury(number)))
        return events

    def end(self, worker: int) -> None:
        self._members[worker][0].terminate()

    def stop(self) -> None:
        for process, _ in self._members.values():
            process.terminate()
        end_s = time.monotonic() + GRACE_S
        for process, pipe in self._members.values():
            process.join(max(0.0, end_s - time.monotonic()))
            process.kill()
            process.join()
            pipe.close()
        self._members.clear()

    def _bury(self, number: int) -> str:
        """Forget a worker that died, and return why it did."""
        process, pipe = self._members.pop(number)
        pipe.close()
        process.join(GRACE_S)
        code = process.exitcode
        if code is None or code >= 0:
            return f"its worker ended with status {code}"
        name = signal.Signals(-code).name
        return f"its worker was killed ({name}{', out of memory?' if name == 'SIGKILL' else ''})"


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, as a terminal sends it to all: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(number: int, pipe: Connection, load: Load, device: str, num_threads: int) -> None:
    """Be a worker: load the networks, and separate what comes through the pipe until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):  # end in order: temporary files are removed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda received, _: sys.exit(128 + received))
    torch.set_num_threads(num_threads)

    def tell(progress: Progressed) -> None:
        try:
            pipe.send(progress)
        except OSError:  # nobody is there any more
            sys.exit(1)

    try:
        separator = load(device=device)
    except PixitError as error:
        pipe.send(Unfit(number, str(error)))
        return
    with suppress(EOFError, OSError):
        pipe.send(Ready(number))
        while True:
            pipe.send(perform(separator, pipe.recv(), number, tell))
