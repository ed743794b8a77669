"""Who said what when, as the field's files have it: SegLST, STM, CTM, and the subtitles SRT and WebVTT."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from pixit.diarized import Diarization
from pixit.files import check_file, file_hash, list_files, read_text, write_text
from pixit.formats.names import match_items
from pixit.formats.utterances import READERS, WRITERS, Utterance, kind_of, stem_of
from pixit.saved import JOURNAL, TRANSCRIPTS, files_beside
from pixit.types import PixitError

Tell = Callable[[str], Any]


def read_transcript(path: Path | str, need_times: bool = True, tell: Tell | None = None) -> list[Utterance]:
    """Read a transcript, or all transcripts of a folder and its subfolders.

    Where a folder holds the same transcripts in several kinds, as ``pixit transcribe --format stm --format srt``
    leaves them, the kind that says most is read, the first of those below; the file itself names another.

    The ending says the kind: SegLST (``.json``, ``.seglst.json``; plain ``.json`` is passed over in a folder
    that holds any other kind, for much else is JSON), STM (``.stm``; an optional label such as
    ``<o,f0,male>`` is no word), CTM (``.ctm``; the format knows no speakers: as in MeetEval, each file is
    one, named by the file, and the channel is ignored), SRT (``.srt``; ``[speaker]: text``), WebVTT
    (``.vtt``; ``<v speaker>text``). The session of subtitles is the name of the file.

    Parameters
    ----------
    path
        File or folder.
    need_times
        Whether a SegLST without times is an error, or its times are NaN.
    tell
        Given a line on what was read, where a folder leaves a choice.

    Raises
    ------
    PixitError
        If nothing can be read, a line or segment is not of the format (it is named), or a folder holds different
        transcripts in different kinds.
    """
    path = Path(path)
    check_file(path, "a transcript or a folder of transcripts")
    if not path.exists():
        raise PixitError(f"{path}: does not exist; expected a transcript or a folder of transcripts")
    if not path.is_dir():
        return _read_file(path, need_times)
    return [utterance for file in _choosekind_of(path, tell) for utterance in _read_file(file, need_times)]


def _choosekind_of(folder: Path, tell: Tell | None) -> list[Path]:
    """Return the transcripts of a folder, of the best of their kinds; a PixitError if another kind has more."""
    files = list_files(folder, READERS)
    files = [file for file in files if kind_of(file) != ".json"] or files
    by_kind: dict[str, dict[Path, Path]] = {}
    for file in files:
        by_kind.setdefault(str(kind_of(file)), {})[file.parent / stem_of(file)] = file
    if not by_kind:
        raise PixitError(f"{folder}: holds no transcripts; expected files of {', '.join(READERS)}")
    best, *others = (kind for kind in READERS if kind in by_kind)
    for other in others:
        if rest := by_kind[other].keys() - by_kind[best].keys():
            file = by_kind[other][min(rest)]
            raise PixitError(
                f"{folder}: holds files of several kinds ({best}, {other}), and {file} only as {other}; expected "
                "all in one kind, or name a file"
            )
    if others and tell is not None:
        tell(f"{folder}: {best} is read; the same is there as {', '.join(others)}")
    return list(by_kind[best].values())


def read_sessions(path: Path | str, tell: Tell | None = None) -> dict[str, list[Utterance]]:
    """Read a transcript, or a folder of them, as `read_transcript`: recording -> what is said in it."""
    sessions: dict[str, list[Utterance]] = {}
    for utterance in read_transcript(path, tell=tell):
        sessions.setdefault(utterance.session, []).append(utterance)
    return sessions


def match_sessions(
    recordings: Collection[str], path: Path | str
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """Read a transcript and return what is said in each recording, by `match_items`, and its notes.

    A transcript of one session is that of a single recording whatever its name, as subtitles have the file's.
    """
    notes: list[str] = []
    sessions = read_sessions(path, notes.append)
    if len(sessions) == len(recordings) == 1:
        return dict(zip(recordings, sessions.values(), strict=True)), notes
    found, more = match_items(recordings, sessions, str(path))
    return found, notes + more


def find_words(
    results: Iterable[Diarization], path: Path | str | None = None
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """Return what is said in each result, by its uri, and what the user should know.

    Without a `path` that is the transcript that ``pixit transcribe`` has written beside the folder of a result, of
    several the first of `TRANSCRIPTS`; with it, as `match_sessions`. A result without a transcript is left out.
    """
    results = list(results)
    if path is not None:
        return match_sessions([result.uri for result in results], path)
    words, notes = {}, []
    for result in results:
        files = [] if result.folder is None else files_beside(result.folder, TRANSCRIPTS)
        if result.folder is None or not files:
            continue
        if _is_of_another(result.folder):
            notes.append(
                f"{files[0]}: is the transcript of an earlier result, left out; make it again with pixit "
                "transcribe --overwrite, or name it with --transcript"
            )
        else:
            words[result.uri] = read_transcript(files[0])
    return words, notes


def _is_of_another(folder: Path) -> bool:
    """Return whether the journal beside a result's folder says that its transcript is of another result."""
    for path in files_beside(folder, (JOURNAL,)):
        try:
            with path.open("rb") as file:
                made_from = json.loads(file.readline())["request"].get("result_sha256")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        return made_from not in (None, file_hash(folder / f"{folder.resolve().name}.json"))
    return False


def write_transcript(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write a transcript, whole or not at all; the ending says the kind: SegLST, STM, SRT or WebVTT.

    Times are rounded to milliseconds; SegLST and STM keep the order, subtitles are ordered by time.

    Raises
    ------
    PixitError
        If the ending is none of ``.json``, ``.seglst.json``, ``.stm``, ``.srt`` and ``.vtt``, the file cannot
        be written, or the format cannot hold the utterances: STM knows no spaces in names, subtitles only
        one recording, and only SegLST holds utterances without times.
    """
    path = Path(path)
    if (kind := kind_of(path)) not in WRITERS:
        raise PixitError(f"{path}: cannot write this kind of transcript; expected {', '.join(WRITERS)}")
    write_text(path, WRITERS[kind](path, list(utterances)))


def _read_file(path: Path, need_times: bool) -> list[Utterance]:
    if (kind := kind_of(path)) is None:
        raise PixitError(f"{path}: unknown kind of transcript; expected a file named {', '.join(READERS)}")
    utterances = READERS[kind](path, read_text(path, f"a {kind} transcript"))
    if need_times and (missing := [u for u in utterances if math.isnan(u.start_s)]):
        raise PixitError(
            f"{path}: an utterance of {missing[0].speaker!r} in {missing[0].session!r} has no times; "
            "expected start_time and end_time in seconds"
        )
    return utterances
