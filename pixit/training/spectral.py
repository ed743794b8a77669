"""A separation loss on compressed spectra, which leaves the plateau of SI-SDR sooner.

At the start of a training all sources are poor, and the SI-SDR of waveforms says little about which way to go: its
gradient is that of the loudest bins. Compressing the magnitudes (power 0.3, as the ear does) lets the soft bins count
too, and with the phase kept (Ephrat et al., "Looking to listen at the cocktail party", 2018, section 3.2) the
distance is still that of signals.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW_SAMPLES = 512
COMPRESSION = 0.3
FLOOR = 1e-3
"""Share of the mixture that earns nothing more: -30 dB."""


def spectral_losses(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Return the distance of every estimated source from every reference, in dB below the mixture.

    ``10 log10(Σ |c(E) - c(R)|² / Σ |c(X)|²)``, where ``c`` is the short-time spectrum with magnitudes to the power of
    0.3. Unlike SI-SDR it is defined for silent references and asks for the level.

    Parameters
    ----------
    estimate, reference
        (B, K, T) and (B, K', T).
    mixture
        (B, T).

    Returns
    -------
    Tensor
        (B, K, K').
    """
    scale = 1 / (mixture.square().mean(-1) + 1e-12).sqrt()
    signals = torch.cat((estimate, reference, mixture.unsqueeze(1)), dim=1) * scale[:, None, None]
    spectra = compressed_spectra(signals)
    sources, targets, of_mixture = spectra.split((estimate.shape[1], reference.shape[1], 1), dim=1)
    power = sources.square().sum(-1).unsqueeze(2) + targets.square().sum(-1).unsqueeze(1)
    distance = (power - 2 * sources @ targets.mT).clamp_min(0)
    return 10 * torch.log10(distance / (of_mixture.square().sum(-1, keepdim=True) + 1e-8) + FLOOR)


def compressed_spectra(signals: Tensor) -> Tensor:
    """Return short-time spectra (B, K, bins) of signals (B, K, T), real and imaginary parts in a row."""
    window = torch.hann_window(WINDOW_SAMPLES, device=signals.device)
    hop = WINDOW_SAMPLES // 2
    short = max(0, WINDOW_SAMPLES - signals.shape[-1])
    padded = torch.nn.functional.pad(signals.flatten(0, 1), (0, short))
    spectra = torch.stft(padded, WINDOW_SAMPLES, hop, window=window, center=False, return_complex=True)
    parts = torch.view_as_real(spectra)
    power = parts.square().sum(-1, keepdim=True)
    # the constant, 40 dB below a window's mean, bounds the gradient where a bin is silent
    compressed = parts * (power + 1e-2).pow((COMPRESSION - 1) / 2)
    return compressed.flatten(1).unflatten(0, signals.shape[:2])
