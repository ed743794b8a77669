"""Windows and frames against direct definitions: a list of starts, the signal itself, a boolean timeline."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.types import FrameGrid, PixitError
from pixit.windows import (
    OverlapAdd,
    cut_windows,
    frame_centres_samples,
    frames_from_intervals,
    intervals_from_frames,
    make_taper,
    num_windows,
    window_start,
)

RATE_HZ = 16000
TAPERS = ["hann", "hamming", "flat"]


def blocks_of(signal: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Cut a signal at the cumulated sizes (zeros included); what is left is the last block."""
    return np.split(signal, np.minimum(np.cumsum(sizes), len(signal)))


@st.composite
def geometries(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Samples, window, step and grid; the step is a multiple of the grid."""
    grid = draw(st.integers(1, 8))
    step = grid * draw(st.integers(1, 6))
    return draw(st.integers(0, 200)), draw(st.integers(step, step + 30)), step, grid


@given(geometries(), st.lists(st.integers(0, 60), max_size=12))
def test_windows_cover_the_signal_from_any_blocks(
    geometry: tuple[int, int, int, int], sizes: list[int]
) -> None:
    num_samples, window, step, grid = geometry
    signal = np.arange(1, num_samples + 1, dtype=np.float32)
    starts = [0] if num_samples else []
    while starts and starts[-1] + window < num_samples:
        starts.append(starts[-1] + step)
    while starts and starts[-1] >= grid and starts[-1] - grid + window >= num_samples:
        starts[-1] -= grid  # the last ends with the recording, or within a step of the grid after it
    padded = np.pad(signal, (0, window))
    windows = list(cut_windows(blocks_of(signal, sizes), window, step, grid))
    assert [w.start_samples for w in windows] == starts
    assert [window_start(i, num_samples, window, step, grid) for i in range(len(starts))] == starts
    assert [w.index for w in windows] == list(range(len(starts)))
    assert num_windows(num_samples, window, step) == len(starts)
    for w in windows:
        assert w.samples.dtype == np.float32
        np.testing.assert_array_equal(w.samples, padded[w.start_samples : w.start_samples + window])
        assert w.valid == min(window, num_samples - w.start_samples)
        assert w.valid > window - grid or num_samples < window


def test_windows_do_not_share_memory_with_their_blocks() -> None:
    block = np.ones(8, np.float32)
    windows = list(cut_windows([block], 4, 2))
    block[:] = 0
    windows[0].samples[:] = 5
    assert (windows[1].samples == 1).all()


def test_cutting_is_lazy() -> None:
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield np.zeros(10, np.float32)

    windows = cut_windows(endless(), 20, 10)
    for _ in range(100):
        next(windows)
    assert len(taken) == 101


@pytest.mark.parametrize("step", [0, -1, 5])
def test_steps_that_leave_samples_out_are_refused(step: int) -> None:
    with pytest.raises(PixitError, match="step"):
        num_windows(10, 4, step)
    with pytest.raises(PixitError, match="step"):
        next(cut_windows([np.zeros(10, np.float32)], 4, step))
    with pytest.raises(PixitError, match="step"):
        OverlapAdd(4, step, 1)


def test_a_step_off_the_grid_is_refused() -> None:
    with pytest.raises(PixitError, match="not a multiple of 4"):
        next(cut_windows([np.zeros(30, np.float32)], 20, 6, 4))


def test_windows_come_as_soon_as_they_are_full() -> None:
    """A stream that goes on for ever has no last window."""
    seen: list[int] = []

    def live() -> Iterator[np.ndarray]:
        for second in range(50):
            seen.append(second)
            yield np.full(10, second, np.float32)

    for window in cut_windows(live(), 30, 20):
        if window.index < 24:
            assert len(seen) == 3 + 2 * window.index


@given(geometries(), st.sampled_from(TAPERS), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_overlap_add_inverts_cut(
    geometry: tuple[int, int, int, int], taper: str, num_channels: int, seed: int
) -> None:
    num_samples, window, step, grid = geometry
    signal = np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)
    gains = np.arange(1, num_channels + 1, dtype=np.float32)[:, None]
    overlap_add = OverlapAdd(window, step, num_channels, taper)
    stretches = [
        overlap_add.add(w.start_samples, gains * w.samples) for w in cut_windows([signal], window, step, grid)
    ]
    assert all(s.shape[1] == step for s in stretches[1:-1])  # each is finished as soon as it can be
    stretches.append(overlap_add.finish(num_samples))
    joined = np.concatenate(stretches, axis=1)
    assert joined.shape == (num_channels, num_samples)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, gains * signal, rtol=1e-6, atol=0)


@given(geometries(), st.sampled_from(TAPERS))
def test_overlap_add_is_the_weighted_mean(geometry: tuple[int, int, int, int], taper: str) -> None:
    num_samples, window, step, grid = geometry
    rng = np.random.default_rng(num_samples)
    count = num_windows(num_samples, window, step)
    starts = [window_start(i, num_samples, window, step, grid) for i in range(count)]
    values = rng.standard_normal((len(starts), 2, window))
    weights = make_taper(taper, window)
    assert (weights > 0).all()
    numerator, denominator = np.zeros((2, num_samples + window)), np.zeros(num_samples + window)
    for start, value in zip(starts, values, strict=True):
        numerator[:, start : start + window] += weights * value
        denominator[start : start + window] += weights
    overlap_add = OverlapAdd(window, step, 2, taper)
    stretches = [overlap_add.add(start, value) for start, value in zip(starts, values, strict=True)]
    joined = np.concatenate([*stretches, overlap_add.finish(num_samples)], axis=1)
    expected = numerator[:, :num_samples] / denominator[:num_samples]
    np.testing.assert_allclose(joined, expected, rtol=1e-5, atol=1e-6)


def test_absent_channels_count_in_the_normalisation() -> None:
    overlap_add = OverlapAdd(4, 2, 2, "flat")
    overlap_add.add(0, [[1, 1, 1, 1], [1, 1, 1, 1]])
    first = overlap_add.add(2, [[1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(first, np.ones((2, 2)))
    np.testing.assert_array_equal(overlap_add.finish(6), [[1, 1, 1, 1], [0.5, 0.5, 0, 0]])


def test_irregular_starts_as_frames_have_them() -> None:
    overlap_add = OverlapAdd(10, 4, 1)
    parts = [overlap_add.add(start, np.full((1, 10), 0.3)) for start in (0, 3, 7, 10)]
    assert [p.shape[1] for p in parts] == [0, 3, 4, 3]
    joined = np.concatenate([*parts, overlap_add.finish(20)], axis=1)
    np.testing.assert_array_equal(joined, np.full((1, 20), np.float32(0.3)))


def test_overlap_add_refuses_what_leaves_holes() -> None:
    with pytest.raises(ValueError, match="follow"):
        OverlapAdd(4, 2, 1).add(1, np.zeros((1, 4)))
    overlap_add = OverlapAdd(4, 2, 1)
    overlap_add.add(0, np.zeros((1, 4)))
    with pytest.raises(ValueError, match="follow"):
        overlap_add.add(3, np.zeros((1, 4)))
    with pytest.raises(ValueError, match="shape"):
        overlap_add.add(2, np.zeros((1, 5)))
    with pytest.raises(ValueError, match="end"):
        overlap_add.finish(5)
    with pytest.raises(ValueError, match="positive"):
        OverlapAdd(4, 2, 1, [0, 1, 1, 0])
    with pytest.raises(PixitError, match="hann"):
        OverlapAdd(4, 2, 1, "han")


def test_own_taper() -> None:
    overlap_add = OverlapAdd(2, 1, 1, [1, 3])
    overlap_add.add(0, [[4, 4]])
    overlap_add.add(1, [[8, 8]])
    np.testing.assert_array_equal(overlap_add.finish(3), [[(3 * 4 + 1 * 8) / 4, 8]])


grids = st.builds(FrameGrid, st.integers(1, 20), st.integers(1, 30), st.integers(-15, 15))


@given(grids, st.integers(0, 50))
def test_centres_and_frames(grid: FrameGrid, num_frames: int) -> None:
    centres = frame_centres_samples(grid, num_frames)
    assert list(centres) == [grid.centre_samples(i) for i in range(num_frames)]


bounds = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda pair: tuple(sorted(pair)))


@given(grids, st.integers(0, 50), st.lists(bounds, max_size=6))
def test_frames_from_intervals_equal_a_boolean_timeline(
    grid: FrameGrid, num_frames: int, intervals: list[tuple[int, int]]
) -> None:
    before = 20  # centres may lie before 0
    timeline = np.zeros(2 * (1500 + before), bool)  # half samples: a centre may lie between two samples
    for start, end in intervals:
        timeline[2 * (start + before) : 2 * (end + before)] = True
    expected = [timeline[round(2 * (grid.centre_samples(i) + before))] for i in range(num_frames)]
    seconds = [(start / RATE_HZ, end / RATE_HZ) for start, end in intervals]
    active = frames_from_intervals(seconds, grid, num_frames, RATE_HZ)
    assert active.dtype == bool
    assert active.tolist() == expected


@given(st.lists(st.booleans(), max_size=60), grids)
def test_intervals_from_frames_equal_a_boolean_timeline(frames: list[bool], grid: FrameGrid) -> None:
    centre, num_samples = grid.centre_samples(0), 500
    intervals = intervals_from_frames(np.array(frames, bool), grid.step_samples, centre, RATE_HZ, num_samples)
    # a sample belongs to the frame whose centre is nearest
    half_samples = np.arange(0, num_samples, 0.5) + 0.25
    nearest = np.floor((half_samples - centre) / grid.step_samples + 0.5).astype(int)
    inside = (nearest >= 0) & (nearest < len(frames))
    expected = np.array([*frames, False])[np.where(inside, nearest, -1)]
    timeline = np.zeros(len(half_samples), bool)
    for start_s, end_s in intervals:
        assert start_s < end_s
        timeline |= (half_samples >= start_s * RATE_HZ - 1e-6) & (half_samples < end_s * RATE_HZ - 1e-6)
    np.testing.assert_array_equal(timeline, expected)
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(intervals))


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 20), st.integers(1, 30))
def test_frames_to_intervals_and_back(frames: list[bool], step: int, size: int) -> None:
    grid = FrameGrid(step, size)
    intervals = intervals_from_frames(np.array(frames, bool), step, grid.centre_samples(0), RATE_HZ)
    assert frames_from_intervals(intervals, grid, len(frames), RATE_HZ).tolist() == frames
