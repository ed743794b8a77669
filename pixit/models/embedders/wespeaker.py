"""WeSpeaker's ResNet34, as pyannote's pipelines use it: ``pyannote/wespeaker-voxceleb-resnet34-LM``.

Tensor for tensor the network of Wang et al., "Wespeaker: a research and production oriented speaker embedding
learning toolkit" (ICASSP 2023), with the names that its weights have in pyannote.audio.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixit.models.embedders.checks import check_input, check_threshold, silent_rows
from pixit.models.filterbank import full_precision
from pixit.types import PixitError

STAGES = ((1, 3, 1), (2, 4, 2), (4, 6, 2), (8, 3, 2))
"""Channels, relative to those of the first, number of blocks, and stride of each stage."""


class WeSpeakerResNet34(nn.Module):
    """Turn speech into a speaker embedding: Kaldi filterbanks, a residual network, statistics over time.

    Parameters
    ----------
    num_mels, sample_rate_hz
        Mel bands, a multiple of 8; and the sample rate of the waveforms.
    base_channels, embedding_size
        Channels of the first stage; and D, the length of the embedding.
    clustering_threshold
        Mean cosine distance up to which embeddings are of one speaker. The default is an estimate: pyannote's
        pipeline 3.1 merges clusters whose centroids, means of unit vectors, are up to 0.7046 apart (Euclidean),
        which is a mean cosine distance of 0.7046² / 2 + s, where s is that inside of the two clusters. For
        single stretches s is 0; for many stretches of a few seconds of one voice it was taken to be 0.4.
    """

    def __init__(
        self,
        num_mels: int = 80,
        sample_rate_hz: int = 16000,
        base_channels: int = 32,
        embedding_size: int = 256,
        clustering_threshold: float = 0.65,
    ) -> None:
        super().__init__()
        check_threshold("WeSpeakerResNet34", clustering_threshold)
        if num_mels % 8 or min(num_mels, base_channels, embedding_size) < 1:
            raise PixitError(
                f"WeSpeakerResNet34: found num_mels={num_mels}, base_channels={base_channels}, "
                f"embedding_size={embedding_size}: expected positive numbers, num_mels a multiple of 8"
            )
        self.config: dict[str, Any] = {
            "num_mels": num_mels,
            "sample_rate_hz": sample_rate_hz,
            "base_channels": base_channels,
            "embedding_size": embedding_size,
            "clustering_threshold": clustering_threshold,
        }
        self.sample_rate_hz, self.embedding_size = sample_rate_hz, embedding_size
        self.clustering_threshold = clustering_threshold
        self.fbank = KaldiFbank(num_mels, sample_rate_hz)
        self.resnet = _ResNet(num_mels, base_channels, embedding_size)

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, T), speech of one speaker each: (B, D); NaN in rows that hold nothing.

        Parameters
        ----------
        weights
            How much each stretch of time counts in the statistics, (B, F) with any F, at least 0.

        Raises
        ------
        PixitError
            If the shapes do not fit each other.
        """
        weights = check_input(waveforms, weights)
        return self.embed_masks(waveforms, weights, torch.ones(len(waveforms), dtype=torch.long))

    def embed_masks(self, waveforms: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Embed several stretches of each of the waveforms (B, T), which goes through the network once.

        Parameters
        ----------
        weights, counts
            What counts for each embedding, (N, F); and how many of these belong to each waveform, (B,).

        Returns
        -------
        Tensor
            (N, D), NaN in rows that hold nothing.
        """
        with full_precision(waveforms):
            features = self.fbank(waveforms)  # (B, L, M)
        hidden = self.resnet.hear(features - features.mean(dim=1, keepdim=True))  # (B, C, L / 8)
        of = torch.arange(len(waveforms)).repeat_interleave(counts).to(waveforms.device)
        embeddings: Tensor = self.resnet.seg_1(pool_statistics(hidden[of], weights))
        return embeddings.masked_fill(silent_rows(waveforms[of], weights)[:, None], torch.nan)


class _ResNet(nn.Module):
    """The network behind the features; the names of its parts are those of the published weights."""

    def __init__(self, num_mels: int, channels: int, embedding_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        width = channels
        for number, (factor, num_blocks, stride) in enumerate(STAGES, 1):
            blocks = []
            for block in range(num_blocks):
                blocks.append(_Block(width, factor * channels, stride if block == 0 else 1))
                width = factor * channels
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.seg_1 = nn.Linear(2 * width * math.ceil(num_mels / 8), embedding_size)

    def hear(self, features: Tensor) -> Tensor:
        """Map features (B, L, M) to what the statistics are of, (B, C · M / 8, L / 8)."""
        hidden = features.transpose(1, 2).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        hidden = F.relu(self.bn1(self.conv1(hidden)))
        for number in range(1, len(STAGES) + 1):
            hidden = getattr(self, f"layer{number}")(hidden)
        return hidden.flatten(1, 2)


class _Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, C_in, M, L) to (B, C, M / stride, L / stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(hidden)))))
        return F.relu(out + self.shortcut(hidden))


def pool_statistics(hidden: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and unbiased standard deviation over time: (B, C, L), (B, F) -> (B, 2 C).

    Weights are taken at the nearest frame, as pyannote.audio does; a row whose weights would all be lost so gets
    their averages.
    """
    hidden = hidden.float()
    fitted = F.interpolate(weights[:, None].to(hidden), size=hidden.shape[-1], mode="nearest")  # (B, 1, L)
    averaged = F.interpolate(weights[:, None].to(hidden), size=hidden.shape[-1], mode="area")
    fitted = torch.where(fitted.sum(-1, keepdim=True) > 0, fitted, averaged)
    total = fitted.sum(-1) + 1e-8  # (B, 1)
    mean = (hidden * fitted).sum(-1) / total
    squares = (hidden - mean.unsqueeze(-1)).square()
    variance = (squares * fitted).sum(-1) / (total - fitted.square().sum(-1) / total + 1e-8)
    return torch.cat((mean, variance.clamp_min(0).sqrt()), dim=-1)


class KaldiFbank(nn.Module):
    """Log mel energies as Kaldi's ``compute-fbank-feats`` gives them: (B, T) -> (B, L, M); no parameters.

    25 ms every 10 ms, whole frames only; samples in the range of 16 bits, each frame without its mean,
    pre-emphasis 0.97, Hamming window, power spectrum, triangles on Kaldi's mel scale from 20 Hz to the Nyquist
    frequency; no dither.
    """

    def __init__(self, num_mels: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.size, self.step = round(0.025 * sample_rate_hz), round(0.010 * sample_rate_hz)
        self.fft_size = 1 << (self.size - 1).bit_length()
        window = torch.hamming_window(self.size, periodic=False)
        self.register_buffer("window", window, persistent=False)  # constants stay out of the checkpoint
        self.register_buffer("bank", _kaldi_mels(num_mels, self.fft_size, sample_rate_hz), persistent=False)
        self.window: Tensor
        self.bank: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the features of waveforms (B, T); one shorter than a frame is lengthened by silence."""
        padded = F.pad(waveforms.float() * 32768, (0, max(0, self.size - waveforms.shape[-1])))
        frames = padded.unfold(-1, self.size, self.step)
        frames = frames - frames.mean(-1, keepdim=True)
        frames = frames - 0.97 * torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        power = torch.fft.rfft(frames * self.window, self.fft_size).abs().square()
        return (power @ self.bank).clamp_min(torch.finfo(torch.float32).eps).log()


def _kaldi_mels(num_mels: int, fft_size: int, sample_rate_hz: int) -> Tensor:
    """Return the triangles (fft_size / 2 + 1, M) on the scale ``1127 ln(1 + f / 700)``."""

    def mel(frequency_hz: Tensor) -> Tensor:
        return 1127 * (1 + frequency_hz / 700).log()

    with torch.device("cpu"):  # where networks are built without memory, too
        low, high = mel(torch.tensor([20.0, sample_rate_hz / 2], dtype=torch.float64))
        spacing = (high - low) / (num_mels + 1)
        centres = low + spacing * torch.arange(1, num_mels + 1)
        bins = mel(torch.arange(fft_size // 2 + 1, dtype=torch.float64) * sample_rate_hz / fft_size)
        bank = (1 - (bins[:, None] - centres).abs() / spacing).clamp_min(0)
        bank[-1] = 0  # Kaldi leaves the Nyquist frequency out
        return bank.float()
