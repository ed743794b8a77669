"""From activities, numbers between 0 and 1, to who talks: one pair of thresholds for every step of the pipeline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixit.config import Settings

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class ActivitySettings(Settings):
    """From which activity on somebody talks, in a window as in the whole recording."""

    onset: float = Field(0.5, gt=0, lt=1, description="activity that speech must reach")
    offset: float = Field(0.4, gt=0, lt=1, description="activity that speech keeps from its start to its end")
    min_local_s: float = Field(
        0.15, ge=0, description="speech in a window from which a local speaker counts as active"
    )
    min_duration_on_s: float = Field(0.1, ge=0, description="shorter turns are dropped")
    min_duration_off_s: float = Field(0.2, ge=0, description="shorter pauses of a speaker are filled")


def find_speech(activities: Floats | Halves, settings: ActivitySettings) -> Bools:
    """Return the frames of speech: runs at or above the offset that reach the onset somewhere (hysteresis).

    Parameters
    ----------
    activities
        (…, F); the rows are independent of each other.
    settings
        An offset above the onset counts as the onset.

    Returns
    -------
    numpy.ndarray
        bool, (…, F).
    """
    silence = [(0, 0)] * (activities.ndim - 1) + [
        (0, 1)
    ]  # after each row, so that no run goes on into the next
    kept = np.pad(activities >= min(settings.offset, settings.onset), silence)
    reached = np.pad(activities >= settings.onset, silence)
    runs = _runs(kept.ravel())
    if len(runs):
        runs = runs[np.logical_or.reduceat(reached.ravel(), runs.ravel())[::2]]
    steps = np.zeros(kept.shape, np.int8)  # a byte a frame: rows may be as long as the recording
    steps.ravel()[runs[:, 0]], steps.ravel()[runs[:, 1]] = 1, -1
    speech: Bools = np.cumsum(steps, axis=-1, dtype=np.int8)[..., :-1] > 0
    return speech


def find_solo(speech: Bools) -> Bools:
    """Return where a local speaker talks and no other does, for the speech of all, both (K, F)."""
    return speech & (speech.sum(axis=0) == 1)


def decide(activity: Halves | Floats, frame_s: float, settings: ActivitySettings) -> Bools:
    """Return where a speaker of the recording talks, (F,), for the activity (F,) and the seconds of a frame.

    Short pauses in the speech are filled, then short turns are dropped.
    """
    talking = find_speech(activity, settings)
    for start, end in _runs(~talking):
        if start > 0 and end < len(talking) and (end - start) * frame_s < settings.min_duration_off_s:
            talking[start:end] = True
    for start, end in _runs(talking):
        if (end - start) * frame_s < settings.min_duration_on_s:
            talking[start:end] = False
    return talking


def _runs(flags: Bools) -> Ints:
    """Return where the runs of set flags start and end, (runs, 2)."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
