"""How near an estimated source is to its reference: SI-SDR, SDR/SIR/SAR, PESQ, STOI.

SI-SDR needs only scalar products of signals, which `Products` sums up block by block: so a recording of any
length is scored exactly and never read whole. The other scores are computed on pieces, by the field's libraries.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixit.audio import resample_blocks

Signals = NDArray[np.floating[Any]]

LIMIT_DB = 100.0
"""Every score in decibels lies in ±100 dB: 16 bits hold less, and tables hold no infinity."""

SILENCE = 1e-12
"""A signal whose power about its mean is a smaller part than this of its power is a constant: silence."""

FRAME_S = 0.02
ACTIVE_POWER = 0.01
"""A frame sounds that has this part of the mean power, or more."""

FILTER_SAMPLES = 512  # of the distortion that BSS-eval forgives (Vincent et al., 2006)
DIAGONAL_LOAD = 10 ** (-LIMIT_DB / 10)  # keeps BSS-eval solvable where references are alike


class Products:
    """Sums and scalar products of P signals, collected block by block in float64.

    `raw` holds the products of the signals as they are, (P, P).
    """

    def __init__(self, num_signals: int) -> None:
        self.num_samples = 0
        self.raw = np.zeros((num_signals, num_signals))
        self._sums = np.zeros(num_signals)

    def add(self, block: Signals) -> None:
        """Add the next samples of all signals, (P, T)."""
        block = np.asarray(block, np.float64)
        self.num_samples += block.shape[1]
        self._sums += block.sum(axis=1)
        self.raw += block @ block.T

    @property
    def centred(self) -> NDArray[np.float64]:
        """Scalar products of the signals less their means, (P, P)."""
        return self.raw - np.outer(self._sums, self._sums) / max(1, self.num_samples)

    def power(self, signal: int) -> float:
        """Return the mean power of a signal about its mean."""
        return max(0.0, float(self.centred[signal, signal])) / max(1, self.num_samples)

    def is_silent(self, signal: int) -> bool:
        """Whether a signal is constant, or has no samples."""
        return bool(self.centred[signal, signal] <= SILENCE * self.raw[signal, signal])

    def si_sdr(self, estimate: int, reference: int) -> float:
        """Return the scale-invariant SDR of two of the signals in dB, as the function `si_sdr`."""
        if self.is_silent(estimate) or self.is_silent(reference):
            return -LIMIT_DB
        products = self.centred
        target = products[estimate, reference] ** 2 / products[reference, reference]
        return ratio_db(target, products[estimate, estimate] - target)


def ratio_db(signal: float, noise: float) -> float:
    """Return the ratio of two powers in dB, within ±`LIMIT_DB`; of no signal, the lower limit."""
    least = 10 ** (-LIMIT_DB / 10)
    if signal <= noise * least:
        return -LIMIT_DB
    return -10 * math.log10(max(noise / signal, least))


def si_sdr(estimate: Signals, reference: Signals) -> float:
    """Return the scale-invariant SDR in dB (Le Roux et al., "SDR – half-baked or well done?", 2019).

    Parameters
    ----------
    estimate, reference
        (T,); means are removed.

    Returns
    -------
    float
        Within ±`LIMIT_DB`; the lower limit where one of them is silent.
    """
    products = Products(2)
    products.add(np.stack([estimate, reference]))
    return products.si_sdr(0, 1)


def bss_eval(estimates: Signals, references: Signals) -> dict[str, list[float | None]]:
    """Return SDR, SIR and SAR in dB of each source (BSS-eval: Vincent et al., 2006), by fast_bss_eval.

    Parameters
    ----------
    estimates, references
        (N, T) in the same order, none of them silent.

    Returns
    -------
    dict
        ``sdr_db``, ``sir_db`` and ``sar_db``, N values each, within ±`LIMIT_DB`. With one source there is no
        interference: its SIR is None.
    """
    import fast_bss_eval
    import torch

    # On tensors, as the NumPy half of fast_bss_eval 0.1.4 fails with NumPy 2.
    scores = fast_bss_eval.bss_eval_sources(
        torch.from_numpy(np.array(references, np.float64)),
        torch.from_numpy(np.array(estimates, np.float64)),
        filter_length=FILTER_SAMPLES,
        compute_permutation=False,
        clamp_db=LIMIT_DB,
        load_diag=DIAGONAL_LOAD,
    )
    sdr, sir, sar = (score.tolist() for score in scores)
    return {"sdr_db": sdr, "sir_db": sir if len(references) > 1 else [None], "sar_db": sar}


def active_s(signal: Signals, mean_power: float, sample_rate_hz: int) -> float:
    """Return how long a signal (T,) sounds, in seconds: in frames of `FRAME_S`, against a mean power."""
    frame_samples = max(1, round(FRAME_S * sample_rate_hz))
    frames = signal[: len(signal) // frame_samples * frame_samples].reshape(-1, frame_samples)
    powers = np.square(frames, dtype=np.float64).mean(axis=1)
    return FRAME_S * int(np.count_nonzero(powers >= ACTIVE_POWER * mean_power))


def pesq_mode(sample_rate_hz: int) -> str:
    """Return which PESQ fits signals of a rate: ``"wb"`` from 16 kHz on, else ``"nb"``."""
    return "wb" if sample_rate_hz >= 16000 else "nb"


def pesq(estimate: Signals, reference: Signals, sample_rate_hz: int) -> float | None:
    """Return the PESQ (MOS-LQO), wide-band at 16 kHz or narrow-band at 8 kHz; None where it is not defined.

    Signals (T,) of other rates are resampled first. Not defined where PESQ finds no utterance, or no level.
    """
    import pesq as library

    mode = pesq_mode(sample_rate_hz)
    rate_hz = 16000 if mode == "wb" else 8000
    signals = []
    for signal in (reference, estimate):
        blocks = resample_blocks([np.asarray(signal, np.float32)], sample_rate_hz, rate_hz)
        signals.append(np.concatenate(list(blocks)))
    try:
        return float(library.pesq(rate_hz, *signals, mode))
    except (library.NoUtterancesError, library.BufferTooShortError, ValueError):
        return None  # ValueError: its level within the band of speech is nil, and the package divides by it


def stoi(estimate: Signals, reference: Signals, sample_rate_hz: int) -> float | None:
    """Return the STOI (Taal et al., 2011) of signals (T,); None with under 0.4 s of sound in the reference."""
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # it would warn, and give a number that means nothing
        try:
            return float(pystoi.stoi(reference, estimate, sample_rate_hz))
        except RuntimeWarning:
            return None
