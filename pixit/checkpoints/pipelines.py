"""pyannote.audio's pipelines on disk: a ``config.yaml`` that names networks, and says how they are used.

Both forms are read: that of 3.x (``version:``) and of 4.x (``dependencies:``). What a pipeline names is found so:

- ``$model/sub``, ``$model/sub@revision``: a folder beside the config, in the same repository of the hub;
- a path: relative to the config's folder, or else to the working directory;
- else a name on the hub, as ``organisation/name`` or ``organisation/name@revision``;
- a mapping of ``checkpoint`` (any of these), ``subfolder``, ``revision``, ``token`` and ``cache_dir``.

A key without a counterpart is listed in `Pipeline.unknown`; a value that pixit cannot follow is a PixitError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pixit.checkpoints.hub import PIPELINE, find_model
from pixit.checkpoints.hyperparameters import (
    DIARIZATION,
    SEPARATION,
    Keys,
    map_settings,
    merge_frozen,
    read_section,
)
from pixit.checkpoints.native import load_model
from pixit.config import read_yaml
from pixit.types import PixitError, one_line

COMMUNITY = "pyannote/speaker-diarization-community-1"
DEFAULTS: dict[str, dict[str, Any]] = {
    SEPARATION: {
        "segmentation": "pyannote/separation-ami-1.0",
        "embedding": "speechbrain/spkrec-ecapa-voxceleb@5c0be3875fda05e81f3c004ed8c7c06be308de1e",
        "clustering": "AgglomerativeClustering",
    },
    DIARIZATION: {
        "segmentation": {"checkpoint": COMMUNITY, "subfolder": "segmentation"},
        "embedding": {"checkpoint": COMMUNITY, "subfolder": "embedding"},
        "plda": {"checkpoint": COMMUNITY, "subfolder": "plda"},
        "clustering": "VBxClustering",
    },
}
"""What pyannote.audio 4 takes where a config does not say."""
BESIDE = (
    "version",
    "dependencies",
    "pipeline",
    "params",
    "freeze",
    "device",
    "preprocessors",
    "optimization",
)
ARGUMENTS = (
    *("segmentation", "segmentation_step", "segmentation_batch_size", "embedding", "embedding_batch_size"),
    *("embedding_exclude_overlap", "clustering", "plda", "der_variant", "legacy"),
    *("token", "use_auth_token", "cache_dir"),
)
"""Arguments of pipelines; how they were tuned (``der_variant``), what they return (``legacy``) and the sizes of
batches, which are for another machine, are not followed."""
PLDA_FILES = ["xvec_transform.npz", "plda.npz"]


@dataclass(frozen=True)
class Source:
    """Where something that a pipeline names is: a file, a folder, or a name on the hub.

    Parameters
    ----------
    name
        A path, or ``organisation/name``.
    subfolder
        In that folder or repository.
    revision, token, cache_dir
        Of the hub, as for `load_model`.
    """

    name: str
    subfolder: str = ""
    revision: str | None = None
    token: str | None = None
    cache_dir: str | None = None

    def __str__(self) -> str:
        return f"{self.name}/{self.subfolder}" if self.subfolder else self.name

    def load(self) -> nn.Module:
        """Read the network that it names; a PixitError as of `load_model`."""
        return load_model(self.name, self.revision, self.token, self.cache_dir, subfolder=self.subfolder)

    def find(self, files: Sequence[str]) -> Path:
        """Return the local path of a folder with these files, downloading them if it is on the hub."""
        hub = self.revision, self.token, self.cache_dir
        return find_model(self.name, *hub, subfolder=self.subfolder, layouts=[(files, ())])


@dataclass(frozen=True)
class Pipeline:
    """What a ``config.yaml`` asks for, in the words of pixit.

    Parameters
    ----------
    path, kind
        The file; and ``"SpeechSeparation"`` or ``"SpeakerDiarization"``.
    model, embedder, plda
        Where its networks are; PLDA of VBx only, None where the clustering needs none.
    settings
        Differences from `SeparationSettings`, but for the step.
    step_ratio
        The step from window to window, as a share of the window.
    device
        Where it wants to run, or None.
    unknown
        Keys that have no counterpart, as ``params.clustering.beam``.
    """

    path: Path
    kind: str
    model: Source
    embedder: Source | None
    plda: Source | None
    settings: dict[str, Any]
    step_ratio: float
    device: str | None = None
    unknown: tuple[str, ...] = ()

    def settings_for(self, window_s: float) -> dict[str, Any]:
        """Return all differences from `SeparationSettings`, for a model that takes windows of `window_s`.

        The PLDA of VBx is looked for, and downloaded, here.
        """
        found = self.settings | {"step_s": self.step_ratio * window_s}
        if self.plda is not None:
            folder = str(self.plda.find(PLDA_FILES))
            found["clustering"] = found["clustering"] | {"plda": folder}
        return found

    @property
    def warning(self) -> str | None:
        """One line that names what is unknown, or None."""
        if not self.unknown:
            return None
        return (
            f"{self.path}: pixit knows no {', '.join(self.unknown)}, and goes on without: results may differ"
        )


def find_pipeline(
    name: Path | str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> Path | None:
    """Return the ``config.yaml`` that a file, a folder or a name on the hub holds; None if it is no pipeline."""
    path = Path(name).expanduser()
    if not path.exists():
        path = find_model(str(name), revision, token, cache_dir, layouts=[((PIPELINE,), ())])
    if path.is_dir():
        path = path / PIPELINE
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        return None
    return path if "pipeline" in read_yaml(path) else None


def read_pipeline(
    name: Path | str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> Pipeline:
    """Read a pipeline of pyannote.audio: speech separation or speaker diarization.

    Parameters
    ----------
    name
        A ``config.yaml``, a folder with one, or a name on the Hugging Face hub.
    revision, token, cache_dir
        Of the hub: branch, tag or commit; access token; folder of downloads.

    Raises
    ------
    PixitError
        If there is none, it is another kind of pipeline, or it asks for what pixit cannot do.
    """
    path = find_pipeline(name, revision, token, cache_dir)
    if path is None:
        raise PixitError(f"{name}: is no pipeline; expected a {PIPELINE} of pyannote.audio, or its folder")
    tree = read_yaml(path)
    section = read_section(tree, "pipeline", path)
    kind = str(section.get("name")).rsplit(".", 1)[-1]
    if kind not in DEFAULTS:
        raise PixitError(
            f"{path}: is a pipeline {one_line(section.get('name'))}; expected one of {', '.join(DEFAULTS)}"
        )
    if tree.get("preprocessors"):
        raise PixitError(
            f"{path}: asks for preprocessors, which pixit has not; remove them from a copy of it"
        )
    given = read_section(section, "params", path)
    arguments = DEFAULTS[kind] | given
    access = _text(token or given.get("token") or given.get("use_auth_token"))
    home = Source(str(path.parent), token=access, cache_dir=_text(cache_dir or given.get("cache_dir")))
    if not Path(name).expanduser().exists():
        repository, _, named = str(name).partition("@")
        home = replace(home, name=repository, revision=revision or named or None)
    keys = Keys(path, merge_frozen(read_section(tree, "params", path), read_section(tree, "freeze", path)))
    settings = map_settings(kind, arguments, keys)
    method = settings["clustering"]["method"]
    unknown = [key for key in tree if key not in BESIDE]
    unknown += [f"pipeline.{key}" for key in section if key not in ("name", "params")]
    unknown += [f"pipeline.params.{key}" for key in given if key not in ARGUMENTS]
    ratio = _number(arguments.get("segmentation_step", 0.1), path, "pipeline.params.segmentation_step")
    return Pipeline(
        path,
        kind,
        _locate(arguments["segmentation"], home, path, unknown),
        None if method == "oracle" else _locate(arguments["embedding"], home, path, unknown),
        _locate(arguments["plda"], home, path, unknown) if method == "vbx" and "plda" in arguments else None,
        settings,
        ratio,
        _text(tree.get("device")),
        (*unknown, *keys.left()),
    )


def _locate(value: Any, home: Source, path: Path, unknown: list[str]) -> Source:
    """Return where something is that a config names by `value`; `home` is where the config is."""
    entry = dict(value) if isinstance(value, dict) else {"checkpoint": value}
    checkpoint = entry.pop("checkpoint", None)
    if not isinstance(checkpoint, str) or not checkpoint:
        raise PixitError(f"{path}: found {one_line(value)}; expected a file, a folder or a name on the hub")
    found = _find_checkpoint(checkpoint, home, path)
    fields = {key: _text(entry.pop(key, None)) for key in ("revision", "token", "cache_dir")}
    fields["token"] = fields["token"] or _text(entry.pop("use_auth_token", None))
    subfolder = "/".join(filter(None, (found.subfolder, _text(entry.pop("subfolder", None)))))
    if subfolder and (Path(subfolder).is_absolute() or ".." in Path(subfolder).parts):
        raise PixitError(f"{path}: {subfolder!r} leaves the folder of the config; expected one in it")
    unknown += [f"{checkpoint}: {key}" for key in entry]
    return replace(found, subfolder=subfolder, **{key: text for key, text in fields.items() if text})


def _find_checkpoint(checkpoint: str, home: Source, path: Path) -> Source:
    if checkpoint == "$model" or checkpoint.startswith("$model/"):
        subfolder, _, revision = checkpoint.removeprefix("$model").strip("/").partition("@")
        return replace(home, subfolder=subfolder, revision=revision or home.revision)
    for folder in (path.parent, Path()):
        local = folder / Path(checkpoint).expanduser()
        if local.exists():
            return Source(str(local.absolute()))
    return Source(checkpoint, token=home.token, cache_dir=home.cache_dir)


def _number(value: Any, path: Path, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise PixitError(f"{path}: found {key}: {one_line(value)}, expected a number above 0, at most 1")
    return float(value)


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else str(value)
