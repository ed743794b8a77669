"""Turns that are followed frame by frame are those that the whole recording would have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.pipeline.diarize import ActivitySettings, decide, find_runs
from pixit.pipeline.turns import TurnFollower

LEVELS = st.lists(st.sampled_from([0.0, 0.3, 0.45, 0.6, 1.0]), max_size=60)
FRAME_S = 0.02


def follow(
    activity: np.ndarray, cuts: list[int], settings: ActivitySettings
) -> tuple[list[tuple[str, int, int]], list[int]]:
    """Return what is told, and up to which frame was known when it was."""
    follower = TurnFollower(FRAME_S, settings)
    told, when = [], []
    bounds = sorted({0, len(activity), *(cut % (len(activity) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(bounds):
        copy = TurnFollower(FRAME_S, settings)
        copy.restore(follower.state())  # in the middle
        follower = copy
        told += follower.follow(activity[start:end], start)
        when += [end] * (len(told) - len(when))
    told += follower.finish()
    when += [len(activity)] * (len(told) - len(when))
    return told, when


@given(LEVELS, st.lists(st.integers(0, 60)), st.sampled_from([0, 0.04, 0.1]), st.sampled_from([0, 0.04, 0.1]))
def test_closed_turns_are_those_of_the_whole(
    levels: list[float], cuts: list[int], on_s: float, off_s: float
) -> None:
    settings = ActivitySettings(min_duration_on_s=on_s, min_duration_off_s=off_s)
    activity = np.array(levels, np.float32)
    told, _ = follow(activity, cuts, settings)
    closed = [[start, end] for kind, start, end in told if kind == "closed"]
    assert closed == find_runs(decide(activity, FRAME_S, settings)).tolist()
    opened = [start for kind, start, _ in told if kind == "opened"]
    assert opened == [start for start, _ in closed]


@given(LEVELS, st.lists(st.integers(0, 60)))
def test_what_was_foreseen_covers_the_turns(levels: list[float], cuts: list[int]) -> None:
    settings = ActivitySettings(min_duration_on_s=0.04, min_duration_off_s=0.06)
    activity = np.array(levels, np.float32)
    follower, seen = TurnFollower(FRAME_S, settings), np.zeros(len(activity), bool)
    bounds = sorted({0, len(activity), *(cut % (len(activity) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(bounds):
        ahead = activity[start : end + 5]
        seen[start:end] = follower.foresee(ahead, start, is_end=end + 5 >= len(activity))[: end - start]
        follower.follow(activity[start:end], start)
    assert seen[decide(activity, FRAME_S, settings)].all()


def test_a_turn_is_told_when_it_is_long_enough_and_when_its_pause_is() -> None:
    settings = ActivitySettings(min_duration_on_s=0.1, min_duration_off_s=0.2)
    activity = np.concatenate([np.zeros(10), np.ones(50), np.zeros(40)]).astype(np.float32)
    told, when = follow(activity, list(range(100)), settings)
    assert told == [("opened", 10, 15), ("closed", 10, 60)]
    assert when == [15, 70]


@pytest.mark.parametrize("ahead", [0, 20])
def test_a_sigh_is_let_through_only_while_it_may_become_speech(ahead: int) -> None:
    settings = ActivitySettings()
    sigh = np.r_[np.full(10, 0.45), np.zeros(20)].astype(np.float32)
    seen = TurnFollower(FRAME_S, settings).foresee(sigh[: 10 + ahead], 0, is_end=False)[:10]
    assert seen.all() if ahead == 0 else not seen.any()
