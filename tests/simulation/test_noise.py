"""Speed, noise and channels against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from pixit.simulation.noise import NoiseBank, change_speed, coloured_noise, draw_channel
from pixit.types import PixitError

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


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_tilt(tilt: float) -> None:
    noise = coloured_noise(1 << 16, tilt, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequencies = np.fft.rfftfreq(len(noise))
    low, high = (power[(frequencies > f) & (frequencies < 1.2 * f)].mean() for f in (0.01, 0.4))
    assert 10 * np.log10(low / high) == pytest.approx(tilt * 10 * np.log10(40), abs=1.0)


def test_noises_have_unit_level_and_wrap_around() -> None:
    recorded = np.array([0.1, -0.1, 0.1, -0.1, 0.1], dtype=np.float32)
    bank = NoiseBank([recorded, np.zeros(9, dtype=np.float32)], num_generated=0)
    long, short = bank.draw([12, 3], np.random.default_rng(0))
    assert len(long) == 12
    assert len(short) == 3
    np.testing.assert_allclose(np.abs(long), 1, rtol=1e-5)
    np.testing.assert_array_equal(long[5:], long[:-5])
    with pytest.raises(PixitError, match="no noise"):
        NoiseBank([np.zeros(9, dtype=np.float32)], num_generated=0)


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
