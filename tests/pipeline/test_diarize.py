"""Activities to speech and turns, against slow and simple references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.pipeline.diarize import (
    ActivitySettings,
    by_speaker,
    decide,
    diarize,
    find_solo,
    find_speech,
    mean_activities,
)
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import FrameGrid
from pixit.windows import num_windows

GRID = FrameGrid(step_samples=10, size_samples=10)


def decide_slowly(activity: list[float], frame_s: float, s: ActivitySettings) -> list[bool]:
    """One frame at a time: spread from every frame at the onset to its neighbours at the offset."""
    talking = [a >= s.onset for a in activity]
    for _ in activity:
        for i in range(len(activity)):
            beside = [talking[j] for j in (i - 1, i + 1) if 0 <= j < len(activity)]
            if activity[i] >= s.offset and any(beside):
                talking[i] = True
    for value, least_s in ((False, s.min_duration_off_s), (True, s.min_duration_on_s)):
        i = 0
        while i < len(talking):
            j = i
            while j < len(talking) and talking[j] == talking[i]:
                j += 1
            inner = i > 0 and j < len(talking)
            if talking[i] == value and (j - i) * frame_s < least_s and (value or inner):
                talking[i:j] = [not value] * (j - i)
            i = j
    return talking


@settings(max_examples=300, deadline=None)
@given(
    activity=st.lists(st.sampled_from([0.0, 0.2, 0.45, 0.5, 0.8, 1.0]), max_size=40),
    onset=st.sampled_from([0.3, 0.5, 0.7]),
    offset=st.sampled_from([0.2, 0.3, 0.45]),
    on=st.sampled_from([0.0, 0.02, 0.03, 0.1]),
    off=st.sampled_from([0.0, 0.02, 0.03, 0.1]),
)
def test_decide_equals_the_slow_reference(
    activity: list[float], onset: float, offset: float, on: float, off: float
) -> None:
    s = ActivitySettings(onset=onset, offset=min(offset, onset), min_duration_on_s=on, min_duration_off_s=off)
    found = decide(np.array(activity, np.float32), 0.01, s)
    # the reference in single precision, as thresholds met exactly must be met in both
    expected = decide_slowly([float(np.float32(a)) + 1e-7 for a in activity], 0.01, s)
    assert found.tolist() == expected


@given(
    rows=st.lists(
        st.lists(st.sampled_from([0.0, 0.35, 0.45, 0.55, 1.0]), min_size=9, max_size=9), max_size=4
    ),
    onset=st.sampled_from([0.3, 0.4, 0.5, 0.6]),
)
def test_each_row_of_speech_is_decided_for_itself(rows: list[list[float]], onset: float) -> None:
    s = ActivitySettings(onset=onset, offset=0.4, min_duration_on_s=0, min_duration_off_s=0)
    found = find_speech(np.array(rows, np.float32).reshape(-1, 9), s)
    expected = [decide_slowly(row, 0.01, s.model_copy(update={"offset": min(0.4, onset)})) for row in rows]
    assert found.tolist() == expected


def test_solo_is_speech_of_one() -> None:
    found = find_solo(np.array([[True, True, False], [False, True, False]]))
    assert found.tolist() == [[True, False, False], [False, False, False]]


def make_geometry(num_samples: int, window: int = 200, step: int = 50) -> Geometry:
    count = num_windows(num_samples, window, step)
    return Geometry(1000, num_samples, count, window, step, GRID, window // 10)


def test_mean_activity_is_the_tapered_mean_of_the_windows(tmp_path: Path) -> None:
    geometry = make_geometry(400)
    rng = np.random.default_rng(0)
    activities = np.round(255 * rng.uniform(size=(geometry.num_windows, 2, 20))).astype(np.float32) / 255
    speakers = np.array([[0, 1], [1, 0], [0, -1], [1, 0], [0, 1]])
    assert len(speakers) == geometry.num_windows
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(20) + 0.5) / 20)
    total, weight = np.zeros((2, 40)), np.zeros(40)
    for window, row in enumerate(speakers):
        weight[window * 5 : window * 5 + 20] += taper
        for local, speaker in enumerate(row):
            if speaker >= 0:
                total[speaker, window * 5 : window * 5 + 20] += taper * activities[window, local]
    with Spool(geometry, 2, tmp_path) as spool:
        spool.append(activities, np.ones((5, 2, 200), np.float32), np.ones((5, 2), bool))
        found, _ = mean_activities(spool, speakers)
    np.testing.assert_allclose(found, total / weight, atol=1e-3)


def test_those_who_never_talk_lose_their_number(tmp_path: Path) -> None:
    """Three are found; the first is never sure to talk, the last talks before the second."""
    geometry = make_geometry(200)
    activities = np.zeros((1, 3, 20), np.float32)
    activities[0, 0] = 0.3
    activities[0, 1, 10:] = activities[0, 2, :14] = 1
    with Spool(geometry, 3, tmp_path) as spool:
        spool.append(activities, np.ones((1, 3, 200), np.float32), np.ones((1, 3), bool))
        turns, talking, speakers = diarize(spool, np.array([[0, 1, 2]]), ActivitySettings())
    assert turns == [[(0.0, 0.14)], [(0.1, 0.2)]]
    assert talking.shape == (2, 20)
    assert speakers.tolist() == [[-1, 1, 0]]


def test_disputed_speech_goes_to_the_likeliest(tmp_path: Path) -> None:
    """One voice, taken for another person in every window: nobody reaches the onset, yet somebody talks."""
    geometry = make_geometry(800)
    count = geometry.num_windows
    activities = np.zeros((count, 1, 20), np.float32)
    for window in range(count):
        start = 5 * window
        activities[window, 0] = (np.arange(start, start + 20) >= 10) & (np.arange(start, start + 20) < 70)
    plain = ActivitySettings(min_duration_on_s=0, min_duration_off_s=0)
    with Spool(geometry, 1, tmp_path) as spool:
        spool.append(activities, np.ones((count, 1, 200), np.float32), np.ones((count, 1), bool))
        _, talking, _ = diarize(spool, np.arange(count)[:, None], plain)
        _, agreed, _ = diarize(spool, np.zeros((count, 1), int), plain)
    expected = (np.arange(80) >= 10) & (np.arange(80) < 70)
    np.testing.assert_array_equal(agreed[0], expected)
    np.testing.assert_array_equal(talking.any(axis=0), expected)
    assert len(talking) > 2


def test_by_speaker_leaves_the_nameless_out() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = by_speaker(rows, np.array([2, -1, 0]), 4)
    assert found.tolist() == [[4, 5], [0, 0], [0, 1], [0, 0]]
