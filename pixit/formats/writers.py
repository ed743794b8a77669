"""A writer for each format that people's programs read."""

from __future__ import annotations

import csv
import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pixit.formats.labelled import Labelled
from pixit.formats.rttm import rttm_line
from pixit.formats.subtitles import Cue, render_srt, render_vtt
from pixit.formats.transcripts import Utterance
from pixit.types import PixitError, Turn

NOBODY = "no speech found"
"""Name of the tier of a recording in which nobody speaks: Praat and ELAN want one."""

AUDIO_KINDS = {".wav": "audio/x-wav"}
"""What ELAN calls a kind of file, where it is not as `mimetypes` has it."""


@dataclass(frozen=True)
class Format:
    """A format: what its files are named, and who writes them.

    Parameters
    ----------
    ending
        Of the files' names.
    write
        Writes recordings into a file.
    holds_several
        Whether one file can hold several recordings.
    """

    ending: str
    write: Callable[[Sequence[Labelled], Path], None]
    holds_several: bool = False

    @property
    def suffix(self) -> str:
        """What the name of a file must end with to be one of the format."""
        return f".{self.ending.rpartition('.')[2]}"


def tiers(recording: Labelled) -> dict[str, list[Utterance]]:
    """Return speaker -> utterances that do not overlap, in order: those of one speaker that do become one."""
    found: dict[str, list[Utterance]] = {}
    for utterance in recording.utterances:
        own = found.setdefault(utterance.speaker, [])
        if own and utterance.start_s < own[-1].end_s:
            last = own.pop()
            words = f"{last.words} {utterance.words}".strip()
            utterance = replace(last, end_s=max(last.end_s, utterance.end_s), words=words)
        own.append(utterance)
    return found


def speech_table(recording: Labelled) -> list[tuple[float, float, bool]]:
    """Cut the recording into stretches (start_s, end_s, is_speech), in hundredths of a second and without gap.

    Someone speaks in the whole of a stretch of speech, nobody in one without.
    """
    regions: list[list[int]] = []
    for utterance in recording.utterances:
        start, end = round(utterance.start_s * 100), round(utterance.end_s * 100)
        if regions and start <= regions[-1][1]:
            regions[-1][1] = max(regions[-1][1], end)
        elif start < end:
            regions.append([start, end])
    edges = [0, *(edge for region in regions for edge in region), round(recording.end_s * 100)]
    return [
        (start / 100, end / 100, index % 2 == 1)
        for index, (start, end) in enumerate(pairwise(edges))
        if start < end
    ]


def write_textgrid(recordings: Sequence[Labelled], path: Path) -> None:
    """Write a Praat TextGrid, an interval tier each speaker; the text of a turn without words is the speaker."""
    from praatio.data_classes.interval_tier import IntervalTier
    from praatio.data_classes.textgrid import Textgrid
    from praatio.utilities.constants import Interval

    (recording,) = recordings
    end_s = _known_end_s(recording)
    grid = Textgrid(0.0, end_s)
    for speaker, utterances in (tiers(recording) or {NOBODY: []}).items():
        intervals = [Interval(u.start_s, u.end_s, u.words or speaker) for u in utterances]
        grid.addTier(IntervalTier(speaker, intervals, 0.0, end_s), reportingMode="error")
    grid.save(str(path), "long_textgrid", includeBlankSpaces=True)


def write_elan(recordings: Sequence[Labelled], path: Path) -> None:
    """Write an ELAN document, a tier each speaker, linked to the recording and its tracks."""
    from pympi.Elan import Eaf

    (recording,) = recordings
    document = Eaf(author="pixit")
    for media in recording.media():
        absolute = media.absolute()
        kind = AUDIO_KINDS.get(media.suffix.lower()) or mimetypes.guess_type(media.name)[0] or "unknown"
        relative = Path(os.path.relpath(absolute, path.parent.absolute())).as_posix()
        document.add_linked_file(absolute.as_uri(), f"./{relative}", kind)
    document.remove_tier("default")
    for speaker, utterances in (tiers(recording) or {NOBODY: []}).items():
        document.add_tier(speaker, part=speaker)
        for utterance in utterances:
            start_ms, end_ms = round(utterance.start_s * 1000), round(utterance.end_s * 1000)
            document.add_annotation(speaker, start_ms, end_ms, utterance.words or speaker)
    document.to_file(str(path))


def write_csv(recordings: Sequence[Labelled], path: Path) -> None:
    """Write a spreadsheet, a row each turn; the column ``words`` is empty for a diarization."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recording", "start_s", "end_s", "speaker", "words"])
        for recording in recordings:
            for u in recording.utterances:
                writer.writerow([recording.uri, f"{u.start_s:.3f}", f"{u.end_s:.3f}", u.speaker, u.words])


def audacity(recording: Labelled) -> str:
    """Return a label track; overlapping labels stand below each other in Audacity, so one track holds all."""
    texts = (f"{u.speaker}: {u.words}" if u.words else u.speaker for u in recording.utterances)
    return "".join(
        f"{u.start_s:.6f}\t{u.end_s:.6f}\t{text}\n"
        for u, text in zip(recording.utterances, texts, strict=True)
    )


def srt(recording: Labelled) -> str:
    """Return subtitles ``[speaker]: words``."""
    return render_srt([Cue(u.start_s, u.end_s, u.speaker, u.words) for u in recording.utterances])


def vtt(recording: Labelled) -> str:
    """Return WebVTT, a voice each speaker; the text of a turn without words is the speaker."""
    return render_vtt(
        [Cue(u.start_s, u.end_s, u.speaker, u.words or u.speaker) for u in recording.utterances]
    )


def table(recording: Labelled) -> str:
    """Return where anyone speaks, ``segment_001 0.00 2.57 SPEECH``, as SpeechBrain's VAD writes it."""
    return "".join(
        f"segment_{number:03d} {start_s:.2f} {end_s:.2f} {'SPEECH' if is_speech else 'NON_SPEECH'}\n"
        for number, (start_s, end_s, is_speech) in enumerate(speech_table(recording), start=1)
    )


def rttm(recording: Labelled) -> str:
    """Return the RTTM lines, white space in names as underscores."""
    uri, names = _one_word(recording.uri), _one_word_names(recording)
    turns = (Turn(u.start_s, u.end_s, names[u.speaker]) for u in recording.utterances)
    return "".join(f"{rttm_line(uri, turn)}\n" for turn in turns)


def lab(recording: Labelled) -> str:
    """Return lines ``start end speaker`` in seconds, white space in names as underscores."""
    names = _one_word_names(recording)
    return "".join(f"{u.start_s:.3f} {u.end_s:.3f} {names[u.speaker]}\n" for u in recording.utterances)


def uem(recording: Labelled) -> str:
    """Return the line that has the whole recording scored, to the last full millisecond.

    Raises
    ------
    PixitError
        If the recording's length is unknown.
    """
    if recording.duration_s is None:
        raise PixitError(f"{recording.uri}: its length is unknown, which uem needs; give its audio (--audio)")
    return f"{_one_word(recording.uri)} 1 0.000 {int(recording.duration_s * 1000) / 1000:.3f}\n"


def _known_end_s(recording: Labelled) -> float:
    if not recording.end_s:
        raise PixitError(
            f"{recording.uri}: nobody speaks and its length is unknown, which textgrid needs; "
            "give its audio (--audio)"
        )
    return recording.end_s


def _one_word(name: str) -> str:
    return re.sub(r"\s", "_", name) or "_"


def _one_word_names(recording: Labelled) -> dict[str, str]:
    names = {utterance.speaker: _one_word(utterance.speaker) for utterance in recording.utterances}
    if len(set(names.values())) < len(names):
        raise PixitError(
            f"{recording.uri}: two speakers have the same name without spaces; rename one of {sorted(names)}"
        )
    return names


def _text(render: Callable[[Labelled], str]) -> Callable[[Sequence[Labelled], Path], None]:
    def write(recordings: Sequence[Labelled], path: Path) -> None:
        path.write_text("".join(map(render, recordings)), encoding="utf-8", newline="\n")

    return write


FORMATS = {
    "audacity": Format(".labels.txt", _text(audacity)),
    "textgrid": Format(".TextGrid", write_textgrid),
    "elan": Format(".eaf", write_elan),
    "csv": Format(".csv", write_csv, holds_several=True),
    "srt": Format(".srt", _text(srt)),
    "vtt": Format(".vtt", _text(vtt)),
    "table": Format(".table.txt", _text(table)),
    "rttm": Format(".rttm", _text(rttm), holds_several=True),
    "uem": Format(".uem", _text(uem), holds_several=True),
    "lab": Format(".lab", _text(lab)),
}
