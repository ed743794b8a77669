"""A model on disk: a folder with its weights, its whole configuration, and where it came from.

    model.safetensors    the weights
    config.json          {"format": 1, "architecture": "ToTaToNet", "config": {every constructor argument},
                          "sha256": of model.safetensors, "provenance": {…}}

Nothing that is loaded here can run code: neither such a folder, nor a pickled checkpoint of pyannote.audio.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pixit.checkpoints.pyannote import read_pyannote, rename_like
from pixit.config import read_yaml
from pixit.files import check_file, file_hash, read_json, whole_folder
from pixit.types import PixitError, one_line

FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
PYANNOTE, PIPELINE = "pytorch_model.bin", "config.yaml"
LARGEST_SIZE = 200_000
"""Of anything in a configuration: samples a second, channels, units."""
ARCHITECTURES = {
    "ToTaToNet": "pixit.models.totatonet",
    "PyanNet": "pixit.models.pyannet",
    "SpeakerEncoder": "pixit.models.embedders",
    "WeSpeakerResNet34": "pixit.models.embedders",
    "EcapaTdnn": "pixit.models.embedders",
}
"""Class -> module that holds it, imported when a checkpoint asks for it."""


BUILDING_ERRORS = (
    *(PixitError, TypeError, ValueError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, AssertionError, NotImplementedError, MemoryError),
)
"""What building a network of wrong arguments ends in; most libraries do not check them."""


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
    architecture = type(model).__name__
    if architecture not in ARCHITECTURES:
        raise PixitError(f"{architecture}: cannot be saved; expected one of {', '.join(ARCHITECTURES)}")
    folder = Path(folder).absolute()
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= {WEIGHTS, CONFIG}):
        raise PixitError(
            f"{folder}: exists and is not a model's folder; expected a new one, or one to replace"
        )
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
    with whole_folder(folder) as new:
        (new / WEIGHTS).write_bytes(weights)
        (new / CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return folder


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
        A folder written by `save_model`; a checkpoint of pyannote.audio (``pytorch_model.bin``, ``*.ckpt``);
        or the name of either on the Hugging Face hub, as ``"organisation/name"`` or
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
    if source.is_dir() and not (source / CONFIG).exists() and (source / PYANNOTE).exists():
        source = source / PYANNOTE
    if source.is_dir() and not (source / CONFIG).exists() and (source / PIPELINE).exists():
        raise _is_pipeline(source / PIPELINE, str(path_or_name))
    model: nn.Module = _load_folder(source) if source.is_dir() else import_pyannote(source)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise PixitError(f"device {str(device)!r}: cannot be used ({one_line(error)}); try cpu") from None


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
    found = one_line(model or "pyannote/separation-ami-1.0").replace("$model", name)
    return PixitError(
        f"{name}: is a pipeline of pyannote.audio ({one_line(pipeline.get('name'))}), expected the model in it; "
        f"pass {found} instead"
    )


def import_pyannote(path: Path | str, stable_layer_norm: bool | None = None) -> nn.Module:
    """Read a network that pyannote.audio saved, without pyannote.audio; see `read_pyannote`."""
    path = Path(path)
    kind, config, state = read_pyannote(path, stable_layer_norm)
    return _build_filled(kind, config, path, state, path, rename_like)


def find_model(
    name: str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    subfolder: str = "",
    wanted: Iterable[list[str]] = ([CONFIG, WEIGHTS], [PYANNOTE], [PIPELINE]),
) -> Path:
    """Return the local path of a model, downloading the first `wanted` list of files if it is named as on the hub."""
    path = Path(name).expanduser()
    if path.exists():
        return path / subfolder
    named = re.fullmatch(r"([\w-][\w.-]*)/([\w-][\w.-]*)(?:@([\w./-]+))?", name)
    if named is None or Path(named[1]).is_dir():  # beside things that are here, it is a path with an error
        raise PixitError(
            f"{name}: no such model; expected a folder with {CONFIG} and {WEIGHTS}, a {PYANNOTE} of "
            "pyannote.audio, or a name on the hub, as organisation/name"
        )
    import huggingface_hub  # only here: a model that is at hand needs no client of the network
    from huggingface_hub.errors import HfHubHTTPError

    # The base of the hub's own errors is that of its HTTP client: another one in each major version.
    hub_errors: tuple[Any, ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    repository, revision = f"{named[1]}/{named[2]}", revision or named[3]
    try:
        for files in wanted:
            patterns = [f"{subfolder}/{file}" if subfolder else file for file in files]
            snapshot = huggingface_hub.snapshot_download(
                repository, revision=revision, token=token, cache_dir=cache_dir, allow_patterns=patterns
            )
            if any((Path(snapshot) / pattern).exists() for pattern in patterns):
                break
    except hub_errors as error:
        raise PixitError(
            f"{name}: no such file here, and the hub did not provide it ({one_line(error)}); check the name, "
            "the network, HF_HUB_OFFLINE, and for a gated model accept its terms and set HF_TOKEN"
        ) from None
    return Path(snapshot) / subfolder


def _load_folder(folder: Path) -> nn.Module:
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
        if file_hash(weights) != description["sha256"]:
            raise PixitError(
                f"{weights}: damaged (not the file that {CONFIG} describes by sha256); fetch it again"
            )
        state = safetensors.torch.load_file(weights)
    except OSError as error:
        raise PixitError(
            f"{weights}: cannot be read ({error.strerror}); expected the model's weights"
        ) from None
    except safetensors.SafetensorError as error:
        raise PixitError(
            f"{weights}: is not a safetensors file ({one_line(error)}); fetch it again"
        ) from None
    return _build_filled(description["architecture"], description["config"], path, state, weights)


def _build_filled(
    architecture: str,
    config: dict[str, Any],
    source: Path,
    state: dict[str, Tensor],
    weights: Path,
    rename: Callable[..., dict[str, Tensor]] = lambda state, expected: state,
) -> nn.Module:
    """Construct a model and load its weights; `source` and `weights` are the files to name in errors.

    A configuration of other sizes than the weights have is refused before any memory is taken for it.
    """
    for key, number in _numbers(config):
        most = len(state) if re.search("layer|repeat|block", key) else LARGEST_SIZE
        if abs(number) > most:
            raise PixitError(
                f"{source}: found {key}={number:.12g}, expected at most {most} with these weights"
            )
    with torch.device("meta"):
        expected = _build(architecture, config, source).state_dict()
    _check_shapes(expected, rename(state, expected), weights)
    model = _build(architecture, config, source)
    model.load_state_dict(rename(state, model.state_dict()))
    return model


def _numbers(tree: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers of a configuration with the keys that they stand under."""
    waiting = [("", tree)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, int) and not isinstance(value, bool):
            yield key, value
        elif isinstance(value, dict):
            waiting += [(str(name), inside) for name, inside in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(key, inside) for inside in value]


def _build(architecture: str, config: dict[str, Any], source: Path) -> nn.Module:
    """Construct a model; `source` is the file to name in errors."""
    if architecture not in ARCHITECTURES:
        raise PixitError(
            f"{source}: unknown architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    kind = getattr(importlib.import_module(ARCHITECTURES[architecture]), architecture)
    known = list(inspect.signature(kind).parameters)
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or known
            raise PixitError(f"{source}: {architecture} takes no {key!r}; did you mean {near[0]!r}?")
    try:
        model: nn.Module = kind(**config)
    except BUILDING_ERRORS as error:
        raise PixitError(f"{source}: its {architecture} cannot be built ({one_line(error)})") from None
    return model


def _check_shapes(expected: dict[str, Tensor], state: dict[str, Tensor], source: Path) -> None:
    """Raise PixitError if weights are not those that are expected; `source` is the file to name in errors."""
    for name in sorted(set(expected) | set(state)):
        if name not in state or name not in expected:
            raise PixitError(f"{source}: {'lacks' if name in expected else 'has an unknown'} weight {name!r}")
        if expected[name].shape != state[name].shape:
            raise PixitError(
                f"{source}: weight {name!r} has shape {tuple(state[name].shape)}, "
                f"its configuration asks for {tuple(expected[name].shape)}"
            )
