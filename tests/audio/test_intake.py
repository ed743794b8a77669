"""Live sound becomes what a recording of it would: the same samples, in whatever blocks they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.audio import MemoryAudio
from pixit.audio.intake import Intake, Resampler

RATES_HZ = [(44100, 16000), (8000, 16000), (16000, 16000), (48000, 16000), (1500, 1000), (11025, 16000)]


@pytest.mark.parametrize(("source_hz", "target_hz"), RATES_HZ)
def test_resampling_is_that_of_a_recording_in_any_blocks_and_after_restarts(
    source_hz: int, target_hz: int
) -> None:
    rng = np.random.default_rng(source_hz)
    sound = (0.3 * rng.standard_normal(round(13.37 * source_hz))).astype(np.float32)
    recording = MemoryAudio(sound[None], source_hz, target_hz)
    expected = np.concatenate(list(recording.blocks()))
    results = []
    for most in (len(sound), source_hz, source_hz // 3):
        resampler, found, position = Resampler(source_hz, target_hz), [], 0
        while position < len(sound):
            size = int(rng.integers(0, most + 1))
            found.append(resampler.push(sound[position : position + size]))
            position += size
            if most < source_hz and rng.random() < 0.3:
                state, resampler = resampler.state(), Resampler(source_hz, target_hz)
                resampler.restore(state)
        results.append(np.concatenate([*found, resampler.finish()]))
    assert len(results[0]) == recording.num_samples
    np.testing.assert_allclose(results[0], expected, atol=2e-6)
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@given(st.integers(0, 3000), st.sampled_from(RATES_HZ), st.integers(1, 400))
def test_the_length_is_that_of_a_recording(length: int, rates: tuple[int, int], block: int) -> None:
    intake = Intake(*rates, None)
    sound = np.zeros(length, np.float32)
    found = [intake.push(sound[n : n + block]) for n in range(0, length, block)]
    total = sum(map(len, [*found, intake.finish()]))
    assert total == (MemoryAudio(sound[None], *rates).num_samples if length else 0)


def test_the_state_of_a_resampler_does_not_grow() -> None:
    resampler, sizes = Resampler(8000, 16000), []
    for _ in range(60):
        resampler.push(np.zeros(8000, np.float32))
        sizes.append(len(resampler.state()["raw"]))
    assert max(sizes[10:]) <= max(sizes[:10]) < 10 * 8000


def test_channels_are_averaged_or_taken() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    np.testing.assert_array_equal(Intake(8000, 8000, None).push(sound), sound.mean(axis=1))
    np.testing.assert_array_equal(Intake(8000, 8000, 2).push(sound), sound[:, 2])
    steps = np.array([[-32768, 0], [16384, 1]], np.int16)
    np.testing.assert_array_equal(Intake(8000, 8000, 0).push(steps), [-1, 0.5])


def test_the_mean_of_many_channels_does_not_depend_on_blocks_or_memory() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, (1000, 13)).astype(np.float32)
    expected = Intake(8000, 8000, None).push(sound)
    for order in (sound, np.asfortranarray(sound)):
        intake = Intake(8000, 8000, None)
        found = [intake.push(order[n : n + 1]) for n in range(1000)]
        np.testing.assert_array_equal(np.concatenate(found), expected)
        np.testing.assert_array_equal(Intake(8000, 8000, None).push(order), expected)
