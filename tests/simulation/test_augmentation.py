"""Changes of a voice and of its recording: what moves, what stays, and by how much."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from pixit.audio import Samples
from pixit.simulation.augmentation import change_formants, change_speed, draw_channel, draw_equaliser

RATE_HZ = 16000


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_scales_time_and_pitch(factor: float) -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    changed = change_speed(tone, factor)
    assert abs(len(changed) - RATE_HZ / factor) <= 1
    peak_hz = np.abs(np.fft.rfft(changed)).argmax() * RATE_HZ / len(changed)
    assert peak_hz == pytest.approx(440 * factor, abs=1.5)
    assert changed.dtype == np.float32


def test_unit_speed_changes_nothing() -> None:
    signal = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(change_speed(signal, 1.0), signal)


def vowel(pitch_hz: float, formant_hz: float) -> Samples:
    """Return a second of a buzz through one resonance."""
    pulses = np.zeros(RATE_HZ)
    pulses[(np.arange(0, 1, 1 / pitch_hz) * RATE_HZ).astype(int)] = 1
    radius = np.exp(-np.pi * 100 / RATE_HZ)
    poles = [1, -2 * radius * np.cos(2 * np.pi * formant_hz / RATE_HZ), radius**2]
    return scipy.signal.lfilter([1], poles, pulses).astype(np.float32)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_formants_move_and_pitch_stays(factor: float) -> None:
    changed = change_formants(vowel(125, 1600), factor, RATE_HZ)
    assert changed.shape == (RATE_HZ,)
    frequencies, power = scipy.signal.welch(changed, RATE_HZ, nperseg=128)  # too coarse for the harmonics
    assert frequencies[power.argmax()] == pytest.approx(1600 * factor, abs=130)
    likeness = np.correlate(changed, changed[:-4000], "valid")[:200]
    assert likeness[100:].argmax() + 100 == pytest.approx(RATE_HZ / 125, abs=1)


@pytest.mark.parametrize("num_samples", [1, 511, 40000])
def test_formants_that_hardly_move_leave_the_signal(num_samples: int) -> None:
    signal = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    np.testing.assert_allclose(change_formants(signal, 1 + 1e-9, RATE_HZ), signal, atol=1e-5)
    np.testing.assert_array_equal(change_formants(signal, 1.0, RATE_HZ), signal)
    assert not change_formants(np.zeros_like(signal), 1.1, RATE_HZ).any()


def test_channels_are_linear_and_aligned() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 4000)).astype(np.float32)
    for _ in range(10):
        channel = draw_channel(RATE_HZ, rng)
        np.testing.assert_allclose(channel(one) + channel(two), channel(one + two), atol=1e-4)
        lag = np.correlate(channel(one), one, mode="full").argmax() - (len(one) - 1)
        assert lag == 0


def test_channels_fit_any_sample_rate() -> None:
    rng = np.random.default_rng(0)
    for rate_hz in (8000, 48000):
        for _ in range(10):
            assert np.isfinite(draw_channel(rate_hz, rng).response).all()


def test_equalisers_stay_within_six_decibels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        gains_db = 20 * np.log10(np.abs(np.fft.rfft(draw_equaliser(RATE_HZ, rng).response, 1024)))
        assert -7 < gains_db.min() < gains_db.max() < 7
