"""What checkpoints of pyannote.audio hold, read without pyannote.audio and without running their pickle.

Only tensors, plain values and stand-ins for the three classes named below are made of it; whatever else a
file asks for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixit.files import read_pickle
from pixit.types import PixitError


class Specifications:
    """What pyannote.audio's class of this name pickles: its attributes."""

    duration: float
    classes: list[str]
    powerset_max_classes: int | None = None  # checkpoints of pyannote.audio 2 have no such attribute


class Problem(Enum):
    """Values of pyannote.audio's class of this name."""

    BINARY_CLASSIFICATION = 0
    MONO_LABEL_CLASSIFICATION = 1
    MULTI_LABEL_CLASSIFICATION = 2
    REPRESENTATION = 3
    REGRESSION = 4


class Resolution(Enum):
    """Values of pyannote.audio's class of this name."""

    FRAME = 1
    CHUNK = 2


PUBLISHED_WAVLMS = {(1024, 24, "layer"): True, (768, 12, "group"): False}
"""Hidden size, layers and norm of the convolutions of WavLM-large and WavLM-base -> ``do_stable_layer_norm``."""

STAND_INS = (Specifications, Problem, Resolution)
for _stand_in in STAND_INS:
    _stand_in.__module__ = "pyannote.audio.core.task"  # the name under which pickles ask for it


def read_pyannote(
    path: Path, stable_layer_norm: bool | None = None
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Read what pyannote.audio saved: the class, ToTaToNet or PyanNet, arguments of ours, weights under its names.

    The number of sources, the use of WavLM and its sizes, which checkpoints of a ToTaToNet (``pytorch_model.bin``,
    or another of a training) do not state, are read off the weights. They do not show WavLM's
    ``do_stable_layer_norm``: that is known of WavLM-large and WavLM-base, and must be given for others. A PixitError
    if it is not, or if the file is missing, damaged, of another class, or asks for code to be run.
    """
    expected = "a whole checkpoint of pyannote.audio"
    checkpoint = read_pickle(path, expected, [*STAND_INS, torch.torch_version.TorchVersion])
    try:
        info, state = checkpoint["pyannote.audio"], dict(checkpoint["state_dict"])
        kind = info["architecture"]["class"]
        if kind not in CONFIGS:
            raise PixitError(f"{path}: holds a {kind} of pyannote.audio; expected a {' or '.join(CONFIGS)}")
        if not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise PixitError(f"{path}: its state_dict does not hold tensors only; expected a {kind}")
        config = CONFIGS[kind](checkpoint["hyper_parameters"], info["specifications"], state)
        _settle_layer_norm(config.get("wavlm"), stable_layer_norm, path)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PixitError(
            f"{path}: is not a {' or '.join(CONFIGS)} of pyannote.audio ({reason}); expected one"
        ) from None
    return kind, config, state


def _settle_layer_norm(wavlm: dict[str, Any] | None, given: bool | None, path: Path) -> None:
    """Say whether WavLM's layers are normalised before or after attention: both have the same weights."""
    if wavlm is None:
        return
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


def _config_of(given: dict[str, Any], specifications: Any, state: dict[str, Tensor]) -> dict[str, Any]:
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


def _pyannet_config(given: dict[str, Any], specifications: Any, _: dict[str, Tensor]) -> dict[str, Any]:
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


CONFIGS: dict[str, Callable[..., dict[str, Any]]] = {"ToTaToNet": _config_of, "PyanNet": _pyannet_config}
"""Class of pyannote.audio, and of ours -> what makes the arguments of ours."""
