"""Local speakers taken apart at pauses: what an output of the model says before and after may be other people.

The model is trained to give one voice one output within a window, but nothing in the sound tells it what it has to do
where voices do not overlap. So each stretch of speech between two pauses is embedded and clustered for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from pixit.config import Settings
from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, Ints, find_runs, find_speech
from pixit.pipeline.spool import Geometry, Spool, gate_of, inside_turns

TURNS_A_SECOND = 0.6
"""Of a local speaker there are at most so many in a window, or two: each has a place in the tables."""


class LocalTurnSettings(Settings):
    """Where a local speaker is taken apart."""

    pause_s: float | None = Field(
        0.25,
        gt=0,
        le=3600,
        description="pauses of a local speaker in a window from which what comes before and after may be said by two "
        "people; null, and with other clustering than average and oracle: it is one in the whole window, as in "
        "pyannote.audio",
    )
    min_turn_s: float = Field(
        0.3,
        ge=0,
        le=3600,
        description="shorter turns in a window stay with the nearest one of that local speaker",
    )


@dataclass(frozen=True)
class Cut:
    """Finds the turns of local speakers, at most `most` for each.

    Parameters
    ----------
    activity
        Says which frames are speech.
    pause, shortest
        Frames of a pause that separates turns, and of the shortest turn.
    """

    activity: ActivitySettings
    pause: int
    shortest: int
    most: int

    def __call__(self, activities: Floats) -> Ints:
        """Return where the turns of local speakers start and end, (K, R, 2), for their activities (K, F).

        The turns of a local speaker share all frames: a pause is halved. Those that there are not have no frame.
        """
        num_frames = activities.shape[1]
        bounds = np.zeros((len(activities), self.most, 2), np.int64)
        for own, speech in zip(bounds, find_speech(activities, self.activity), strict=True):
            turns = join_turns(find_runs(speech), self.pause, self.shortest, self.most)
            middles = (turns[:-1, 1] + turns[1:, 0]) // 2 if len(turns) else np.zeros(0, np.int64)
            edges = np.concatenate([[0], middles, [num_frames]])
            own[: len(edges) - 1] = np.stack([edges[:-1], edges[1:]], axis=1)
        return bounds


def join_turns(turns: Ints, pause: int, shortest: int, most: int) -> Ints:
    """Join turns (R, 2) over pauses that are too short, or with one that is, until at most so many are left."""
    turns = turns.copy()
    while len(turns) > 1:
        gaps = turns[1:, 0] - turns[:-1, 1]
        is_short = turns[:, 1] - turns[:, 0] < shortest
        may = (gaps < pause) | is_short[1:] | is_short[:-1] | (len(turns) > most)
        if not may.any():
            break
        place = int(np.where(may, gaps, gaps.max() + 1).argmin())
        turns[place, 1] = turns[place + 1, 1]
        turns = np.delete(turns, place + 1, axis=0)
    return turns


def make_cut(settings: LocalTurnSettings, activity: ActivitySettings, geometry: Geometry) -> Cut | None:
    """Return what cuts the windows of a recording; None if they stay whole."""
    if settings.pause_s is None:
        return None
    frame_s = geometry.frame_s
    most = max(2, round(TURNS_A_SECOND * geometry.num_frames * frame_s))
    return Cut(
        activity, max(1, round(settings.pause_s / frame_s)), round(settings.min_turn_s / frame_s), most
    )


def make_spool(
    activity: ActivitySettings,
    settings: LocalTurnSettings,
    geometry: Geometry,
    num_outputs: int,
    folder: Path | None = None,
) -> Spool:
    """Return what keeps the outputs of a model; its local speakers are turns of these, if the settings want it."""
    cut = make_cut(settings, activity, geometry)
    return Spool(geometry, num_outputs, folder, activity.decision == "count", cut)


def split_window(
    cut: Cut, geometry: Geometry, activities: Floats, sources: Floats, active: Bools
) -> tuple[Floats, Floats, Bools]:
    """Return the local speakers of a window, the turns of its outputs, as a `Spool` gives them.

    Takes, and returns, activities (L, F) and (K, F), sources (L, T) and (K, T), and who is active (L,) and (K,).
    """
    bounds = cut(activities)
    inside = inside_turns(bounds, activities.shape[1])
    split_activities = (activities[:, None] * inside).reshape(-1, activities.shape[1])
    is_active = (active[:, None] & (bounds[..., 1] > bounds[..., 0])).ravel()
    split_sources = np.zeros((len(is_active), sources.shape[1]), np.float32)
    for row in np.flatnonzero(is_active):
        output, turn = divmod(int(row), cut.most)
        split_sources[row] = sources[output] * gate_of(inside[output, turn], geometry)
    return split_activities, split_sources, is_active


def find_all_apart(local: Spool, settings: ActivitySettings) -> Bools:
    """Return which local speakers of each window are different people, (W, K, K), as `find_apart` finds it."""
    return np.stack([find_apart(local.activities(window), local.num_turns, settings) for window in local])


def find_apart(activities: Floats, num_turns: int, settings: ActivitySettings) -> Bools:
    """Return which turns are of different people, (n, n), for the activities of all turns of a window, (n, F).

    `num_turns` follow on each other for each local speaker. Turns of two local speakers are of different people if
    they overlap for half of the shorter one; without turns (1 for each) all local speakers are different people.
    """
    owners = np.arange(len(activities)) // num_turns
    apart: Bools = owners[:, None] != owners
    if num_turns == 1:
        return apart
    speech = find_speech(activities, settings).astype(np.float32)
    shared, lengths = speech @ speech.T, speech.sum(axis=1)
    return apart & (shared > 0.5 * np.minimum(lengths[:, None], lengths))
