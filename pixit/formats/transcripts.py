"""Who said what when, as the field's files have it: SegLST, STM, CTM, and the subtitles SRT and WebVTT."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixit.diarized import Diarization
from pixit.files import file_hash, list_files, parse_json, read_text, write_text
from pixit.formats.names import match_items
from pixit.formats.subtitles import Cue, parse_srt, parse_vtt, render_srt, render_vtt
from pixit.saved import JOURNAL, TRANSCRIPTS, files_beside
from pixit.types import PixitError

Tell = Callable[[str], Any]

STM_LABEL = re.compile(r"<(?:na|o|f\d_\w+|[^<>\s]*,[^<>\s]*)>(?:\s+|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Utterance:
    """What one speaker said in one stretch of a recording, the session: words divided by spaces, maybe none.

    The times are both NaN where a file does not say (see `read_transcript`).
    """

    session: str
    speaker: str
    start_s: float
    end_s: float
    words: str


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
    if not path.exists():
        raise PixitError(f"{path}: does not exist; expected a transcript or a folder of transcripts")
    if not path.is_dir():
        return _read_file(path, need_times)
    return [utterance for file in _choose_kind(path, tell) for utterance in _read_file(file, need_times)]


def _choose_kind(folder: Path, tell: Tell | None) -> list[Path]:
    """Return the transcripts of a folder, of the best of their kinds; a PixitError if another kind has more."""
    files = list_files(folder, READERS)
    files = [file for file in files if _kind(file) != ".json"] or files
    by_kind: dict[str, dict[Path, Path]] = {}
    for file in files:
        by_kind.setdefault(str(_kind(file)), {})[file.parent / _stem(file)] = file
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
    if (kind := _kind(path)) not in WRITERS:
        raise PixitError(f"{path}: cannot write this kind of transcript; expected {', '.join(WRITERS)}")
    write_text(path, WRITERS[kind](path, list(utterances)))


def _kind(path: Path) -> str | None:
    """Return the ending of a file if it is one of a transcript, the longest that fits."""
    return next((kind for kind in READERS if path.name.lower().endswith(kind)), None)


def _stem(path: Path) -> str:
    return path.name[: -len(_kind(path) or "")]


def _read_file(path: Path, need_times: bool) -> list[Utterance]:
    if (kind := _kind(path)) is None:
        raise PixitError(f"{path}: unknown kind of transcript; expected a file named {', '.join(READERS)}")
    utterances = READERS[kind](path, read_text(path, f"a {kind} transcript"))
    if need_times and (missing := [u for u in utterances if math.isnan(u.start_s)]):
        raise PixitError(
            f"{path}: an utterance of {missing[0].speaker!r} in {missing[0].session!r} has no times; "
            "expected start_time and end_time in seconds"
        )
    return utterances


def _check_times(start_s: float, end_s: float) -> None:
    if not (math.isfinite(start_s) and start_s <= end_s < math.inf):
        raise ValueError


def _read_seglst(path: Path, text: str) -> list[Utterance]:
    segments = parse_json(text, str(path), "SegLST")
    if not isinstance(segments, list):
        raise PixitError(
            f"{path}: holds a JSON {type(segments).__name__}, expected a SegLST list of segments"
        )
    return [_seglst_utterance(path, number, segment) for number, segment in enumerate(segments, start=1)]


def _seglst_utterance(path: Path, number: int, segment: Any) -> Utterance:
    try:
        session, speaker, words = (segment[key] for key in ("session_id", "speaker", "words"))
        named = all(isinstance(name, str | int) and not isinstance(name, bool) for name in (session, speaker))
        if not (named and isinstance(words, str)):
            raise TypeError
        start_s, end_s = math.nan, math.nan
        if (times := (segment.get("start_time"), segment.get("end_time"))) != (None, None):
            start_s, end_s = map(float, times)
            _check_times(start_s, end_s)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise PixitError(
            f"{path}: segment {number} is {json.dumps(segment, ensure_ascii=False)[:200]}, expected session_id, "
            "speaker, words (text) and, if known, start_time <= end_time in seconds"
        ) from None
    return Utterance(str(session), str(speaker), start_s, end_s, words)


def _write_seglst(path: Path, utterances: list[Utterance]) -> str:
    segments = []
    for utterance in utterances:
        segment: dict[str, Any] = {"session_id": utterance.session, "speaker": utterance.speaker}
        if not math.isnan(utterance.start_s):
            segment |= {"start_time": round(utterance.start_s, 3), "end_time": round(utterance.end_s, 3)}
        segments.append(segment | {"words": utterance.words})
    return json.dumps(segments, indent=2, ensure_ascii=False) + "\n"


def _read_stm(path: Path, text: str) -> list[Utterance]:
    def utterance(line: str) -> Utterance:
        session, _, speaker, start, end, *rest = line.split(maxsplit=5)
        words = STM_LABEL.sub("", rest[0], count=1) if rest and STM_LABEL.match(rest[0]) else "".join(rest)
        return Utterance(session, speaker, float(start), float(end), words.strip())

    return _read_lines(path, text, utterance, "session channel speaker start end words")


def _read_ctm(path: Path, text: str) -> list[Utterance]:
    def utterance(line: str) -> Utterance:
        session, _, start, duration, word, *confidence = line.split()
        if len(confidence) > 1:
            raise ValueError
        start_s = float(start)
        return Utterance(session, _stem(path), start_s, round(start_s + float(duration), 6), word)

    return _read_lines(path, text, utterance, "session channel start duration word [confidence]")


def _read_lines(path: Path, text: str, read: Callable[[str], Utterance], expected: str) -> list[Utterance]:
    utterances = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        try:
            utterances.append(utterance := read(line))
            _check_times(utterance.start_s, utterance.end_s)
        except ValueError:
            raise PixitError(
                f"{path}:{number}: expected '{expected}', found {line.strip()[:200]!r}"
            ) from None
    return utterances


def _write_stm(path: Path, utterances: list[Utterance]) -> str:
    lines = []
    for utterance in utterances:
        for name in (utterance.session, utterance.speaker):
            if name.split() != [name]:
                raise PixitError(f"{path}: STM cannot hold the name {name!r} (spaces or empty); write .json")
        _need_times(path, utterance)
        times = f"{utterance.start_s:.3f} {utterance.end_s:.3f}"
        words = " ".join(utterance.words.split())
        lines.append(f"{utterance.session} 1 {utterance.speaker} {times} {words}".rstrip() + "\n")
    return "".join(lines)


def _need_times(path: Path, utterance: Utterance) -> None:
    if not (math.isfinite(utterance.start_s) and math.isfinite(utterance.end_s)):
        raise PixitError(
            f"{path}: an utterance of {utterance.speaker!r} has no times, which only SegLST can hold; write .json"
        )


def _from_cues(parse: Callable[[Path, str], list[Cue]]) -> Callable[[Path, str], list[Utterance]]:
    return lambda path, text: [
        Utterance(_stem(path), cue.speaker, cue.start_s, cue.end_s, cue.words) for cue in parse(path, text)
    ]


def _to_cues(render: Callable[[list[Cue]], str]) -> Callable[[Path, list[Utterance]], str]:
    def write(path: Path, utterances: list[Utterance]) -> str:
        if len(sessions := {utterance.session for utterance in utterances}) > 1:
            names = ", ".join(sorted(sessions)[:3])
            raise PixitError(
                f"{path}: subtitles hold one recording, found {names}; write a file for each, or .json"
            )
        for utterance in utterances:
            _need_times(path, utterance)
        return render([Cue(u.start_s, u.end_s, u.speaker, " ".join(u.words.split())) for u in utterances])

    return write


READERS: dict[str, Callable[[Path, str], list[Utterance]]] = {
    ".seglst.json": _read_seglst,
    ".json": _read_seglst,
    ".stm": _read_stm,
    ".ctm": _read_ctm,
    ".vtt": _from_cues(parse_vtt),
    ".srt": _from_cues(parse_srt),
}
WRITERS: dict[str, Callable[[Path, list[Utterance]], str]] = {
    ".seglst.json": _write_seglst,
    ".json": _write_seglst,
    ".stm": _write_stm,
    ".srt": _to_cues(render_srt),
    ".vtt": _to_cues(render_vtt),
}
