"""Who spoke when, for the programs that people look at it with: Audacity, Praat, ELAN, players, spreadsheets.

`pixit.formats.labelled` reads RTTM, results of ``pixit separate`` and transcripts; `export` writes them.
"""

from __future__ import annotations

import csv
import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pixit.files import csv_cell, file_name, whole_file
from pixit.formats.labelled import Labelled
from pixit.formats.rttm import rttm_line
from pixit.formats.subtitles import Cue, render_srt, render_vtt
from pixit.formats.utterances import Utterance
from pixit.types import PixitError, Turn

NOBODY = "no speech found"
"""Name of the tier of a recording in which nobody speaks: Praat and ELAN want one."""

AUDIO_KINDS = {".wav": "audio/x-wav"}
"""What ELAN calls a kind of file, where it is not as `mimetypes` has it."""


@dataclass(frozen=True)
class Format:
    """A format: how its files' names end, what writes recordings into one, and if it may hold several."""

    ending: str
    write: Callable[[Sequence[Labelled], Path], None]
    holds_several: bool = False

    @property
    def suffix(self) -> str:
        """What the name of a file must end with to be one of the format."""
        return f".{self.ending.rpartition('.')[2]}"


def export(
    recordings: Sequence[Labelled], to: str, output: Path | str, overwrite: bool = False
) -> list[Path]:
    """Write recordings in a format, all of them or none, and return the files.

    Times are rounded to milliseconds (``table``: to hundredths of a second).

    Parameters
    ----------
    recordings, to
        As `read_labelled` gives them, and the name of the format, one of `FORMATS`.
    output
        A file with the ending of the format, or a folder for a file each: NAME and the ending, where NAME is
        `file_name` of the recording's uri. One file holds several recordings only as RTTM, UEM or CSV.
    overwrite
        Replace files that exist.

    Raises
    ------
    PixitError
        If a file exists and `overwrite` is not given or cannot be written, two recordings need the same name,
        or the format cannot hold them; then no file is new or changed.
    """
    if to not in FORMATS:
        raise PixitError(f"{to!r}: unknown format; expected {', '.join(FORMATS)}")
    files = _plan(recordings, to, Path(output))
    for path in files:
        if path.exists() and (not overwrite or path.is_dir()):
            raise PixitError(f"{path}: exists already; overwrite it, or choose another output")
    with ExitStack() as stack:  # all of them appear at its end, or none
        for path, group in files.items():
            FORMATS[to].write(group, stack.enter_context(whole_file(path)))
    return list(files)


def is_file(output: Path, to: str) -> bool:
    """Return whether `output` is one file of the format `to`, or a folder.

    Raises
    ------
    PixitError
        If it has the ending of another format.
    """
    if output.is_dir():
        return False
    suffix = output.suffix.lower()
    if suffix == FORMATS[to].suffix.lower():
        return True
    if suffix in {format.suffix.lower() for format in FORMATS.values()}:
        raise PixitError(f"{output}: expected a file named {FORMATS[to].suffix} for {to}, or a folder")
    return False


def _plan(recordings: Sequence[Labelled], to: str, output: Path) -> dict[Path, list[Labelled]]:
    """Return which recordings go into which file."""
    if is_file(output, to):
        if len(recordings) > 1 and not FORMATS[to].holds_several:
            raise PixitError(
                f"{output}: {to} holds one recording a file, found {len(recordings)}; give a folder instead"
            )
        return {output: list(recordings)}
    files: dict[Path, list[Labelled]] = {}
    for recording in recordings:
        path = output / f"{file_name(recording.uri)}{FORMATS[to].ending}"
        if path in files:
            raise PixitError(
                f"{path}: both {files[path][0].uri!r} and {recording.uri!r} would be written here; rename one"
            )
        files[path] = [recording]
    return files


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
    """Cut the recording into stretches (start_s, end_s, is_speech), in hundredths of a second, without gap.

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
    """Write a Praat TextGrid, an interval tier each speaker; a turn without words has the speaker as text."""
    from praatio.data_classes.interval_tier import IntervalTier
    from praatio.data_classes.textgrid import Textgrid
    from praatio.utilities.constants import Interval

    (recording,) = recordings
    if not (end_s := recording.end_s):
        raise PixitError(
            f"{recording.uri}: nobody speaks and its length is unknown, which textgrid needs; "
            "give its audio (--audio)"
        )
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
    """Write a spreadsheet, a row each turn; the column ``words`` is empty for a diarization; see `csv_cell`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recording", "start_s", "end_s", "speaker", "words"])
        for uri, u in ((recording.uri, u) for recording in recordings for u in recording.utterances):
            times = f"{u.start_s:.3f}", f"{u.end_s:.3f}"
            writer.writerow([csv_cell(uri), *times, csv_cell(u.speaker), csv_cell(u.words)])


def audacity(recording: Labelled) -> str:
    """Return a label track; overlapping labels stand below each other in Audacity, so one track holds all."""
    lines = []
    for u in recording.utterances:
        text = f"{u.speaker}: {u.words}" if u.words else u.speaker
        lines.append(f"{u.start_s:.6f}\t{u.end_s:.6f}\t{text}\n")
    return "".join(lines)


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
    """Return the line that has the whole recording scored, to the last full millisecond."""
    if recording.duration_s is None:
        raise PixitError(f"{recording.uri}: its length is unknown, which uem needs; give its audio (--audio)")
    return f"{_one_word(recording.uri)} 1 0.000 {int(recording.duration_s * 1000) / 1000:.3f}\n"


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
