"""How a result was made, as the result tells it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pixit.audio import Audio, AudioFile
from pixit.files import file_hash


def make_request(
    fingerprint: Mapping[str, Any],
    recording: Audio,
    num_speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
) -> dict[str, Any]:
    """Return all that decides about a result: two of the same request are the same.

    Parameters
    ----------
    fingerprint
        `Separator.fingerprint`.
    recording
        What is separated; only a file has a hash.
    num_speakers, min_speakers, max_speakers
        As `Separator` is asked.
    """
    call = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
    return {
        **fingerprint,
        "call": call | {"channel": recording.channel},
        "source_sha256": file_hash(recording.info.path) if isinstance(recording, AudioFile) else None,
    }


def describe(recording: Audio, min_speakers: int, max_speakers: int | None) -> dict[str, Any]:
    """Return what people want to know of the version, the recording, and what was asked of it."""
    return {
        "pixit": version("pixit-audio"),
        "source": str(recording.info.path) if isinstance(recording, AudioFile) else recording.uri,
        "source_sample_rate": recording.source_rate_hz,
        "source_channels": recording.num_channels,
        "channel": "mean" if recording.channel is None else recording.channel,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
    }
