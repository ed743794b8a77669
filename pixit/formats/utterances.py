"""The formats of transcripts: SegLST, STM and CTM, and subtitles as utterances."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixit.files import parse_json
from pixit.formats.subtitles import Cue, parse_srt, parse_vtt, render_srt, render_vtt
from pixit.types import PixitError

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
        return Utterance(session, stem_of(path), start_s, round(start_s + float(duration), 6), word)

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
        Utterance(stem_of(path), cue.speaker, cue.start_s, cue.end_s, cue.words) for cue in parse(path, text)
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


def stem_of(path: Path) -> str:
    """Return the name of a file without the ending that says its kind."""
    return path.name[: -len(kind_of(path) or "")]


def kind_of(path: Path) -> str | None:
    """Return the ending of a file if it is one of a transcript, the longest that fits."""
    return next((kind for kind in READERS if path.name.lower().endswith(kind)), None)
