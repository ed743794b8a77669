"""Encoder and decoder of ToTaToNet: learned (TasNet) or Fourier filters, one step after the other.

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
        self.num_features, self.stride = n_filters, stride
        self._filters = nn.Parameter(torch.empty(n_filters, 1, kernel_size))
        nn.init.xavier_normal_(self._filters)

    def analyse(self, waveforms: Tensor) -> Tensor:
        """(B, 1, T) -> (B, C, L)."""
        return F.conv1d(waveforms, self._filters, stride=self.stride)

    def synthesise(self, representations: Tensor) -> Tensor:
        """(B, C, L) -> (B, T)."""
        return F.conv_transpose1d(representations, self._filters, stride=self.stride).squeeze(1)


class STFTFilterbank(nn.Module):
    """Windowed Fourier vectors, not trained: (n_filters + 2) features.

    ``_filters`` holds them as `asteroid` does, for checkpoints; what is computed are fast Fourier transforms.
    """

    _filters: Tensor
    _gains: Tensor
    torch_window: Tensor

    def __init__(self, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        if n_filters < kernel_size or n_filters % 2:
            raise ValueError(
                f"stft: n_filters={n_filters}: expected an even number ≥ kernel_size={kernel_size}"
            )
        self.num_features, self.stride, self.size = n_filters + 2, stride, n_filters
        window = torch.hann_window(kernel_size, periodic=True, dtype=torch.float64).sqrt()
        self.register_buffer("torch_window", window.float())
        scale = 0.5 * math.sqrt(kernel_size * n_filters / stride)
        fourier = torch.fft.fft(torch.eye(n_filters, dtype=torch.float64))[: n_filters // 2 + 1] / scale
        fourier[0] /= math.sqrt(2)
        fourier[-1] /= math.sqrt(2)
        vectors = torch.cat((fourier.real, fourier.imag))
        start = (n_filters - kernel_size) // 2
        self.register_buffer("_filters", (vectors[:, start : start + kernel_size] * window)[:, None].float())
        gains = torch.full((n_filters // 2 + 1, 1), 1 / scale)
        gains[[0, -1]] /= math.sqrt(2)
        self.register_buffer("_gains", gains, persistent=False)
        self.padding = start, n_filters - kernel_size - start

    def analyse(self, waveforms: Tensor) -> Tensor:
        """(B, 1, T) -> (B, C, L), real parts first."""
        frames = waveforms.squeeze(1).unfold(-1, len(self.torch_window), self.stride) * self.torch_window
        spectra = torch.fft.rfft(F.pad(frames, self.padding)).transpose(1, 2) * self._gains  # (B, bins, L)
        return torch.cat((spectra.real, spectra.imag), dim=1)

    def synthesise(self, representations: Tensor) -> Tensor:
        """(B, C, L) -> (B, T): the transpose of `analyse`."""
        real, imaginary = representations.chunk(2, dim=1)
        # irfft divides by its size, and counts all bins but the first and the last twice
        gains = self._gains * (self.size / 2)
        gains = torch.cat((2 * gains[:1], gains[1:-1], 2 * gains[-1:]))
        spectra = torch.complex(real * gains, imaginary * gains).transpose(1, 2)
        frames = torch.fft.irfft(spectra, self.size)  # (B, L, n_filters)
        first, kernel = self.padding[0], len(self.torch_window)
        return overlap_add(frames[..., first : first + kernel] * self.torch_window, self.stride)


def overlap_add(frames: Tensor, stride: int) -> Tensor:
    """Add up frames (B, L, size), each `stride` samples after the one before: (B, T)."""
    size = frames.shape[-1]
    num_samples = (frames.shape[1] - 1) * stride + size
    if size % stride:
        columns = F.fold(frames.transpose(1, 2), (1, num_samples), (1, size), stride=(1, stride))
        return columns.flatten(1)
    steps = size // stride  # quicker: blocks of one stride, of which `steps` lie over each other
    blocks = frames.unflatten(-1, (steps, stride))  # (B, L, steps, stride)
    shifted = [F.pad(blocks[:, :, i], (0, 0, i, steps - 1 - i)) for i in range(steps)]
    return torch.stack(shifted).sum(0).flatten(1)


FILTERBANKS: dict[str, Any] = {"free": FreeFilterbank, "stft": STFTFilterbank}


class Encoder(nn.Module):
    """Waveforms (B, 1, T) -> representation (B, C, L)."""

    def __init__(self, fb_name: str, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        if fb_name not in FILTERBANKS:
            raise ValueError(f"fb_name={fb_name!r}: expected one of {', '.join(FILTERBANKS)}")
        self.filterbank = FILTERBANKS[fb_name](n_filters, kernel_size, stride)
        self.num_features = self.filterbank.num_features

    def forward(self, waveforms: Tensor) -> Tensor:
        with full_precision(waveforms):
            return self.filterbank.analyse(waveforms.float())


class Decoder(nn.Module):
    """Representations (B, K, C, L) -> waveforms (B, K, T)."""

    def __init__(self, fb_name: str, n_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.filterbank = FILTERBANKS[fb_name](n_filters, kernel_size, stride)

    def forward(self, representations: Tensor) -> Tensor:
        flat = representations.flatten(0, 1)
        with full_precision(flat):
            waveforms = self.filterbank.synthesise(flat.float())
        return waveforms.unflatten(0, representations.shape[:2])


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switch mixed precision off: the 8 bits of bfloat16 would leave noise 48 dB below every signal."""
    return torch.autocast(tensor.device.type, enabled=False)
