"""Who talks when in real meetings: excerpts of RTTM files, with their pauses, overlaps and backchannels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.formats.rttm import read_rttm
from pixit.types import PixitError, Turn

Seconds = NDArray[np.float64]
"""Turns (n, 2) in seconds, start and end, ordered."""

NUM_TRIES = 200


class _Meeting:
    """Turns of one recording, ordered by start; `speakers` numbers their speakers from 0."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        ordered = sorted(turns, key=lambda turn: turn.start_s)
        names = sorted({turn.speaker for turn in ordered})
        self.turns_s = np.array([(turn.start_s, turn.end_s) for turn in ordered])
        self.speakers = np.array([names.index(turn.speaker) for turn in ordered])
        self.longest_s = float(np.diff(self.turns_s).max())
        self.end_s = float(self.turns_s[:, 1].max())

    def excerpt(self, start_s: float, duration_s: float) -> list[Seconds]:
        """Return the turns of each speaker within the excerpt, in its time; who talks most comes first."""
        end_s = start_s + duration_s
        first, last = np.searchsorted(self.turns_s[:, 0], [start_s - self.longest_s, end_s])
        turns = np.clip(self.turns_s[first:last], start_s, end_s) - start_s
        speakers = self.speakers[first:last]
        lengths = turns[:, 1] - turns[:, 0]
        totals = np.bincount(speakers, lengths, minlength=1)
        order = [s for s in np.argsort(-totals, kind="stable") if totals[s] > 0]
        return [turns[(speakers == speaker) & (lengths > 0)] for speaker in order]


class TurnTaking:
    """Real turn-taking to draw excerpts from: recording -> its turns.

    Raises
    ------
    PixitError
        If there are no turns.
    """

    def __init__(self, recordings: Mapping[str, Sequence[Turn]]) -> None:
        self.meetings = [_Meeting(turns) for turns in recordings.values() if turns]
        if not self.meetings:
            raise PixitError("no turns to take turn-taking from; expected RTTM files with SPEAKER lines")
        lengths_s = np.array([meeting.end_s for meeting in self.meetings])
        self._weights = np.cumsum(lengths_s / lengths_s.sum())

    @classmethod
    def from_rttms(cls, paths: Iterable[Path | str]) -> TurnTaking:
        """Read RTTM files and folders, as `read_rttm`."""
        return cls(read_rttm(paths))

    def excerpt(
        self, num_speakers: int, duration_s: float, rng: np.random.Generator, min_talk_s: float = 0.2
    ) -> list[Seconds]:
        """Draw an excerpt and keep the `num_speakers` who talk most in it.

        An excerpt where fewer talk for `min_talk_s` is passed over. Where that goes on, the missing speakers
        come from further excerpts, laid over the first. The turns of each speaker are (n, 2), in seconds from
        the start of the excerpt, and disjoint unless the RTTM lets a speaker overlap with himself.

        Raises
        ------
        PixitError
            If no meeting is as long as `duration_s`, or nobody talks for `min_talk_s` in any excerpt tried.
        """
        if num_speakers == 0:
            return []
        best: list[Seconds] = []
        for _ in range(NUM_TRIES):
            best = max(best, self._draw(duration_s, min_talk_s, rng), key=len)
            if len(best) >= num_speakers:
                return best[:num_speakers]
        for _ in range(NUM_TRIES):
            if len(best) >= num_speakers:
                return best[:num_speakers]
            best = best + self._draw(duration_s, min_talk_s, rng)
        raise PixitError(
            f"no excerpt of {duration_s} s in which somebody talks for {min_talk_s} s, among "
            f"{len(self.meetings)} recordings of at most {max(m.end_s for m in self.meetings):.0f} s; "
            "ask for shorter meetings or give longer RTTM files"
        )

    def _draw(self, duration_s: float, min_talk_s: float, rng: np.random.Generator) -> list[Seconds]:
        index = min(int(np.searchsorted(self._weights, rng.random())), len(self.meetings) - 1)
        meeting = self.meetings[index]
        if (latest_s := meeting.end_s - duration_s) < 0:
            return []
        turns = meeting.excerpt(rng.uniform(0, latest_s) if latest_s > 0 else 0.0, duration_s)
        return [turn for turn in turns if (turn[:, 1] - turn[:, 0]).sum() >= min_talk_s]
