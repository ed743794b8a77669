"""Live windows and overlap-add against their definitions, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.pipeline.live_windows import LiveOverlapAdd, LiveWindows
from pixit.types import PixitError
from pixit.windows import make_taper


@given(st.integers(0, 60), st.integers(1, 7), st.integers(0, 20), st.lists(st.integers(0, 9)))
def test_windows_are_stretches_of_the_stream(length: int, step: int, more: int, sizes: list[int]) -> None:
    window, sound = step + more, np.arange(1, length + 1, dtype=np.float32)
    live, found, known = LiveWindows(window, step), [], 0
    for block in np.split(sound, np.minimum(np.cumsum(sizes), length)):
        found += live.push(block)
        known += len(block)
        assert len(found) == known // step  # as soon as they are full
        other = LiveWindows(window, step)
        other.restore(live.state())
        live = other
    found += live.end()
    assert live.length == length
    assert len(found) == -(-length // step)
    padded = np.concatenate([np.zeros(window), sound, np.zeros(step)])
    for number, one in enumerate(found):
        end = (number + 1) * step
        assert (one.index, one.start_samples) == (number, end - window)
        np.testing.assert_array_equal(one.samples, padded[end : end + window])
        assert one.valid == window - max(0, end - length)


def test_a_step_that_leaves_samples_out_is_refused() -> None:
    with pytest.raises(PixitError, match="does not fit a window"):
        LiveWindows(4, 5)


@given(
    st.integers(1, 6), st.integers(0, 12), st.integers(0, 12), st.integers(1, 20), st.integers(0, 2**32 - 1)
)
def test_live_overlap_add_is_the_mean_of_the_windows_within_the_latency(
    step: int, more: int, longer: int, count: int, seed: int
) -> None:
    """Against the definition: sample by sample, over the windows that end within the latency after it."""
    latency = step + more
    window = latency + longer
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 2, window)).astype(np.float32)
    skipped = rng.random(count) < 0.3
    live = LiveOverlapAdd(window, step, latency, taper="hamming")
    stretches = []
    for number in range(count):
        # channel 1 comes later, and only in every other window
        rows = [0] if number < 3 or number % 2 else [0, 1]
        added = None if skipped[number] else values[number, rows]
        stretches.append(live.add(1 if number < 3 else 2, rows, added))
    stretches.append(live.rest(latency - step))
    taper = make_taper("hamming", window)
    found = np.concatenate([np.pad(s, ((0, 2 - len(s)), (0, 0))) for s, _ in stretches], axis=1)
    covered = np.concatenate([c for _, c in stretches])
    for place, sample in enumerate(range(step - latency, count * step)):
        total, weight = np.zeros(2), 0.0
        for number in np.flatnonzero(~skipped):
            end = (number + 1) * step
            at = sample - (end - window)
            if sample < end <= sample + latency:
                present = np.array([1, number >= 3 and number % 2 == 0])
                total += present * values[number, :, at] * taper[at]
                weight += taper[at]
        assert covered[place] == (weight > 0)
        np.testing.assert_allclose(found[:, place], total / (weight or 1), atol=1e-5)


def test_live_overlap_add_of_the_latency_of_a_window_gives_back_what_was_cut() -> None:
    sound = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    padded = np.pad(sound, (40, 0))
    live = LiveOverlapAdd(50, 10, 50, 1)
    found = [live.add(1, [0], padded[None, n * 10 : n * 10 + 50])[0] for n in range(100)]
    found.append(live.rest(40)[0])
    np.testing.assert_allclose(np.concatenate(found, axis=1)[0], padded, atol=1e-6)


def test_live_overlap_add_looks_ahead() -> None:
    live = LiveOverlapAdd(4, 1, 3, 1, "flat")
    live.add(1, [0], np.array([[1.0, 2.0, 3.0, 4.0]], np.float32))
    np.testing.assert_array_equal(live.ahead(), [[3, 4]])
    stretch, _ = live.add(1, [0], np.array([[2.0, 3.0, 4.0, 6.0]], np.float32))
    np.testing.assert_array_equal(stretch, [[3]])
    np.testing.assert_array_equal(live.ahead(), [[4, 6]])


@pytest.mark.parametrize(("step", "latency"), [(2, 1), (2, 9)])
def test_live_overlap_add_refuses_latencies_that_do_not_fit(step: int, latency: int) -> None:
    with pytest.raises(ValueError, match="between the step and the window"):
        LiveOverlapAdd(8, step, latency)
    with pytest.raises(ValueError, match="shorter than the latency"):
        LiveOverlapAdd(8, 2, 4).add(1, [0], np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="no 5 samples wait"):
        LiveOverlapAdd(8, 2, 4).rest(5)
