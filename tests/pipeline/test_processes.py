"""Several processes at the recordings of one run, of which one is killed; and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pixit.pipeline.batch import Job
from pixit.pipeline.dispatch import share_out
from pixit.pipeline.processes import Processes
from pixit.results import Separation


@pytest.mark.slow
def test_a_killed_process_costs_nothing_but_time(
    mortal: Any,
    noise: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    out, said = tmp_path / "out", list[str]()
    workers = Processes(mortal.load(deadly=["b"]), "cpu", 2)
    outcomes = list(share_out(workers, [noise(n) for n in "abcd"], Job(out), say=said.append))
    assert {outcome.uri: outcome.error for outcome in outcomes} == dict.fromkeys("abcd")
    assert sorted(uri for uri, *_ in mortal.asked()) == ["a", "b", "b", "c", "d"]
    assert {threads for _, _, threads, _ in mortal.asked()} == {"2"}  # 5 shared among 2
    assert len(mortal.loaded()) == len(set(mortal.loaded()))  # once a process
    assert said == [f"{noise('b')}: its worker was killed (SIGKILL, out of memory?); it is begun once more"]
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "c", "d"]  # and nothing hidden
    assert all(Separation.load(out / name).num_samples == 32000 for name in "abcd")


def test_threads_are_shared_out_and_each_process_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    given = [(2, None), (2, 8), (3, 8), (9, 8)]
    assert [Processes(len, "cpu", *asked).num_threads for asked in given] == [1, 4, 2, 1]  # type: ignore[arg-type]


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_leaves_nothing(
    tiny_separator: Path, noise: Callable[[str], Path], tmp_path: Path
) -> None:
    output, recordings = tmp_path / "out", [noise("a"), noise("b")]
    options = ["--step", "0.0002", "--jobs", "2"]
    command = ["separate", *recordings, "-o", output, "--model", tiny_separator, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "pixit", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a shell does, whose Ctrl-C then reaches the workers too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while len(list(output.glob(".pixit-*-*"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=120)
    assert time.monotonic() < deadline, "the two were not seen at work"
    assert (process.returncode, printed) == (130, "interrupted\n")
    assert not output.exists()
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)  # multiprocessing's tracker of resources ends a moment later
    assert not is_alive(process.pid)


def is_alive(group: int) -> bool:
    """Tell whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
