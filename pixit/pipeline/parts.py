"""What a separator is made of, by its name: networks, and the settings that come with them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from pixit.config import read_yaml
from pixit.types import Embedder, LocalDiarizer, PixitError

BUNDLED = "bundled"


@dataclass(frozen=True)
class Parts:
    """Two networks and how they are used.

    Parameters
    ----------
    model, embedder
        The networks.
    settings, place
        Differences from `SeparationSettings`, and where they stand, for messages.
    device
        Where to run, by name.
    streaming
        Differences from `StreamingSettings` that were chosen for these networks, beside what those above say.
    """

    model: LocalDiarizer
    embedder: Embedder
    settings: Mapping[str, Any]
    place: str
    device: str
    streaming: Mapping[str, Any] = field(default_factory=dict)


def find_parts(
    name: str | Path | None,
    embedder: str | Path | None,
    device: str,
    settings: Mapping[str, Any],
    hub: Mapping[str, Any],
) -> Parts:
    """Load what `Separator.from_pretrained` describes; parameters and errors are those of it."""
    from pixit.checkpoints import find_model, load_model
    from pixit.checkpoints.hub import SEPARATOR, STREAMING
    from pixit.checkpoints.pipelines import find_pipeline
    from pixit.checkpoints.roles import check_role

    bundled = Path(str(files("pixit") / BUNDLED))
    folder = bundled if name is None else find_model(str(name), **hub)
    whole = (folder / SEPARATOR).exists()
    if name is not None and not whole and find_pipeline(folder) is not None:
        return _parts_of_pipeline(name, embedder or None, device, settings, hub)
    base = folder if whole else bundled
    model = check_role(load_model(folder / "model" if whole else folder), "model", name or bundled)
    access = {key: value for key, value in hub.items() if key != "revision"}
    spoken = load_model(str(embedder), **access) if embedder else load_model(base / "embedder")
    voice = check_role(spoken, "embedder", embedder or base)
    chosen = read_yaml(base / SEPARATOR) if whole or not embedder else {}
    live = read_yaml(base / STREAMING) if (whole or not embedder) and (base / STREAMING).exists() else {}
    own = chosen.get("clustering")
    if isinstance(own, dict) and isinstance(own.get("plda"), str):
        own["plda"] = str(base / own["plda"])  # beside the settings
    for tree, distance in ((chosen, "threshold"), (live, "delta_new")):
        if embedder and isinstance(tree.get("clustering"), dict):
            for name_of in (distance, "plda"):
                tree["clustering"].pop(name_of, None)  # those were for the embedder that is not used
    return Parts(model, voice, merge(chosen, settings), "separation settings", device, live)


def _parts_of_pipeline(
    name: str | Path,
    embedder: str | Path | None,
    device: str,
    settings: Mapping[str, Any],
    hub: Mapping[str, Any],
) -> Parts:
    """Load what a ``config.yaml`` of pyannote.audio names, with the settings that it asks for."""
    from pixit.checkpoints import load_model
    from pixit.checkpoints.pipelines import read_pipeline
    from pixit.checkpoints.roles import check_role

    pipeline = read_pipeline(name, **hub)
    if pipeline.warning is not None:
        warnings.warn(pipeline.warning, stacklevel=4)
    model = check_role(pipeline.model.load(), "model", pipeline.model)
    access = {key: value for key, value in hub.items() if key != "revision"}
    if embedder is not None:
        spoken = load_model(str(embedder), **access)
    elif pipeline.embedder is not None:
        spoken = pipeline.embedder.load()
    else:  # the oracle asks for nobody's voice
        spoken = load_model(Path(str(files("pixit") / BUNDLED)) / "embedder")
    voice = check_role(spoken, "embedder", embedder or pipeline.embedder or BUNDLED)
    chosen = merge(pipeline.settings_for(model.window_samples / model.sample_rate_hz), settings)
    for key in ("threshold", "plda") if embedder is not None else ():
        if key in chosen["clustering"] and key not in (settings.get("clustering") or {}):
            raise PixitError(
                f"{embedder}: takes the place of {pipeline.path}'s embedder, whose clustering {key} does not fit "
                f"it; give clustering.{key} too"
            )
    if device == "auto" and pipeline.device is not None and torch.cuda.is_available():
        device = pipeline.device
    return Parts(model, voice, chosen, str(pipeline.path), device)


def merge(tree: Mapping[str, Any], differences: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of settings with differences put into it."""
    merged = dict(tree)
    for key, value in differences.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            value = merge(known, value)
        merged[key] = value
    return merged


def check_sample_rates(model: LocalDiarizer, embedder: Embedder) -> None:
    """Raise PixitError if the networks do not hear the same sample rate."""
    if embedder.sample_rate_hz != model.sample_rate_hz:
        raise PixitError(
            f"the embedder takes {embedder.sample_rate_hz} Hz and the model {model.sample_rate_hz} Hz; "
            "expected the same sample rate"
        )
