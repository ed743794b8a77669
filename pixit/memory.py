"""What the C library does with memory that is free (glibc; elsewhere nothing is changed)."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
"""Parameters of ``mallopt``, of ``malloc.h``."""


def _libc() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def give_back_memory() -> None:
    """Give the system back what is free of this process's memory.

    It would be kept for later, in pieces that fit what was there before: each step would add to those before it.
    """
    if (trim := getattr(_libc(), "malloc_trim", None)) is not None:
        trim(0)


def keep_memory() -> None:
    """Keep from now on what becomes free, for good.

    A step of a training takes and frees the same gigabytes as the one before it. By itself glibc gives large blocks
    back at once, and the system hands them out page by page, each of them cleared: a third of the time of a step.
    """
    if (mallopt := getattr(_libc(), "mallopt", None)) is not None:
        if not mallopt(MMAP_THRESHOLD, 1 << 30):  # older ones know a largest threshold
            mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(TOP_PAD, 1 << 28)
