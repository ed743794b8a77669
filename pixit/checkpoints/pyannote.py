"""What checkpoints of pyannote.audio hold, read without pyannote.audio and without running their pickle.

Only tensors, plain values and stand-ins for the three classes named below are made of it; whatever else a
file asks for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from torch import Tensor

from pixit.types import PixitError


class Specifications:
    """What pyannote.audio's class of this name pickles: its attributes."""

    duration: float
    classes: list[str]
    powerset_max_classes: int | None = None  # checkpoints of pyannote.audio 2 have no such attribute


class _Plain(Enum):
    """Values that are pickled in one way by all versions of Python: as class and value."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.value,)


class Problem(_Plain):
    """Values of pyannote.audio's class of this name."""

    BINARY_CLASSIFICATION = 0
    MONO_LABEL_CLASSIFICATION = 1
    MULTI_LABEL_CLASSIFICATION = 2
    REPRESENTATION = 3
    REGRESSION = 4


class Resolution(_Plain):
    """Values of pyannote.audio's class of this name."""

    FRAME = 1
    CHUNK = 2


PUBLISHED_WAVLMS = {(1024, 24, "layer"): True, (768, 12, "group"): False}
"""Hidden size, layers and norm of the convolutions of WavLM-large and WavLM-base -> ``do_stable_layer_norm``."""

FBANK: dict[str, Any] = {
    **{"num_channels": 1, "frame_length": 25, "frame_shift": 10, "window_type": "hamming", "dither": 0},
    **{"use_energy": False, "round_to_power_of_two": True, "snip_edges": True, "fbank_centering_span": None},
}
"""Hyper-parameters of pyannote.audio's WeSpeakerResNet34 that our network has built in."""

STAND_INS = (Specifications, Problem, Resolution)
for _stand_in in STAND_INS:
    _stand_in.__module__ = "pyannote.audio.core.task"  # the name under which pickles ask for it


@dataclass(frozen=True)
class Foreign:
    """What another library's checkpoint comes to: a network of ours, and its weights under their names there."""

    architecture: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    provenance: dict[str, Any]


def parse_pyannote(checkpoint: dict[str, Any], path: Path, stable_layer_norm: bool | None = None) -> Foreign:
    """Understand a ToTaToNet, PyanNet or WeSpeakerResNet34 that pyannote.audio 3 or 4 saved (``pytorch_model.bin``).

    What these checkpoints do not state is read off the weights: of a ToTaToNet the number of sources, the use of
    WavLM and its sizes. They do not show WavLM's ``do_stable_layer_norm``: that is known of WavLM-large and
    WavLM-base, and must be given for others. A PixitError if it is not, or if the file at `path`, which
    `checkpoint` was read from, holds another network.
    """
    expected = " or a ".join(READERS)
    try:
        info, state = checkpoint["pyannote.audio"], dict(checkpoint["state_dict"])
        kind = info["architecture"]["class"]
        if kind not in READERS:
            raise PixitError(f"{path}: holds a {kind} of pyannote.audio; expected a {expected}")
        if not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise PixitError(f"{path}: its state_dict does not hold tensors only; expected a {kind}")
        # what a task adds to a network for its training
        state = {name: tensor for name, tensor in state.items() if not name.startswith("loss_func.")}
        config = READERS[kind](checkpoint["hyper_parameters"], info["specifications"], state)
        if config.get("wavlm") is not None:
            _settle_layer_norm(config["wavlm"], stable_layer_norm, path)
        written = f"pyannote.audio {info.get('versions', {}).get('pyannote.audio', 'of an unknown version')}"
    except _Unlike as error:
        raise PixitError(f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PixitError(f"{path}: is not a {expected} of pyannote.audio ({reason}); expected one") from None
    ours = checkpoint.get("pixit")  # what `pixit convert` added, of no use to pyannote.audio
    ours = ours if isinstance(ours, dict) else {}
    if "clustering_threshold" in ours:
        config["clustering_threshold"] = ours["clustering_threshold"]
    provenance = ours.get("provenance")
    return Foreign(
        kind, config, state, provenance if isinstance(provenance, dict) else {"written_by": written}
    )


class _Unlike(Exception):
    """A network that ours cannot be."""


def _settle_layer_norm(wavlm: dict[str, Any], given: bool | None, path: Path) -> None:
    """Say whether WavLM's layers are normalised before or after attention: both have the same weights."""
    sizes = wavlm["hidden_size"], wavlm["num_hidden_layers"], wavlm["feat_extract_norm"]
    stable = PUBLISHED_WAVLMS.get(sizes) if given is None else given
    if stable is None:
        raise PixitError(
            f"{path}: its WavLM has the sizes of no published one (hidden_size={sizes[0]}, "
            f"num_hidden_layers={sizes[1]}, feat_extract_norm={sizes[2]}), and do_stable_layer_norm does not show in "
            "weights; give it: pixit.checkpoints.native.import_pyannote(path, stable_layer_norm=…)"
        )
    wavlm["do_stable_layer_norm"] = stable


def rename_like(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the names that the model has for them, where generations of torch and filterbanks differ."""
    generations = (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    )
    # windows that old versions of the filterbank did not save
    renamed = {name: tensor for name, tensor in expected.items() if name.endswith("torch_window")}
    for name, tensor in state.items():
        names = {name}
        for here, there in (generations, generations[::-1]):
            names |= {name.removesuffix(a) + b for a, b in zip(here, there, strict=True) if name.endswith(a)}
        renamed[next(iter(names & set(expected)), name)] = tensor
    return renamed


def _read_totatonet(given: dict[str, Any], specifications: Any, state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of our ToTaToNet for pyannote's hyper-parameters and weights."""
    sample_rate_hz = given.get("sample_rate", 16000)
    encoder_decoder = dict(given.get("encoder_decoder") or {})
    stride = encoder_decoder.get("stride", 16)
    # theirs rounds the number of encoder frames per diarization frame down, ours wants the rate that results
    pooling = int(sample_rate_hz / (given.get("diar") or {}).get("frames_per_second", 125) / stride)
    num_outputs, bottleneck = state["masker.first_out.1.weight"].shape[:2]
    dprnn = dict(given.get("dprnn") or {})
    if (
        dprnn.get("use_mulcat") is False
    ):  # what ours is; asteroid's other way stays and is refused by its name
        del dprnn["use_mulcat"]
    first = specifications[0] if isinstance(specifications, tuple) else specifications
    return {
        "n_sources": num_outputs // bottleneck,
        "encoder_decoder": encoder_decoder,
        "masker": {"name": "dprnn"} | dprnn,
        "linear": dict(given.get("linear") or {}),
        "diar": {"frames_per_second": sample_rate_hz / (stride * pooling)},
        "wavlm": _wavlm_config({k[6:]: v for k, v in state.items() if k.startswith("wavlm.")}),
        "sample_rate_hz": sample_rate_hz,
        "window_s": float(first.duration),
    }


def _read_pyannet(given: dict[str, Any], specifications: Any, _: dict[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of our PyanNet for pyannote's hyper-parameters."""
    if given.get("num_channels", 1) != 1:
        raise ValueError(f"num_channels={given['num_channels']}, expected 1")
    implied = {"sincnet": ("sample_rate",), "lstm": ("batch_first",), "linear": ()}
    parts = {
        name: {key: value for key, value in dict(given.get(name) or {}).items() if key not in keys}
        for name, keys in implied.items()
    }
    return {
        "num_speakers": len(specifications.classes),
        "powerset_max": specifications.powerset_max_classes,
        **parts,
        "sample_rate_hz": given.get("sample_rate", 16000),
        "window_s": float(specifications.duration),
    }


def _wavlm_config(state: dict[str, Tensor]) -> dict[str, Any] | None:
    """Return the sizes of a WavLM as its weights show them, or None where there are none."""
    if not state:
        return None
    name = re.compile(r"feature_extractor\.conv_layers\.\d+\.conv\.weight")
    convolutions = [state[key] for key in sorted(filter(name.fullmatch, state))]
    hidden_size = state["feature_projection.projection.weight"].shape[0]
    old, new = "weight_v", "parametrizations.weight.original1"
    position = "encoder.pos_conv_embed.conv."
    positions = state[position + old] if position + old in state else state[position + new]
    layer_norms = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    masked = {} if "masked_spec_embed" in state else {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    return masked | {
        "hidden_size": hidden_size,
        "num_hidden_layers": sum(name.endswith("attention.gru_rel_pos_const") for name in state),
        "num_attention_heads": state["encoder.layers.0.attention.gru_rel_pos_const"].shape[1],
        "intermediate_size": state["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape[0],
        "conv_dim": [v.shape[0] for v in convolutions],
        "conv_kernel": [v.shape[2] for v in convolutions],
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "num_conv_pos_embeddings": positions.shape[2],
        "num_conv_pos_embedding_groups": hidden_size // positions.shape[1],
        "num_buckets": state["encoder.layers.0.attention.rel_attn_embed.weight"].shape[0],
        "feat_extract_norm": "layer" if layer_norms else "group",
    }


def _read_wespeaker(given: dict[str, Any], _: Any, state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of our WeSpeakerResNet34 for pyannote's hyper-parameters and weights."""
    for key, expected in FBANK.items():
        if given.get(key, expected) != expected:
            raise _Unlike(f"its WeSpeakerResNet34 has {key}={given[key]!r}, expected {expected!r}")
    return {
        "num_mels": given.get("num_mel_bins", 80),
        "sample_rate_hz": given.get("sample_rate", 16000),
        "base_channels": state["resnet.conv1.weight"].shape[0],
        "embedding_size": state["resnet.seg_1.weight"].shape[0],
    }


READERS: dict[str, Callable[[dict[str, Any], Any, dict[str, Tensor]], dict[str, Any]]] = {
    "ToTaToNet": _read_totatonet,
    "PyanNet": _read_pyannet,
    "WeSpeakerResNet34": _read_wespeaker,
}
"""Class of pyannote.audio, and of ours -> what makes our arguments of its hyper-parameters and weights."""
