"""What all embedders ask of their input."""

from __future__ import annotations

import torch
from torch import Tensor

from pixit.types import PixitError


def check_input(waveforms: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weights (B, F) of waveforms (B, T), ones by default; a `PixitError` if the shapes do not fit."""
    if waveforms.ndim != 2 or waveforms.shape[1] == 0:
        raise PixitError(f"waveforms: expected (batch, samples), found shape {tuple(waveforms.shape)}")
    if weights is None:
        weights = torch.ones_like(waveforms[:, :1])
    if weights.ndim != 2 or len(weights) != len(waveforms) or weights.shape[1] == 0:
        raise PixitError(f"weights: expected ({len(waveforms)}, frames), found shape {tuple(weights.shape)}")
    return weights


def check_threshold(network: str, threshold: float) -> None:
    """Raise a `PixitError` if a clustering threshold is no cosine distance that divides anything."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 2:
        raise PixitError(
            f"{network}: found clustering_threshold={threshold}: expected more than 0, at most 2"
        )


def silent_rows(waveforms: Tensor, weights: Tensor) -> Tensor:
    """Return which rows hold nothing, (B,): no weight, or no sound at all."""
    return ~((weights > 0).any(1) & (waveforms != 0).any(1))
