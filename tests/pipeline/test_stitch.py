"""Sources to tracks, against slow and simple references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.pipeline.spool import Geometry, Spool
from pixit.pipeline.stitch import StitchingSettings, finish_stretch, open_tracks, stitch_tracks
from pixit.types import FrameGrid
from pixit.windows import cut_windows, num_windows

GRID = FrameGrid(step_samples=10, size_samples=10)


def make_geometry(num_samples: int, window: int = 200, step: int = 50) -> Geometry:
    count = num_windows(num_samples, window, step)
    return Geometry(1000, num_samples, count, window, step, GRID, window // 10)


# --- mixture consistency ------------------------------------------------------------------------------


def stretch_of(mixture: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return what overlap-add gives where every speaker was found in every window."""
    return np.concatenate([mixture[None], sources, np.ones_like(sources)]).astype(np.float32)


def test_tracks_of_those_who_talk_sum_to_the_recording(rng: np.random.Generator) -> None:
    sources, mixture = rng.normal(size=(3, 200)), rng.normal(size=200)
    gates = np.zeros((3, 20), np.float16)
    gates[0, :12] = gates[1, 8:12] = 1
    found = finish_stretch(
        stretch_of(mixture, sources), gates, 0, make_geometry(200), StitchingSettings(collar_s=0)
    )
    np.testing.assert_allclose(found[:2, 85:115].sum(axis=0), mixture[85:115], atol=1e-5)
    residual = (mixture - sources[:2].sum(axis=0))[85:115]
    np.testing.assert_allclose(found[:2, 85:115], sources[:2, 85:115] + residual / 2, atol=1e-5)
    np.testing.assert_allclose(found[:, 125:], sources[:, 125:] / 10, atol=1e-5)  # the residual is dropped
    np.testing.assert_allclose(found[2], sources[2] / 10, atol=1e-5)  # who does not talk gets nothing of it


@settings(max_examples=50, deadline=None)
@given(leakage_removal_db=st.sampled_from([0.0, 20.0]), seed=st.integers(0, 99))
def test_who_talks_alone_has_the_recording(leakage_removal_db: float, seed: int) -> None:
    """Whatever was separated there, for the one who talks or for others: no track is worse than the recording."""
    rng = np.random.default_rng(seed)
    sources, mixture = rng.normal(size=(3, 200)), rng.normal(size=200)
    sources[rng.integers(3)] = 0
    gates = np.zeros((3, 20), np.float16)
    gates[1] = 1
    settings = StitchingSettings(leakage_removal_db=leakage_removal_db)
    found = finish_stretch(stretch_of(mixture, sources), gates, 0, make_geometry(200), settings)
    np.testing.assert_allclose(found[1], mixture, atol=1e-5)


def test_who_may_talk_is_turned_down_less(rng: np.random.Generator) -> None:
    sources = rng.normal(size=(2, 200))
    gates = np.repeat(np.array([[0.0], [0.5]], np.float16), 20, axis=1)
    settings = StitchingSettings(keep_room=False)
    found = finish_stretch(stretch_of(sources.sum(axis=0), sources), gates, 0, make_geometry(200), settings)
    np.testing.assert_allclose(found, sources * [[0.1], [0.55]], atol=1e-5)


# --- leakage removal ----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    talking=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=30),
    start=st.integers(0, 300),
    length=st.integers(1, 300),
    collar_frames=st.integers(0, 4),
)
def test_tracks_are_open_in_turns_and_their_collar(
    talking: list[float], start: int, length: int, collar_frames: int
) -> None:
    gates = np.array([talking, talking[::-1]], np.float16)
    found = open_tracks(gates, start, length, make_geometry(300), collar_frames * 0.01)
    for row, own in zip(found, gates.tolist(), strict=True):
        padded = [own[0]] * 40 + own + [own[-1]] * 60
        opened = [max(padded[i - collar_frames : i + collar_frames + 1]) for i in range(5, len(padded) - 5)]
        centres = (np.arange(len(opened)) + 5 - 40) * 10 + 5
        expected = np.interp(np.arange(start, start + length), centres, opened)
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_stretches_do_not_depend_on_where_they_are_cut(rng: np.random.Generator) -> None:
    gates = (rng.uniform(size=(1, 60)) < 0.5).astype(np.float16)
    geometry = make_geometry(600)
    whole = open_tracks(gates, 0, 600, geometry, 0.02)
    parts = [open_tracks(gates, start, 37, geometry, 0.02) for start in range(0, 600, 37)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1)[:, :600], whole)


# --- tracks -------------------------------------------------------------------------------------------


def test_tracks_come_in_finished_stretches(tmp_path: Path, rng: np.random.Generator) -> None:
    mixture = rng.normal(size=730).astype(np.float32)
    geometry = make_geometry(730)
    windows = list(cut_windows([mixture], 200, 50, 10))
    counts: list[Any] = []
    with Spool(geometry, 1, tmp_path) as spool:
        for window in windows:
            spool.append(np.ones((1, 1, 20), np.float32), window.samples[None, None], np.ones((1, 1), bool))
        speakers = np.zeros((len(windows), 1), int)
        stretches = list(
            stitch_tracks(
                spool,
                speakers,
                np.ones((1, 73), np.float16),
                windows,
                StitchingSettings(),
                lambda *count: counts.append(count),
            )
        )
    assert [s.shape[1] for s in stretches] == [0, *[50] * 10, 30, 200]
    np.testing.assert_allclose(np.concatenate(stretches, axis=1)[0], mixture, atol=1e-5)
    assert counts == [(n + 1, len(windows)) for n in range(len(windows))]
