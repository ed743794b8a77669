"""The recording that a result was made from, found again, or made anew from its tracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pixit.audio import Audio, Samples, open_audio
from pixit.files import file_hash
from pixit.results import Separation
from pixit.types import PixitError


@dataclass(frozen=True)
class Mixture:
    """The sound of all speakers together.

    Parameters
    ----------
    parts
        Signals whose sum it is: the recording itself, or the tracks.
    origin
        What it is, for people.
    """

    parts: tuple[Audio, ...]
    origin: str

    def blocks(self) -> Iterator[Samples]:
        """Stream the sum as blocks (n,)."""
        for blocks in zip(*(part.blocks() for part in self.parts), strict=True):
            yield sum(blocks[1:], blocks[0])


def find_mixture(result: Separation, sample_rate_hz: int, audio: Path | None = None) -> Mixture:
    """Take `audio`, or the file that the result's settings name, or else the sum of the tracks.

    The file that the settings name is taken only if it is still the one that was separated.

    Parameters
    ----------
    result
        The separated recording.
    sample_rate_hz
        Rate at which it is read.
    audio
        The recording, given by hand.

    Raises
    ------
    PixitError
        If `audio` cannot be read, or is not as long as the result.
    """
    channel = result.settings.get("channel")
    channel = channel if isinstance(channel, int) else None
    if audio is not None:
        found = open_audio(audio, result.sample_rate_hz)
        if found.num_channels > 1:
            found = open_audio(audio, result.sample_rate_hz, channel)
        if abs(found.num_samples - result.num_samples) > 1:
            raise PixitError(
                f"{audio}: lasts {found.duration_s:.3f} s, the result {result.uri} {result.duration_s:.3f} s; "
                "expected the recording that was separated"
            )
        return Mixture((found.at(sample_rate_hz),), audio.name)
    source = result.settings.get("source")
    if isinstance(source, str) and _is_source(Path(source), result):
        return Mixture((open_audio(source, sample_rate_hz, channel),), Path(source).name)
    tracks = tuple(open_audio(track.path, sample_rate_hz) for track in result.tracks.values())
    missing = (
        f"{Path(source).name} is not at hand" if isinstance(source, str) else "the result names no recording"
    )
    return Mixture(tracks, f"sum of the tracks ({missing})" if tracks else f"none ({missing})")


def _is_source(path: Path, result: Separation) -> bool:
    """Whether a file is the recording that was separated: by its hash, if known, and its length."""
    if not path.is_file():
        return False
    request = result.settings.get("request")
    expected = request.get("source_sha256") if isinstance(request, dict) else None
    if expected is not None:
        return bool(file_hash(path) == expected)
    try:
        return abs(open_audio(path, result.sample_rate_hz).num_samples - result.num_samples) <= 1
    except PixitError:
        return False
