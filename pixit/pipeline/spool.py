"""Window outputs, kept on disk until the clustering is done: this bounds the memory of a separation.

Sources take 10 times the recording and more, so they go to a temporary file (float16, silent ones left out) and are
read back one window at a time. What is small stays in memory: activities, one byte a frame.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pyannote.core import SlidingWindow

from pixit.audio import Audio
from pixit.files import size_text
from pixit.types import FrameGrid, LocalDiarizer, PixitError
from pixit.windows import Window, cut_windows, frame_centres_samples, num_windows, window_start

Floats = NDArray[np.float32]

STEPS, FINE_STEPS = 255, 65535
"""Activities are kept in so many steps: of one byte, or of two where speakers are ranked by them."""


@dataclass(frozen=True)
class Geometry:
    """How the windows lie in the recording, and the frames in the windows.

    Windows start on a frame, and the last one ends with the recording; unless they are `regular`: then each starts a
    step after the one before it, its frames are those nearest to it, and the last one is filled with zeros.
    """

    sample_rate_hz: int
    num_samples: int
    num_windows: int
    window_samples: int
    step_samples: int
    frame_grid: FrameGrid
    num_frames: int
    regular: bool = False

    @property
    def step_frames(self) -> int:
        """Frames from one window to the next, at most."""
        return -(-self.step_samples // self.frame_grid.step_samples)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        grid_samples = self.step_samples if self.regular else self.frame_grid.step_samples
        return self.window_samples, self.step_samples, grid_samples

    def start_frames(self, window: int) -> int:
        """Return the frame of the recording at which a window starts, or the one nearest to its start."""
        grid, rate = self.frame_grid, self.sample_rate_hz
        if not self.regular:
            return window_start(window, self.num_samples, *self._sizes) // grid.step_samples
        # Steps of half a frame are usual (0.5 s and 8 ms): the very same sums as in pyannote.audio decide such ties.
        size_s = grid.size_samples / rate
        frames = SlidingWindow(duration=size_s, step=self.frame_s)
        return int(frames.closest_frame(window * (self.step_samples / rate) + 0.5 * size_s))

    def cut(self, recording: Audio) -> Iterator[Window]:
        """Read the recording once, window by window."""
        return cut_windows(recording.blocks(), *self._sizes)

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.frame_grid.step_samples / self.sample_rate_hz


def lay_windows(model: LocalDiarizer, num_samples: int, step_s: float, regular: bool = False) -> Geometry:
    """Lay the windows over a recording, a whole number of frames from one to the next unless they are `regular`."""
    grid_samples = 1 if regular else model.frame_grid.step_samples
    step_samples = max(1, round(step_s * model.sample_rate_hz / grid_samples)) * grid_samples
    return Geometry(
        sample_rate_hz=model.sample_rate_hz,
        num_samples=num_samples,
        num_windows=num_windows(num_samples, model.window_samples, step_samples),
        window_samples=model.window_samples,
        step_samples=step_samples,
        frame_grid=model.frame_grid,
        num_frames=model.num_frames(model.window_samples),
        regular=regular,
    )


def _check_room(geometry: Geometry, folder: Path) -> None:
    # One source a window (float16) is what a conversation without overlap takes, and one track (float32).
    needed = geometry.num_windows * geometry.window_samples * 2 + geometry.num_samples * 4
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PixitError(
            f"{folder}: has {size_text(free)} free, the separation needs some {size_text(needed)} for "
            "temporary files; free some, take another folder (TMPDIR where no output is given), or a larger "
            "step"
        )


def in_steps(activities: Floats, steps: int = STEPS) -> Floats:
    """Round activities to so many steps."""
    return (np.round(activities * steps) / steps).astype(np.float32)


def inside_turns(bounds: NDArray[np.integer[Any]], num_frames: int) -> NDArray[np.bool_]:
    """Return which frames are those of each turn, (L, R, F), for its bounds (L, R, 2)."""
    frames = np.arange(num_frames)
    return np.asarray((frames >= bounds[..., :1]) & (frames < bounds[..., 1:]))


def gate_of(inside: NDArray[np.bool_], geometry: Geometry) -> Floats:
    """Return a gain for the samples of a window, (T,), that is 1 in these frames (F,); ramps last a frame."""
    samples = np.arange(geometry.window_samples)
    if inside.all() or not inside.any():
        return np.full(len(samples), inside.all(), np.float32)
    centres = frame_centres_samples(geometry.frame_grid, len(inside))
    return np.interp(samples, centres, inside).astype(np.float32)


class Cutter(Protocol):
    """Takes what local speakers say in a window apart into turns, at most `most` for each."""

    @property
    def most(self) -> int: ...

    def __call__(self, activities: Floats) -> NDArray[np.int64]:
        """Return the frames (K, most, 2) from and to which turns last, for activities (K, F)."""
        ...


class Spool:
    """Activities and sources of all windows of a recording, written once in order and then read.

    The temporary file goes into `folder`; a PixitError if there is too little room, or none left in the end. Without
    a folder there is no file: only the sources of the windows that came last are kept, in memory. Activities are kept
    in 256 levels, or in as many as 2 bytes have if they are `fine`.

    With `cut` each turn of one of the L outputs of the model is a local speaker, of R = `num_turns`, so that there
    are K = L R; else the outputs are, with R = 1.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_outputs: int,
        folder: Path | None = None,
        fine: bool = False,
        cut: Cutter | None = None,
    ) -> None:
        self.steps = FINE_STEPS if fine else STEPS
        self.geometry, self._folder, self._cut = geometry, folder, cut
        self.num_turns = 1 if cut is None else cut.most
        self.num_speakers = num_outputs * self.num_turns
        shape = (geometry.num_windows, num_outputs)
        kind = np.uint16 if fine else np.uint8
        self.activities_in_steps: NDArray[np.unsignedinteger[Any]] = np.zeros(
            (*shape, geometry.num_frames), kind
        )
        """What the outputs of the model say, (W, L, F), of so many `steps`; zero for those that are silent."""
        self._bounds = np.zeros((*shape, self.num_turns, 2), np.uint16)
        self.active: NDArray[np.bool_] = np.zeros((geometry.num_windows, self.num_speakers), bool)
        """Which local speakers are active, (W, K): these have a source, if the model gives any."""
        self._offsets = np.full(shape, -1, np.int64)  # place of a source in the file, in samples; -1: none
        self._scales = np.zeros(shape, np.float32)
        self._num_written = self._num_samples_written = 0
        self._file: io.BytesIO | io.FileIO = io.BytesIO()
        if folder is not None:
            _check_room(geometry, folder)
            # Unbuffered, so that a full disk shows in write(), and not in a later seek() or close().
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".pixit-", buffering=0)  # noqa: SIM115 see __exit__

    def in_steps(self, activities: Floats) -> Floats:
        """Round activities to what is kept of them, so that all decisions are made on the same numbers."""
        return in_steps(activities, self.steps)

    def append(self, activities: Floats, sources: Floats | None, active: NDArray[np.bool_]) -> None:
        """Add windows: activities (B, L, F), sources (B, L, T) if any, and which of both to keep (B, L)."""
        first = self._num_written
        self._num_written += len(activities)
        self.activities_in_steps[first : self._num_written] = np.round(
            activities * (self.steps * active[..., None]).astype(np.float32)
        )
        for window, is_active in enumerate(active, first):
            self._bounds[window] = self._find_turns(window)
            is_there = self._bounds[window, ..., 1] > self._bounds[window, ..., 0]
            self.active[window] = (is_active[:, None] & is_there).ravel()
        if self._folder is None:
            self._offsets[:first] = -1
            self._file, self._num_samples_written = io.BytesIO(), 0
        if sources is None:
            return
        for window, speaker in np.argwhere(active):
            source = sources[window, speaker]
            scale = float(np.abs(source).max()) or 1.0
            self._offsets[first + window, speaker] = self._num_samples_written
            self._scales[first + window, speaker] = scale
            self._write((source / scale).astype(np.float16))

    def _find_turns(self, window: int) -> NDArray[np.int64]:
        if self._cut is not None:
            return self._cut(self.outputs(window))
        return np.tile([0, self.geometry.num_frames], (len(self.activities_in_steps[window]), 1, 1))

    def _write(self, samples: NDArray[np.float16]) -> None:
        left = memoryview(samples.tobytes())
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise PixitError(
                f"{self._folder}: temporary file: cannot be written ({error.strerror}); free some disk space, or "
                "take another folder (TMPDIR where no output is given)"
            ) from None
        self._num_samples_written += len(samples)

    @property
    def active_outputs(self) -> NDArray[np.bool_]:
        """Which outputs of the model are active, (W, L)."""
        turns = self.active.reshape(len(self.active), -1, self.num_turns)
        return np.asarray(turns.any(axis=-1))

    def outputs(self, window: int) -> Floats:
        """Return the activities (L, F) of a window by outputs of the model; zero for those that are silent."""
        return self.activities_in_steps[window] / np.float32(self.steps)

    def activities(self, window: int) -> Floats:
        """Return the activities (K, F) of a window; zero for local speakers who are silent."""
        activities = self.outputs(window)[:, None] * self._inside(window)
        return activities.reshape(self.num_speakers, -1)

    def _inside(self, window: int) -> NDArray[np.bool_]:
        """Return which frames are those of each turn, (L, R, F)."""
        return inside_turns(self._bounds[window], self.geometry.num_frames)

    def gates(self, window: int) -> Floats:
        """Return where each active local speaker has its output to itself, (n, T): 1 there, with ramps of a frame."""
        inside = self._inside(window).reshape(self.num_speakers, -1)[self.active[window]]
        gates = [gate_of(row, self.geometry) for row in inside]
        return np.array(gates, np.float32).reshape(len(inside), self.geometry.window_samples)

    def sources(self, window: int) -> Floats:
        """Return the sources of the active local speakers of a window, (n, T); zero outside their turns."""
        outputs = np.flatnonzero(self.active[window]) // self.num_turns
        read = {output: self._read(window, int(output)) for output in np.unique(outputs)}
        sources = np.array([read[output] for output in outputs], np.float32)
        sources = sources.reshape(len(outputs), self.geometry.window_samples)
        return sources if self.num_turns == 1 else sources * self.gates(window)

    def _read(self, window: int, output: int) -> Floats:
        offset = int(self._offsets[window, output])
        if offset < 0:
            raise ValueError(f"window {window}: its sources were not kept")
        self._file.seek(offset * 2)
        samples = np.frombuffer(self._file.read(self.geometry.window_samples * 2), np.float16)
        return samples.astype(np.float32) * self._scales[window, output]

    def __len__(self) -> int:
        return self._num_written

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._num_written))

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
