"""Models from one library's files to another's: ours, pyannote.audio's and SpeechBrain's."""

from __future__ import annotations

import pickle
import re
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixit.checkpoints.native import load_model, provenance_of, save_model
from pixit.checkpoints.pyannote import FBANK, STAND_INS, Problem, Resolution, Specifications
from pixit.files import file_hash, whole_file
from pixit.models.wavlm import LARGE
from pixit.types import PixitError, one_line

FILES = (".bin", ".ckpt", ".pt", ".pth")
"""Endings by which an output is a checkpoint of another library, rather than a folder of ours."""
PYANNOTE_VERSION, LIGHTNING_VERSION = "4.0.7", "2.0.0"
"""What the files say that they were written by: pyannote.audio refuses those of a later version than its own."""
DPRNN = (
    *("n_repeats", "bn_chan", "hid_size", "chunk_size", "hop_size", "norm_type", "mask_act", "rnn_type"),
    *("bidirectional", "num_layers", "dropout"),
)
WAVLM_LARGE = LARGE | {
    **{"conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]},
    **{"conv_bias": False, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16},
    **{"num_buckets": 320, "max_bucket_distance": 800, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
}
TRAINING_ONLY = re.compile("dropout|layerdrop|spec_augment|mask_|gradient_checkpointing")
"""Of WavLM's configuration, what changes nothing outside of training."""


def convert(
    source: Path | str,
    target: Path | str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> tuple[Path, list[str]]:
    """Write a model in another library's form.

    Parameters
    ----------
    source, revision, token, cache_dir
        A model, as `load_model` takes it.
    target
        What does not exist yet. Where it ends with ``.bin``, ``.ckpt``, ``.pt`` or ``.pth``: a checkpoint that
        pyannote.audio 4 loads (ToTaToNet, WeSpeakerResNet34), or the state_dict of SpeechBrain's ECAPA_TDNN
        (EcapaTdnn). Otherwise a folder of pixit's.

    Returns
    -------
    pathlib.Path, list
        What was written; and, each in a line, what of the model does not fit into it.

    Raises
    ------
    PixitError
        If the model cannot be read, the target is there already or cannot be written, or the other library's network
        cannot be what this one is.
    """
    target = Path(target)
    if target.exists():
        raise PixitError(f"{target}: exists already; choose another name, or remove it")
    model = load_model(source, revision, token, cache_dir)
    provenance = provenance_of(model)
    if (origin := Path(source).expanduser()).is_file():
        provenance = provenance | {"sha256": file_hash(origin)}
    if target.suffix not in FILES:
        return save_model(model, target, provenance), []
    name, notes = f"{source}: this {type(model).__name__}", []
    if type(model).__name__ == "EcapaTdnn":
        content: dict[str, Any] = _weights(model)
        lost = f"clustering_threshold={model.clustering_threshold}"
        notes.append(f"{target}: SpeechBrain's files have no room for {lost} and for the model's origin")
    else:
        content = _as_pyannote(model, provenance, name)
    _save_pickle(content, target)
    return target, notes


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def _as_pyannote(model: nn.Module, provenance: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what pyannote.audio's trainer would save; `name` begins the error where it has no such network."""
    kind = type(model).__name__
    if kind not in EXPRESS:
        raise PixitError(
            f"{name} is unknown to pyannote.audio; expected a {' or a '.join(EXPRESS)}, or a folder as output"
        )
    module, express = EXPRESS[kind]
    hyper_parameters, specifications, threshold = express(model.config, name)  # type: ignore[arg-type]
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": LIGHTNING_VERSION,
        "state_dict": _weights(model),
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters,
        "pyannote.audio": {
            "versions": {"pyannote.audio": PYANNOTE_VERSION},
            "architecture": {"module": module, "class": kind},
            "specifications": specifications,
        },
        # pyannote.audio passes this by; pixit reads it again
        "pixit": {"provenance": provenance, **threshold},
    }


def _express_totatonet(config: dict[str, Any], name: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Return hyper-parameters and specifications of pyannote.audio's ToTaToNet; a PixitError if it cannot be so."""
    filterbank, masker, wavlm = dict(config["encoder_decoder"]), dict(config["masker"]), config["wavlm"]
    kind, centred = masker.pop("name"), filterbank.pop("center")
    problem = None
    if filterbank["fb_name"] != "free":
        problem = f"a fb_name={filterbank['fb_name']} encoder (its own cannot be run with one)"
    elif kind != "dprnn":
        problem = f"the masker {kind}; it has dprnn only"
    elif centred:
        problem = "encoder_decoder.center=True"
    elif config["diar"]["relative_level"]:
        problem = "diar.relative_level=True"
    elif config["linear"]["num_layers"] and config["linear"]["hidden_size"] != 64:
        problem = f"linear.hidden_size={config['linear']['hidden_size']}; it has 64 only"
    elif wavlm is not None and (key := _unlike_large(wavlm)):
        problem = f"a WavLM with {key}={wavlm[key]}; it builds WavLM-large"
    if problem is not None:
        raise PixitError(f"{name} cannot be one of pyannote.audio, which has no room for {problem}")
    stride, frames = filterbank["stride"], config["diar"]["frames_per_second"]
    pooling = round(config["sample_rate_hz"] / frames / stride)
    if int(config["sample_rate_hz"] / frames / stride) != pooling:  # theirs rounds down
        frames = config["sample_rate_hz"] / stride / (pooling + 0.5)
    hyper_parameters = {
        "sample_rate": config["sample_rate_hz"],
        "num_channels": 1,
        "encoder_decoder": filterbank,
        "linear": config["linear"],
        "dprnn": {key: masker[key] for key in DPRNN},
        "diar": {"frames_per_second": frames},
        # theirs does not store these, but takes them where they are
        "n_sources": config["n_sources"],
        "use_wavlm": wavlm is not None,
        "wavlm_frozen": False,
    }
    speakers = [f"speaker#{i + 1}" for i in range(config["n_sources"])]
    both = [
        _specify(problem, Resolution.FRAME, config["window_s"], speakers, permutation_invariant=first)
        for problem, first in (
            (Problem.MULTI_LABEL_CLASSIFICATION, True),
            (Problem.MONO_LABEL_CLASSIFICATION, False),
        )
    ]
    return hyper_parameters, tuple(both), {}


def _unlike_large(wavlm: dict[str, Any]) -> str | None:
    """Return a key by which a WavLM is not WavLM-large."""
    keys = (key for key in wavlm if not TRAINING_ONLY.search(key))
    return next((key for key in keys if wavlm[key] != WAVLM_LARGE.get(key, wavlm[key])), None)


def _express_wespeaker(config: dict[str, Any], name: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Return hyper-parameters and specifications of pyannote.audio's WeSpeakerResNet34."""
    for key, expected in {"base_channels": 32, "embedding_size": 256}.items():
        if config[key] != expected:
            raise PixitError(
                f"{name} cannot be one of pyannote.audio, which has {key}={expected} only; found {config[key]}"
            )
    hyper_parameters = FBANK | {"sample_rate": config["sample_rate_hz"], "num_mel_bins": config["num_mels"]}
    threshold = {"clustering_threshold": config["clustering_threshold"]}
    return hyper_parameters, _specify(Problem.REPRESENTATION, Resolution.CHUNK, 5.0), threshold


EXPRESS = {
    "ToTaToNet": ("pyannote.audio.models.separation.ToTaToNet", _express_totatonet),
    "WeSpeakerResNet34": ("pyannote.audio.models.embedding.wespeaker", _express_wespeaker),
}
"""Class of ours -> the module of pyannote.audio that holds its like, and what makes its arguments of ours."""


def _specify(
    problem: Problem,
    resolution: Resolution,
    duration_s: float,
    classes: list[str] | None = None,
    permutation_invariant: bool = False,
) -> Specifications:
    specifications = Specifications()
    vars(specifications).update(
        problem=problem,
        resolution=resolution,
        duration=duration_s,
        min_duration=None,
        warm_up=(0.0, 0.0),
        classes=classes,
        powerset_max_classes=None,
        permutation_invariant=permutation_invariant,
    )
    return specifications


_PurePython: Any = pickle._Pickler  # the one in C cannot be taught names


class _Pickler(_PurePython):
    """Writes our stand-ins under the names of pyannote.audio's classes, which need not be installed."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj not in STAND_INS:
            super().save_global(obj, name)
            return
        self.write(pickle.GLOBAL + f"{obj.__module__}\n{obj.__qualname__}\n".encode())
        self.memoize(obj)


def _save_pickle(content: dict[str, Any], path: Path) -> None:
    """Write what `torch.load` reads; the file appears whole or not at all."""
    module = types.SimpleNamespace(Pickler=_Pickler, __name__="pickle")
    with whole_file(path) as new:
        try:
            torch.save(content, new, pickle_module=module)
        except RuntimeError as error:  # torch's own writer meets a full disk
            raise OSError(None, one_line(error), str(path)) from None
