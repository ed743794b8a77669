"""Windows of a stream: cut as the sound comes, and added up again in the stretches that no later window changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixit.audio.intake import State
from pixit.windows import Window, check_step, make_taper


class LiveWindows:
    """Cuts a stream of mono blocks into windows, one every step, as soon as their last samples are there.

    Window 0 ends a step after the start; of what it has before that, the samples are zero, and `Window.start_samples`
    is negative.

    Attributes
    ----------
    num_windows
        How many there were.
    length
        Samples of the stream, once it has ended.
    """

    def __init__(self, window_samples: int, step_samples: int) -> None:
        check_step(window_samples, step_samples)
        self._window, self._step = window_samples, step_samples
        self._recent = np.zeros(window_samples, np.float32)  # up to the end of the last window
        self._waiting: list[NDArray[np.float32]] = []  # after that
        self._num_waiting = self.num_windows = 0
        self.length: int | None = None

    def push(self, block: NDArray[np.float32]) -> list[Window]:
        """Return the windows that a block (n,) fills."""
        self._waiting.append(block)
        self._num_waiting += len(block)
        if self._num_waiting < self._step:
            return []
        known = np.concatenate([self._recent, *self._waiting])
        windows: list[Window] = []
        while self._num_waiting >= self._step:
            first = (len(windows) + 1) * self._step
            start = (self.num_windows + 1) * self._step - self._window
            samples = known[first : first + self._window].copy()
            windows.append(Window(self.num_windows, start, samples, self._window))
            self.num_windows += 1
            self._num_waiting -= self._step
        self._recent = windows[-1].samples
        self._waiting = [known[len(known) - self._num_waiting :].copy()]
        return windows

    def end(self) -> list[Window]:
        """End the stream, and return the window that what is left begins to fill, if anything is; zeros follow it."""
        self.length = self.num_windows * self._step + self._num_waiting
        missing = -self._num_waiting % self._step
        windows = self.push(np.zeros(missing, np.float32)) if missing else []
        return [replace(window, valid=window.valid - missing) for window in windows]

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        waiting = np.concatenate([np.zeros(0, np.float32), *self._waiting])
        return {"recent": self._recent, "waiting": waiting, "count": np.array(self.num_windows)}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._recent, self._waiting = state["recent"], [state["waiting"]]
        self._num_waiting, self.num_windows = len(state["waiting"]), int(state["count"])


class LiveOverlapAdd:
    """Overlap-add of windows that come for ever, one step after the other; what is older than a latency is given out.

    As `OverlapAdd`: normalised by the tapers of the windows that were added. Windows may be skipped; where all
    that cover a sample were, it is zero. Channels come as they are needed, silent until then. Window 0 ends a step
    after 0, and what it is given of before that counts as well. With the latency of a window, nothing is lost to
    it: the stretches are those of `OverlapAdd`.

    Parameters
    ----------
    window_samples, step_samples, latency_samples
        In samples or in frames; the latency is at least the step, and at most the window.
    num_channels
        At the start.
    taper
        A name as in `make_taper`.

    Raises
    ------
    PixitError
        If the step does not fit the window, or the taper's name is unknown.
    ValueError
        If the latency fits neither, or a window has the wrong length.
    """

    def __init__(
        self,
        window_samples: int,
        step_samples: int,
        latency_samples: int,
        num_channels: int = 0,
        taper: str = "hann",
    ) -> None:
        check_step(window_samples, step_samples)
        if not step_samples <= latency_samples <= window_samples:
            raise ValueError(f"a latency of {latency_samples} is none between the step and the window")
        self._taper = make_taper(taper, window_samples)[-latency_samples:]
        self._step = step_samples
        self.sums = np.zeros((num_channels, latency_samples))
        """What waits, (channel, L): from the first sample that was not yet given out."""
        self.weights = np.zeros(latency_samples)
        """The sum of the tapers there."""

    def add(
        self, num_channels: int, rows: ArrayLike = (), values: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Add the next window: `values` (n, T) go to the channels `rows`; None skips it.

        Return a stretch of a step, (`num_channels`, step), that no later window changes, and which of its samples a
        window covered, (step,).
        """
        if missing := num_channels - len(self.sums):
            self.sums = np.pad(self.sums, ((0, missing), (0, 0)))
        if values is not None:
            if values.shape[1] < len(self._taper):
                raise ValueError(f"a window of {values.shape[1]} is shorter than the latency")
            self.sums[np.asarray(rows, int)] += values[:, -len(self._taper) :] * self._taper
            self.weights += self._taper
        given = self._normalised(slice(0, self._step))
        for waiting in (self.sums, self.weights):
            waiting[..., : -self._step] = waiting[..., self._step :]
            waiting[..., -self._step :] = 0
        return given

    def ahead(self) -> NDArray[np.float32]:
        """Return what waits as it is by now, (channel, latency - step)."""
        return self._normalised(slice(0, len(self._taper) - self._step))[0]

    def _normalised(self, stretch: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        weights = self.weights[stretch]
        covered = weights > 0
        return (self.sums[:, stretch] / np.where(covered, weights, 1)).astype(np.float32), covered

    def rest(self, num_samples: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the last `num_samples` (channel, n) of a stream that has ended, and which a window covered."""
        if not 0 <= num_samples <= len(self._taper):
            raise ValueError(f"no {num_samples} samples wait")
        return self._normalised(slice(0, num_samples))
