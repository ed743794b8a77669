"""PyanNet: who speaks when in one window, without separating it (``pyannote/segmentation-3.0`` and its like).

    waveform ──> SincNet ──> LSTM ──> linear layers ──> classes ──> activities (B, K, F)

Tensor for tensor the network of pyannote.audio, with the names that its weights have there. Its classes are either
the speakers themselves or the sets of up to so many of them that talk at once (Plaquet & Bredin, "Powerset
multi-class cross entropy loss for neural speaker diarization", Interspeech 2023).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixit.models.totatonet import fill_defaults
from pixit.types import FrameGrid, LocalActivities, PixitError

SINCNET: dict[str, Any] = {"stride": 10}
LSTM: dict[str, Any] = {
    "hidden_size": 128,
    "num_layers": 2,
    "bidirectional": True,
    "monolithic": True,
    "dropout": 0.0,
}
LINEAR: dict[str, Any] = {"hidden_size": 128, "num_layers": 2}
FILTERS, FILTER_SAMPLES, MIN_LOW_HZ, MIN_BAND_HZ = 80, 251, 50.0, 50.0
CHANNELS, KERNEL, POOL = 60, 5, 3
"""Of the two convolutions that follow the filters, and of the pooling after each of the three."""
CERTAIN = 30.0
"""Logit of a speaker who is in the likeliest set of speakers: an activity of 1."""
MOST_SPEAKERS, LONGEST_WINDOW_S = 32, 600
MOST_CLASSES = 10_000


class PyanNet(nn.Module):
    """Diarize windows of up to `num_speakers` speakers.

    Parameters
    ----------
    num_speakers
        Number K of local speakers.
    powerset_max
        The most speakers at once, where the classes are sets of speakers; None where they are the speakers.
    sincnet, lstm, linear
        Differences from `SINCNET`, `LSTM` and `LINEAR`; ``monolithic`` says whether the layers of the LSTM are
        one module or, with the same result, one each.
    sample_rate_hz, window_s
        What the network is trained on; 16 kHz is the only rate that its filters are made for.

    Examples
    --------
    >>> network = PyanNet().eval()
    >>> network(torch.zeros(1, 1, 160000)).activities.shape  # 10 s at 16 kHz
    torch.Size([1, 3, 589])
    """

    separates = False
    """It gives no sources."""

    def __init__(
        self,
        num_speakers: int = 3,
        powerset_max: int | None = 2,
        sincnet: dict[str, Any] | None = None,
        lstm: dict[str, Any] | None = None,
        linear: dict[str, Any] | None = None,
        sample_rate_hz: int = 16000,
        window_s: float = 10.0,
    ) -> None:
        super().__init__()
        if not 1 <= num_speakers <= MOST_SPEAKERS or not 1 <= (powerset_max or 1) <= num_speakers:
            raise ValueError(
                f"num_speakers={num_speakers}, powerset_max={powerset_max}: expected 1 to {MOST_SPEAKERS} speakers, "
                "and no more of them at once"
            )
        if sample_rate_hz != 16000 or not 0 < window_s <= LONGEST_WINDOW_S:
            raise ValueError(
                f"sample_rate_hz={sample_rate_hz}, window_s={window_s}: expected 16000 Hz, and more than 0 and at "
                f"most {LONGEST_WINDOW_S} s"
            )
        front = fill_defaults(SINCNET, sincnet, "sincnet")
        if front["stride"] < 1:
            raise ValueError(f"sincnet: stride={front['stride']}: expected at least 1")
        recurrent = fill_defaults(LSTM, lstm, "lstm")
        head = fill_defaults(LINEAR, linear, "linear")
        self.sample_rate_hz, self.num_speakers = sample_rate_hz, num_speakers
        self.window_samples = round(window_s * sample_rate_hz)
        sets = powerset(num_speakers, powerset_max) if powerset_max else torch.zeros(0, num_speakers)
        self.register_buffer("sets", sets, persistent=False)  # a constant stays out of the checkpoint
        self.sets: Tensor

        self.sincnet = SincNet(front["stride"], sample_rate_hz)
        self.lstm = _recurrent_layers(**recurrent)
        sizes = [recurrent["hidden_size"] * (1 + recurrent["bidirectional"])]
        sizes += [head["hidden_size"]] * head["num_layers"]
        if head["num_layers"]:  # an empty list would be a module that pyannote's has not
            self.linear: Any = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.num_linear = head["num_layers"]
        self.classifier = nn.Linear(sizes[-1], len(sets) or num_speakers)
        self.config: dict[str, Any] = {
            "num_speakers": num_speakers,
            "powerset_max": powerset_max,
            "sincnet": front,
            "lstm": recurrent,
            "linear": head,
            "sample_rate_hz": sample_rate_hz,
            "window_s": window_s,
        }

    @property
    def frame_grid(self) -> FrameGrid:
        """Where the frames of the activities lie."""
        return self.sincnet.frame_grid

    def num_frames(self, num_samples: int) -> int:
        """Return the number of activity frames that `num_samples` samples give."""
        return self.sincnet.num_frames(num_samples)

    def classify(self, waveforms: Tensor) -> Tensor:
        """Return the logits of the classes for waveforms (B, 1, T), (B, F, C).

        Raises
        ------
        PixitError
            If T is too short for one frame.
        """
        if self.num_frames(waveforms.shape[-1]) < 1:
            raise PixitError(
                f"{waveforms.shape[-1]} samples give no frame; expected {self.frame_grid.size_samples} or more"
            )
        hidden = self.sincnet(waveforms).transpose(1, 2)  # (B, F, C)
        for layer in [self.lstm] if isinstance(self.lstm, nn.LSTM) else self.lstm:
            hidden, _ = layer(hidden)
        for number in range(self.num_linear):
            hidden = F.leaky_relu(self.linear[number](hidden))
        logits: Tensor = self.classifier(hidden)
        return logits

    def forward(self, waveforms: Tensor) -> LocalActivities:
        """Diarize waveforms (B, 1, T): ``activity_logits`` (B, K, F).

        Where classes are sets of speakers, the likeliest set decides: activities are 0 or 1.

        Raises
        ------
        PixitError
            If T is too short for one frame.
        """
        logits = self.classify(waveforms)
        if len(self.sets):
            # a class that is NaN stays NaN: the pipeline refuses it
            spoilt = 0 * logits.sum(-1, keepdim=True)
            logits = CERTAIN * (2 * self.sets[logits.argmax(-1)] - 1) + spoilt
        return LocalActivities(logits.transpose(1, 2))


class SincNet(nn.Module):
    """Band-pass filters and convolutions on the waveform: (B, 1, T) -> (B, 60, F)."""

    def __init__(self, stride: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.steps = ((FILTER_SAMPLES, stride), (POOL, POOL), *[(KERNEL, 1), (POOL, POOL)] * 2)
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        filters = nn.Module()  # the filters are a part of a part, as the names of the weights want it
        filters.filterbank = SincFilters(stride, sample_rate_hz)
        convolutions = (nn.Conv1d(size, CHANNELS, KERNEL) for size in (FILTERS, CHANNELS))
        self.conv1d = nn.ModuleList([filters, *convolutions])
        self.norm1d = nn.ModuleList(
            nn.InstanceNorm1d(size, affine=True) for size in (FILTERS, CHANNELS, CHANNELS)
        )

    @property
    def frame_grid(self) -> FrameGrid:
        """Where the frames lie."""
        size, step = 1, 1
        for kernel, stride in self.steps:
            size, step = size + (kernel - 1) * step, step * stride
        return FrameGrid(step, size)

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames that `num_samples` samples give."""
        for kernel, stride in self.steps:
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the features (B, 60, F) of waveforms (B, 1, T)."""
        filters: Any = self.conv1d[0]
        hidden = filters.filterbank(self.wav_norm1d(waveforms)).abs()
        for number, norm in enumerate(self.norm1d):
            if number:
                hidden = self.conv1d[number](hidden)
            hidden = F.leaky_relu(norm(F.max_pool1d(hidden, POOL)))
        return hidden


class SincFilters(nn.Module):
    """Learned band-pass filters, even ones and then odd ones: (B, 1, T) -> (B, 80, L).

    After Ravanelli & Bengio, "Speaker recognition from raw waveform with SincNet" (SLT 2018): a filter is the
    difference of two sinc functions under a Hamming window, and only its two edges are learned. The odd filters
    are those shifted by a quarter of a period (Pariente et al., "Filterbank design for end-to-end speech
    separation", ICASSP 2020).
    """

    window_: Tensor
    n_: Tensor

    def __init__(self, stride: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.stride, self.sample_rate_hz = stride, sample_rate_hz
        half = FILTER_SAMPLES // 2
        # evenly spaced on the mel scale at first
        low, high = (
            math.log10(1 + 30 / 700),
            math.log10(1 + (sample_rate_hz / 2 - MIN_LOW_HZ - MIN_BAND_HZ) / 700),
        )
        edges = 700 * (10 ** torch.linspace(low, high, FILTERS // 2 + 1) - 1)
        self.low_hz_ = nn.Parameter(edges[:-1, None].clone())
        self.band_hz_ = nn.Parameter(edges.diff()[:, None])
        # the half of the window before the centre, and 2 π times the seconds there: checkpoints hold both
        window = torch.hamming_window(FILTER_SAMPLES, periodic=False, dtype=torch.float64)[:half]
        self.register_buffer("window_", window.float())
        self.register_buffer("n_", 2 * torch.pi * torch.arange(-half, 0.0)[None] / sample_rate_hz)

    def filters(self) -> Tensor:
        """Return the impulse responses, (80, 1, 251)."""
        low_hz = MIN_LOW_HZ + self.low_hz_.abs()
        high_hz = (low_hz + MIN_BAND_HZ + self.band_hz_.abs()).clamp(MIN_LOW_HZ, self.sample_rate_hz / 2)
        low, high, scale = low_hz * self.n_, high_hz * self.n_, self.window_ / (self.n_ * (high_hz - low_hz))
        even = (high.sin() - low.sin()) * scale
        odd = (low.cos() - high.cos()) * scale
        centre = torch.ones_like(low_hz)
        mirrored = (
            torch.cat((even, centre, even.flip(1)), dim=1),
            torch.cat((odd, 0 * centre, -odd.flip(1)), dim=1),
        )
        return torch.cat(mirrored)[:, None]

    def forward(self, waveforms: Tensor) -> Tensor:
        """Filter waveforms (B, 1, T)."""
        return F.conv1d(waveforms, self.filters(), stride=self.stride)


def powerset(num_speakers: int, most: int) -> Tensor:
    """Return the sets of up to `most` of the speakers, the small ones first, as ones and zeros (sets, K)."""
    sets = []
    for size in range(most + 1):
        for members in itertools.combinations(range(num_speakers), size):
            sets.append([float(speaker in members) for speaker in range(num_speakers)])
            if len(sets) > MOST_CLASSES:
                raise ValueError(f"up to {most} of {num_speakers} speakers at once: too many sets")
    return torch.tensor(sets)


def _recurrent_layers(
    hidden_size: int, num_layers: int, bidirectional: bool, monolithic: bool, dropout: float
) -> nn.LSTM | nn.ModuleList:
    """Return the LSTM as one module, or a list of its layers."""
    shared: dict[str, Any] = {"bidirectional": bidirectional, "batch_first": True}
    if monolithic:
        return nn.LSTM(CHANNELS, hidden_size, num_layers, dropout=dropout, **shared)
    widths = [CHANNELS] + [hidden_size * (1 + bidirectional)] * (num_layers - 1)
    return nn.ModuleList(nn.LSTM(width, hidden_size, **shared) for width in widths)
