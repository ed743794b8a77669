"""Windows, frames, and the arithmetic between samples, frames and seconds. Nothing here reads a file.

`cut_windows` takes a stream of samples apart, `OverlapAdd` puts it together again. Frames are handled the
same way: any unit of time that is counted in whole numbers will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixit.types import FrameGrid, PixitError


@dataclass(frozen=True)
class Window:
    """A stretch of the recording, of the length T that a model takes.

    Window `index` holds the `samples` (T,) from `start_samples` on (see `window_start`); the first `valid` of
    them are the recording's, and a few zeros may follow where it ends.
    """

    index: int
    start_samples: int
    samples: NDArray[np.float32]
    valid: int


def check_step(window_samples: int, step_samples: int) -> None:
    """Raise a PixitError if windows with such a step would leave samples out, or be none."""
    if not 1 <= step_samples <= window_samples:
        raise PixitError(
            f"window step of {step_samples} does not fit a window of {window_samples}; "
            "expected at least 1 and at most the window"
        )


def num_windows(num_samples: int, window_samples: int, step_samples: int) -> int:
    """Return how many windows `cut_windows` gives: the last is the first to reach the recording's end."""
    check_step(window_samples, step_samples)
    if num_samples <= 0:
        return 0
    return 1 + -(-max(0, num_samples - window_samples) // step_samples)


def window_start(
    index: int, num_samples: int, window_samples: int, step_samples: int, grid_samples: int = 1
) -> int:
    """Return the first sample of a window: ``index * step_samples``, but for the last, which ends with the recording.

    Every start is a multiple of `grid_samples`, the distance of a model's frames, as the step has to be: so the last
    window may end up to a frame after the recording. In a recording shorter than a window the only one starts at 0.
    """
    latest = -(-max(0, num_samples - window_samples) // grid_samples) * grid_samples
    return min(index * step_samples, latest)


def cut_windows(
    blocks: Iterable[NDArray[np.float32]], window_samples: int, step_samples: int, grid_samples: int = 1
) -> Iterator[Window]:
    """Cut a stream of mono blocks (n,) of any sizes into overlapping windows.

    Windows start at 0, step, 2·step …, and come as soon as they are full. Only the last knows where the recording
    ends: it starts as early as it must to end there too (see `window_start`), and what little is missing is zero. A
    recording shorter than a window gives one, padded with zeros, an empty one none. Memory holds two windows and
    one block. A PixitError if the step is not between 1 and the window, or not a multiple of the grid.
    """
    check_step(window_samples, step_samples)
    if step_samples % grid_samples:
        raise PixitError(f"window step of {step_samples} is not a multiple of {grid_samples}, the frame step")
    index = begin = end = 0
    waiting = np.zeros(0, np.float32)  # the recording from `begin` on: from the start of the last window
    parts: list[NDArray[np.float32]] = []
    for block in blocks:
        parts.append(block)
        end += len(block)
        if end < index * step_samples + window_samples:
            continue
        waiting, parts = np.concatenate([waiting, *parts]), []
        while end >= index * step_samples + window_samples:
            first = index * step_samples - begin
            samples = waiting[first : first + window_samples].astype(np.float32)
            yield Window(index, index * step_samples, samples, window_samples)
            index += 1
        kept = (index - 1) * step_samples
        waiting, begin = waiting[kept - begin :].copy(), kept
    if index < num_windows(end, window_samples, step_samples):
        start = window_start(index, end, window_samples, step_samples, grid_samples)
        rest = np.concatenate([waiting, *parts])[start - begin :].astype(np.float32)
        yield Window(index, start, np.pad(rest, (0, window_samples - len(rest))), len(rest))


def make_taper(name: str, window_samples: int) -> NDArray[np.float64]:
    """Return the weights ``"hann"``, ``"hamming"`` or ``"flat"`` of a window, (T,), none of them zero.

    They are sampled half-way between the points of the textbook's window, which is zero at its ends.
    """
    cosine = np.cos(2 * np.pi * (np.arange(window_samples) + 0.5) / window_samples)
    floors = {"hann": 0.5, "hamming": 0.54, "flat": 1.0}
    if name not in floors:
        raise PixitError(f"unknown taper {name!r}; expected one of {', '.join(floors)}")
    return floors[name] - (1 - floors[name]) * cosine


class OverlapAdd:
    """Streaming overlap-add, normalised by the sum of the tapers.

    Where windows agree the result is what they agree on, at any overlap and up to the very first and last
    sample: ``overlap_add(cut(x)) == x``.

    All channels share one normalisation, that of the windows added: a channel that has nothing to say in a
    window (a speaker who is not in it) gets zeros there, and these count. To weigh channels differently per
    window, scale the rows of `values`; a row scaled by 0.5 in every window comes out at half its level.

    Parameters
    ----------
    window_samples, step_samples
        Length of the windows, and the largest distance between two of them, in samples or in frames.
    num_channels, taper
        Rows of the values, 0 too; and a name as in `make_taper`, or positive weights (T,).

    Raises
    ------
    PixitError
        If the step does not fit the window, or the taper's name is unknown.
    ValueError
        If windows leave a gap, come out of order or in the wrong shape, or a taper is not positive.

    Examples
    --------
    >>> overlap_add = OverlapAdd(window_samples=4, step_samples=2, num_channels=1)
    >>> windows = cut_windows([np.arange(7, dtype=np.float32)], window_samples=4, step_samples=2)
    >>> parts = [overlap_add.add(window.start_samples, window.samples[None]) for window in windows]
    >>> np.concatenate([*parts, overlap_add.finish(num_samples=7)], axis=1)
    array([[0., 1., 2., 3., 4., 5., 6.]], dtype=float32)
    """

    def __init__(
        self, window_samples: int, step_samples: int, num_channels: int, taper: str | ArrayLike = "hann"
    ) -> None:
        check_step(window_samples, step_samples)
        weights = make_taper(taper, window_samples) if isinstance(taper, str) else np.asarray(taper, float)
        if weights.shape != (window_samples,) or not (weights > 0).all():
            raise ValueError(f"expected a positive taper of shape ({window_samples},), found {weights.shape}")
        self.taper = weights
        self.step_samples = step_samples
        # the last row sums the tapers; float64 keeps the rounding below what float32 can show
        self._sums = np.zeros((num_channels + 1, 0))
        self._position = 0  # first sample that was not yet returned: that of the last window
        self._is_empty = True

    def add(self, start_samples: int, values: ArrayLike) -> NDArray[np.float32]:
        """Add the window `values` (channel, T) that starts at `start_samples`.

        Return the stretch (channel, n) that no later window can change: from the start of the window before
        to the start of this one.
        """
        values = np.asarray(values)
        channels, window = len(self._sums) - 1, len(self.taper)
        distance = start_samples - self._position
        if values.shape != (channels, window):
            raise ValueError(f"expected a window of shape {(channels, window)}, found {values.shape}")
        if not 0 <= distance <= (0 if self._is_empty else self.step_samples):
            raise ValueError(f"window at {start_samples} does not follow the one at {self._position}")
        finished = self._take(distance)
        self._sums = np.pad(self._sums, ((0, 0), (0, window - self._sums.shape[1])))
        self._sums[:-1] += values * self.taper
        self._sums[-1] += self.taper
        self._is_empty = False
        return finished

    def finish(self, num_samples: int) -> NDArray[np.float32]:
        """Return the rest (channel, n), up to the end of a recording of `num_samples`."""
        left = num_samples - self._position
        if not 0 <= left <= self._sums.shape[1]:
            raise ValueError(f"the windows do not end at {num_samples}, the end of the recording")
        return self._take(left)

    def _take(self, num_samples: int) -> NDArray[np.float32]:
        taken, self._sums = np.split(self._sums, [num_samples], axis=1)
        self._position += num_samples
        return (taken[:-1] / taken[-1]).astype(np.float32)


def seconds_to_samples(seconds: float, sample_rate_hz: int) -> int:
    """Return the sample nearest to a time."""
    return round(seconds * sample_rate_hz)


def frame_centres_samples(grid: FrameGrid, num_frames: int) -> NDArray[np.float64]:
    """Return the samples at the middle of the first `num_frames` frames, (F,)."""
    return grid.centre_samples(0) + grid.step_samples * np.arange(num_frames, dtype=np.float64)


def frames_from_intervals(
    intervals: Iterable[tuple[float, float]], grid: FrameGrid, num_frames: int, sample_rate_hz: int
) -> NDArray[np.bool_]:
    """Return which frames are active, bool (F,): those whose centre lies in an interval.

    `intervals` are ``(start_s, end_s)``, in any order, and may overlap; the end is not part of one.
    """
    active = np.zeros(num_frames, bool)
    centres = frame_centres_samples(grid, num_frames)
    for start_s, end_s in intervals:
        # seconds are rarely exact in binary: a millionth of a sample decides nothing but ties
        bounds = np.round(np.array([start_s, end_s]) * sample_rate_hz, 6)
        first, last = np.searchsorted(centres, bounds, side="left")
        active[first:last] = True
    return active


def intervals_from_frames(
    active: NDArray[np.bool_],
    step_samples: int,
    first_centre_samples: float,
    sample_rate_hz: int,
    num_samples: int | None = None,
) -> list[tuple[float, float]]:
    """Return the intervals ``(start_s, end_s)`` of the active frames, ordered and disjoint.

    Boundaries are half-way between the centres of frames, clipped to the recording: to 0, and to
    `num_samples` where given.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(active, bool), [False]])))
    samples = first_centre_samples + (edges - 0.5) * step_samples
    seconds = np.clip(samples, 0, num_samples) / sample_rate_hz
    return [(float(start), float(end)) for start, end in seconds.reshape(-1, 2) if start < end]
