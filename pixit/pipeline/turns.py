"""Who speaks now: the turns of a stream, told as soon as their starts and ends are final.

The rules are those of `pixit.pipeline.diarize.decide`: speech is what stays above the offset and reaches the onset,
short pauses are filled, short turns are dropped. They are followed frame by frame, and give the same turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, Ints, decide, find_runs

Kind = Literal["opened", "closed"]
NONE = -1


@dataclass(frozen=True)
class TurnChange:
    """A turn of a stream: ``"opened"`` when its start is final, ``"closed"`` when its end is.

    The start is before the moment at which it is told, and the end of one that was opened is None.
    """

    kind: Kind
    speaker: str
    start_s: float
    end_s: float | None = None


class TurnFollower:
    """Follows one speaker's activity, and tells the changes in frames.

    Frames are counted from the start of the stream. Where nothing is, there is `NONE`.
    """

    def __init__(self, frame_s: float, settings: ActivitySettings) -> None:
        self.settings, self.frame_s = settings, frame_s
        self._low = min(settings.offset, settings.onset)
        self._start = self._end = NONE  # the turn in progress, up to the last speech of it that is known
        self._run = NONE  # start of the activity above the offset that goes on
        self._is_reached = self._is_open = False  # has the run reached the onset; was the turn told
        self._told: list[tuple[Kind, int, int]] = []

    def follow(self, activity: Floats, first: int) -> list[tuple[Kind, int, int]]:
        """Return what the next frames, (n,) from `first` on, make known: (kind, start, end)."""
        if not len(activity):
            return []
        if self._run != NONE and activity[0] < self._low:
            self._end_run(first)
        for start, end in find_runs(activity >= self._low).tolist():
            if start > 0 or self._run == NONE:
                self._close_after_pause(first + start)
                self._run, self._is_reached = first + start, False
            if self._is_reached or (activity[start:end] >= self.settings.onset).any():
                self._is_reached = True
                self._extend(first + end)
            if end < len(activity):
                self._end_run(first + end)
        if self._run == NONE:
            self._close_after_pause(first + len(activity))
        return self._take_told()

    def finish(self) -> list[tuple[Kind, int, int]]:
        """Return the changes that the end of the stream makes known."""
        self._run = NONE
        self._close()
        return self._take_told()

    def foresee(self, activity: Floats, first: int, is_end: bool) -> Bools:
        """Return where there is, or may be, speech in frames (n,) that were not yet followed.

        What nobody can know yet counts as speech: a pause, or activity above the offset, that may still become part
        of a turn after the last of the frames, unless the stream ends there.
        """
        before: list[float] = []
        if self._start != NONE:
            before = [1.0] + [0.0] * ((first if self._run == NONE else self._run) - self._end)
        if self._run != NONE:
            before.append(1.0 if self._is_reached else self._low)
        after = [] if is_end else [1.0]
        known = np.concatenate([before, activity, after]).astype(np.float32)
        speech = decide(known, self.frame_s, self.settings.model_copy(update={"min_duration_on_s": 0.0}))
        return speech[len(before) : len(before) + len(activity)]

    def _end_run(self, end: int) -> None:
        if self._is_reached:
            self._extend(end)
        self._run, self._is_reached = NONE, False

    def _extend(self, end: int) -> None:
        """Take the run, which reached the onset, for speech up to `end`: of the turn in progress or a new one."""
        if self._start == NONE:
            self._start = self._run
        self._end = end
        if not self._is_open and (self._end - self._start) * self.frame_s >= self.settings.min_duration_on_s:
            self._is_open = True
            self._told.append(("opened", self._start, self._end))

    def _close_after_pause(self, frame: int) -> None:
        if self._start != NONE and (frame - self._end) * self.frame_s >= self.settings.min_duration_off_s:
            self._close()

    def _close(self) -> None:
        if self._is_open:
            self._told.append(("closed", self._start, self._end))
        self._start = self._end = NONE
        self._is_open = False

    def _take_told(self) -> list[tuple[Kind, int, int]]:
        told, self._told = self._told, []
        return told

    def state(self) -> Ints:
        """Return what the rest depends on."""
        return np.array([self._start, self._end, self._run, self._is_reached, self._is_open], np.int64)

    def restore(self, state: Ints) -> None:
        """Go on from a state."""
        self._start, self._end, self._run, *flags = state.tolist()
        self._is_reached, self._is_open = map(bool, flags)
