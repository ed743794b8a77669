"""Subtitles with speakers: SRT and WebVTT, as text."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import NamedTuple

from pixit.types import PixitError

UNKNOWN = "unknown"
"""Speaker of a subtitle that names none."""

TIME = r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
TIMING = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?:\s.*)?")
SRT_SPEAKER = re.compile(r"\[(.+?)\]:(?:\s+|$)")
SRT_MARKUP = re.compile(r"</?(?:[biu]|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
VTT_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s([^<>]*)>")
VTT_MARKUP = re.compile(r"<[^<>]*>")


class Cue(NamedTuple):
    """What is shown from `start_s` to `end_s`, on one line."""

    start_s: float
    end_s: float
    speaker: str
    words: str


def parse_srt(path: Path, text: str) -> list[Cue]:
    """Return the cues of an SRT; ``[speaker]: `` before the text names the speaker, markup is left out.

    Raises
    ------
    PixitError
        If a line is not of the format; it names `path` and the line.
    """
    cues = []
    for start_s, end_s, payload in _blocks(path, text, strict=True):
        words = " ".join(SRT_MARKUP.sub("", payload).split())
        named = SRT_SPEAKER.match(words)
        speaker = named[1] if named else UNKNOWN
        cues.append(Cue(start_s, end_s, speaker, words[named.end() if named else 0 :]))
    return cues


def parse_vtt(path: Path, text: str) -> list[Cue]:
    """Return the cues of a WebVTT, one a voice; ``<v speaker>`` names the voice, other markup is left out.

    Raises
    ------
    PixitError
        If a line is not of the format; it names `path` and the line.
    """
    if not re.match(r"WEBVTT(?:\s|$)", text):
        raise PixitError(f"{path}:1: expected 'WEBVTT', found {text[:40].split(chr(10))[0]!r}")
    cues = []
    for start_s, end_s, payload in _blocks(path, text, strict=False):
        before, *voices = VTT_VOICE.split(payload)  # text, then name and text of each voice by turns
        parts = [(UNKNOWN, before)] if before.strip() or not voices else []
        for speaker, words in [*parts, *zip(voices[::2], voices[1::2], strict=True)]:
            words = " ".join(html.unescape(VTT_MARKUP.sub("", words)).split())
            cues.append(Cue(start_s, end_s, html.unescape(speaker).strip(), words))
    return cues


def render_srt(cues: list[Cue]) -> str:
    """Return an SRT, ordered by time, with ``[speaker]: `` before each text."""
    return "\n".join(
        f"{number}\n{_timing(cue, ',')}\n[{cue.speaker}]: {cue.words}".rstrip() + "\n"
        for number, cue in enumerate(sorted(cues), start=1)
    )


def render_vtt(cues: list[Cue]) -> str:
    """Return a WebVTT, ordered by time, each cue with its voice."""
    blocks = [
        f"{_timing(cue, '.')}\n<v {html.escape(cue.speaker)}>{html.escape(cue.words, quote=False)}\n"
        for cue in sorted(cues)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _blocks(path: Path, text: str, strict: bool) -> list[tuple[float, float, str]]:
    """Return start, end and text of each cue; `strict` allows nothing but numbers between them."""
    blocks: list[tuple[float, float, list[str]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if inside and line.strip():
            blocks[-1][2].append(line)
        elif "-->" in line:
            blocks.append((*_parse_timing(path, number, line), []))
            inside = True
        elif strict and line.strip() and not line.strip().isdecimal():
            raise PixitError(
                f"{path}:{number}: expected the number or times of a subtitle, found {line[:200]!r}"
            )
        else:
            inside = False
    return [(start_s, end_s, " ".join(lines)) for start_s, end_s, lines in blocks]


def _parse_timing(path: Path, number: int, line: str) -> tuple[float, float]:
    if timing := TIMING.fullmatch(line):
        start_s, end_s = _seconds(*timing.groups()[:4]), _seconds(*timing.groups()[4:])
        if start_s <= end_s:
            return start_s, end_s
    raise PixitError(f"{path}:{number}: expected '00:00:01.500 --> 00:00:02.000', found {line[:200]!r}")


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    whole_s = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return (whole_s * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _timing(cue: Cue, point: str) -> str:
    def clock(time_s: float) -> str:
        seconds, milliseconds = divmod(max(0, round(time_s * 1000)), 1000)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"

    return f"{clock(cue.start_s)} --> {clock(cue.end_s)}"
