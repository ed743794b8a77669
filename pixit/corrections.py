"""What people mend in a result: names of speakers, and turns that they have corrected on its page."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pyannote.core import Annotation, Segment
from pydantic import BaseModel, ConfigDict, ValidationError

from pixit.diarized import Diarization
from pixit.files import file_hash, file_name, parse_json, read_text, write_text
from pixit.formats.names import find_results
from pixit.formats.transcripts import read_transcript, write_transcript
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.saved import (
    BESIDE,
    JOURNAL,
    TrackEntry,
    TurnEntry,
    changed_folder,
    check_file_names,
    check_speaker,
    claim_result,
    files_beside,
    noted_transcripts,
    read_description,
)
from pixit.types import PixitError

Attribute = Callable[[list[Utterance]], list[str]]
"""Who said each utterance of a transcript that was made before the change."""


class WordsEntry(BaseModel):
    """An utterance in SegLST's words."""

    model_config = ConfigDict(allow_inf_nan=False)

    speaker: str
    start_time: float
    end_time: float
    words: str


class Corrections(BaseModel):
    """The file that a report's page saves: a result as it should be.

    `made` is `identity` of the result; `speakers` are the names of its tracks, in their order; the turns and
    utterances are all there are, by those names.
    """

    pixit: Literal["corrections"]
    uri: str
    made: str
    speakers: list[str]
    turns: list[TurnEntry]
    words: list[WordsEntry] = []


def identity(result: Diarization) -> str:
    """Return a hash of how a result was made, the same whatever was corrected in it since."""
    settings = {key: value for key, value in result.settings.items() if key not in ("renamed", "corrected")}
    made = [result.uri, result.sample_rate_hz, result.num_samples, settings]
    return sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def read_corrections(path: Path) -> Corrections:
    """Read a file that a report's page has saved; a `PixitError` if it is another."""
    try:
        return Corrections.model_validate_json(read_text(path, "the corrections that a report saves"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PixitError(
            f"{path}: is no file of corrections ({where}: {first['msg'].lower()}); expected one that the page "
            "of pixit report saves"
        ) from None


def rename_speakers(result: Diarization, names: Mapping[str, str]) -> None:
    """Do what `Diarization.rename` says."""
    if isinstance(result, Separation):
        result.check_speakers()
    names = _check_names(str(result.folder or result.uri), result.speakers, names)
    new = _renamed(result, names)
    if (folder := result.folder) is not None:
        with claim_result(folder):
            saved = type(result).load(folder)
            if saved.speakers != result.speakers:
                raise PixitError(
                    f"{folder}: has other speakers by now, {', '.join(saved.speakers)}; load it again"
                )
            _save(
                saved, _renamed(saved, names), names, lambda said: [_new_name(names, u.speaker) for u in said]
            )
            if isinstance(new, Separation):
                new.tracks = Separation.load(folder).tracks  # their files have other names
    if isinstance(result, Separation) and isinstance(new, Separation):
        result.tracks = new.tracks
    result.diarization, result.settings = new.diarization, new.settings


def rename_saved(path: Path, changes: Iterable[str]) -> Diarization:
    """Rename speakers of the one saved result at `path`; `changes` are as ``SPEAKER_00=Ann``.

    Raises
    ------
    PixitError
        If a change is of another form or of the same speaker as one before; or as `Diarization.rename`.
    """
    names: dict[str, str] = {}
    for change in changes:
        name, is_change, new = change.partition("=")
        if not is_change or not name:
            raise PixitError(f"{change!r}: is no new name of a speaker; expected one as SPEAKER_00=Ann")
        if name in names:
            raise PixitError(f"{change!r}: {name} was to be {names[name]} already; name each speaker once")
        names[name] = new
    folder = _find_one(path)
    with claim_result(folder):
        return Diarization.load(folder).rename(names)


def correct_saved(path: Path, corrections: Path) -> Diarization:
    """Give the saved result at `path` the names and turns of a file that its page has saved.

    Its transcripts follow: utterances that were given to another speaker on the page are that speaker's, and
    ``pixit transcribe`` leaves them alone. The tracks keep their sound: what a track holds where its speaker has
    no turn any more is not taken out of it.

    Raises
    ------
    PixitError
        If the file is damaged or of another result, or as `Diarization.rename`. Nothing is changed then.
    """
    folder, wanted = _find_one(path), read_corrections(corrections)
    with claim_result(folder):
        _correct(folder, wanted, corrections)
        return Diarization.load(folder)


def _correct(folder: Path, wanted: Corrections, corrections: Path) -> None:
    result = Diarization.load(folder)
    if wanted.made != identity(result) or len(wanted.speakers) != len(result.speakers):
        raise PixitError(
            f"{corrections}: corrects another result than {folder}, {wanted.uri!r}, or it was separated anew "
            "since; make its page again with pixit report, and correct that"
        )
    pairs = dict(zip(result.speakers, wanted.speakers, strict=True))
    names = _check_names(str(corrections), result.speakers, pairs)
    _check_turns(corrections, wanted, result.duration_s)
    before, new = _renamed(result, names), _renamed(result, names)
    new.diarization = Annotation(uri=result.uri)
    for turn in wanted.turns:
        new.diarization[Segment(turn.start, turn.end), turn.speaker] = turn.speaker
    if new.turns != before.turns:
        new.settings = new.settings | {"corrected": True}
    _save(result, new, names, lambda said: _who_said(corrections, said, wanted.words, names))


def _find_one(path: Path) -> Path:
    found = find_results([path])
    if len(found) > 1:
        raise PixitError(f"{path}: holds {len(found)} results; expected the folder of one, as {found[0]}")
    return found[0]


def _check_names(place: str, speakers: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the new name of every speaker; a `PixitError` if there is no such speaker or name."""
    for name, new in names.items():
        if name not in speakers:
            known = ", ".join(speakers) or "nobody"
            raise PixitError(f"{place}: has no speaker {name!r}; expected one of {known}")
        if new != name:
            check_speaker(place, new)
    all_names = {speaker: names.get(speaker, speaker) for speaker in speakers}
    for name in all_names.values():
        if len(twins := [old for old, new in all_names.items() if new == name]) > 1:
            raise PixitError(f"{place}: {' and '.join(twins)} would both be {name!r}; give them two names")
    return all_names


def _new_name(names: Mapping[str, str], speaker: str) -> str:
    """Return who a speaker of a transcript is now: formats without spaces name them as files do."""
    return names.get(speaker) or {file_name(old): new for old, new in names.items()}.get(speaker, speaker)


def _check_turns(place: Path, wanted: Corrections, duration_s: float) -> None:
    """Raise if a turn is of nobody, empty or outside the recording, or two of a speaker overlap."""
    end_of: dict[str, float] = {}
    for turn in sorted(wanted.turns, key=lambda turn: turn.start):
        earliest_s = end_of.get(turn.speaker, 0.0)
        if turn.speaker not in wanted.speakers:
            raise PixitError(f"{place}: a turn is of {turn.speaker!r}, none of the speakers of the file")
        if not earliest_s <= turn.start < turn.end <= duration_s + 0.001:
            raise PixitError(
                f"{place}: the turn of {turn.speaker!r} from {turn.start} to {turn.end} s is empty, outside the "
                f"{duration_s:.3f} s of the recording, or overlaps one of the same speaker; save it again"
            )
        end_of[turn.speaker] = turn.end


def _renamed(result: Diarization, names: Mapping[str, str]) -> Diarization:
    """Return a result in memory with other names, and what they were at first among its settings."""
    first = {new: old for old, new in result.settings.get("renamed", {}).items()}
    renamed = {first.get(old, old): new for old, new in names.items() if first.get(old, old) != new}
    settings = {key: value for key, value in result.settings.items() if key not in ("renamed", "corrected")}
    if renamed:
        settings["renamed"] = renamed
    if result.settings.get("corrected"):
        settings["corrected"] = True
    changes: dict[str, Any] = {"settings": settings}
    if isinstance(result, Separation):
        changes["tracks"] = {names[speaker]: track for speaker, track in result.tracks.items()}
    return replace(result, diarization=result.diarization.rename_labels(dict(names)), **changes)


def _save(old: Diarization, new: Diarization, names: Mapping[str, str], attribute: Attribute) -> None:
    """Put `new` in the place of `old`, the result as it lies in its folder, with what is beside it."""
    if (folder := old.folder) is None:
        raise ValueError("a result in memory has no folder")
    name = folder.resolve().name
    entries: dict[str, TrackEntry] = {}
    files: dict[str, str] = {}
    tracks = read_description(folder).tracks
    for speaker, entry in (tracks or {}).items():
        now = names[speaker]
        files[entry.file] = entry.file if now == speaker else file_name(now) + Path(entry.file).suffix
        entries[now] = entry.model_copy(update={"file": files[entry.file]})
    check_file_names(folder, {speaker: entry.file for speaker, entry in entries.items()})
    with changed_folder(folder) as change:
        for file, moved in files.items():
            if moved != file:
                _link(folder / file, change / moved)
        new.write_description(change, name, None if tracks is None else entries)
        hashes = [file_hash(place / f"{name}.json") for place in (folder, change)]
        for path in files_beside(folder):
            if path.name.endswith(JOURNAL) and new.settings.get("corrected"):
                # of its words nothing is made again, but it stays the transcript of this result alone
                told: list[dict[str, Any]] = [{"request": {"result_sha256": hashes[1], "corrected": True}}]
                told += [{"transcript": name} for name in noted_transcripts(path)]
                write_text(change / BESIDE / path.name, "".join(json.dumps(entry) + "\n" for entry in told))
            elif path.name.endswith(JOURNAL):
                _rewrite_journal(path, change / BESIDE / path.name, names, hashes)
            else:
                _rewrite_transcript(path, change / BESIDE / path.name, attribute)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name without copying hours of sound, where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _rewrite_transcript(path: Path, target: Path, attribute: Attribute) -> None:
    """Write a transcript with other speakers, and nothing where they stay the same."""
    utterances = read_transcript(path, need_times=False)
    speakers = attribute(utterances)
    if speakers == [utterance.speaker for utterance in utterances]:
        return
    if path.suffix == ".json":  # keys that SegLST does not know are kept
        segments = parse_json(read_text(path, "SegLST"), str(path), "SegLST")
        for segment, speaker in zip(segments, speakers, strict=True):
            segment["speaker"] = speaker
        write_text(target, json.dumps(segments, indent=2, ensure_ascii=False) + "\n")
        return
    write_transcript(target, utterances)
    if read_text(target, "a transcript") != read_text(path, "a transcript"):
        raise PixitError(
            f"{path}: holds more than speakers, times and words, which would be lost; rename there by hand, "
            "and give the file another name until the result is changed"
        )
    pairs = zip(utterances, speakers, strict=True)
    write_transcript(target, [replace(utterance, speaker=speaker) for utterance, speaker in pairs])


def _rewrite_journal(path: Path, target: Path, names: Mapping[str, str], hashes: list[str]) -> None:
    """Let the journal of a transcription be that of the changed result, so that none is recognised again."""
    lines = []
    for line in read_text(path, "the journal of a transcription").splitlines():
        try:
            entry = dict(json.loads(line))
            request = dict(entry.get("request", {}))
        except (ValueError, TypeError, RecursionError):
            continue  # a killed run left its last line unfinished, or it is none of a journal
        if request.get("result_sha256") == hashes[0]:
            entry["request"] = request | {"result_sha256": hashes[1]}
        if "speaker" in entry:
            speaker = str(entry["speaker"])
            entry["speaker"] = names.get(speaker, speaker)
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_text(target, "".join(lines))


def _who_said(
    place: Path, said: list[Utterance], words: list[WordsEntry], names: Mapping[str, str]
) -> list[str]:
    """Return the speaker of each utterance by the page, by times and words, or else its own by its new name.

    A `PixitError` if the page gives it to nobody of the result; who has no track may keep it.
    """
    known: dict[tuple[Any, ...], list[str]] = {}
    for entry in words:
        known.setdefault(_key(entry.start_time, entry.end_time, entry.words), []).append(entry.speaker)
    found = []
    for utterance in said:
        given = known.get(_key(utterance.start_s, utterance.end_s, utterance.words))
        speaker = given.pop(0) if given else _new_name(names, utterance.speaker)
        if given is not None and speaker not in names.values():
            if file_name(speaker) != file_name(utterance.speaker):
                raise PixitError(
                    f"{place}: words at {utterance.start_s:.3f} s are of {speaker!r}, none of the speakers of the "
                    "file; save it again"
                )
            speaker = utterance.speaker
        found.append(speaker)
    return found


def _key(start_s: float, end_s: float, words: str) -> tuple[Any, ...]:
    times = [None if math.isnan(time_s) else round(time_s * 1000) for time_s in (start_s, end_s)]
    return " ".join(words.split()), *times
