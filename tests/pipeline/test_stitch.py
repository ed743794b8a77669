"""Sources to tracks, against slow and simple references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.pipeline.spool import Geometry, Spool
from pixit.pipeline.stitch import StitchingSettings, gate, share_residual, stitch_tracks
from pixit.types import FrameGrid
from pixit.windows import Window, cut_windows, num_windows

GRID = FrameGrid(step_samples=10, size_samples=10)


def make_geometry(num_samples: int, window: int = 200, step: int = 50) -> Geometry:
    count = num_windows(num_samples, window, step)
    return Geometry(1000, num_samples, count, window, step, GRID, window // 10)


# --- mixture consistency ------------------------------------------------------------------------------


def window_of(samples: np.ndarray, valid: int | None = None) -> Window:
    return Window(0, 0, samples.astype(np.float32), len(samples) if valid is None else valid)


def test_shares_sum_to_the_mixture_where_somebody_talks(rng: np.random.Generator) -> None:
    sources = rng.normal(size=(3, 200)).astype(np.float32)
    mixture = rng.normal(size=200).astype(np.float32)
    activities = np.zeros((3, 20), np.float32)
    activities[0, :12] = activities[1, 8:12] = 1
    found = share_residual(sources, activities, window_of(mixture), make_geometry(200), 0.5)
    np.testing.assert_allclose(found.sum(axis=0)[:115], mixture[:115], atol=1e-5)
    np.testing.assert_array_equal(found[:, 125:], sources[:, 125:])  # nobody talks: the residual is dropped
    np.testing.assert_array_equal(found[2], sources[2])  # who does not talk gets nothing
    np.testing.assert_allclose(found[0, :75], (mixture - sources[1] - sources[2])[:75], atol=1e-5)


def test_the_louder_gets_the_larger_share() -> None:
    sources = np.repeat([[2.0], [1.0]], 200, axis=1).astype(np.float32)
    found = share_residual(
        sources, np.ones((2, 20), np.float32), window_of(np.full(200, 8.0)), make_geometry(200), 0.5
    )
    np.testing.assert_allclose(found - sources, np.repeat([[4.0], [1.0]], 200, axis=1), rtol=1e-4)


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e4])
def test_silent_sources_share_alike(level: float) -> None:
    mixture = np.full(200, level)
    found = share_residual(
        np.zeros((2, 200), np.float32),
        np.ones((2, 20), np.float32),
        window_of(mixture),
        make_geometry(200),
        0.5,
    )
    np.testing.assert_allclose(found, np.full((2, 200), level / 2), rtol=1e-3)


@pytest.mark.parametrize("valid", [1, 7, 95, 200])
def test_who_talks_last_has_the_residual_to_the_end(valid: int) -> None:
    """The frames of the zeros that follow the recording are no pause of the speaker."""
    mixture = np.where(np.arange(200) < valid, 1.0, 0.0)
    activities = (np.arange(20)[None] * 10 + 5 < max(valid, 6)).astype(np.float32)
    geometry = make_geometry(valid)
    found = share_residual(
        np.zeros((1, 200), np.float32), activities, window_of(mixture, valid), geometry, 0.5
    )
    np.testing.assert_allclose(found[0, :valid], 1.0, rtol=1e-5)


# --- leakage removal ----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    talking=st.lists(st.booleans(), min_size=1, max_size=30),
    start=st.integers(0, 300),
    length=st.integers(1, 300),
    collar_frames=st.integers(0, 4),
)
def test_gate_is_open_in_turns_and_their_collar(
    talking: list[bool], start: int, length: int, collar_frames: int
) -> None:
    found = gate(np.array(talking), start, length, make_geometry(300), collar_frames * 0.01)
    padded = [talking[0]] * 40 + talking + [talking[-1]] * 60
    opened = [any(padded[i - collar_frames : i + collar_frames + 1]) for i in range(5, len(padded) - 5)]
    centres = (np.arange(len(opened)) + 5 - 40) * 10 + 5
    expected = np.interp(np.arange(start, start + length), centres, opened)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_stretches_do_not_depend_on_where_they_are_cut(rng: np.random.Generator) -> None:
    talking = rng.uniform(size=60) < 0.5
    geometry = make_geometry(600)
    whole = gate(talking, 0, 600, geometry, 0.02)
    parts = [gate(talking, start, 37, geometry, 0.02) for start in range(0, 600, 37)]
    np.testing.assert_array_equal(np.concatenate(parts)[:600], whole)


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
                np.ones((1, 73), bool),
                windows,
                StitchingSettings(),
                0.5,
                lambda *count: counts.append(count),
            )
        )
    assert [s.shape[1] for s in stretches] == [0, *[50] * 10, 30, 200]
    np.testing.assert_allclose(np.concatenate(stretches, axis=1)[0], mixture, atol=1e-5)
    assert counts == [(n + 1, len(windows)) for n in range(len(windows))]
