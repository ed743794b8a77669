"""Where and how the networks run: the device, the precision, and how many windows at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import torch

from pixit.types import PixitError, one_line

Item = TypeVar("Item")
Result = TypeVar("Result")
Precision = Literal["auto", "float32", "bfloat16"]
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}
"""What Linux says of processors that multiply in bfloat16; a window takes 1.5 (AVX512) to 2.3 (AMX) times less."""


@dataclass(frozen=True)
class Compute:
    """On which device the networks run, in which precision, and how many windows they hear at a time.

    On a CPU every window has a core of its own (`map_batches`): the steps of a recurrent network are too small to
    be shared out among cores, and what one window needs fits into a core's own cache.
    """

    device: torch.device
    batch_size: int
    precision: torch.dtype = torch.float32

    @classmethod
    def choose(cls, device: torch.device, batch_size: int | None, precision: Precision) -> Compute:
        """Return what suits a device where `batch_size` is None, or `precision` is ``"auto"``.

        bfloat16 is taken where the device multiplies in it: CPUs with AMX or AVX512-BF16, NVIDIA's GPUs from Ampere
        on. The waveforms, norms, levels and statistics are in float32 with it, too.
        """
        on_cpu = device.type == "cpu"
        if precision == "auto":
            has_it = _cpu_has_bfloat16() if on_cpu else _gpu_has_bfloat16(device)
            precision = "bfloat16" if has_it else "float32"
        return cls(device, batch_size or (1 if on_cpu else 8), getattr(torch, precision))

    def mixed_precision(self) -> torch.autocast:
        """Return the context in which a network is to be called."""
        mixed = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision if mixed else None, enabled=mixed)

    def map_batches(
        self, function: Callable[[list[Item]], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield ``function(batch)`` for every batch of items, in their order.

        On a CPU with several threads (`torch.get_num_threads`), as many batches are under way at a time, with one
        thread each. `items` are read, and results taken, by the thread that calls.
        """
        waiting = batches(items, self.batch_size)
        num_threads = torch.get_num_threads()
        if self.device.type != "cpu" or num_threads == 1:
            yield from map(function, waiting)
            return
        pool = ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))
        running: deque[Future[Result]] = deque()
        try:
            for batch in waiting:
                running.append(pool.submit(function, batch))
                if len(running) > num_threads:  # one more than there are threads: none waits for the next
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(num_threads)  # some of torch's libraries know one number for all threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread: a single window gains little from more, and on a busy machine it loses."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of up to `size` items."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def pick_device(device: str) -> torch.device:
    """Return the device of this name; ``"auto"`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, device=device).item()  # meta makes tensors too, but no numbers
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = one_line(error)
        raise PixitError(
            f"device {device!r}: cannot be used ({reason}); expected cpu, cuda or auto"
        ) from None


@cache
def _cpu_has_bfloat16() -> bool:
    """Tell whether this machine's processor multiplies matrices of bfloat16 (Linux says so; elsewhere: no)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
        return not BFLOAT16_FLAGS.isdisjoint(flags)
    except OSError:
        return False


def _gpu_has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
