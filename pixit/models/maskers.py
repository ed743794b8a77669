"""Maskers: from the features of a window (B, C, L) to one mask per local speaker (B, K, C, L).

A masker returns ``(masks, embeddings)``; `embeddings` (B, K, E, L), where it has them (``embedding_size`` > 0), are
handed to the diarization head beside the masked representation. ``complex_masks`` says how the masks multiply.
"""

from __future__ import annotations

import inspect
import itertools
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Any] = {
    "relu": nn.ReLU,
    "prelu": nn.PReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
    "softmax": lambda: nn.Softmax(dim=-2),  # over the channels of each speaker, as in asteroid
}


def build_masker(
    name: str, in_channels: int, out_channels: int, num_sources: int, **arguments: Any
) -> nn.Module:
    """Return the masker `name`: ``dprnn``, ``bandsplit``, or a module of `asteroid.masknn`.

    Its ``config`` holds the name and every argument but the sizes, the defaults too. A ValueError if there is
    no masker of this name, or it does not take one of `arguments`.
    """
    kind = MASKERS[name] if name in MASKERS else partial(AsteroidMasker, name)
    try:
        masker = kind(in_channels, out_channels, num_sources, **arguments)
    except TypeError as error:
        raise ValueError(f"masker {name!r}: {error}") from None
    inner = masker.masker if isinstance(masker, AsteroidMasker) else masker
    parameters = inspect.signature(type(inner)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "out_chan"}
    # None follows from the sizes: the configuration says what it came to
    known = {key: getattr(inner, key) if value is None else value for key, value in defaults.items()}
    masker.config = {"name": name} | known | arguments
    return masker


class LayerNorm(nn.Module):
    """Normalise the axes `first` to `last` of (B, C, …), with an affine map of each channel behind it."""

    def __init__(self, first: int, last: int | None, num_channels: int) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.gamma = nn.Parameter(torch.ones(num_channels))
        self.beta = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        dims = list(range(x.dim()))[self.first : self.last]
        x = x.float()  # where precision is mixed: a mean of many numbers needs more than 8 bits
        mean = x.mean(dims, keepdim=True)  # `var_mean` of both takes four times as long
        variance = x.var(dims, keepdim=True, unbiased=False)
        shape = (-1,) + (1,) * (x.dim() - 2)
        scale = self.gamma.view(shape) / (variance + 1e-8).sqrt()
        return torch.addcmul(self.beta.view(shape) - mean * scale, x, scale)  # one pass over x


NORMS: dict[str, Any] = {
    "gLN": partial(
        LayerNorm, 1, None
    ),  # over all but the batch (Luo & Mesgarani, "Conv-TasNet", 2019, eq. 21)
    "cLN": partial(LayerNorm, 1, 2),  # over the channels of each frame
    "fgLN": partial(LayerNorm, 2, None),  # over the frames of each channel
}
RNNS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


def _choose(table: dict[str, Any], name: str, option: str) -> Any:
    if name not in table:
        raise ValueError(f"{option}={name!r}: expected one of {', '.join(table)}")
    return table[name]


class _RNN(nn.Module):
    """A recurrent layer under the name ``rnn``, as in pyannote's checkpoints: (L, …, C) -> (L, …, C')."""

    def __init__(self, rnn_type: str, in_size: int, hid_size: int, bidirectional: bool, **more: Any) -> None:
        super().__init__()
        kind = _choose(RNNS, rnn_type.upper(), "rnn_type")
        self.rnn = kind(in_size, hid_size, bidirectional=bidirectional, **more)
        self.output_size = hid_size * (2 if bidirectional else 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.rnn(x.flatten(1, -2))[0]).unflatten(1, x.shape[1:-1])


class DPRNNBlock(nn.Module):
    """One pass within the chunks and one across them (Luo et al., "Dual-path RNN", ICASSP 2020, fig. 1B)."""

    def __init__(
        self, bn_chan: int, hid_size: int, norm_type: str, bidirectional: bool, rnn_type: str, **rnn: Any
    ) -> None:
        super().__init__()
        self.intra_RNN = _RNN(rnn_type, bn_chan, hid_size, True, **rnn)
        self.inter_RNN = _RNN(rnn_type, bn_chan, hid_size, bidirectional, **rnn)
        self.intra_linear = nn.Linear(self.intra_RNN.output_size, bn_chan)
        self.intra_norm = _choose(NORMS, norm_type, "norm_type")(bn_chan)
        self.inter_linear = nn.Linear(self.inter_RNN.output_size, bn_chan)
        self.inter_norm = _choose(NORMS, norm_type, "norm_type")(bn_chan)

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (S, B, P, N), S frames of each of P chunks: what an RNN runs along comes first."""
        x = x + self._normalise(self.intra_linear(self.intra_RNN(x)), self.intra_norm)
        x = x.transpose(0, 2).contiguous()  # (P, B, S, N)
        x = x + self._normalise(self.inter_linear(self.inter_RNN(x)), self.inter_norm)
        return x.transpose(0, 2).contiguous()

    @staticmethod
    def _normalise(x: Tensor, norm: nn.Module) -> Tensor:
        return cast(Tensor, norm(x.permute(1, 3, 0, 2))).permute(2, 0, 3, 1)  # the norm takes (B, N, …)


class DPRNN(nn.Module):
    """The paper's masker: a dual-path RNN over half-overlapping chunks of `chunk_size` frames."""

    complex_masks = False
    embedding_size = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_sources: int,
        n_repeats: int = 6,
        bn_chan: int = 128,
        hid_size: int = 128,
        chunk_size: int = 100,
        hop_size: int | None = None,
        norm_type: str = "gLN",
        mask_act: str = "relu",
        rnn_type: str = "LSTM",
        bidirectional: bool = True,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_sources, self.chunk_size = num_sources, chunk_size
        self.hop_size = hop_size or chunk_size // 2
        norm = _choose(NORMS, norm_type, "norm_type")(in_channels)
        self.bottleneck = nn.Sequential(norm, nn.Conv1d(in_channels, bn_chan, 1))
        rnn: dict[str, Any] = {"rnn_type": rnn_type, "num_layers": num_layers, "dropout": dropout}
        blocks = (DPRNNBlock(bn_chan, hid_size, norm_type, bidirectional, **rnn) for _ in range(n_repeats))
        self.net = nn.Sequential(*blocks)
        self.first_out = nn.Sequential(nn.PReLU(), nn.Conv2d(bn_chan, num_sources * bn_chan, 1))
        self.net_out = nn.Sequential(nn.Conv1d(bn_chan, bn_chan, 1), nn.Tanh())
        self.net_gate = nn.Sequential(nn.Conv1d(bn_chan, bn_chan, 1), nn.Sigmoid())
        self.mask_net = nn.Conv1d(bn_chan, out_channels, 1, bias=False)
        self.output_act = _choose(ACTIVATIONS, mask_act, "mask_act")()

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        num_frames, size = features.shape[-1], self.chunk_size
        x = self.bottleneck(features)  # (B, N, L)
        geometry = {"kernel_size": (size, 1), "padding": (size, 0), "stride": (self.hop_size, 1)}
        padded = F.pad(x, (size, size))
        chunks = padded.unfold(-1, size, self.hop_size).permute(3, 0, 2, 1)  # (size, B, chunks, N)
        x = self.net(chunks.contiguous()).permute(1, 3, 0, 2)  # (B, N, size, chunks)
        x = self.first_out(x).unflatten(1, (self.num_sources, -1)).flatten(0, 1)  # (B·K, N, size, chunks)
        x = F.fold(x.flatten(1, 2), (num_frames, 1), **geometry).squeeze(-1)  # (B·K, N, L)
        x = self.net_out(x) * self.net_gate(x)
        masks = self.mask_net(x).unflatten(0, (-1, self.num_sources))  # (B, K, C, L)
        return self.output_act(masks), None


class BandSplit(nn.Module):
    """A light masker that trains and runs on a CPU (after Luo & Yu, "Band-split RNN", 2023).

    The spectrum is split into bands, of `band_widths` bins from 0 Hz upwards; an LSTM that the bands share
    runs over time, a perceptron that the frames share mixes the bands, again and again. Masks are complex.
    """

    complex_masks = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_sources: int,
        n_repeats: int = 4,
        band_widths: list[int] | None = None,
        channels: int = 64,
        hid_size: int = 64,
        mixing_size: int = 256,
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError("masker 'bandsplit' takes no WavLM features: set wavlm to null")
        bins = out_channels // 2
        self.band_widths = band_widths or default_band_widths(bins)
        if sum(self.band_widths) != bins:
            raise ValueError(f"band_widths sum to {sum(self.band_widths)}, expected {bins} frequency bins")
        self.num_sources, self.embedding_size = num_sources, channels
        self.split = nn.ModuleList(nn.Linear(3 * width, channels) for width in self.band_widths)
        size = channels * len(self.band_widths)
        self.over_time = nn.ModuleList(_TimeBlock(channels, hid_size) for _ in range(n_repeats))
        self.over_bands = nn.ModuleList(_BandBlock(size, mixing_size) for _ in range(n_repeats))
        self.norm = nn.LayerNorm(channels)
        self.to_sources = nn.Linear(channels, num_sources * channels)
        wide = 2 * channels
        self.to_masks = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, 4 * width), nn.GLU())
            for width in self.band_widths
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = self._split_bands(features)  # (L, B, S, H), S bands: what the LSTMs run along comes first
        for over_time, over_bands in zip(self.over_time, self.over_bands, strict=True):
            x = over_bands(over_time(x))
        x = self.to_sources(self.norm(x)).unflatten(-1, (self.num_sources, -1))  # (L, B, S, K, H)
        x = F.silu(x.permute(1, 3, 2, 0, 4))  # (B, K, S, L, H)
        # unbind: the gradients of slices taken one by one would each be as large as x
        bands = [to_mask(band) for band, to_mask in zip(x.unbind(2), self.to_masks, strict=True)]
        real, imaginary = zip(*(band.chunk(2, dim=-1) for band in bands), strict=True)
        masks = torch.cat((*real, *imaginary), dim=-1)
        return masks.transpose(2, 3), x.mean(2).transpose(2, 3)

    def _split_bands(self, features: Tensor) -> Tensor:
        """Return band features (L, B, S, H): real and imaginary parts, compressed, and the log magnitude."""
        level = features.square().mean((1, 2), keepdim=True).sqrt()
        real, imaginary = (features / (level + 1e-6)).chunk(2, dim=1)
        power = real.square() + imaginary.square() + 1e-8
        compress = power.pow(-0.35)  # magnitude to the power of 0.3
        parts = torch.stack((real * compress, imaginary * compress, 0.2 * power.log()), dim=-1)
        bands = parts.permute(2, 0, 1, 3).split(self.band_widths, dim=2)  # each (L, B, width, 3)
        return torch.stack([layer(band.flatten(2)) for layer, band in zip(self.split, bands, strict=True)], 2)


class _TimeBlock(nn.Module):
    """A residual bidirectional LSTM over time, the same for every band: (L, B, S, H) -> (L, B, S, H)."""

    def __init__(self, channels: int, hid_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.rnn = nn.LSTM(channels, hid_size, bidirectional=True)
        self.project = nn.Linear(2 * hid_size, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(self.norm(x).flatten(1, 2))[0]
        return x + self.project(y).unflatten(1, x.shape[1:3])


class _BandBlock(nn.Module):
    """A residual perceptron over all bands of a frame: (L, B, S, H) -> (L, B, S, H)."""

    def __init__(self, size: int, mixing_size: int) -> None:
        super().__init__()
        layers = nn.Linear(size, mixing_size), nn.SiLU(), nn.Linear(mixing_size, size)
        self.net = nn.Sequential(nn.LayerNorm(size), *layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x.flatten(2)).unflatten(-1, x.shape[2:])  # the net takes (L, B, S·H)


def default_band_widths(bins: int) -> list[int]:
    """Split `bins` linear frequency bins into 13 bands, narrow at low frequencies where pitch is."""
    pattern = [8, 8, 8, 8, 12, 12, 12, 12, 20, 20, 20, 58, 59]  # for 257 bins up to 8 kHz
    edges = [round(edge * bins / sum(pattern)) for edge in itertools.accumulate(pattern, initial=0)]
    return [b - a for a, b in itertools.pairwise(edges)]


class AsteroidMasker(nn.Module):
    """Any masker of `asteroid.masknn`, by its name."""

    complex_masks = False
    embedding_size = 0

    def __init__(self, name: str, in_channels: int, out_channels: int, num_sources: int, **more: Any) -> None:
        super().__init__()
        known = ", ".join(MASKERS)
        try:
            from asteroid import masknn
        except (ImportError, OSError) as error:  # OSError: a torchaudio that does not fit torch
            raise ValueError(
                f"masker {name!r}: expected one of {known}; modules of asteroid.masknn need "
                f"pip install 'pixit-audio[asteroid]' ({error})"
            ) from None
        kind = getattr(masknn, name, None)
        if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
            raise ValueError(f"masker {name!r}: expected one of {known}, or a module of asteroid.masknn")
        sizes = {"out_chan": out_channels} if "out_chan" in inspect.signature(kind).parameters else {}
        if in_channels != out_channels and not sizes:
            raise ValueError(f"masker {name!r} takes no WavLM features: set wavlm to null")
        self.masker = kind(in_channels, num_sources, **sizes, **more)

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        masks = self.masker(features)
        # TDConvNet++ returns weights for mixture consistency too, which is the pipeline's part here
        return masks[0] if isinstance(masks, tuple) else masks, None


MASKERS: dict[str, Any] = {"dprnn": DPRNN, "bandsplit": BandSplit}
