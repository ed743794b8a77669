"""How a result was made, as the result says it; what is long to hash is hashed once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pixit.audio import Audio, AudioFile
from pixit.files import file_hash, weights_hash
from pixit.pipeline.asked import Asked
from pixit.types import PixitError


class WeightsHash:
    """The SHA-256 of a network's weights as they are now, computed anew only when they were changed.

    None if the network is no `torch.nn.Module`.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self._known: tuple[object, str | None] | None = None

    def __call__(self) -> str | None:
        if not isinstance(self.network, torch.nn.Module):
            return None
        tensors = self.network.state_dict()
        # An in-place change raises the version of a tensor; inference tensors, which have none, are hashed anew.
        if any(tensor.is_inference() for tensor in tensors.values()):
            return weights_hash(self.network)
        state = [
            (name, t.data_ptr(), t._version, t.dtype, t.device, t.shape, t.stride())
            for name, t in tensors.items()
        ]
        if self._known is None or self._known[0] != state:
            self._known = state, weights_hash(self.network)
        return self._known[1]


def make_request(
    fingerprint: Mapping[str, Any], recording: Audio, asked: Asked | None = None
) -> dict[str, Any]:
    """Return everything that determines a result: two with the same request are the same.

    `fingerprint` is `Separator.fingerprint`; of the recording, only a file has a hash.
    """
    channel = "best" if recording.asked_channel is None else recording.asked_channel
    stream = {"stream": recording.stream} if recording.stream else {}  # older results have no such entry
    return {
        **fingerprint,
        "call": (asked or Asked()).describe() | {"channel": channel} | stream,
        "source_sha256": _source_hash(recording.info.path) if isinstance(recording, AudioFile) else None,
    }


def _source_hash(path: Path) -> str:
    """Return the SHA-256 of a file, read once while neither its size nor its time of change is another."""
    try:
        status = path.stat()
        return _hash_of_state(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:  # since it was opened
        raise PixitError(f"{path}: cannot be read any more ({error.strerror}); was it moved?") from None


@lru_cache(maxsize=10_000)
def _hash_of_state(path: Path, size: int, changed_ns: int) -> str:
    return file_hash(path)


def describe(recording: Audio, min_speakers: int, max_speakers: int | None, num_found: int) -> dict[str, Any]:
    """Return what people want to know of the version, the recording, what was asked of it, what could not be met."""
    warnings = []
    if recording.loss is not None:
        warnings.append(f"{recording.loss}; what is there was separated")
    if recording.num_streams > 1 and recording.asked_stream is None:
        warnings.append(f"has {recording.num_streams} audio streams, 0 was taken; --stream takes another")
    if min_speakers > 1 and num_found < min_speakers:
        warnings.append(f"{num_found} of the {min_speakers} speakers asked for could be distinguished")
    return {
        "pixit": version("pixit-audio"),
        "source": str(recording.info.path) if isinstance(recording, AudioFile) else recording.uri,
        "source_sample_rate": recording.source_rate_hz,
        "source_channels": recording.num_channels,
        "source_streams": recording.num_streams,
        "stream": recording.stream,
        "channel": recording.channel,
        "loss": recording.loss,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "warnings": warnings,
    }
