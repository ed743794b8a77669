"""A stream from its source to its end, also where the machine is slower than the sound.

What is not live waits for the machine. Live sound does not: of the blocks that came while it was busy, only the
newest that fills a window is heard, and the windows before are skipped. So the step becomes as large as the machine
needs. As long as it is no larger than the latency nothing is lost; beyond that, what no window covers is a gap:
silent, and marked. Time stays right, and nothing grows. A block that is longer than a step is heard whole: that
several windows came at once says nothing of the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixit.audio.blocks import FileSource, Source
from pixit.files import file_name
from pixit.formats.rttm import rttm_line
from pixit.pipeline.backlog import Backlog, stopping
from pixit.pipeline.live import Update
from pixit.pipeline.live_hearing import Heard
from pixit.pipeline.recorder import StreamRecorder
from pixit.pipeline.streaming import StreamingSeparator
from pixit.report.timeline import clock
from pixit.types import PixitError, Turn
from pixit.windows import Window

TELL_EVERY_S = 10.0
"""Seconds of sound between two notes that the machine is too slow, or no longer."""
MOST_GAPS = 1000
"""Gaps that a result lists."""


@dataclass(frozen=True)
class Moment:
    """Where a stream stands when something has become final.

    Parameters
    ----------
    name
        Of the recording.
    update
        What has.
    heard_s, final_s
        Seconds of sound that came, and up to which the tracks are final.
    talking
        Who speaks, as far as it is known: speakers with a turn that has not closed.
    talk_s
        Speaker -> seconds of the turns that have closed.
    levels_db
        Speaker -> level of the stretch, in decibels below full scale.
    notes
        What is to be told: that the machine is too slow, and what became of it.
    """

    name: str
    update: Update
    heard_s: float
    final_s: float
    talking: tuple[str, ...]
    talk_s: dict[str, float]
    levels_db: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def rttm(self) -> tuple[str, ...]:
        """The turns that closed, as lines of RTTM."""
        uri, turns = file_name(self.name), self.update.turns
        return tuple(
            rttm_line(uri, Turn(t.start_s, t.end_s, file_name(t.speaker)))
            for t in turns
            if t.end_s is not None
        )

    @property
    def events(self) -> tuple[dict[str, Any], ...]:
        """The same for programs, times in seconds: turns that opened and closed, notes, and where the stream is."""
        found: list[dict[str, Any]] = []
        for turn in self.update.turns:
            end = {} if turn.end_s is None else {"end": round(turn.end_s, 3)}
            found.append(
                {"event": turn.kind, "speaker": turn.speaker, "start": round(turn.start_s, 3), **end}
            )
        found += [{"event": "note", "text": note} for note in self.notes]
        levels = {name: round(level, 1) for name, level in self.levels_db.items()}
        place = {"time": round(self.final_s, 3), "heard": round(self.heard_s, 3)}
        return (*found, {"event": "final", **place, "talking": self.talking, "levels_db": levels})


@dataclass
class LiveRun:
    """Runs a separator over a source, into a result on disk if there is a recorder; iterated once.

    Where the source fails in the middle, or gives a block that is none, what came before is finished, and then the
    error raised.

    Parameters
    ----------
    separator, source, recorder
        What it says.

    Attributes
    ----------
    num_windows, num_skipped
        Windows that came; and those for which there was no time.
    busy_s, slowest_s
        Seconds of work, and of the window that took longest.
    gaps
        Stretches that nobody heard, in seconds; the first thousand.
    folder
        The finished result.
    """

    separator: StreamingSeparator
    source: Source
    recorder: StreamRecorder | None = None
    num_windows: int = 0
    num_skipped: int = 0
    busy_s: float = 0.0
    slowest_s: float = 0.0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    folder: Path | None = None
    _talking: dict[str, None] = field(default_factory=dict)
    _talk_s: dict[str, float] = field(default_factory=dict)
    _num_heard: int = 0
    _step: int = 1
    _told_s: float = -math.inf
    _error: PixitError | None = None

    def __iter__(self) -> Iterator[Moment]:
        """Yield a moment whenever something has become final."""
        started = time.monotonic()
        with Backlog(self.source) as backlog, stopping(self.source):
            while self._error is None:
                try:
                    parts = backlog.take()
                except PixitError as failed:  # of the source; what came before is kept
                    self._error, parts = failed, None
                if parts is None:
                    break
                if moment := self._advance(parts):
                    yield moment
        windows = self.separator.end()
        yield self._tell(self.separator.take(self._hear(windows)), [])
        if self.recorder is not None:
            self.folder = self.recorder.finish(self._describe(time.monotonic() - started))
        if self._error is not None:
            raise self._error

    def _advance(self, parts: list[NDArray[Any] | int]) -> Moment | None:
        windows: list[Window] = []
        notes: list[str] = []
        num_late = 0
        for part in parts:
            try:
                new = self._feed(part)
            except PixitError as failed:  # of the block, which changed nothing; what came before is kept
                self._error = failed
                break
            if new:
                num_late = len(windows)
            windows += new
            if isinstance(part, int):
                notes.append(
                    f"{part / self.source.sample_rate_hz:.1f} s of sound were lost: they came too fast"
                )
                num_late = max(0, len(windows) - 1)  # of lost sound, one window tells as much as all
        if not windows:
            return None
        update = self.separator.take(self._hear(windows, num_late, notes))
        return self._tell(update, notes)

    def _feed(self, part: NDArray[Any] | int) -> list[Window]:
        if not isinstance(part, int):
            self._num_heard += len(part)
            return self.separator.feed(part)
        windows = []
        while part > 0:  # in pieces: no more memory than a block of a second
            size = min(part, self.source.sample_rate_hz)
            silence = np.zeros((size, max(1, self.separator.num_channels)), np.float32)
            windows += self.separator.feed(silence)
            self._num_heard, part = self._num_heard + size, part - size
        return windows

    def _hear(self, windows: list[Window], num_late: int = 0, notes: list[str] | None = None) -> list[Heard]:
        """Hear windows; of live ones none that is late, and tell when the step changes by much."""
        started = time.perf_counter()
        skipped = windows[:num_late] if self.source.is_live else []
        heard = [Heard(window) for window in skipped] + self.separator.hear(windows[len(skipped) :])
        took = time.perf_counter() - started
        self.busy_s += took
        self.slowest_s = max(self.slowest_s, took / max(1, len(windows) - len(skipped)))
        self.num_windows += len(windows)
        self.num_skipped += len(skipped)
        if notes is not None:
            notes.extend(self._tell_step(len(skipped) + 1))
        return heard

    def _tell_step(self, step: int) -> Iterator[str]:
        """Tell when the step has become much larger, and when it is back; not all the time."""
        now_s = self._num_heard / self.source.sample_rate_hz
        if not (step > 2 * self._step or step == 1 < self._step) or now_s < self._told_s + TELL_EVERY_S:
            return
        step_s = step * self.separator.geometry.step_samples / self.separator.rate_hz
        what = "is slower than the sound" if step > self._step else "keeps up again"
        yield f"at {clock(now_s)}: the machine {what}: a step of {step_s:.1f} s"
        self._step, self._told_s = step, now_s

    def _tell(self, update: Update, notes: list[str]) -> Moment:
        if self.recorder is not None:
            self.recorder.write(update)
        rate_hz = self.separator.rate_hz
        for turn in update.turns:
            if turn.kind == "opened":
                self._talking[turn.speaker] = None
            else:
                self._talking.pop(turn.speaker, None)
                self._talk_s[turn.speaker] = (
                    self._talk_s.get(turn.speaker, 0) + (turn.end_s or 0) - turn.start_s
                )
        for gap in update.gaps:
            start_s, end_s = gap[0] / rate_hz, gap[1] / rate_hz
            notes.append(
                f"nobody listened from {clock(start_s)} for {end_s - start_s:.1f} s: the tracks are silent"
            )
            if self.gaps and self.gaps[-1][1] == start_s:
                start_s = self.gaps.pop()[0]
            self.gaps = [*self.gaps, (start_s, end_s)][:MOST_GAPS]
        levels = {
            name: 10 * float(np.log10(max(1e-10, np.square(track, dtype=float).mean())))
            if len(track)
            else -100.0
            for name, track in update.tracks.items()
        }
        heard_s, final_s = self._num_heard / self.source.sample_rate_hz, update.end_samples / rate_hz
        who = tuple(self._talking), dict(self._talk_s), levels
        return Moment(self.source.name, update, heard_s, final_s, *who, tuple(notes))

    @property
    def duration_s(self) -> float:
        """Seconds of sound that were heard."""
        return self._num_heard / self.source.sample_rate_hz

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who was heard."""
        return self.separator.speakers

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for each second of sound that was heard."""
        return self.busy_s * self.source.sample_rate_hz / max(1, self._num_heard)

    def _describe(self, elapsed_s: float) -> dict[str, Any]:
        """Return how a result was made, as `Separator` tells it."""
        separator, source = self.separator, self.source
        recording = source.audio if isinstance(source, FileSource) else None
        warnings = [source.note] if source.note else []
        if self.gaps:
            total_s = sum(end - start for start, end in self.gaps)
            warnings.append(f"the machine was too slow: {total_s:.1f} s in {len(self.gaps)} gaps are silent")
        return {
            "pixit": version("pixit-audio"),
            "source": source.name if recording is None else str(recording.info.path),
            "source_sample_rate": source.sample_rate_hz,
            "source_channels": separator.num_channels if recording is None else recording.num_channels,
            "channel": separator.channel if recording is None else recording.channel,
            "loss": source.note,
            "warnings": warnings,
            "model": separator.name,
            "streaming": separator.settings.model_dump(mode="json"),
            "device": str(separator.device),
            "elapsed_s": round(elapsed_s, 2),
            "windows": {"heard": self.num_windows - self.num_skipped, "skipped": self.num_skipped},
            "gaps_s": [[round(start, 3), round(end, 3)] for start, end in self.gaps],
        }
