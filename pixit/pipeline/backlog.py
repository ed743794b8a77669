"""What waits between a source and who hears it: a bounded amount, whatever happens. And how a source is ended."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from pixit.audio.blocks import Source

WAITING_S = 10.0
"""Seconds of live sound that wait at most; what comes while they do is lost, and silent."""


class Backlog:
    """Reads a source in a thread of its own, and keeps what waits; of live sound so much, the rest is lost."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._most = WAITING_S * source.sample_rate_hz
        self._parts: deque[NDArray[Any] | int] = deque()  # blocks, and numbers of samples that were lost
        self._num_waiting = 0
        self._is_over = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True, name="pixit-source")

    def __enter__(self) -> Backlog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.stop()

    def _read(self) -> None:
        try:
            for block in self.source:
                self._put(block)
        except BaseException as error:  # told by who takes
            self._error = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _put(self, block: NDArray[Any]) -> None:
        with self._changed:
            while not self.source.is_live and self._num_waiting and not self.source.is_stopped:
                self._changed.wait(0.1)
            if self._num_waiting + len(block) > self._most and self._parts and self.source.is_live:
                last = self._parts.pop() if isinstance(self._parts[-1], int) else 0
                self._parts.append(last + len(block))
            else:
                self._parts.append(block)
                self._num_waiting += len(block)
            self._changed.notify_all()

    def take(self) -> list[NDArray[Any] | int] | None:
        """Wait, and return all that waits; None at the end. Raises what the source raised."""
        with self._changed:
            while not (self._parts or self._is_over or self.source.is_stopped):
                self._changed.wait(0.1)  # not for ever, so that signals are seen
            parts = list(self._parts)
            self._parts.clear()
            self._num_waiting = 0
            self._changed.notify_all()
            if parts or not (self._is_over or self.source.is_stopped):
                return parts
            if self._error is not None:
                raise self._error
            return None


@contextmanager
def stopping(source: Source) -> Iterator[None]:
    """End a source on the first SIGINT or SIGTERM (in the main thread): what came is finished, as at its own end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def stop(*_: object) -> None:
        source.stop()
        for number, handler in before.items():  # the second one ends the program
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
