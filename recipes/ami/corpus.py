"""The manual annotations of the AMI meeting corpus (NXT XML): who spoke when, and what was said.

Read from the folder of ``ami_public_manual_1.6.2``: ``corpusResources/meetings.xml`` says who is who, and
``words/<meeting>.<channel>.words.xml`` holds what one participant said, one element a word or sound.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pixit.formats.utterances import Utterance
from pixit.types import PixitError, Turn

MANUAL = "ami_public_manual_1.6.2"
"""Folder of the annotations."""


class Microphone(NamedTuple):
    """A way to record the meetings: the name of its database, and of its channels in the corpus."""

    database: str
    channels: tuple[str, ...]


MICROPHONES = {
    "headset": Microphone("AMI", ("Mix-Headset",)),
    "sdm": Microphone("AMI-SDM", ("Array1-01",)),
    "mdm": Microphone("AMI-MDM", tuple(f"Array1-{number:02}" for number in range(1, 9))),
}
"""The sum of all headsets, a single distant microphone, and the eight of the first array."""


def audio_files(data: Path, meeting: str, microphone: str) -> list[Path]:
    """Return the paths of a meeting's audio, laid out as the corpus is, in the folder `data`."""
    folder = data / "amicorpus" / meeting / "audio"
    return [folder / f"{meeting}.{channel}.wav" for channel in MICROPHONES[microphone].channels]


@dataclass(frozen=True)
class Token:
    """One element of a words file; the times are NaN where the annotation does not say.

    Its `kind` is the name of the element: ``w`` (a word, or a punctuation mark, which takes no time),
    ``vocalsound`` (laugh, cough …), ``gap`` (speech that was not transcribed), ``disfmarker`` (where a
    speaker broke off), ``nonvocalsound`` … Only words and marks have a text; a truncated word was broken off.
    """

    kind: str
    start_s: float
    end_s: float
    text: str = ""
    is_punctuation: bool = False
    is_truncated: bool = False


@dataclass(frozen=True)
class TextRules:
    """How words become reference text; sounds, gaps and disfluency markers never do."""

    pause_s: float = 0.5
    """An utterance ends where its speaker is silent for longer."""
    punctuation: bool = True
    """Keep marks, attached to the word before them."""
    truncated: bool = True
    """Keep words that were broken off, as far as they were said."""
    join_letters: bool = True
    """Write spelled letters as one word: ``T_V_`` as ``TV``, ``I_M_two`` as ``IM two``."""


def read_speakers(manual: Path) -> dict[str, dict[str, str]]:
    """Read who sat where: meeting -> channel (A, B …) -> global name of the speaker, ordered by channel.

    Raises
    ------
    PixitError
        If `manual` is not the folder of the annotations, or a name is missing.
    """
    path = manual / "corpusResources" / "meetings.xml"
    speakers = {}
    for meeting in _parse(path).iter("meeting"):
        name = meeting.get("observation", "")
        names = {s.get("nxt_agent", ""): s.get("global_name", "") for s in meeting.iter("speaker")}
        if not name or not all(names) or not all(names.values()):
            raise PixitError(f"{path}: meeting {name!r} has a speaker without nxt_agent or global_name")
        speakers[name] = dict(sorted(names.items()))
    return speakers


def read_tokens(path: Path) -> list[Token]:
    """Read the words file of one participant, in the order of the file.

    Raises
    ------
    PixitError
        If the file is missing or not XML, or a time is not a number.
    """
    return [_token(element, path) for element in _parse(path)]


def read_meeting(
    manual: Path, meeting: str, speakers: Mapping[str, Mapping[str, str]]
) -> dict[str, list[Token]]:
    """Read what was said in a meeting: speaker -> tokens, the speakers in the order of their channels.

    `manual` is the folder of the annotations; `speakers` are those of all meetings, from `read_speakers`.

    Raises
    ------
    PixitError
        If the meeting is unknown, or a words file is missing, damaged, or of no speaker.
    """
    if meeting not in speakers:
        raise PixitError(f"{manual}: knows no meeting {meeting!r}; expected a name such as 'ES2004a'")
    known = {f"{meeting}.{channel}.words.xml" for channel in speakers[meeting]}
    unknown = sorted({path.name for path in (manual / "words").glob(f"{meeting}.*.words.xml")} - known)
    if unknown:
        raise PixitError(f"{manual / 'words' / unknown[0]}: meetings.xml names no speaker for this channel")
    return {
        speaker: read_tokens(manual / "words" / f"{meeting}.{channel}.words.xml")
        for channel, speaker in speakers[meeting].items()
    }


def find_turns(tokens: Mapping[str, Iterable[Token]], vocal_sounds: bool = False) -> list[Turn]:
    """Return who spoke when, by the rules of the AMI diarization setup (Landini et al., VBx, 2022).

    Words of one speaker that touch or overlap are one turn; no pause between words, however short, is
    bridged. Marks and what has no duration or no times are left out. Turns are ordered by start, then end.

    Parameters
    ----------
    tokens
        Of each speaker (see `read_meeting`).
    vocal_sounds
        Count laughs, coughs and the like as speech: ``word_and_vocalsounds`` instead of ``only_words``.
    """
    kinds = ("w", "vocalsound") if vocal_sounds else ("w",)
    turns = []
    for speaker, spoken in tokens.items():
        spans: list[tuple[float, float]] = []
        timed = (t for t in spoken if t.kind in kinds and not t.is_punctuation and t.start_s < t.end_s)
        for start_s, end_s in sorted((t.start_s, t.end_s) for t in timed):
            if spans and start_s <= spans[-1][1]:
                start_s, end_s = spans[-1][0], max(spans.pop()[1], end_s)
            spans.append((start_s, end_s))
        turns += [Turn(start_s, end_s, speaker) for start_s, end_s in spans]
    return sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))


def rttm_line(meeting: str, turn: Turn) -> str:
    """Return the line of a turn as the AMI diarization setup writes it: ``34.0`` and ``3``, not ``3.000``."""
    duration = f"{turn.end_s - turn.start_s:.3f}".rstrip("0").rstrip(".")
    return f"SPEAKER {meeting} 1 {round(turn.start_s, 3)} {duration} <NA> <NA> {turn.speaker} <NA> <NA>"


def uem_line(meeting: str, duration_s: float) -> str:
    """Return the line of a whole recording as the AMI diarization setup writes it."""
    return f"{meeting} 1 0.000 {duration_s:.6f}"


def find_utterances(
    meeting: str, speaker: str, tokens: Iterable[Token], rules: TextRules | None = None
) -> list[Utterance]:
    """Return what one speaker said, cut at pauses.

    The words keep the order of the file. A word without times counts where the word before it ended; a word
    that ends before it starts ends where it starts.
    """
    rules = rules or TextRules()
    utterances: list[Utterance] = []
    for start_s, end_s, text in _words(tokens, rules):
        last = utterances[-1] if utterances else None
        # a few words are dated before those that they follow: a gap may lie on either side
        if last is None or max(start_s - last.end_s, last.start_s - end_s) > rules.pause_s:
            utterances.append(Utterance(meeting, speaker, start_s, end_s, text))
        else:
            start_s, end_s = min(last.start_s, start_s), max(last.end_s, end_s)
            utterances[-1] = Utterance(meeting, speaker, start_s, end_s, f"{last.words} {text}")
    return utterances


def _words(tokens: Iterable[Token], rules: TextRules) -> list[tuple[float, float, str]]:
    """Return start, end and text of the words, with their marks."""
    kept = [t for t in tokens if t.kind == "w" and t.text and (rules.truncated or not t.is_truncated)]
    words: list[tuple[float, float, str]] = []
    place_s = next((t.start_s for t in kept if not t.is_punctuation and not math.isnan(t.start_s)), 0.0)
    for token in kept:
        if token.is_punctuation:
            if rules.punctuation and words:
                words[-1] = (*words[-1][:2], words[-1][2] + token.text)
            continue
        start_s = place_s if math.isnan(token.start_s) else token.start_s
        place_s = start_s if math.isnan(token.end_s) else max(start_s, token.end_s)
        spelled = re.sub(r"_(?=[a-z]{2})", " ", token.text).replace("_", "")
        words.append((start_s, place_s, spelled if rules.join_letters else token.text))
    return words


def _token(element: ElementTree.Element, path: Path) -> Token:
    is_word = element.tag == "w"
    return Token(
        kind=element.tag,
        start_s=_time(element, "starttime", path),
        end_s=_time(element, "endtime", path),
        text=" ".join((element.text or "").split()) if is_word else "",
        is_punctuation=is_word and element.get("punc") == "true",
        is_truncated=is_word and element.get("trunc") == "true",
    )


def _time(element: ElementTree.Element, key: str, path: Path) -> float:
    try:
        time_s = float(element.get(key) or "nan")
    except ValueError:
        raise PixitError(f"{path}: {key} {element.get(key)!r}, expected seconds") from None
    return time_s if math.isfinite(time_s) else math.nan


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except OSError as error:
        raise PixitError(
            f"{path}: cannot be read ({error.strerror}); expected a file of ami_public_manual_1.6.2"
        ) from None
    except ElementTree.ParseError as error:
        raise PixitError(f"{path}: is damaged ({error}); unpack the annotations again") from None
