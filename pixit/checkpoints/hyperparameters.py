"""The hyper-parameters of pyannote.audio's pipelines, in the words of pixit's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixit.types import PixitError, one_line

SEPARATION, DIARIZATION = "SpeechSeparation", "SpeakerDiarization"
METHODS = {
    "AgglomerativeClustering": "agglomerative",
    "KMeansClustering": "kmeans",
    "SpectralClustering": "spectral",
    "VBxClustering": "vbx",
    "OracleClustering": "oracle",
}
"""Class of pyannote.audio -> ``clustering.method``."""
SHORTEST_SOLO_S = 0.035
"""pyannote.audio leaves overlap out where more is left than the embedder needs at least: some frames."""
MOST_VECTORS = 10_000
"""Embeddings of an hour or so; pyannote.audio clusters all, in as much memory as their square takes."""


class Keys:
    """The hyper-parameters of a pipeline, which are taken one by one; what is left nobody knows."""

    def __init__(self, path: Path, tree: dict[str, Any]) -> None:
        self.path, self.tree, self.taken = path, tree, set[str]()

    def take(self, key: str, default: Any = None) -> Any:
        """Return the value of ``section.name``; without a default it must be there, as in pyannote.audio."""
        self.taken.add(key)
        section, name = key.split(".")
        values = read_section(self.tree, section, self.path)
        if values.get(name, default) is None:
            raise PixitError(f"{self.path}: lacks params.{key}, which its pipeline needs")
        return values.get(name, default)

    def left(self) -> list[str]:
        """Return the keys that nobody took."""
        found = []
        for section, values in self.tree.items():
            names = [f"{section}.{name}" for name in values] if isinstance(values, dict) else [section]
            found += [f"params.{name}" for name in names if name not in self.taken]
        return found


def map_settings(kind: str, arguments: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """Return differences from `SeparationSettings` for arguments and hyper-parameters of a pipeline."""
    # a model that decides by itself (powerset) has no threshold
    onset = keys.take("segmentation.threshold", 0.5 if kind == DIARIZATION else None)
    settings: dict[str, Any] = {
        "windows": "regular",
        "precision": "float32",
        "activity": {
            "onset": onset,
            "offset": onset,
            "min_local_s": 0.0,
            "min_duration_on_s": 0.0,
            "min_duration_off_s": keys.take("segmentation.min_duration_off"),
            "decision": "count",
            "unknown_voices": kind == DIARIZATION,
        },
        "embedding": {
            "signal": "mixture",
            "exclude_overlap": arguments.get("embedding_exclude_overlap", False),
            "min_solo_s": SHORTEST_SOLO_S,
        },
        "local_turns": {"pause_s": None},
        "clustering": _map_clustering(arguments["clustering"], keys),
    }
    if kind == SEPARATION:
        is_removed, collar_s = (
            keys.take("separation.leakage_removal"),
            keys.take("separation.asr_collar", 0.0),
        )
        settings["stitching"] = {
            "keep_room": False,
            "levels": "track",
            "absent": "silence",
            "taper": "hamming",
            "leakage_removal_db": 200.0 if is_removed else 0.0,
            "collar_s": collar_s,
        }
    return settings


def _map_clustering(kind: Any, keys: Keys) -> dict[str, Any]:
    if not isinstance(kind, str) or kind not in METHODS:
        raise PixitError(
            f"{keys.path}: asks for clustering {one_line(kind)}; expected one of {', '.join(METHODS)}"
        )
    found: dict[str, Any] = {"method": METHODS[kind]}
    if found["method"] != "oracle":
        found["max_vectors"] = MOST_VECTORS
    if found["method"] == "agglomerative":
        found["linkage"] = keys.take("clustering.method")
        found["threshold"] = keys.take("clustering.threshold")
        found["min_cluster_size"] = keys.take("clustering.min_cluster_size")
    elif found["method"] == "vbx":
        found["threshold"] = keys.take("clustering.threshold")
        found["fa"], found["fb"] = keys.take("clustering.Fa"), keys.take("clustering.Fb")
    return found


def read_section(tree: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """Return a section of a config, empty if it is not there; a PixitError if it is no mapping."""
    value = tree.get(key) or {}
    if not isinstance(value, dict):
        raise PixitError(f"{path}: found {key}: {one_line(value)}, expected a mapping (key: value)")
    return value


def merge_frozen(tree: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters, those that are frozen before those that are given, as in pyannote.audio."""
    found = dict(tree)
    for section, values in frozen.items():
        inside = found.get(section)
        is_both = isinstance(inside, dict) and isinstance(values, dict)
        found[section] = {**inside, **values} if is_both else values  # type: ignore[dict-item]
    return found
