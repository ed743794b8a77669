"""Encoder and decoder of ToTaToNet: learned (TasNet) or Fourier filters, as one strided convolution each.

The free filterbank is that of Luo & Mesgarani, "TasNet" (ICASSP 2018); the STFT one holds windowed Fourier
vectors, real parts first, then imaginary parts, normalised so that decoding undoes encoding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FreeFilterbank(nn.Module):
    """Learned filters, (n_filters, 1, kernel_size)."""

    def __init__(self, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self._filters = nn.Parameter(torch.empty(n_filters, 1, kernel_size))
        nn.init.xavier_normal_(self._filters)

    def filters(self) -> Tensor:
        return self._filters


class STFTFilterbank(nn.Module):
    """Windowed Fourier vectors, (n_filters + 2, 1, kernel_size); not trained."""

    _filters: Tensor

    def __init__(self, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        if n_filters < kernel_size or n_filters % 2:
            raise ValueError(
                f"stft: n_filters={n_filters}: expected an even number ≥ kernel_size={kernel_size}"
            )
        window = torch.hann_window(kernel_size, periodic=True, dtype=torch.float64).sqrt()
        self.register_buffer("torch_window", window.float())
        scale = 0.5 * math.sqrt(kernel_size * n_filters / stride)
        fourier = torch.fft.fft(torch.eye(n_filters, dtype=torch.float64))[: n_filters // 2 + 1] / scale
        fourier[0] /= math.sqrt(2)
        fourier[-1] /= math.sqrt(2)
        vectors = torch.cat((fourier.real, fourier.imag))
        start = (n_filters - kernel_size) // 2
        self.register_buffer("_filters", (vectors[:, start : start + kernel_size] * window)[:, None].float())

    def filters(self) -> Tensor:
        return self._filters


FILTERBANKS: dict[str, Any] = {"free": FreeFilterbank, "stft": STFTFilterbank}


class Encoder(nn.Module):
    """Waveforms (B, 1, T) -> representation (B, C, L)."""

    def __init__(self, fb_name: str, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        if fb_name not in FILTERBANKS:
            raise ValueError(f"fb_name={fb_name!r}: expected one of {', '.join(FILTERBANKS)}")
        self.filterbank = FILTERBANKS[fb_name](n_filters, kernel_size, stride)
        self.stride = stride
        self.num_features = self.filterbank.filters().shape[0]

    def forward(self, waveforms: Tensor) -> Tensor:
        with full_precision(waveforms):
            return F.conv1d(waveforms.float(), self.filterbank.filters(), stride=self.stride)


class Decoder(nn.Module):
    """Representations (B, K, C, L) -> waveforms (B, K, T)."""

    def __init__(self, fb_name: str, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.filterbank = FILTERBANKS[fb_name](n_filters, kernel_size, stride)
        self.stride = stride

    def forward(self, representations: Tensor) -> Tensor:
        flat = representations.flatten(0, 1)
        with full_precision(flat):
            waveforms = F.conv_transpose1d(flat.float(), self.filterbank.filters(), stride=self.stride)
        return waveforms.squeeze(1).unflatten(0, representations.shape[:2])


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switch mixed precision off: the 8 bits of bfloat16 would leave noise 48 dB below every signal."""
    return torch.autocast(tensor.device.type, enabled=False)
