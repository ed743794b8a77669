"""WavLM features (Chen et al., "WavLM", 2022): built from a configuration, never downloaded by a constructor."""

from __future__ import annotations

import math
from pickle import UnpicklingError
from typing import Any

import huggingface_hub.errors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from pixit.types import PixitError, one_line

WAVLM_RATE_HZ = 16000

LARGE: dict[str, Any] = {
    # sizes of WavLM-large, as differences from transformers' WavLMConfig
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    # What transformers would do in training mode is off unless asked for: SpecAugment and layerdrop draw
    # from NumPy's global generator, and layers that are left out stop distributed training.
    "apply_spec_augment": False,
    "layerdrop": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "hidden_dropout": 0.0,
}

_INSTALL = "pip install 'pixit-audio[wavlm]'"

# transformers 5 checks the types of a configuration with a class of errors that older hubs do not have
_INVALID = (TypeError, ValueError, getattr(huggingface_hub.errors, "StrictDataclassError", ValueError))


def build_wavlm(differences: dict[str, Any]) -> Any:
    """Return a `transformers.WavLMModel` with random weights; a PixitError if it cannot be made.

    `differences` are from WavLM-large (`LARGE`), under the names of `transformers.WavLMConfig`.
    """
    transformers = _transformers()
    unknown = sorted(set(differences) - set(transformers.WavLMConfig().to_dict()))
    if unknown:
        raise PixitError(
            f"wavlm: unknown key {unknown[0]!r}; expected the names of transformers.WavLMConfig, as hidden_size"
        )
    try:
        wavlm = transformers.WavLMModel(transformers.WavLMConfig(**(LARGE | differences)))
    except _INVALID as error:
        raise PixitError(f"wavlm: {one_line(error)}; expected sizes that fit each other") from None
    return _without_unused(wavlm)


def wavlm_features(
    wavlm: Any, waveforms: Tensor, stride: int, num_frames: int, first_sample: int = 0
) -> Tensor:
    """Return the last hidden states for waveforms (B, 1, T) at the encoder's frame rate, (B, H, L).

    Hidden state j stands for the samples 320j … 320(j + 1). A frame of the encoder stands for the `stride` samples
    from its first one on, and gets the mean of the hidden states over them: for the paper's stride of 16, each
    hidden state 20 times, as in pyannote.audio. What lies before the waveform gets the first hidden state; what
    the last one does not reach gets zeros, as in pyannote.audio. No gradient is kept for a frozen WavLM
    (``wavlm.requires_grad_(False)``).

    Parameters
    ----------
    stride, num_frames
        Samples between two frames of the encoder, and L, its frames of `waveforms`.
    first_sample
        Where the stretch of the first frame begins; negative where the encoder pads its input.
    """
    trained = any(parameter.requires_grad for parameter in wavlm.parameters())
    too_short = max(0, receptive_field_samples(wavlm.config) - waveforms.shape[-1])
    with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
        hidden = wavlm(F.pad(waveforms.squeeze(1), (0, too_short))).last_hidden_state  # (B, L', H)
    wavlm_stride = math.prod(wavlm.config.conv_stride)
    places, shares = _places(wavlm_stride, hidden.shape[1], stride, num_frames, first_sample)
    hidden, places, shares = hidden.transpose(1, 2), places.to(hidden.device), shares.to(hidden)
    features = hidden.index_select(-1, places[0]) * shares[0]
    for place, share in zip(places[1:], shares[1:], strict=True):
        features = features + hidden.index_select(-1, place) * share
    return features


def _places(
    wavlm_stride: int, num_hidden: int, stride: int, num_frames: int, first_sample: int
) -> tuple[Tensor, Tensor]:
    """Tell which hidden states each frame is made of, and by which shares; both (states of a frame, L)."""
    reach = num_hidden * wavlm_stride
    starts = (first_sample + stride * torch.arange(num_frames)).clamp_min(0)
    ends = torch.maximum(first_sample + stride * torch.arange(1, num_frames + 1), starts + 1).clamp_max(reach)
    first = starts // wavlm_stride
    most = int(((ends - 1) // wavlm_stride - first).max().clamp_min(0)) + 1
    places = first + torch.arange(most).unsqueeze(1)  # (states of a frame, L)
    overlaps = torch.minimum(ends, (places + 1) * wavlm_stride) - torch.maximum(starts, places * wavlm_stride)
    shares = overlaps.clamp_min(0) / (ends - starts).clamp_min(1)
    return places.clamp_max(num_hidden - 1), shares


def receptive_field_samples(config: Any) -> int:
    """Return the samples that one frame of a WavLM looks at, the shortest input that it takes: 400."""
    size = 1
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        size = (size - 1) * stride + kernel
    return int(size)


def load_pretrained_wavlm(
    name_or_path: str, revision: str | None = None, like: nn.Module | None = None
) -> nn.Module:
    """Return a WavLM with trained weights, for a training that starts: ``network.wavlm = load_pretrained_wavlm(…)``.

    Parameters
    ----------
    name_or_path, revision
        Folder in transformers' layout (``config.json`` and weights), or a name on the Hugging Face hub, as
        ``"microsoft/wavlm-large"``, with branch, tag or commit. The hub's own settings are respected.
    like
        The network's own WavLM, whose sizes the loaded one must have.

    Raises
    ------
    PixitError
        If transformers is not installed, nothing fitting is found, or the hub cannot be reached.
    """
    transformers = _transformers()
    quiet = {name: value for name, value in LARGE.items() if "drop" in name or "augment" in name}
    try:
        wavlm, info = transformers.WavLMModel.from_pretrained(
            name_or_path, revision=revision or "main", output_loading_info=True, **quiet
        )
    except (OSError, RuntimeError, SafetensorError, UnpicklingError, *_INVALID) as error:
        raise PixitError(
            f"WavLM {name_or_path!r}: cannot be loaded ({one_line(error)}); expected a folder with "
            "config.json and weights, or a name on the hub that can be reached, as microsoft/wavlm-large"
        ) from None
    if info["missing_keys"]:
        missing = min(info["missing_keys"])
        raise PixitError(f"WavLM {name_or_path!r}: lacks {missing}; expected a whole WavLM")
    if like is not None and _shapes(like) != _shapes(wavlm):
        raise PixitError(
            f"WavLM {name_or_path!r}: its layers are not those of the network; set the network's wavlm sizes to "
            f"hidden_size={wavlm.config.hidden_size}, num_hidden_layers={wavlm.config.num_hidden_layers}, …"
        )
    return _without_unused(wavlm)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise PixitError(f"WavLM needs transformers ({error}); {_INSTALL}") from None
    return transformers


def _without_unused(wavlm: Any) -> nn.Module:
    """Keep what only SpecAugment trains from the optimizer: distributed training waits for every gradient."""
    if not wavlm.config.apply_spec_augment and hasattr(wavlm, "masked_spec_embed"):
        wavlm.masked_spec_embed.requires_grad_(False)
    return wavlm


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
