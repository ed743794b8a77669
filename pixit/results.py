"""The result of a separation: who spoke when, one track per speaker, and the folder of both.

Tracks stay on disk: nothing here but `Separation.sources` and ``np.asarray(track)`` loads one whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from pyannote.core import Annotation, SlidingWindow, SlidingWindowFeature

from pixit.audio import Track, TrackWriter
from pixit.diarized import Diarization, annotation_of
from pixit.files import file_name, real_path, whole_folder
from pixit.report.timeline import Lane
from pixit.saved import Description, TrackEntry, check_file_names, check_free, read_description
from pixit.types import PixitError

PLAYER_LIMIT_S = 900  # a notebook holds its players' sound: beyond this it becomes too heavy to open


@dataclass(eq=False, init=False)
class Separation(Diarization):
    """A separated recording; ``diarization, sources = separation`` unpacks it, as in pyannote.audio.

    A result that is sent to another process (pickled) is sent as its folder, and loaded there; one that was not saved
    raises a `PixitError`, as its tracks vanish with this process.

    Parameters
    ----------
    uri
        Name of the recording.
    diarization
        Who spoke when.
    tracks
        Speaker -> track; each as long as the recording and aligned to it.
    sample_rate_hz, num_samples
        Of every track.
    settings
        How this was made, all of it fit for JSON.
    temporary, folder
        Folder of the tracks, if it is to be removed with the last of them; folder that it was loaded from or, last,
        saved into.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def __init__(
        self,
        uri: str,
        diarization: Annotation,
        tracks: dict[str, Track],
        sample_rate_hz: int,
        num_samples: int,
        settings: dict[str, Any] | None = None,
        temporary: tempfile.TemporaryDirectory[str] | None = None,
        folder: Path | None = None,
    ) -> None:
        size = sample_rate_hz, num_samples
        super().__init__(uri, diarization, *size, {} if settings is None else settings, folder)
        self.tracks, self.temporary = tracks, temporary
        if temporary is not None:
            for track in tracks.values():  # a track may outlive the result that it came with
                track.temporary = temporary

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, in the order of the tracks."""
        return list(self.tracks)

    @property
    def sources(self) -> SlidingWindowFeature:
        """All tracks at once, (num_samples, speakers); takes 4 bytes of memory a sample and speaker."""
        data = np.zeros((len(self.tracks), self.num_samples), np.float32)
        for row, track in zip(data, self.tracks.values(), strict=True):
            position = 0
            for block in track.blocks():
                row[position : position + len(block)] = block
                position += len(block)
        step_s = 1 / self.sample_rate_hz
        window = SlidingWindow(start=0.0, duration=step_s, step=step_s)
        return SlidingWindowFeature(data.T, window, labels=self.speakers)

    def check_speakers(self) -> None:
        """Raise a `PixitError` if someone talks who has no track, as after renaming in the diarization only."""
        if lost := {turn.speaker for turn in self.turns} - set(self.tracks):
            raise PixitError(
                f"{self.uri}: {min(lost)!r} has turns but no track, the tracks are of "
                f"{', '.join(self.tracks) or 'nobody'}; rename speakers with Separation.rename"
            )

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.folder is None and self.temporary is not None:
            raise PixitError(
                f"{self.uri}: its tracks are temporary and cannot be sent to another process; save() it"
            )
        return super().__reduce_ex__(protocol)  # without a folder the tracks lie where they stay

    def __iter__(self) -> Iterator[Annotation | SlidingWindowFeature]:
        yield self.diarization
        yield self.sources

    def save(self, folder: Path | str, format: str = "wav", overwrite: bool = False) -> Path:
        """Write the result into ``folder/NAME``, whole or not at all, and return that folder.

        ``NAME`` is `file_name` of the uri. Into its folder go ``NAME.rttm``, ``NAME.json``, a track for each
        speaker as ``SPEAKER_00.wav`` (16 bits), and ``timeline.png``. Times are rounded to milliseconds;
        turns that become empty are left out.

        Parameters
        ----------
        folder
            Where the folder of the result goes.
        format
            ``"wav"`` or ``"flac"``.
        overwrite
            Replace an older result of the same name.

        Raises
        ------
        PixitError
            If the result exists and `overwrite` is not given, or something else stands in its place; two
            speakers need the same file name, or someone talks who has no track; or the disk is full or not to
            be written.
        """
        name = file_name(self.uri)
        target = Path(folder) / name
        check_free(target, overwrite)
        files = {speaker: f"{file_name(speaker)}.{format}" for speaker in self.speakers}
        check_file_names(target, files)
        self.check_speakers()
        with whole_folder(target) as new:
            entries = {s: _write_track(track, new / files[s], format) for s, track in self.tracks.items()}
            self.write_description(new, name, entries)
        for speaker, track in self.tracks.items():
            if real_path(track.path.parent) == real_path(target):  # it was saved over itself
                moved = self.tracks[speaker] = Track.open(target / files[speaker])
                moved.clipped_samples = entries[speaker].clipped_samples
        self.folder = target
        return target

    @classmethod
    def load(cls, folder: Path | str) -> Separation:
        """Read a result that `save` wrote.

        Raises
        ------
        PixitError
            If the folder does not hold a result, or one without tracks, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        while True:
            description = read_description(folder)
            try:
                tracks = _open_tracks(folder, description)
                break
            except PixitError:
                if read_description(folder) == description:
                    raise  # and its speakers were not renamed meanwhile
        size, settings = (description.sample_rate, description.num_samples), description.settings
        return cls(description.uri, annotation_of(description), tracks, *size, settings, folder=folder)

    def _lanes(self) -> list[Lane]:
        return [Lane(name, self._turns_of(name), track.envelope()) for name, track in self.tracks.items()]

    def _sounds(self) -> list[bytes]:
        """Return the tracks as FLAC, a fraction of wav as they are mostly silence; none if they are long."""
        sounds: list[bytes] = []
        if self.duration_s >= PLAYER_LIMIT_S:
            return sounds
        with tempfile.TemporaryDirectory(prefix="pixit-") as temporary:
            path = Path(temporary) / "track.flac"
            for track in self.tracks.values():
                _write_track(track, path, "flac")
                sounds.append(path.read_bytes())
        return sounds


def _open_tracks(folder: Path, description: Description) -> dict[str, Track]:
    if description.tracks is None:
        raise PixitError(
            f"{folder}: was diarized only and has no tracks; make them with pixit separate --overwrite"
        )
    length, rate_hz = description.num_samples, description.sample_rate
    tracks = {}
    for speaker, entry in description.tracks.items():
        track = tracks[speaker] = Track.open(folder / entry.file)
        if (track.num_samples, track.sample_rate_hz) != (length, rate_hz):
            raise PixitError(
                f"{track.path}: has {track.num_samples} samples at {track.sample_rate_hz} Hz, the "
                f"result's description says {length} at {rate_hz} Hz; separate the recording again"
            )
        track.clipped_samples = entry.clipped_samples
    return tracks


def _write_track(track: Track, path: Path, format: str) -> TrackEntry:
    peak = 0.0
    with TrackWriter(path, track.sample_rate_hz, format, num_samples=track.num_samples) as writer:
        for block in track.blocks():
            writer.write(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
    clipped_samples = track.clipped_samples + writer.clipped_samples
    return TrackEntry(file=path.name, peak=round(peak, 5), clipped_samples=clipped_samples)
