"""Windows of all streams through one model: in turn, alone or together, and an error harms only whose it is."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from pixit.serve.metrics import Metrics
from pixit.serve.scheduler import Scheduler


@dataclass
class Stream:
    """Hears numbers: doubles them."""

    name: str
    log: list[tuple[str, list[int]]]
    settings: str = "same"
    pause_s: float = 0.0
    error: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)

    def hear(self, windows: Any) -> list[int]:
        self.log.append((self.name, list(windows)))
        time.sleep(self.pause_s)
        if self.error is not None:
            raise self.error
        return [2 * window for window in windows]


def run(batch_size: int, num_threads: int, work: Any) -> Any:
    async def all_of_it() -> Any:
        metrics = Metrics(dict, dict)
        scheduler = Scheduler(metrics, batch_size, num_threads)
        scheduler.start()
        try:
            return await work(scheduler)
        finally:
            await scheduler.stop()

    return asyncio.run(all_of_it())


def test_on_a_cpu_every_window_is_heard_alone_and_streams_take_turns() -> None:
    log: list[tuple[str, list[int]]] = []
    greedy, modest = Stream("greedy", log, pause_s=0.01), Stream("modest", log, pause_s=0.01)

    async def work(scheduler: Scheduler) -> Any:
        return await asyncio.gather(
            scheduler.hear(greedy, list(range(10))),  # type: ignore[arg-type]
            scheduler.hear(modest, [100, 101]),  # type: ignore[arg-type]
        )

    assert run(1, 1, work) == [[2 * n for n in range(10)], [200, 202]]
    assert all(len(windows) == 1 for _, windows in log)
    names = [name for name, _ in log]
    assert names[:4] == ["greedy", "modest", "greedy", "modest"]


def test_on_a_gpu_those_that_wait_are_heard_together_if_they_are_alike() -> None:
    log: list[tuple[str, list[int]]] = []
    streams = [Stream(str(n), log, settings="odd" if n == 3 else "same", pause_s=0.05) for n in range(6)]

    async def work(scheduler: Scheduler) -> Any:
        return await asyncio.gather(*(scheduler.hear(s, [n]) for n, s in enumerate(streams)))  # type: ignore[arg-type]

    assert run(4, 1, work) == [[2 * n] for n in range(6)]
    assert [windows for _, windows in log] in ([[0], [1, 2], [3], [4, 5]], [[0, 1, 2], [3], [4, 5]])


def test_no_batch_is_larger_than_it_may_be() -> None:
    log: list[tuple[str, list[int]]] = []
    streams = [Stream(str(n), log, pause_s=0.02) for n in range(5)]

    async def work(scheduler: Scheduler) -> Any:
        return await asyncio.gather(*(scheduler.hear(s, [n] * 3) for n, s in enumerate(streams)))  # type: ignore[arg-type]

    assert run(4, 1, work) == [[2 * n] * 3 for n in range(5)]
    assert max(len(windows) for _, windows in log) <= 4


def test_threads_hear_at_the_same_time() -> None:
    barrier = threading.Barrier(2, timeout=10)

    class Meeting(Stream):
        def hear(self, windows: Any) -> list[int]:
            barrier.wait()
            return list(windows)

    async def work(scheduler: Scheduler) -> Any:
        return await asyncio.gather(*(scheduler.hear(Meeting(str(n), []), [n]) for n in range(2)))  # type: ignore[arg-type]

    assert run(1, 2, work) == [[0], [1]]


def test_an_error_is_told_to_whose_it_is() -> None:
    good, bad = Stream("good", []), Stream("bad", [], error=ValueError("damaged"))

    async def work(scheduler: Scheduler) -> Any:
        return await asyncio.gather(
            scheduler.hear(bad, [1]),  # type: ignore[arg-type]
            scheduler.hear(good, [2, 3]),  # type: ignore[arg-type]
            return_exceptions=True,
        )

    error, heard = run(1, 1, work)
    assert heard == [4, 6]
    with pytest.raises(ValueError, match="damaged"):
        raise error
