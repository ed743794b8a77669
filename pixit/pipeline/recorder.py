"""The result of a stream on disk: it grows, can be read at every moment, and in the end is as any other result's."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.audio.growing import GrowingTrack
from pixit.files import file_name, read_text, whole_folder, write_all, write_text
from pixit.formats.rttm import read_rttm, rttm_line
from pixit.ownership import OWN
from pixit.pipeline.live import Update
from pixit.results import Separation
from pixit.saved import TIMELINE, TrackEntry, check_free
from pixit.types import PixitError, Turn

DRAFT = ".description"
"""Folder in which the last files of a result are written."""
BEGUN = ".tracks"
"""Lists the files of tracks of a stream that has not ended, one a line."""


class StreamRecorder:
    """Writes what becomes final of a stream into ``folder/NAME``.

    Tracks are wav files, whose headers are right after every update; a speaker who comes late gets zeros before.
    Closed turns are lines of ``NAME.rttm``, written whole. After `finish` the folder is that of a `Separation`.

    Parameters
    ----------
    folder, name
        Where the folder of the result goes, and what the recording is called.
    sample_rate_hz
        Of the tracks.
    overwrite
        Replace an older result of that name, or what is left of a stream that was killed.

    Raises
    ------
    PixitError
        If there is a result and `overwrite` is not given, or something else; or the disk cannot be written.
    """

    def __init__(self, folder: Path | str, name: str, sample_rate_hz: int, overwrite: bool = False) -> None:
        self.name, self.sample_rate_hz = name, sample_rate_hz
        self.file_name = file_name(name)
        self.folder = Path(folder) / self.file_name
        self._tracks: dict[str, GrowingTrack] = {}
        self.num_samples = 0
        make_room(self.folder, overwrite)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._begun = (self.folder / BEGUN).open("wb", buffering=0)
            self._turns = (self.folder / f"{self.file_name}.rttm").open("wb", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> PixitError:
        return PixitError(
            f"{self.folder}: cannot be written ({error.strerror}); free space or choose another folder"
        )

    def write(self, update: Update) -> None:
        """Append an update; a PixitError if it cannot be written."""
        for speaker, samples in update.tracks.items():
            name = file_name(speaker)  # a server has given it, maybe
            if name not in self._tracks:
                path = self.folder / f"{name}.wav"
                self._append(self._begun, f"{path.name}\n")
                self._tracks[name] = GrowingTrack(path, self.sample_rate_hz, update.start_samples)
            self._tracks[name].append(samples)
        self.num_samples = update.end_samples
        turns = [Turn(t.start_s, t.end_s, file_name(t.speaker)) for t in update.turns if t.end_s is not None]
        if lines := "".join(f"{rttm_line(self.file_name, turn)}\n" for turn in turns):
            self._append(self._turns, lines)

    def _append(self, file: FileIO, lines: str) -> None:
        """Write whole lines, onto the disk; or none of them, and raise a PixitError."""
        end = file.tell()
        try:
            write_all(file, lines.encode())
            os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                file.truncate(end)
                file.seek(end)
            raise self._unwritable(error) from None

    def finish(self, settings: dict[str, Any]) -> Path:
        """Complete the result, after the last update, and return its folder; `settings` say how it was made."""
        self._turns.close()
        self._begun.close()
        for track in self._tracks.values():
            track.close()
        tracks = {name: Track.open(track.path) for name, track in self._tracks.items()}
        diarization = Annotation(uri=self.name)
        for number, turn in enumerate(read_rttm(self.folder / f"{self.file_name}.rttm")[self.file_name]):
            diarization[Segment(turn.start_s, turn.end_s), number] = turn.speaker
        size = self.sample_rate_hz, self.num_samples
        result = Separation(self.name, diarization, tracks, *size, settings)
        entries = {
            name: TrackEntry(
                file=track.path.name, peak=round(track.peak, 5), clipped_samples=track.clipped_samples
            )
            for name, track in self._tracks.items()
        }
        with whole_folder(self.folder / DRAFT) as new:
            result.write_description(new, self.file_name, entries)
        written = sorted((self.folder / DRAFT).iterdir(), key=lambda path: path.suffix == ".json")
        for path in written:  # the description last: it makes the folder a result
            path.replace(self.folder / path.name)
        (self.folder / DRAFT).rmdir()
        (self.folder / BEGUN).unlink()
        return self.folder


def make_room(target: Path, overwrite: bool) -> None:
    """Remove an older result, or what a stream that was killed left; nothing else. A PixitError if it must not go.

    A result says which files are its own, and so does `BEGUN` of what a stream that was killed left.
    """
    if not target.exists():
        return
    if not overwrite:
        raise PixitError(f"{target}: exists already; overwrite it, or choose another folder")
    if not target.is_dir():
        raise PixitError(f"{target}: is no folder of a result; move it elsewhere")
    shutil.rmtree(target / DRAFT, ignore_errors=True)  # of one that was killed at its very end
    begun = target / BEGUN
    if (target / f"{target.name}.json").exists():
        begun.unlink(missing_ok=True)
        check_free(target, overwrite)
        write_text(begun, "\n".join(path.name for path in target.iterdir()))  # one may be killed here, too
    else:
        files = read_text(begun, "names of files").splitlines() if begun.exists() else []
        own = {f"{target.name}.rttm", TIMELINE, BEGUN, *files}
        for path in target.iterdir():
            if path.name not in own and not path.name.startswith(OWN):
                raise PixitError(
                    f"{target}: holds {path.name}, which is not part of the result; move it elsewhere"
                )
    for path in sorted(target.iterdir(), key=lambda path: (path == begun, path.suffix != ".json")):
        with suppress(OSError):  # told where the file is made anew
            path.unlink()
