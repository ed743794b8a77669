"""What makes another voice of a voice, or another recording of one: speed, formants, equalisers and channels."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.signal
import soxr

from pixit.audio import Samples
from pixit.simulation.rooms import Filter

NUM_CHANNEL_TAPS = 255
FRAME_S = 0.032
ENVELOPE_S = 0.0015  # shorter than any voice's period: what is left of the cepstrum is the vocal tract
MAX_CHANGE = 2.0  # of the log magnitude where formants move, 17 dB


def change_speed(signal: Samples, factor: float) -> Samples:
    """Play `signal` (T,) `factor` times as fast: (about T / factor,), tempo and pitch change together."""
    if factor == 1.0:
        return signal
    return soxr.resample(signal, factor, 1.0, quality="MQ").astype(np.float32, copy=False)


def change_formants(signal: Samples, factor: float, sample_rate_hz: int) -> Samples:
    """Move the formants of speech (T,) to `factor` times their frequencies; tempo and pitch stay.

    The spectral envelope is that of the cepstrum below the period of the pitch (Oppenheim and Schafer, 1968).
    """
    if factor == 1.0:
        return signal
    hop = round(FRAME_S * sample_rate_hz / 2)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)
    halves = np.pad(signal, (hop, hop + -len(signal) % hop)).reshape(-1, hop)
    spectra = scipy.fft.rfft(np.hstack((halves[:-1], halves[1:])) * window)  # (frames, bins)
    magnitudes = np.abs(spectra)
    cepstra = scipy.fft.irfft(np.log(magnitudes + 1e-4 * magnitudes.max() + np.float32(1e-12)))
    kept = round(ENVELOPE_S * sample_rate_hz)
    cepstra[:, kept : cepstra.shape[1] - kept + 1] = 0
    envelopes = scipy.fft.rfft(cepstra).real
    places = np.minimum(np.arange(spectra.shape[1]) / factor, spectra.shape[1] - 1).astype(np.float32)
    below = np.minimum(places.astype(int), spectra.shape[1] - 2)
    part = places - below
    moved = envelopes[:, below] * (1 - part) + envelopes[:, below + 1] * part
    frames = scipy.fft.irfft(spectra * np.exp(np.clip(moved - envelopes, -MAX_CHANGE, MAX_CHANGE))) * window
    return (frames[:-1, hop:] + frames[1:, :hop]).ravel()[: len(signal)].astype(np.float32, copy=False)


def draw_channel(sample_rate_hz: int, rng: np.random.Generator) -> Filter:
    """Draw a recording channel: telephone band, a low-pass, or a gentle equalisation (±6 dB)."""
    nyquist_hz = sample_rate_hz / 2
    kind = rng.choice(["telephone", "low-pass", "equaliser"])
    if kind == "equaliser":
        return draw_equaliser(sample_rate_hz, rng)
    if kind == "telephone":
        low_hz, high_hz = rng.uniform(150, 350), min(rng.uniform(3200, 3600), 0.9 * nyquist_hz)
        corners = [(0, 0.0), (0.6 * low_hz, 0.0), (low_hz, 1.0), (high_hz, 1.0), (1.08 * high_hz, 0.0)]
    else:
        high_hz = rng.uniform(0.4, 0.9) * nyquist_hz
        corners = [(0, 1.0), (high_hz, 1.0), (1.08 * high_hz, 0.0)]
    return _filter_of(corners, sample_rate_hz)


def draw_equaliser(sample_rate_hz: int, rng: np.random.Generator) -> Filter:
    """Draw a gain within ±6 dB at five frequencies, interpolated between them."""
    places_hz = np.array([0, 0.05, 0.15, 0.4, 0.8]) * sample_rate_hz / 2
    gains = 10 ** (rng.uniform(-6, 6, size=5) / 20)
    return _filter_of(list(zip(places_hz.tolist(), gains.tolist(), strict=True)), sample_rate_hz)


def _filter_of(corners: list[tuple[float, float]], sample_rate_hz: int) -> Filter:
    """Return the filter whose gain goes through `corners` (frequency in Hz, gain), constant after the last."""
    frequencies_hz, gains = zip(*corners, (sample_rate_hz / 2, corners[-1][1]), strict=True)
    taps = scipy.signal.firwin2(NUM_CHANNEL_TAPS, frequencies_hz, gains, fs=sample_rate_hz)
    return Filter(taps.astype(np.float32), NUM_CHANNEL_TAPS // 2)
