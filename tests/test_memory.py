"""Memory that is kept is not asked of the system again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from pixit.memory import give_back_memory, keep_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(1 << 23)  # 64 MB: 16384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_memory()
faults(2)
print(faults(8))
give_back_memory()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_large_blocks_are_taken_from_the_system_once() -> None:
    def run(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    assert run("as it is") > 8 * 32  # even if all pages are huge ones
    assert run("keep") < 100
