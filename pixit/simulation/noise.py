"""Noise, channels and speed: what is heard beside the speakers, and what changes their sound.

Everything but the change of speed is linear and the same for all sources of a meeting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import scipy.signal
import soxr
from numpy.typing import NDArray

from pixit.simulation.rooms import Filter
from pixit.types import PixitError

Signal = NDArray[np.float32]

NUM_CHANNEL_TAPS = 255


def change_speed(signal: Signal, factor: float) -> Signal:
    """Play `signal` (T,) `factor` times as fast: (about T / factor,), tempo and pitch change together."""
    if factor == 1.0:
        return signal
    return soxr.resample(signal, factor, 1.0, quality="MQ").astype(np.float32, copy=False)


def draw_channel(sample_rate_hz: int, rng: np.random.Generator) -> Filter:
    """Draw a recording channel: telephone band, a low-pass, or a gentle equalisation (±6 dB)."""
    nyquist_hz = sample_rate_hz / 2
    kind = rng.choice(["telephone", "low-pass", "equaliser"])
    if kind == "telephone":
        low_hz, high_hz = rng.uniform(150, 350), min(rng.uniform(3200, 3600), 0.9 * nyquist_hz)
        corners = [(0, 0.0), (0.6 * low_hz, 0.0), (low_hz, 1.0), (high_hz, 1.0), (1.08 * high_hz, 0.0)]
    elif kind == "low-pass":
        high_hz = rng.uniform(0.4, 0.9) * nyquist_hz
        corners = [(0, 1.0), (high_hz, 1.0), (1.08 * high_hz, 0.0)]
    else:
        steps = 10 ** (rng.uniform(-6, 6, size=5) / 20)
        places_hz = np.array([0, 0.05, 0.15, 0.4, 0.8]) * nyquist_hz
        corners = list(zip(places_hz.tolist(), steps.tolist(), strict=True))
    corners.append((nyquist_hz, corners[-1][1]))
    frequencies_hz, gains = zip(*corners, strict=True)
    taps = scipy.signal.firwin2(NUM_CHANNEL_TAPS, frequencies_hz, gains, fs=sample_rate_hz)
    return Filter(taps.astype(np.float32), NUM_CHANNEL_TAPS // 2)


class NoiseBank:
    """Background noises at unit level: recorded ones, and coloured noise of random spectral tilt.

    Parameters
    ----------
    recorded
        Mono signals at the rate in use; silent ones are left out.
    num_generated
        Generated noises; their power falls with frequency as f^-tilt, tilt between 0 (white) and 2 (brown).
    seed
        Seed of the generated ones.
    """

    def __init__(self, recorded: Iterable[Signal] = (), num_generated: int = 12, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        noises = [np.asarray(noise, dtype=np.float32) for noise in recorded]
        noises += [coloured_noise(1 << 19, rng.uniform(0, 2), rng) for _ in range(num_generated)]
        levels = [float(np.sqrt(np.mean(np.square(noise, dtype=np.float64)))) for noise in noises]
        self.noises = [noise / level for noise, level in zip(noises, levels, strict=True) if level > 0]
        if not self.noises:
            raise PixitError(
                "no noise to add: expected recorded noises that are not silent or num_generated > 0"
            )

    def draw(self, lengths: Sequence[int], rng: np.random.Generator) -> list[Signal]:
        """Cut stretches of `lengths` samples out of one random noise, each from a random place, wrapping around."""
        noise = self.noises[rng.integers(len(self.noises))]
        return [_cut(noise, int(rng.integers(len(noise))), length) for length in lengths]


def coloured_noise(num_samples: int, tilt: float, rng: np.random.Generator) -> Signal:
    """Return noise (T,) whose power falls as f^-tilt (0 white, 1 pink, 2 brown) above 1/400 of its rate."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.fft.rfftfreq(num_samples)  # cycles a sample: 1/400 is 40 Hz at 16 kHz
    spectrum *= np.maximum(frequencies, 1 / 400) ** (-tilt / 2)
    spectrum[0] = 0
    return np.fft.irfft(spectrum, num_samples).astype(np.float32)


def _cut(noise: Signal, start: int, length: int) -> Signal:
    if start + length <= len(noise):
        return noise[start : start + length]
    return np.take(noise, np.arange(start, start + length), mode="wrap")
