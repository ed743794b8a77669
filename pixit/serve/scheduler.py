"""Windows of all streams, through one model.

Every stream has one piece of sound at a time in the queue, so first come is fair: who sends more waits longer. On a
CPU each window is heard alone, by a thread of its own for each core: the results are those of a quiet machine, bit
by bit. On a GPU the windows that wait are heard together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pixit.serve.metrics import Metrics

if TYPE_CHECKING:
    from pixit.pipeline.streaming import StreamingSeparator


@dataclass
class Request:
    """Windows of one stream that wait."""

    stream: StreamingSeparator
    windows: Sequence[Any]
    heard: asyncio.Future[list[Any]]
    since_s: float = field(default_factory=time.monotonic)


class Scheduler:
    """Hears windows in the order in which they come.

    Parameters
    ----------
    metrics
        Counts them.
    batch_size
        Most windows at a time; they are of streams with the same settings.
    num_threads
        How many batches are heard at a time.
    """

    def __init__(self, metrics: Metrics, batch_size: int, num_threads: int) -> None:
        self._metrics, self._batch_size, self._num_threads = metrics, batch_size, num_threads
        self._waiting: deque[Request] = deque()
        self._arrival = asyncio.Condition()
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="windows")
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; in the event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._num_threads)]

    async def stop(self) -> None:
        """End; windows that wait are never heard."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def hear(self, stream: StreamingSeparator, windows: Sequence[Any]) -> list[Any]:
        """Return what model and embedder make of windows, in their order; whatever they raise is raised here."""
        heard: list[Any] = []
        for start in range(0, len(windows), self._batch_size):
            future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            async with self._arrival:
                self._waiting.append(Request(stream, windows[start : start + self._batch_size], future))
                self._arrival.notify()
            heard += await future
        return heard

    async def run(self, work: Any, *arguments: Any) -> Any:
        """Run other work of a stream in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _work(self) -> None:
        while True:
            requests = await self._next()
            windows = [window for request in requests for window in request.windows]
            now_s = time.monotonic()
            for request in requests:
                self._metrics.wait_s.observe(now_s - request.since_s)
            try:
                heard = await self.run(requests[0].stream.hear, windows)
            except Exception as error:  # whatever it is, it is the streams' and must not end the others
                for request in requests:
                    if not request.heard.done():
                        request.heard.set_exception(error)
                continue
            self._metrics.hear_s.observe(time.monotonic() - now_s)
            self._metrics.windows.inc(len(windows))
            position = 0
            for request in requests:
                if not request.heard.done():  # its stream may have ended meanwhile
                    request.heard.set_result(heard[position : position + len(request.windows)])
                position += len(request.windows)

    async def _next(self) -> list[Request]:
        """Wait for a request, and return it with those behind it that can be heard with it."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self._waiting)
            requests = [self._waiting.popleft()]
            count = len(requests[0].windows)
            while self._waiting:
                behind = self._waiting[0]
                count += len(behind.windows)
                if count > self._batch_size or behind.stream.settings != requests[0].stream.settings:
                    break
                requests.append(self._waiting.popleft())
        return requests
