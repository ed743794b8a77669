"""Stitching as the windows come: tracks and turns in the stretches that no later window changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixit.audio.intake import State
from pixit.pipeline.diarize import (
    ActivitySettings,
    Bools,
    Floats,
    Ints,
    by_speaker,
    find_runs,
    open_gates,
    speaker_name,
)
from pixit.pipeline.live_hearing import Heard
from pixit.pipeline.live_windows import LiveOverlapAdd
from pixit.pipeline.spool import Geometry
from pixit.pipeline.stitch import StitchingSettings, finish_stretch
from pixit.pipeline.turns import TurnChange, TurnFollower


@dataclass(frozen=True)
class Update:
    """What has become final of a stream: a stretch of every track, and what is known of turns.

    Parameters
    ----------
    start_samples, end_samples
        The stretch, at the model's rate; each begins where the one before it ended, the first at 0.
    tracks
        Speaker -> samples (end - start,), float32, of every speaker who is known by now.
    turns
        What has opened and closed.
    speakers
        In the order in which they were first heard; who is new among them was silent before this stretch.
    gaps
        Stretches ``(start, end)`` in it that no window covers, as all that do were skipped; tracks are zero there.
    """

    start_samples: int
    end_samples: int
    tracks: dict[str, Floats]
    turns: tuple[TurnChange, ...] = ()
    speakers: tuple[str, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()


def join_updates(updates: Sequence[Update]) -> Update:
    """Return one update for several (at least one) that follow each other."""
    first, last = updates[0], updates[-1]
    if first is last:
        return first
    tracks = {
        name: np.concatenate(
            [
                one.tracks.get(name, np.zeros(one.end_samples - one.start_samples, np.float32))
                for one in updates
            ]
        )
        for name in last.speakers
    }
    gaps: list[tuple[int, int]] = []
    for start, end in (gap for one in updates for gap in one.gaps):
        if gaps and gaps[-1][1] == start:
            start = gaps.pop()[0]
        gaps.append((start, end))
    turns = tuple(turn for one in updates for turn in one.turns)
    return Update(first.start_samples, last.end_samples, tracks, turns, last.speakers, tuple(gaps))


class LiveStitcher:
    """Adds up the windows of a stream, of which window 0 ends a step after its start, and decides who talks.

    Parameters
    ----------
    geometry
        Of the windows; how long the recording will be nobody knows.
    latency_samples
        A sample is given out when all windows that end so long after it have been added.
    activity, stitching
        As for a recording.
    known
        Names of the first clusters.
    """

    def __init__(
        self,
        geometry: Geometry,
        latency_samples: int,
        activity: ActivitySettings,
        stitching: StitchingSettings,
        known: Sequence[str] = (),
    ) -> None:
        self.geometry, self.activity, self.stitching = geometry, activity, stitching
        window, step, grid = geometry.window_samples, geometry.step_samples, geometry.frame_grid
        # window 0 starts before the stream; the frames of the stream are counted from its first
        self._origin = step - window
        # of the first window: frames in the middle of which what it gives out is past
        past = math.ceil((window - latency_samples + step - grid.centre_samples(0)) / grid.step_samples)
        past = min(max(past, geometry.step_frames), geometry.num_frames)
        latency_frames = geometry.num_frames + geometry.step_frames - past
        self._samples = LiveOverlapAdd(window, step, latency_samples, 1, stitching.taper)
        self._frames = LiveOverlapAdd(geometry.num_frames, geometry.step_frames, latency_frames, 1)
        self.position = step - latency_samples
        """First sample that was not yet given out; negative at first."""
        self._frame = geometry.num_frames - latency_frames  # and first frame
        self._followers: list[TurnFollower] = []
        self._known = tuple(known)
        self._numbers: dict[int, int] = {}  # cluster -> number in the order of the first words
        self._margin = round(stitching.collar_s / geometry.frame_s) + 3
        self._gates = np.zeros((0, self._margin), np.float16)  # of the frames before

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who was heard, in the order of their first words."""
        return tuple(map(self._name, self._numbers))

    def _name(self, cluster: int) -> str:
        is_known = cluster < len(self._known)
        return self._known[cluster] if is_known else speaker_name(self._numbers[cluster])

    def add(self, heard: Heard, clusters: Ints, num_clusters: int, length: int | None) -> Update:
        """Add a window, whose local speakers belong to `clusters` (K,), -1 for none; return what is final by that.

        `length` is that of the stream, in samples, once it is known.
        """
        for _ in range(num_clusters - len(self._followers)):
            self._followers.append(TurnFollower(self.geometry.frame_s, self.activity))
            self._gates = np.pad(self._gates, ((0, 1), (0, 0)))
        if heard.activities is None:
            stretch, covered = self._samples.add(1 + 2 * num_clusters)
            activity, _ = self._frames.add(1 + num_clusters)
            return self._give(stretch, covered, activity, self._frames.ahead(), length)
        local = np.flatnonzero(clusters >= 0)
        activities = heard.activities[local]
        found, places = np.unique(clusters[local], return_inverse=True)
        rows, values = np.zeros(1, np.int64), heard.window.samples[None]
        if heard.sources is not None:  # where turns alone are asked for, nothing is kept of them
            own = by_speaker(heard.sources[local], places, len(found), np.add)
            rows = np.concatenate([rows, 1 + 2 * found, 2 + 2 * found])
            values = np.concatenate([values, own, np.ones_like(own)])
        stretch, covered = self._samples.add(1 + 2 * num_clusters, rows, values)
        talk = by_speaker(activities, places, len(found))
        rows, values = np.append(1 + found, 0), np.vstack([talk, talk.max(axis=0, initial=0)])
        activity, _ = self._frames.add(1 + num_clusters, rows, values)
        return self._give(stretch, covered, activity, self._frames.ahead(), length)

    def finish(self, length: int) -> Update:
        """Return the rest of a stream of so many samples."""
        grid, rest = self.geometry.frame_grid, max(0, length - self.position)
        stretch, covered = self._samples.rest(rest)
        inside = math.ceil((length - self._origin - grid.centre_samples(0)) / grid.step_samples)
        left = min(max(0, inside - self._frame), len(self._frames.weights))
        activity, _ = self._frames.rest(left)
        return self._give(stretch, covered, activity, activity[:, :0], length, is_end=True)

    def _give(
        self,
        stretch: Floats,
        covered: Bools,
        activity: Floats,
        ahead: Floats,
        length: int | None,
        is_end: bool = False,
    ) -> Update:
        """Decide about a stretch (1 + 2N, n) of the recording, sources and presence, and frames (1 + N, f).

        These are of the activity of anybody, and of everybody.
        """
        first, num_frames = self._frame, activity.shape[1]
        start, end = self.position, self.position + stretch.shape[1]
        self._frame, self.position = first + num_frames, end
        known = self._settle(np.concatenate([activity, ahead], axis=1))
        soon = open_gates(self._foresee(known, first, is_end), known, self.activity)
        gates = np.concatenate([self._gates, soon], axis=1)
        self._gates = gates[:, num_frames : num_frames + self._margin]
        turns = self._follow(known[:, :num_frames], first, length, is_end)
        # none of what is before the recording, or after it
        begin, end = (max(0, at if length is None else min(at, length)) for at in (start, end))
        inside = slice(begin - start, end - start)
        grid = self.geometry.frame_grid
        place = begin - self._origin - (first - self._margin) * grid.step_samples
        ordered = np.concatenate([stretch[:1], stretch[1::2], stretch[2::2]])[:, inside]
        tracks = finish_stretch(ordered, gates, place, self.geometry, self.stitching)
        gaps = find_runs(~covered[inside]) + begin
        return Update(
            begin,
            end,
            {self._name(cluster): tracks[cluster] for cluster in self._numbers},
            turns,
            self.speakers,
            tuple((int(low), int(high)) for low, high in gaps),
        )

    def _settle(self, activity: Floats) -> Floats:
        """Return the activity of each cluster (N, f), of that of anybody and everybody (1 + N, f).

        As in a recording, speech that the windows agree on but not who says it, goes to the one most of them name.
        """
        anybody, own = activity[0], activity[1:]
        if len(own):
            low = min(self.activity.offset, self.activity.onset)
            disputed = np.flatnonzero((anybody >= self.activity.onset) & (own < low).all(axis=0))
            own[own[:, disputed].argmax(axis=0), disputed] = anybody[disputed]
        return own

    def _foresee(self, known: Floats, first: int, is_end: bool) -> Bools:
        """Return where everybody talks, or may, (N, f); number those who are heard for the first time."""
        rows = [
            follower.foresee(row, first, is_end) for follower, row in zip(self._followers, known, strict=True)
        ]
        talking = np.array(rows, bool).reshape(known.shape)
        soon = talking[:, : known.shape[1] if is_end else self.geometry.step_frames + self._margin - 2]
        new = [
            (int(row.argmax()), cluster)
            for cluster, row in enumerate(soon)
            if cluster not in self._numbers and row.any()
        ]
        for _, cluster in sorted(new):
            self._numbers[cluster] = len(self._numbers)
        return talking

    def _follow(self, known: Floats, first: int, length: int | None, is_end: bool) -> tuple[TurnChange, ...]:
        changes = []
        for cluster, (follower, row) in enumerate(zip(self._followers, known, strict=True)):
            told = follower.follow(row, first) + (follower.finish() if is_end else [])
            for kind, start, end in told:
                speaker, start_s = self._name(cluster), self._edge_s(start, length)
                if kind == "opened":
                    changes.append((start, TurnChange(kind, speaker, start_s)))
                else:
                    changes.append((end, TurnChange(kind, speaker, start_s, self._edge_s(end, length))))
        return tuple(change for _, change in sorted(changes, key=lambda timed: timed[0]))

    def _edge_s(self, frame: int, length: int | None) -> float:
        """Return the time half-way between the middles of a frame and the one before it."""
        grid = self.geometry.frame_grid
        samples = self._origin + grid.centre_samples(frame - 0.5)
        return max(0.0, samples if length is None else min(samples, length)) / self.geometry.sample_rate_hz

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        followers = [follower.state() for follower in self._followers]
        return {
            "sample_sums": self._samples.sums,
            "sample_weights": self._samples.weights,
            "frame_sums": self._frames.sums,
            "frame_weights": self._frames.weights,
            "places": np.array([self.position, self._frame]),
            "followers": np.array(followers, np.int64).reshape(-1, 5),
            "clusters": np.array(list(self._numbers), np.int64),
            "gates": self._gates,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._samples.sums, self._samples.weights = state["sample_sums"], state["sample_weights"]
        self._frames.sums, self._frames.weights = state["frame_sums"], state["frame_weights"]
        self.position, self._frame = state["places"].tolist()
        for row in state["followers"]:
            self._followers.append(TurnFollower(self.geometry.frame_s, self.activity))
            self._followers[-1].restore(row)
        self._numbers = {cluster: number for number, cluster in enumerate(state["clusters"].tolist())}
        self._gates = state["gates"]
