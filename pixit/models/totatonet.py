"""ToTaToNet: joint separation and diarization of one window (Kalda et al., "PixIT", Odyssey 2024, section 3).

    waveform ──> encoder ──> (+ WavLM features) ──> masker ──> K masked representations
                                                                 ├──> decoder ─────────> sources    (B, K, T)
                                                                 └──> linear layers ───> activities (B, K, F)

With the default arguments and ``wavlm={}`` this is the network of the paper, tensor for tensor: names and shapes
of the ``state_dict`` are those of pyannote.audio, so that its checkpoints load. Departures are options.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixit.models.filterbank import Decoder, Encoder, full_precision
from pixit.models.maskers import build_masker
from pixit.models.wavlm import LARGE, WAVLM_RATE_HZ, build_wavlm, wavlm_features
from pixit.types import FrameGrid, LocalOutput, PixitError

ENCODER_DECODER: dict[str, Any] = {
    "fb_name": "free",
    "kernel_size": 32,
    "n_filters": 64,
    "stride": 16,
    "center": False,
}
LINEAR: dict[str, Any] = {"hidden_size": 64, "num_layers": 2}
DIAR: dict[str, Any] = {"frames_per_second": 125, "relative_level": False}
MOST_SPEAKERS, LONGEST_WINDOW_S = 32, 600
"""Far beyond what such a network can learn: a configuration that asks for more is damaged."""


class ToTaToNet(nn.Module):
    """Separate and diarize windows of up to `n_sources` speakers.

    Parameters
    ----------
    n_sources
        Number K of local speakers.
    encoder_decoder
        Differences from `ENCODER_DECODER`. ``fb_name`` is ``"free"`` (learned) or ``"stft"``; with
        ``center`` the window is padded so that its first and last samples are seen by as many frames as the
        others (not in the paper).
    masker
        ``{"name": …, **arguments}``: ``"dprnn"`` (the paper's dual-path RNN), ``"bandsplit"`` (light, for the
        CPU; needs the ``stft`` encoder) or the name of an `asteroid.masknn` module.
    linear
        Differences from `LINEAR`: the diarization head's layers.
    diar
        Differences from `DIAR`: the diarization head's frame rate; and whether it hears the sources relative to the
        level of the window (not in the paper): how loud a recording is says nothing about who talks.
    wavlm
        None for no WavLM, else differences from the configuration of WavLM-large (``{}`` for the paper's).
        The weights come with the checkpoint, or from `pixit.models.wavlm.load_pretrained_wavlm`.
    sample_rate_hz, window_s
        What the network is trained on.

    Examples
    --------
    >>> network = ToTaToNet(masker={"name": "dprnn", "n_repeats": 1, "bn_chan": 8, "hid_size": 8})
    >>> output = network(torch.zeros(1, 1, 80000))  # 5 s at 16 kHz
    >>> output.sources.shape, output.activities.shape
    (torch.Size([1, 3, 80000]), torch.Size([1, 3, 624]))
    """

    def __init__(
        self,
        n_sources: int = 3,
        encoder_decoder: dict[str, Any] | None = None,
        masker: dict[str, Any] | None = None,
        linear: dict[str, Any] | None = None,
        diar: dict[str, Any] | None = None,
        wavlm: dict[str, Any] | None = None,
        sample_rate_hz: int = 16000,
        window_s: float = 5.0,
    ) -> None:
        super().__init__()
        if not 1 <= n_sources <= MOST_SPEAKERS:
            raise ValueError(f"n_sources={n_sources}: expected 1 to {MOST_SPEAKERS}")
        if not 0 < window_s <= LONGEST_WINDOW_S:
            raise ValueError(f"window_s={window_s}: expected more than 0 and at most {LONGEST_WINDOW_S} s")
        filterbank = fill_defaults(ENCODER_DECODER, encoder_decoder, "encoder_decoder")
        head = fill_defaults(LINEAR, linear, "linear")
        diarization = fill_defaults(DIAR, diar, "diar")
        self.sample_rate_hz = sample_rate_hz
        self.num_speakers = n_sources
        self.window_samples = round(window_s * sample_rate_hz)

        self.center = filterbank.pop("center")
        self.encoder = Encoder(**filterbank)
        self.decoder = Decoder(**filterbank)
        self.kernel_size, self.stride = filterbank["kernel_size"], filterbank["stride"]

        if wavlm is not None and sample_rate_hz != WAVLM_RATE_HZ:
            raise ValueError(f"wavlm: hears {WAVLM_RATE_HZ} Hz only, found sample_rate_hz={sample_rate_hz}")
        self.wavlm: Any = build_wavlm(wavlm) if wavlm is not None else None
        wavlm_size = self.wavlm.config.hidden_size if self.wavlm is not None else 0
        self.masker: Any = build_masker(
            **{"name": "dprnn"} | (masker or {}),
            in_channels=self.encoder.num_features + wavlm_size,
            out_channels=self.encoder.num_features,
            num_sources=n_sources,
        )
        self.pooling = self._pooling(diarization["frames_per_second"])
        self.relative_level: bool = diarization["relative_level"]
        bins = self.encoder.num_features // (2 if self.masker.complex_masks else 1)
        sizes = [bins + self.masker.embedding_size, *[head["hidden_size"]] * head["num_layers"]]
        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.classifier = nn.Linear(sizes[-1] if self.linear else 1, 1)
        self.config: dict[str, Any] = {
            "n_sources": n_sources,
            "encoder_decoder": filterbank | {"center": self.center},
            "masker": self.masker.config,
            "linear": head,
            "diar": diarization,
            "wavlm": None if wavlm is None else LARGE | wavlm,
            "sample_rate_hz": sample_rate_hz,
            "window_s": window_s,
        }

    def _pooling(self, frames_per_second: float) -> int:
        """Return how many encoder frames make one diarization frame."""
        pooling = self.sample_rate_hz / (frames_per_second * self.stride)
        if pooling < 1 or abs(pooling - round(pooling)) > 1e-9:
            raise ValueError(
                f"frames_per_second={frames_per_second}: expected the encoder's frame rate "
                f"{self.sample_rate_hz / self.stride:g} divided by a whole number"
            )
        return round(pooling)

    @property
    def frame_grid(self) -> FrameGrid:
        """Where the frames of the activities lie."""
        size_samples = self.kernel_size + (self.pooling - 1) * self.stride
        return FrameGrid(self.stride * self.pooling, size_samples, start_samples=-self._padding_samples)

    @property
    def _padding_samples(self) -> int:
        return self.kernel_size - self.stride if self.center else 0

    def num_frames(self, num_samples: int) -> int:
        """Return the number of activity frames that `num_samples` samples give."""
        encoder_frames = (self._padded_samples(num_samples) - self.kernel_size) // self.stride + 1
        return encoder_frames // self.pooling

    def _padded_samples(self, num_samples: int) -> int:
        """Length with which the encoder sees every sample: whole frames, if centred."""
        if not self.center:
            return num_samples
        total = num_samples + 2 * self._padding_samples
        return total + (-(total - self.kernel_size)) % self.stride

    def forward(self, waveforms: Tensor) -> LocalOutput:
        """Separate and diarize waveforms (B, 1, T): ``activity_logits`` (B, K, F) and ``sources`` (B, K, T).

        Raises
        ------
        PixitError
            If T is too short for one frame.
        """
        num_samples = waveforms.shape[-1]
        if self.num_frames(num_samples) < 1:
            raise PixitError(
                f"{num_samples} samples give no frame; expected {self.frame_grid.size_samples} or more"
            )
        left = self._padding_samples
        right = self._padded_samples(num_samples) - num_samples - left
        representation = self.encoder(F.pad(waveforms, (left, right)))  # (B, C, L)

        features = representation
        if self.wavlm is not None:
            frames = representation.shape[-1]
            # where the encoder pads, the features belong to the middle of its frames
            speech = wavlm_features(self.wavlm, waveforms, self.stride, frames, -(left // 2))
            features = torch.cat((representation, speech), dim=1)
        masks, embeddings = self.masker(features)  # (B, K, C, L), (B, K, E, L)
        masked = apply_masks(masks, representation, self.masker.complex_masks)

        decoded = self.decoder(masked)[..., left:]  # (B, K, ≤ T)
        sources = F.pad(decoded, (0, num_samples - decoded.shape[-1]))
        with full_precision(masked):
            logits = self._diarize(masked.float(), representation.float(), embeddings)
        return LocalOutput(logits, sources)

    def _diarize(self, masked: Tensor, representation: Tensor, embeddings: Tensor | None) -> Tensor:
        """Return activity logits (B, K, F) of masked representations (B, K, C, L), masked of (B, C, L)."""
        if self.relative_level:
            masked = masked / (representation.square().mean((1, 2))[:, None, None, None] + 1e-12).sqrt()
        if self.masker.complex_masks:  # averages of complex numbers say nothing: use log magnitudes
            real, imaginary = masked.chunk(2, dim=2)
            masked = torch.log(1e-5 + real.square() + imaginary.square())
            if self.relative_level:
                masked = 0.2 * masked  # between -2.3 and about 1.5, as large as the embeddings
        if embeddings is not None:
            masked = torch.cat((masked, embeddings.float()), dim=2)
        hidden = F.avg_pool1d(masked.flatten(0, 1), self.pooling).transpose(1, 2)  # (B·K, F, C)
        for layer in self.linear:
            hidden = F.leaky_relu(layer(hidden))
        if not self.linear:
            hidden = hidden.square().sum(-1, keepdim=True)  # the energy alone decides
        return self.classifier(hidden).squeeze(-1).unflatten(0, (-1, self.num_speakers))


def fill_defaults(defaults: dict[str, Any], given: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """Return the defaults with the differences that are given; a ValueError if they know no such key."""
    unknown = sorted(set(given or {}) - set(defaults))
    if unknown:
        raise ValueError(f"{name}: unknown key {unknown[0]!r}; expected {', '.join(defaults)}")
    return defaults | (given or {})


def apply_masks(masks: Tensor, representation: Tensor, complex_masks: bool) -> Tensor:
    """Multiply masks (B, K, C, L) with a representation (B, C, L).

    Complex masks and representations hold their real parts in the first half of the channels and their
    imaginary parts in the second.
    """
    representation = representation.unsqueeze(1)
    if not complex_masks:
        return masks * representation
    mask_re, mask_im = masks.chunk(2, dim=2)
    rep_re, rep_im = representation.chunk(2, dim=2)
    return torch.cat((mask_re * rep_re - mask_im * rep_im, mask_re * rep_im + mask_im * rep_re), dim=2)
