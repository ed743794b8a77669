"""What can be exported: RTTM files, results of ``pixit separate``, transcripts, and folders of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pixit.audio import open_audio
from pixit.diarized import Diarization
from pixit.files import check_file, list_files, real_path
from pixit.formats.names import find_files, find_recording, is_result
from pixit.formats.rttm import read_rttm
from pixit.formats.subtitles import UNKNOWN
from pixit.formats.transcripts import Tell, find_words, read_sessions
from pixit.formats.utterances import READERS, Utterance
from pixit.results import Separation
from pixit.types import PixitError, Turn

UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Characters that no text file of people should have, nor XML may."""


OVERRUN_S = 0.5
"""By so much a recording may be longer or shorter than what is said of it."""


@dataclass(frozen=True)
class Labelled:
    """A recording and who spoke when in it."""

    uri: str
    utterances: tuple[Utterance, ...]
    """In order of time, in whole milliseconds; without words if there is only a diarization."""
    duration_s: float | None = None
    audio: Path | None = None
    """The recording itself, if it was named."""
    result: Diarization | None = None
    """What it was read from, if that is a result of ``pixit separate`` or ``pixit diarize``."""

    @property
    def end_s(self) -> float:
        """End of the recording; where that is unknown, of the last turn."""
        return max([self.duration_s or 0.0, *(utterance.end_s for utterance in self.utterances)])

    def media(self) -> list[Path]:
        """Return the files to listen to: the recording, if `find_recording` finds it, and the tracks."""
        if self.result is None:
            return [self.audio] if self.audio is not None else []
        found = find_recording(self.result, self.audio)
        tracks = []
        if isinstance(self.result, Separation):
            tracks = [track.path for track in self.result.tracks.values()]
        return tracks if found is None else [found.info.path, *tracks]


def read_labelled(paths: Iterable[Path | str], tell: Tell | None = None) -> list[Labelled]:
    """Read the recordings of RTTM, result folders, transcripts (as `read_transcript`) and folders of these.

    Times are rounded to milliseconds: turns that become empty are left out, utterances keep one millisecond.
    A file without any turn is one recording of its name, in which nobody speaks. A folder that holds no RTTM
    is read as one of transcripts; `tell` is given which of several kinds was read.

    Raises
    ------
    PixitError
        If nothing can be read, a turn begins before 0, or a recording stands in two places.
    """
    found: dict[str, tuple[Path, Labelled]] = {}
    for path in map(Path, paths):
        check_file(path, "a file or folder to export")
        if not path.exists():
            raise PixitError(f"{path}: does not exist; expected a file or folder to export")
        for place, recording in _read(path, tell):
            other = found[recording.uri][0] if recording.uri in found else place
            if real_path(other) != real_path(place):  # a file that is given twice is read once
                raise PixitError(
                    f"{other} and {place}: both hold {recording.uri!r}; expected one file a recording"
                )
            found[recording.uri] = place, _in_milliseconds(place, recording)
    return [recording for _, recording in found.values()]


def attach_audio(recordings: list[Labelled], audio: Path) -> tuple[list[Labelled], list[str]]:
    """Add the audio file of each recording, and its length; return the notes of `match_names` too.

    `audio` is the file of the only recording, or a folder with a file for each.

    Raises
    ------
    PixitError
        If a recording has no file, or the file is not audio or of another length.
    """
    files, notes = find_files(audio, [recording.uri for recording in recordings])
    found = []
    for recording in recordings:
        path = files[recording.uri]
        duration_s = open_audio(path).duration_s
        own_s = recording.end_s if recording.result is None else recording.result.duration_s
        if duration_s < own_s - OVERRUN_S or (
            recording.result is not None and duration_s > own_s + OVERRUN_S
        ):
            raise PixitError(
                f"{path}: lasts {duration_s:.3f} s, what is said of {recording.uri} {own_s:.3f} s; expected the "
                "recording itself"
            )
        found.append(replace(recording, audio=path, duration_s=duration_s))
    return found, notes


def attach_words(
    recordings: list[Labelled], transcript: Path | None = None
) -> tuple[list[Labelled], list[str]]:
    """Put the words of each result in the place of its turns, if there are any; return the notes too.

    They are as `find_words` finds them: by default those of the transcript beside the result.
    """
    results = [recording.result for recording in recordings if recording.result is not None]
    words, notes = find_words(results, transcript) if results else ({}, [])
    found = []
    for recording in recordings:
        said = words.get(recording.uri) if recording.result is not None else None
        if said is not None:
            place = transcript or Path(recording.uri)
            recording = _in_milliseconds(place, replace(recording, utterances=tuple(said)))
        found.append(recording)
    return found, notes


def _read(path: Path, tell: Tell | None) -> Iterator[tuple[Path, Labelled]]:
    """Yield where a recording stands, and the recording."""
    if is_result(path):
        result = Diarization.load(path)
        yield (
            path,
            Labelled(result.uri, _wordless(result.uri, result.turns), result.duration_s, result=result),
        )
    elif path.is_dir() and (rttms := list_files(path, [".rttm"])):
        for rttm in rttms:
            yield from _read(rttm.parent if is_result(rttm.parent) else rttm, tell)
    elif path.suffix.lower() == ".rttm" and not path.is_dir():
        for uri, turns in read_rttm(path).items():
            yield path, Labelled(uri, _wordless(uri, turns))
    else:
        yield from _from_transcripts(path, tell)


def _wordless(uri: str, turns: Iterable[Turn]) -> tuple[Utterance, ...]:
    return tuple(Utterance(uri, turn.speaker, turn.start_s, turn.end_s, "") for turn in turns)


def _from_transcripts(path: Path, tell: Tell | None) -> Iterator[tuple[Path, Labelled]]:
    names = [p.name.lower() for p in path.rglob("*")] if path.is_dir() else [path.name.lower()]
    if not any(name.endswith(tuple(READERS)) for name in names):
        kinds = ", ".join(READERS)
        raise PixitError(
            f"{path}: is nothing to export; expected .rttm, the folder of a result, or a transcript ({kinds})"
        )
    name = path.name if path.is_dir() else re.sub(r"(\.seglst)?\.\w+$", "", path.name)
    for session, utterances in (read_sessions(path, tell) or {name: []}).items():
        yield path, Labelled(session, tuple(utterances))


def _in_milliseconds(place: Path, recording: Labelled) -> Labelled:
    """Round times, clean texts, and order by time."""
    rounded = []
    for utterance in recording.utterances:
        start_ms, end_ms = (round(time_s * 1000) for time_s in (utterance.start_s, utterance.end_s))
        if start_ms < 0:
            raise PixitError(
                f"{place}: a turn of {utterance.speaker!r} in {recording.uri!r} begins at "
                f"{utterance.start_s:.3f} s, expected 0 or later; repair it"
            )
        speaker, words = _clean(utterance.speaker) or UNKNOWN, _clean(utterance.words)
        if words:
            end_ms = max(end_ms, start_ms + 1)
        if start_ms < end_ms:
            rounded.append(Utterance(recording.uri, speaker, start_ms / 1000, end_ms / 1000, words))
    rounded.sort(key=lambda utterance: (utterance.start_s, utterance.end_s))
    return replace(recording, utterances=tuple(rounded))


def _clean(text: str) -> str:
    return " ".join(UNFIT.sub(" ", text).split())
