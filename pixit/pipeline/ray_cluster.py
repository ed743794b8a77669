"""Workers that are actors on a Ray cluster, one to a GPU or to a share of the cores."""

from __future__ import annotations

import itertools
import logging
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pixit.pipeline.workers import Event, Finished, Load, Lost, Progressed, Ready, Task, Unfit, perform
from pixit.types import PixitError, one_line

CONNECT_S = 10.0
"""How long the address of a cluster may take to answer."""
POLL_S = 1.0
"""How often workers are asked for their progress."""
GRACE_S = 10.0
"""How long a worker may take to remove its temporary files when it is ended."""


class RayWorkers:
    """Workers that are actors on a Ray cluster (`pixit.pipeline.workers.Workers`).

    Each has a GPU, or a share of the cores. Recordings, networks and the output are in folders that all machines
    share, and so is the one in which this process runs.

    Parameters
    ----------
    load
        Loads the networks, once in every worker.
    device
        ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA if the cluster has GPUs.
    address
        Of the cluster, ``"HOST:PORT"`` or ``"ray://HOST:PORT"``; ``"auto"`` is one that runs on this machine, or else
        one that is started here and ends with the work.
    most
        More workers would have nothing to do: the number of recordings.
    count
        How many; by default one to a GPU, or to a core.

    Raises
    ------
    PixitError
        If the cluster cannot be reached, or has not what the device needs.
    """

    advice = "is there memory enough on the cluster's machines? Try fewer --jobs"

    def __init__(
        self, load: Load, device: str, address: str = "auto", most: int = 1, count: int | None = None
    ) -> None:
        import ray

        self._ray, self._load = ray, load
        self._is_ours = _connect(address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        num_gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        self._device = ("cuda" if num_gpus else "cpu") if device == "auto" else device
        try:
            self.count, self.num_threads = share_cores(nodes, most, count, self._device != "cpu")
        except PixitError:
            self._disconnect()
            raise
        # a worker that dies is replaced by the dispatcher, which says so
        self._member = ray.remote(_Member).options(
            num_cpus=self.num_threads,
            num_gpus=0 if self._device == "cpu" else 1,
            max_restarts=0,
            max_concurrency=2,  # one thread separates, the other one answers
            scheduling_strategy="SPREAD",
        )
        self._numbers = itertools.count()
        self._members: dict[int, Any] = {}
        self._answers: dict[Any, int] = {}
        self._busy: set[int] = set()
        self._asked: dict[Any, int] = {}
        self._asked_s = 0.0

    def start(self) -> int:
        number = next(self._numbers)
        self._members[number] = member = self._member.remote(number)
        begun = member.begin.remote(
            self._load, self._device, self.num_threads, str(Path.cwd()), version("pixit-audio")
        )
        self._answers[begun] = number
        return number

    def give(self, worker: int, task: Task) -> None:
        self._answers[self._members[worker].separate.remote(task)] = worker
        self._busy.add(worker)

    def listen(self, timeout_s: float | None = None) -> list[Event]:
        self._ask_for_progress()
        timeout_s = POLL_S if timeout_s is None else min(timeout_s, POLL_S)
        known = [*self._answers, *self._asked]
        done, _ = self._ray.wait(known, num_returns=1, timeout=timeout_s) if known else ([], [])
        if not known:
            time.sleep(timeout_s)
        events = [self._take(reference) for reference in done]
        return [event for event in events if event is not None]

    def end(self, worker: int) -> None:
        self._ray.kill(self._members[worker])

    def stop(self) -> None:
        for member in self._members.values():
            member.stop.remote()
        if self._answers:
            self._ray.wait(list(self._answers), num_returns=len(self._answers), timeout=GRACE_S)
        for member in self._members.values():
            self._ray.kill(member)
        self._members, self._answers, self._asked = {}, {}, {}
        self._disconnect()

    def _disconnect(self) -> None:
        if self._is_ours:
            self._ray.shutdown()

    def _ask_for_progress(self) -> None:
        if time.monotonic() - self._asked_s >= POLL_S:
            self._asked_s = time.monotonic()
            for number in self._busy - {*self._asked.values()}:
                self._asked[self._members[number].progress.remote()] = number

    def _take(self, reference: Any) -> Event | None:
        """Return what a worker answered; None if that says nothing."""
        is_answer = reference in self._answers
        number = (self._answers if is_answer else self._asked).pop(reference)
        if is_answer:
            self._busy.discard(number)
        try:
            event: Event | None = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            if not is_answer or number not in self._members:
                return None  # the answer to what it was asked first says so too
            self._ray.kill(self._members.pop(number))  # it may only have been out of reach
            return judge(number, error)
        return event


class _Member:
    """The worker: an actor in a process of its own."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._ends = threading.Event()
        self._progress: Progressed | None = None
        self._separator: Any = None

    def begin(self, load: Load, device: str, num_threads: int, folder: str, pixit: str) -> Event:
        """Load the networks."""
        import torch

        try:
            os.chdir(folder)  # names that the user gave are seen from there
        except OSError as error:
            return self._unfit(f"{folder}: {error.strerror}; start pixit in a folder that all machines share")
        if (found := version("pixit-audio")) != pixit:
            return self._unfit(f"has pixit {found}, expected {pixit} as here; install the same version")
        torch.set_num_threads(num_threads)
        try:
            self._separator = load(device=device)
        except PixitError as error:
            return self._unfit(str(error))
        return Ready(self._number)

    def separate(self, task: Task) -> Finished | None:
        """Separate a recording."""
        try:
            return perform(self._separator, task, self._number, self._tell)
        except KeyboardInterrupt:  # `stop`
            return None
        finally:
            self._progress = None

    def progress(self) -> Progressed | None:
        """Return how far `separate` is."""
        return self._progress

    def stop(self) -> None:
        """End `separate` at its next step, so that its temporary files are removed."""
        self._ends.set()

    def _tell(self, progress: Progressed) -> None:
        if self._ends.is_set():
            raise KeyboardInterrupt
        self._progress = progress

    def _unfit(self, error: str) -> Unfit:
        return Unfit(self._number, f"on {socket.gethostname()} of the cluster: {error}")


def share_cores(
    nodes: Iterable[Mapping[str, float]], most: int, count: int | None, on_gpu: bool
) -> tuple[int, int]:
    """Return the number of workers and the cores of each, given the resources of a cluster's machines.

    Without a `count` as many as there are GPUs or cores, but not more than `most`. Workers that do not fit wait for
    their place; so with a `count`, machines that join later are used too.
    """
    cores = [int(node.get("CPU", 0)) for node in nodes]
    num_places = sum(int(node.get("GPU", 0)) for node in nodes) if on_gpu else sum(cores)
    if count is None and not num_places:
        raise PixitError(
            f"the cluster has no {'GPU' if on_gpu else 'cores'}; add machines, choose another --device, or pass "
            "--jobs to wait for machines that join later"
        )
    number = min(most, count or num_places)
    if on_gpu:
        return number, 1
    each = max(1, sum(cores) // number)
    while each > 1 and sum(share // each for share in cores) < number:
        each -= 1
    return number, each


def _connect(address: str) -> bool:
    """Connect to a cluster, or start one; return whether it is ours to leave."""
    import ray

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # pixit sends nothing anywhere
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "include_dashboard": False,
    }
    refused = (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError, ray.exceptions.RayError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if address == "auto":
                ray.init(**quiet)
            else:
                _knock(address)
                ray.init(address, **quiet)
    except refused as error:
        raise PixitError(
            f"--cluster {address}: cannot be reached ({one_line(error)}); expected auto or the HOST:PORT that "
            "ray start --head printed"
        ) from None
    return True


def _knock(address: str) -> None:
    """Raise an OSError or a ValueError if nobody answers at an address: Ray would try for minutes, and abort."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("is no HOST:PORT")
    socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def judge(number: int, error: Exception) -> Event:
    """Return what an error of Ray's means for a worker."""
    if missing := re.search(r"No module named '([\w.]+)'", str(error)):
        return Unfit(
            number,
            f"the cluster's Python has no {missing[1]}; run pip install 'pixit-audio[ray]' on all of its machines",
        )
    return Lost(number, f"its worker was lost ({type(error).__name__}: {one_line(error, 160)})")
