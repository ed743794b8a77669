"""A model on disk: a folder with its weights, its whole configuration, and where it came from.

    model.safetensors    the weights
    config.json          {"format": 1, "architecture": "ToTaToNet", "config": {every constructor argument},
                          "sha256": of model.safetensors, "provenance": {…}}

Nothing that is loaded here can run code: neither such a folder, nor a pickled checkpoint of pyannote.audio.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from pixit.checkpoints.build import ARCHITECTURES, build_filled
from pixit.checkpoints.hub import (
    CONFIG,
    ECAPA,
    PIPELINE,
    PYANNOTE,
    SEPARATOR,
    WEIGHTS,
    find_model,
    hub_origin,
)
from pixit.checkpoints.pyannote import STAND_INS, Foreign, parse_pyannote, rename_like
from pixit.checkpoints.speechbrain import is_ecapa, parse_ecapa
from pixit.config import read_yaml
from pixit.files import check_file, file_hash, read_json, read_pickle, whole_folder
from pixit.types import PixitError, one_line

FORMAT = 1
CARD = "README.md"


def save_model(
    model: nn.Module, folder: Path | str, provenance: dict[str, Any], dtype: torch.dtype | None = None
) -> Path:
    """Write a model; the folder appears whole or not at all, and takes the place of an older model there.

    Parameters
    ----------
    model, folder
        One of `ARCHITECTURES`, whose ``config`` holds every constructor argument; and where to write it.
    provenance
        The model's origin: data, settings, versions, results.
    dtype
        Store floating point weights in this type, such as `torch.float16`; loading turns them back into float32.

    Raises
    ------
    PixitError
        If the folder cannot be written, or holds something other than a model.
    """
    folder = check_target(folder, {WEIGHTS, CONFIG, CARD})
    with whole_folder(folder) as new:
        write_model(model, new, provenance, dtype)
    return folder


def check_target(folder: Path | str, names: Collection[str]) -> Path:
    """Return the absolute path of a folder to write; a PixitError if it holds anything but what has these names."""
    folder = Path(folder).absolute()
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= set(names)):
        raise PixitError(
            f"{folder}: exists and is not a model's folder; expected a new one, or one to replace"
        )
    return folder


def write_model(
    model: nn.Module, folder: Path, provenance: dict[str, Any], dtype: torch.dtype | None = None
) -> None:
    """Write the files of a model into a folder that `whole_folder` gave; see `save_model`."""
    architecture = type(model).__name__
    if architecture not in ARCHITECTURES:
        raise PixitError(f"{architecture}: cannot be saved; expected one of {', '.join(ARCHITECTURES)}")
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    if dtype is not None:
        state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    weights = safetensors.torch.save(state)
    description = {
        "format": FORMAT,
        "architecture": architecture,
        "config": model.config,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "provenance": provenance,
    }
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_model(
    path_or_name: Path | str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    device: str | torch.device = "cpu",
    subfolder: str = "",
) -> nn.Module:
    """Read a model, in evaluation mode.

    Parameters
    ----------
    path_or_name
        A folder written by `save_model`; a ToTaToNet or WeSpeakerResNet34 of pyannote.audio
        (``pytorch_model.bin``, ``*.ckpt``); an ECAPA-TDNN of SpeechBrain (``embedding_model.ckpt``); a folder that
        holds one of these; or the name of any on the Hugging Face hub, as ``"organisation/name"`` or
        ``"organisation/name@revision"``. Only such a name, if no file has it, uses the network.
    revision, token, cache_dir, device
        Of the hub: branch, tag or commit; access token; folder of downloads. And where the model goes.
    subfolder
        Of the folder or the repository, where it holds several models.

    Raises
    ------
    PixitError
        If nothing is found, or what is found is damaged, of another kind, or does not fit its configuration.
    """
    source = find_model(str(path_or_name), revision, token, cache_dir, subfolder)
    if source.is_dir():
        source = _choose(source, str(path_or_name))
    model = _load_folder(source) if source.is_dir() else _load_file(source)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise PixitError(f"device {str(device)!r}: cannot be used ({one_line(error)}); try cpu") from None


def provenance_of(model: nn.Module) -> dict[str, Any]:
    """Return where a model that `load_model` gave came from; nothing of others."""
    provenance = vars(model).get("provenance")
    return provenance if isinstance(provenance, dict) else {}


def _choose(folder: Path, name: str) -> Path:
    """Return the model in a folder: the folder itself, or a file of another library's."""
    if not (folder / WEIGHTS).exists():  # a repository of SpeechBrain's has a config.json of another kind
        for file in (PYANNOTE, ECAPA):
            if (folder / file).exists():
                return folder / file
    if (folder / CONFIG).exists():
        return folder
    if (folder / SEPARATOR).exists():
        raise PixitError(
            f"{name}: is a separator, model and embedder together; expected one of them: pass "
            f"{folder / 'model'} or {folder / 'embedder'} instead"
        )
    if (folder / PIPELINE).exists():
        raise _is_pipeline(folder / PIPELINE, name)
    return folder


def _is_pipeline(path: Path, name: str) -> PixitError:
    """Return what to say of a repository of pyannote.audio that holds a pipeline, which names its models."""
    pipeline = read_yaml(path).get("pipeline")
    if not isinstance(pipeline, dict):
        return PixitError(
            f"{name}: holds no model, but {PIPELINE}; expected {CONFIG} and {WEIGHTS}, or {PYANNOTE}"
        )
    parameters = pipeline.get("params")
    model = parameters.get("segmentation") if isinstance(parameters, dict) else None
    model = model.get("checkpoint") if isinstance(model, dict) else model
    found = one_line(model or "pyannote/separation-ami-1.0").replace("$model", str(path.parent))
    return PixitError(
        f"{name}: is a pipeline of pyannote.audio ({one_line(pipeline.get('name'))}), expected the model in it; "
        f"pass {found} instead"
    )


def import_pyannote(path: Path | str, stable_layer_norm: bool | None = None) -> Any:
    """Read a model that pyannote.audio 3 or 4 saved, without pyannote.audio; see `parse_pyannote`."""
    path = Path(path)
    return _fill_foreign(parse_pyannote(_read_foreign(path), path, stable_layer_norm), path)


def _load_file(path: Path) -> nn.Module:
    content = _read_foreign(path)
    if is_ecapa(content):
        return _fill_foreign(parse_ecapa(content, path), path)
    return _fill_foreign(parse_pyannote(content, path), path)


def _read_foreign(path: Path) -> dict[str, Any]:
    """Read the pickle of another library without running it."""
    expected = "a whole checkpoint of pyannote.audio or SpeechBrain"
    return read_pickle(path, expected, [*STAND_INS, torch.torch_version.TorchVersion])


def _fill_foreign(found: Foreign, path: Path) -> nn.Module:
    model = build_filled(found.architecture, found.config, path, found.state, path, rename_like)
    vars(model)["provenance"] = found.provenance | {"file": path.name} | hub_origin(path)
    return model


def read_description(folder: Path) -> dict[str, Any]:
    """Return what the ``config.json`` of a model's folder says; a PixitError if it is not that of its weights."""
    weights, path = folder / WEIGHTS, folder / CONFIG
    if not path.exists():
        raise PixitError(f"{path}: cannot be read (No such file); expected a model's folder")
    description = read_json(path, f"the {CONFIG} of a model's folder")
    check_file(weights, "the model's weights")
    for key, kind in {"format": int, "architecture": str, "config": dict, "sha256": str}.items():
        if not isinstance(description, dict) or not isinstance(description.get(key), kind):
            raise PixitError(f"{path}: lacks {key!r}; expected the {CONFIG} of a pixit model")
    if description["format"] != FORMAT:
        raise PixitError(
            f"{path}: format {description['format']}, this pixit reads format {FORMAT}; update pixit-audio"
        )
    try:
        digest = file_hash(weights)
    except OSError as error:
        raise PixitError(
            f"{weights}: cannot be read ({error.strerror}); expected the model's weights"
        ) from None
    if digest != description["sha256"]:
        raise PixitError(
            f"{weights}: damaged (not the file that {CONFIG} describes by sha256); fetch it again"
        )
    return description


def _load_folder(folder: Path) -> nn.Module:
    weights, description = folder / WEIGHTS, read_description(folder)
    try:
        state = safetensors.torch.load_file(weights)
    except OSError as error:
        raise PixitError(
            f"{weights}: cannot be read ({error.strerror}); expected the model's weights"
        ) from None
    except safetensors.SafetensorError as error:
        raise PixitError(
            f"{weights}: is not a safetensors file ({one_line(error)}); fetch it again"
        ) from None
    architecture, config = description["architecture"], description["config"]
    model = build_filled(architecture, config, folder / CONFIG, state, weights)
    vars(model)["provenance"] = description.get("provenance")
    return model
