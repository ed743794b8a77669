"""Activities to turns, against slow and simple references."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixit.pipeline.activity import ActivitySettings
from pixit.pipeline.diarize import by_speaker, diarize, mean_activities
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import FrameGrid
from pixit.windows import num_windows

GRID = FrameGrid(step_samples=10, size_samples=10)


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
