"""Windows on all cores at once: the same results in the same order, and nothing left of the threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pixit.pipeline import compute as module
from pixit.pipeline.compute import Compute

CPU = torch.device("cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_batches_keep_their_order_and_each_has_one_thread(four_threads: None) -> None:
    together = threading.Barrier(4, timeout=30)  # passed only if four are under way at once

    def work(batch: list[int]) -> tuple[list[int], int]:
        together.wait()
        return batch, torch.get_num_threads()

    results = list(Compute(CPU, 2).map_batches(work, range(16)))
    assert [item for batch, _ in results for item in batch] == list(range(16))
    assert {threads for _, threads in results} == {1}
    assert torch.get_num_threads() == 4


def test_items_are_read_as_they_are_needed(four_threads: None) -> None:
    """A long recording is not read ahead into memory."""
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    for done, _ in enumerate(Compute(CPU, 1).map_batches(sum, items()), 1):
        assert len(read) <= done + 4


@pytest.mark.parametrize("leave", ["error", "break"])
def test_threads_end_where_the_work_does(four_threads: None, leave: str) -> None:
    before = threading.active_count()

    def work(batch: list[int]) -> int:
        if leave == "error" and batch == [3]:
            raise ValueError("of the third")
        return batch[0]

    results = Compute(CPU, 1).map_batches(work, range(100))
    if leave == "error":
        with pytest.raises(ValueError, match="of the third"):
            list(results)
    else:
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert torch.get_num_threads() == 4


def test_precision_is_chosen_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(module, "_cpu_has_bfloat16", lambda has_it=has_it: has_it)
        assert Compute.choose(CPU, None, "auto") == Compute(CPU, 1, expected)
        assert Compute.choose(CPU, 4, "float32") == Compute(CPU, 4, torch.float32)
        assert Compute.choose(torch.device("mps"), None, "auto").precision == torch.float32


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx512f avx512_bf16", True),
        ("amx_tile amx_bf16", True),
        ("avx512f avx2", False),
        ("no_amx_bf16x", False),
    ],
)
def test_processors_that_multiply_in_bfloat16(
    flags: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: fpu {flags} sse\n")
    monkeypatch.setattr(module, "Path", lambda _: cpuinfo)
    assert module._cpu_has_bfloat16.__wrapped__() is expected


def test_bfloat16_holds_in_worker_threads(four_threads: None) -> None:
    compute = Compute(CPU, 1, torch.bfloat16)
    layer = torch.nn.Linear(8, 8)

    def work(batch: list[int]) -> torch.dtype:
        with torch.inference_mode(), compute.mixed_precision():
            return layer(torch.ones(1, 8)).dtype

    assert set(compute.map_batches(work, range(8))) == {torch.bfloat16}
    assert layer(torch.ones(1, 8)).dtype == torch.float32
