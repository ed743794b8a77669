"""SpeechBrain's ECAPA-TDNN: ``speechbrain/spkrec-ecapa-voxceleb``.

Tensor for tensor the network of Desplanques et al., "ECAPA-TDNN" (Interspeech 2020), as SpeechBrain publishes
it, with the names that its weights have there.
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

KERNELS, DILATIONS = (5, 3, 3, 3, 1), (1, 2, 3, 4, 1)


class EcapaTdnn(nn.Module):
    """Turn speech into a speaker embedding: log-mel features, dilated convolutions, attentive statistics.

    Parameters
    ----------
    num_mels, sample_rate_hz
        Mel bands; and the sample rate of the waveforms.
    channels
        Of the five layers.
    attention_channels, embedding_size
        Of the pooling; and D, the length of the embedding.
    clustering_threshold
        Mean cosine distance up to which embeddings are of one speaker. The default is an estimate from the 0.7154 of
        pyannote's pipeline 2.1, which is a distance of centroids: see `WeSpeakerResNet34`.
    """

    def __init__(
        self,
        num_mels: int = 80,
        sample_rate_hz: int = 16000,
        channels: tuple[int, ...] = (1024, 1024, 1024, 1024, 3072),
        attention_channels: int = 128,
        embedding_size: int = 192,
        clustering_threshold: float = 0.66,
    ) -> None:
        super().__init__()
        check_threshold("EcapaTdnn", clustering_threshold)
        channels = tuple(channels)
        if (
            len(channels) != len(KERNELS)
            or len(set(channels[:-1])) > 1
            or min(channels) < 1
            or channels[0] % 8
        ):
            raise PixitError(
                f"EcapaTdnn: found channels={channels}: expected {len(KERNELS)}, all but the last alike and a "
                "multiple of 8"
            )
        self.config: dict[str, Any] = {
            "num_mels": num_mels,
            "sample_rate_hz": sample_rate_hz,
            "channels": list(channels),
            "attention_channels": attention_channels,
            "embedding_size": embedding_size,
            "clustering_threshold": clustering_threshold,
        }
        self.sample_rate_hz, self.embedding_size = sample_rate_hz, embedding_size
        self.clustering_threshold = clustering_threshold
        self.fbank = SpeechBrainFbank(num_mels, sample_rate_hz)
        self.blocks = nn.ModuleList([_Tdnn(num_mels, channels[0], KERNELS[0], DILATIONS[0])])
        self.blocks.extend(_SeRes2Net(channels[i], KERNELS[i], DILATIONS[i]) for i in (1, 2, 3))
        self.mfa = _Tdnn(3 * channels[3], channels[4], KERNELS[4], DILATIONS[4])
        self.asp = _AttentivePooling(channels[4], attention_channels)
        self.asp_bn = _Norm(2 * channels[4])
        self.fc = _Conv(2 * channels[4], embedding_size)

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, T), speech of one speaker each: (B, D); NaN in rows that hold nothing.

        Parameters
        ----------
        weights
            (B, F) with any F: what weighs half and more is cut out and joined, and nothing else is heard.

        Raises
        ------
        PixitError
            If the shapes do not fit each other.
        """
        weights = check_input(waveforms, weights)
        silent = silent_rows(waveforms, weights)
        if bool((weights == weights[:, :1]).all()):
            embeddings = self._embed(waveforms)
        else:  # rows of different lengths, one after the other: the network's statistics are over all that it hears
            heard = F.interpolate(weights[:, None].float(), size=waveforms.shape[1], mode="nearest")[:, 0]
            least = heard.amax(1, keepdim=True).clamp_max(0.5)
            rows = [row[kept] for row, kept in zip(waveforms, heard >= least, strict=True)]
            embeddings = torch.cat([self._embed(row[None]) for row in rows])
        return embeddings.masked_fill(silent[:, None], torch.nan)

    def _embed(self, waveforms: Tensor) -> Tensor:
        with full_precision(waveforms):
            features = self.fbank(waveforms)  # (B, M, L)
        hidden = features - features.mean(-1, keepdim=True)
        outputs = []
        for block in self.blocks:
            hidden = block(hidden)
            outputs.append(hidden)
        hidden = self.mfa(torch.cat(outputs[1:], dim=1))
        pooled: Tensor = self.fc(self.asp_bn(self.asp(hidden)))
        return pooled.squeeze(-1)


class _Conv(nn.Module):
    """A convolution over time that keeps the length, its edges mirrored."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, dilation=dilation)
        self.padding = dilation * (kernel - 1) // 2

    def forward(self, hidden: Tensor) -> Tensor:
        if self.padding:
            # a mirror needs more frames than it adds; very short input is repeated at its edges
            mode = "reflect" if hidden.shape[-1] > self.padding else "replicate"
            hidden = F.pad(hidden, (self.padding, self.padding), mode=mode)
        return self.conv(hidden)


class _Norm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden)


class _Tdnn(nn.Module):
    """Convolution, ReLU, batch normalisation."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _Conv(channels_in, channels, kernel, dilation)
        self.norm = _Norm(channels)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(hidden)))


class _Res2Net(nn.Module):
    """Eighths of the channels, each heard by the next (Gao et al., 2019)."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Tdnn(channels // 8, channels // 8, kernel, dilation) for _ in range(7))

    def forward(self, hidden: Tensor) -> Tensor:
        first, *parts = hidden.chunk(8, dim=1)
        outputs, before = [first], None
        for part, block in zip(parts, self.blocks, strict=True):
            before = block(part if before is None else part + before)
            outputs.append(before)
        return torch.cat(outputs, dim=1)


class _SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Conv(channels, bottleneck), _Conv(bottleneck, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        gates: Tensor = self.conv2(F.relu(self.conv1(hidden.mean(-1, keepdim=True)))).sigmoid()
        return gates * hidden


class _SeRes2Net(nn.Module):
    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.tdnn1 = _Tdnn(channels, channels)
        self.res2net_block = _Res2Net(channels, kernel, dilation)
        self.tdnn2 = _Tdnn(channels, channels)
        self.se_block = _SqueezeExcitation(channels)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(hidden))))


class _AttentivePooling(nn.Module):
    """Mean and standard deviation over time, each channel with an attention of its own (Okabe et al., 2018)."""

    def __init__(self, channels: int, attention_channels: int) -> None:
        super().__init__()
        self.tdnn = _Tdnn(3 * channels, attention_channels)
        self.conv = _Conv(attention_channels, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, C, L) to (B, 2 C, 1)."""
        uniform = torch.full_like(hidden[:, :1], 1 / hidden.shape[-1])
        context = [part.expand_as(hidden) for part in _moments(hidden, uniform)]
        attention = self.conv(self.tdnn(torch.cat((hidden, *context), dim=1)).tanh()).softmax(-1)
        return torch.cat(_moments(hidden, attention), dim=1)


def _moments(hidden: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    hidden = hidden.float()
    mean = (weights * hidden).sum(-1, keepdim=True)
    variance = (weights * (hidden - mean).square()).sum(-1, keepdim=True)
    return mean, variance.clamp_min(1e-12).sqrt()


class SpeechBrainFbank(nn.Module):
    """Log mel energies in decibels as SpeechBrain's ``Fbank`` gives them: (B, T) -> (B, M, L); no parameters."""

    def __init__(self, num_mels: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.size, self.step = round(0.025 * sample_rate_hz), round(0.010 * sample_rate_hz)
        self.register_buffer("window", torch.hamming_window(self.size), persistent=False)
        self.register_buffer("bank", _speechbrain_mels(num_mels, self.size, sample_rate_hz), persistent=False)
        self.window: Tensor
        self.bank: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the features of waveforms (B, T), at most 80 dB below the loudest of a row."""
        spectrum = torch.stft(
            waveforms.float(),
            self.size,
            self.step,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        decibels = 10 * (self.bank @ spectrum.abs().square()).clamp_min(1e-10).log10()
        return torch.maximum(decibels, decibels.amax((-2, -1), keepdim=True) - 80)


def _speechbrain_mels(num_mels: int, fft_size: int, sample_rate_hz: int) -> Tensor:
    """Return triangles (M, bins), as wide on the right as on the left: to the next lower centre."""
    high = 2595 * math.log10(1 + sample_rate_hz / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, high, num_mels + 2) / 2595) - 1)
    bins = torch.linspace(0, sample_rate_hz // 2, fft_size // 2 + 1)
    slopes = (bins - edges[1:-1, None]) / edges.diff()[:-1, None]
    return torch.minimum(1 + slopes, 1 - slopes).clamp_min(0)
