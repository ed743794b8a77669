"""The bundled speaker embedder: a small residual network over log-mel features."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixit.models.embedders.checks import check_input, check_threshold
from pixit.models.filterbank import full_precision
from pixit.types import PixitError, Plda

WINDOW_S, STEP_S = 0.025, 0.010
FLOOR = 1e-5
"""Power below which a mel band counts as silent, relative to the mean power of the weighted frames."""


class SpeakerEncoder(nn.Module):
    """Turn speech into a speaker embedding of unit length.

    Log-mel features, relative to the level of the frames that count, go through a residual network
    over frequency and time (the ResNet speaker encoder of Chung et al., "In defence of metric learning
    for speaker recognition", Interspeech 2020, but smaller); weighted means and standard deviations over
    time are projected to the embedding.

    Parameters
    ----------
    embedding_size, sample_rate_hz
        D, the length of the embedding; and the sample rate of the waveforms.
    num_mels
        Mel bands, a multiple of 16.
    base_channels, blocks_per_stage
        Channels of the first stage, which each of the three next doubles; and residual blocks in each stage.
    clustering_threshold
        Mean cosine distance up to which embeddings are of one speaker: chosen for the weights, kept with them.
    plda
        Whether a `Plda` is kept with the weights, too.
    """

    def __init__(
        self,
        embedding_size: int = 128,
        num_mels: int = 64,
        base_channels: int = 16,
        blocks_per_stage: int = 2,
        sample_rate_hz: int = 16000,
        clustering_threshold: float = 0.6,
        plda: bool = False,
    ) -> None:
        super().__init__()
        check_threshold("SpeakerEncoder", clustering_threshold)
        if num_mels % 16 or min(embedding_size, num_mels, base_channels, blocks_per_stage) < 1:
            raise PixitError(
                f"SpeakerEncoder: found num_mels={num_mels}, embedding_size={embedding_size}, "
                f"base_channels={base_channels}, blocks_per_stage={blocks_per_stage}: expected positive "
                "numbers, num_mels a multiple of 16"
            )
        self.config: dict[str, Any] = {
            "embedding_size": embedding_size,
            "num_mels": num_mels,
            "base_channels": base_channels,
            "blocks_per_stage": blocks_per_stage,
            "sample_rate_hz": sample_rate_hz,
            "clustering_threshold": clustering_threshold,
            "plda": plda,
        }
        self.sample_rate_hz, self.embedding_size = sample_rate_hz, embedding_size
        self.clustering_threshold = clustering_threshold
        self.features = LogMel(num_mels, sample_rate_hz)
        self.bands = nn.BatchNorm1d(num_mels)
        self.stem = nn.Sequential(
            nn.Conv2d(1, base_channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(base_channels),
            nn.ReLU(),
        )
        blocks, channels = [], base_channels
        for stage in range(4):
            for block in range(blocks_per_stage):
                wider = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, channels * wider, stride=wider))
                channels *= wider
        self.blocks = nn.Sequential(*blocks)
        num_statistics = 2 * channels * (num_mels // 16)
        self.projection = nn.Sequential(
            nn.BatchNorm1d(num_statistics),
            nn.Linear(num_statistics, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        size = embedding_size
        self.plda = Plda(np.zeros(size), np.zeros(size), np.eye(size), np.ones(size)) if plda else None

    @property
    def plda(self) -> Plda | None:
        """How the embeddings vary between and within speakers; None if that was not found."""
        if not self.config["plda"]:
            return None
        parts = {field.name: getattr(self, f"plda_{field.name}") for field in fields(Plda)}
        return Plda(**{name: part.double().cpu().numpy() for name, part in parts.items()})

    @plda.setter
    def plda(self, plda: Plda | None) -> None:
        self.config["plda"] = plda is not None
        for field in fields(Plda):
            value = None if plda is None else torch.as_tensor(getattr(plda, field.name), dtype=torch.float32)
            self.register_buffer(f"plda_{field.name}", value)

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, T), speech of one speaker each, at any level: (B, D), of unit length.

        NaN are the rows that hold nothing: all weights zero, or a waveform that is silent wherever it counts.

        Parameters
        ----------
        weights
            How much each stretch of time counts, (B, F) with any F, at least 0. Where the weight is 0 the
            network does not listen at all; none means that everything counts alike.

        Raises
        ------
        PixitError
            If the shapes do not fit each other.
        """
        weights = check_input(waveforms, weights)
        with full_precision(waveforms):
            power = self.features(waveforms)  # (B, M, F)
        weights = fit_weights(weights.to(power.dtype), power.shape[-1])
        features, silent = normalise(power, weights)
        hidden = self.stem(self.bands(features)[:, None])
        # a third less time on the CPU, the same numbers
        hidden = self.blocks(hidden.contiguous(memory_format=torch.channels_last))  # (B, C, M / 16, F / 16)
        statistics = weighted_statistics(hidden.flatten(1, 2), fit_weights(weights, hidden.shape[-1]))
        embeddings = F.normalize(self.projection(statistics), dim=1)
        return embeddings.masked_fill(silent[:, None], torch.nan)


class LogMel(nn.Module):
    """Mel power spectrum of 25 ms windows every 10 ms: (B, T) -> (B, M, F). No parameters to learn."""

    def __init__(self, num_mels: int, sample_rate_hz: int, low_hz: float = 60.0) -> None:
        super().__init__()
        self.window_samples = round(WINDOW_S * sample_rate_hz)
        self.step_samples = round(STEP_S * sample_rate_hz)
        self.fft_size = 1 << (self.window_samples - 1).bit_length()
        bank = mel_filterbank(num_mels, self.fft_size, sample_rate_hz, low_hz, 0.47 * sample_rate_hz)
        # Constants of the configuration, so they stay out of the checkpoint.
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_samples), persistent=False)
        self.bank: Tensor
        self.window: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the mel power of waveforms (B, T) as (B, M, F), F = T // step + 1."""
        spectrum = torch.stft(
            waveforms.float(),
            self.fft_size,
            self.step_samples,
            self.window_samples,
            self.window,
            pad_mode="constant",  # reflection would fail on inputs shorter than a window
            return_complex=True,
        )
        return self.bank @ spectrum.abs().square()


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, C_in, M, F) to (B, C, M / stride, F / stride)."""
        return F.relu(self.residual(hidden) + self.shortcut(hidden))


def normalise(power: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Make mel power (B, M, F) independent of the level, and hide what has no weight (B, F).

    The mean spectrum is kept: over a recording it says much about a voice (and of its microphone, which
    a speaker seldom changes). Frames of no weight are filled with it. Return logarithms relative to the mean
    power, (B, M, F), and whether a row holds no power at all where it counts, (B,).
    """
    total = weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)
    level = (power.mean(1) * weights).sum(1) / total  # (B,)
    silent = ~(level > 0)
    level = level.masked_fill(silent, 1.0)
    logarithms = (power / level[:, None, None] + FLOOR).log()
    mean = (logarithms * weights[:, None]).sum(2) / total[:, None]
    return torch.where((weights > 0)[:, None], logarithms, mean[..., None]), silent


def weighted_statistics(hidden: Tensor, weights: Tensor) -> Tensor:
    """Weighted means and standard deviations over time: (B, C, F), (B, F) -> (B, 2 C)."""
    weights = weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    mean = (hidden * weights[:, None]).sum(2)
    variance = ((hidden - mean[..., None]).square() * weights[:, None]).sum(2)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


def fit_weights(weights: Tensor, num_frames: int) -> Tensor:
    """Average or repeat weights (B, F) to (B, `num_frames`); no weight, however short, is lost."""
    return F.interpolate(weights[:, None], size=num_frames, mode="area")[:, 0]


def mel_filterbank(
    num_mels: int, fft_size: int, sample_rate_hz: int, low_hz: float, high_hz: float
) -> Tensor:
    """Triangular filters equally spaced on the mel scale, (M, fft_size / 2 + 1).

    The scale is ``2595 log10(1 + f / 700)`` (O'Shaughnessy, 1987); every filter peaks at 1. Filters are
    drawn on the mel axis, so that the narrow low ones still meet a bin.
    """

    def mel(frequency_hz: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + frequency_hz / 700)

    with torch.device("cpu"):  # where networks are built without memory, too
        low, high = mel(torch.tensor([low_hz, high_hz], dtype=torch.float64))
        spacing = (high - low) / (num_mels + 1)
        centres = low + spacing * torch.arange(1, num_mels + 1)
        bins = mel(torch.linspace(0, sample_rate_hz / 2, fft_size // 2 + 1, dtype=torch.float64))
        return (1 - (bins - centres[:, None]).abs() / spacing).clamp_min(0).float()
