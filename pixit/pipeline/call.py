"""One recording, in one call: the networks are loaded once and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pixit.audio import Audio, Channel
from pixit.diarized import Diarization
from pixit.pipeline.enrolment import Known
from pixit.pipeline.separate import Separator
from pixit.results import Separation
from pixit.types import Hook


def separate(
    audio: str | Path | Mapping[str, Any] | Audio,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    *,
    channel: Channel | None = None,
    stream: int | None = None,
    channels_are_speakers: bool = False,
    known_speakers: Known | None = None,
    model: str | Path | None = None,
    embedder: str | Path | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    hook: Hook | None = None,
) -> Separation:
    """Separate one recording, with the bundled networks or others: turns, and a track for each speaker.

    The networks are loaded at the first call, and again only when others, another device or other settings are
    asked for; `Separator.from_pretrained` loads them again, and keeps as many as you like.

    Parameters
    ----------
    audio, num_speakers, min_speakers, max_speakers, channel, stream, channels_are_speakers, known_speakers, hook
        As for `Separator`.
    model, embedder, device, settings
        As `name`, `embedder`, `device` and `settings` of `Separator.from_pretrained`.

    Raises
    ------
    PixitError
        If the recording or a network cannot be read, or the numbers of speakers contradict each other.

    Examples
    --------
    >>> result = pixit.separate("examples/meeting.flac", num_speakers=2)
    >>> result.speakers
    ['SPEAKER_00', 'SPEAKER_01']
    >>> result.save("separated")                                            # doctest: +SKIP
    """
    separator = _load(model, embedder, device, settings)
    taken = _taken(hook, channel, stream, channels_are_speakers, known_speakers)
    return separator(audio, num_speakers, min_speakers, max_speakers, **taken)


def diarize(
    audio: str | Path | Mapping[str, Any] | Audio,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    *,
    channel: Channel | None = None,
    stream: int | None = None,
    channels_are_speakers: bool = False,
    known_speakers: Known | None = None,
    model: str | Path | None = None,
    embedder: str | Path | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    hook: Hook | None = None,
) -> Diarization:
    """Find who spoke when in one recording, as `separate` does, but in less time and without tracks.

    Parameters
    ----------
    audio, num_speakers, min_speakers, max_speakers, channel, stream, channels_are_speakers, known_speakers, hook
        As for `Separator.diarize`.
    model, embedder, device, settings
        As for `separate`; the model may be one that diarizes only.

    Raises
    ------
    PixitError
        As of `separate`.

    Examples
    --------
    >>> pixit.diarize("examples/meeting.flac", num_speakers=2).speakers     # doctest: +SKIP
    ['SPEAKER_00', 'SPEAKER_01']
    """
    separator = _load(model, embedder, device, settings)
    taken = _taken(hook, channel, stream, channels_are_speakers, known_speakers)
    return separator.diarize(audio, num_speakers, min_speakers, max_speakers, **taken)


def _taken(
    hook: Hook | None,
    channel: Channel | None,
    stream: int | None,
    channels_are_speakers: bool,
    known_speakers: Known | None,
) -> dict[str, Any]:
    """Return what a separation and a diarization have in common, as `Separator` names it."""
    return {
        "hook": hook,
        "channel": channel,
        "stream": stream,
        "channels_are_speakers": channels_are_speakers,
        "known_speakers": known_speakers,
    }


def _load(
    model: str | Path | None, embedder: str | Path | None, device: str, settings: Mapping[str, Any] | None
) -> Separator:
    names = [None if name is None else str(name) for name in (model, embedder)]
    return _load_once(*names, device, json.dumps(settings or {}, sort_keys=True))


@lru_cache(maxsize=2)
def _load_once(model: str | None, embedder: str | None, device: str, settings: str) -> Separator:
    return Separator.from_pretrained(model, embedder, device, json.loads(settings))
