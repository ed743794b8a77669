"""The recording that a result was made from, found again, or made anew from its tracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pixit.audio import Audio, Samples, open_audio
from pixit.formats.results_folder import find_recording
from pixit.results import Separation


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
    """Take the recording, as `find_recording` finds it, or the sum of the tracks if it is not at hand.

    Parameters
    ----------
    result
        The separated recording.
    sample_rate_hz
        Rate at which it is read.
    audio
        The recording, named by the user.

    Raises
    ------
    PixitError
        As `find_recording`.
    """
    recording = find_recording(result, audio)
    if recording is not None:
        return Mixture((recording.at(sample_rate_hz),), recording.info.path.name)
    source = result.settings.get("source")
    tracks = tuple(open_audio(track.path, sample_rate_hz) for track in result.tracks.values())
    missing = (
        f"{Path(source).name} is not at hand" if isinstance(source, str) else "the result names no recording"
    )
    return Mixture(tracks, f"sum of the tracks ({missing})" if tracks else f"none ({missing})")
