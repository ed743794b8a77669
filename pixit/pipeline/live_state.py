"""The state of a stream: arrays by name, in one file in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pixit.audio.intake import State

GROWS = ("intake.raw", "windows.waiting", "stitcher.clusters", "clustering.heard", "clustering.counts")
"""Lists of a state that are as long as it happens; the others' lengths follow from the networks and the speakers."""


def pack(arrays: State, about: Mapping[str, Any]) -> bytes:
    """Return arrays, and what is said about them, as the bytes of a file."""
    file = io.BytesIO()
    told = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(file, allow_pickle=False, about=told, **arrays)
    return file.getvalue()


def unpack(state: bytes) -> tuple[dict[str, Any], State]:
    """Return what is said, and the arrays; one of `ARRAY_ERRORS` or a RuntimeError if it is damaged."""
    with np.load(io.BytesIO(state), allow_pickle=False) as file:
        arrays = dict(file)
    about: dict[str, Any] = json.loads(arrays.pop("about").tobytes())
    return about, arrays


def check_state(arrays: State, fresh: State) -> None:
    """Raise a ValueError unless arrays are of the kinds and sizes of those of a stream that has just begun."""
    if arrays.keys() != fresh.keys():
        raise ValueError("arrays are missing")
    for name, array in fresh.items():
        found = arrays[name]
        grows = name in GROWS or array.ndim == 2  # rows are of speakers, which come
        fits = found.shape[1:] == array.shape[1:] if grows else found.shape == array.shape
        if found.dtype != array.dtype or found.ndim != array.ndim or not fits:
            raise ValueError(f"{name} is {found.dtype} of shape {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError(f"{name} holds NaN")
    numbers = {len(array) for array in below(arrays, "clustering.").values()}
    if len(numbers) != 1:
        raise ValueError(f"clustering is of {sorted(numbers)} speakers")


def below(arrays: State, prefix: str) -> State:
    """Return the arrays of one part, by their names in it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
