"""Look for mistakes in one recording of a protocol: its audio and its annotation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixit.audio import open_audio
from pixit.data.database import OVERRUN_S
from pixit.data.registry import bad_input
from pixit.types import PixitError

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline
    from pyannote.database import ProtocolFile

ROUNDING_S = 0.02
"""Annotation may outlast its audio by this much without being remarked on: times are rounded."""

Note = Callable[[str, str], None]
"""Takes severity and message of a `Finding`."""


@dataclass(frozen=True)
class Finding:
    """Something wrong (``"error"``) or worth a look (``"warning"``, ``"info"``): what was found and expected.

    The `uri` is empty where it is about the subset.
    """

    severity: str
    protocol: str
    subset: str
    uri: str
    message: str


@dataclass(frozen=True)
class AudioReport:
    """What an audio file holds; `problem` says why it could not be read to its end, or what is odd in it."""

    sample_rate_hz: int
    num_channels: int
    duration_s: float
    severity: str = ""
    problem: str = ""


@dataclass
class FileReport:
    """What one recording holds; times in seconds, counted where there is audio and annotation."""

    uri: str
    database: str
    scope: str | None
    path: Path | None
    audio: AudioReport | None
    annotated_s: float = 0.0
    speech_s: float = 0.0
    overlap_s: float = 0.0
    speakers: set[str] = field(default_factory=set)


def check_audio(path: Path, full: bool) -> AudioReport:
    """Read an audio file: all of it, or its header and its first and last second.

    Raises
    ------
    PixitError
        If not even its length can be found.
    """
    audio = open_audio(path)
    found = AudioReport(audio.source_rate_hz, audio.num_channels, audio.duration_s)
    ends = [(0, audio.sample_rate_hz), (audio.num_samples - audio.sample_rate_hz, audio.num_samples)]
    is_silent = full
    try:
        for start, stop in [(0, audio.num_samples)] if full else ends:
            for block in audio.blocks(start=max(0, start), stop=min(stop, audio.num_samples)):
                is_silent = is_silent and not np.any(block)
    except PixitError as error:
        return replace(found, severity="error", problem=str(error))
    if is_silent:
        return replace(found, severity="warning", problem=f"{path}: holds nothing but digital silence")
    return found


def check_file(file: ProtocolFile, path: Path | None, audio: AudioReport | None, note: Note) -> FileReport:
    """Check what a protocol says of a recording, and tell `note` what is wrong.

    The `file` has the annotation as it is written; `path` and `audio` are None where there is none.
    """
    report = FileReport(file["uri"], file["database"], file.get("scope"), path, audio)
    if audio is not None and audio.problem:
        note(audio.severity, audio.problem)
    try:
        with bad_input("annotation"):
            annotation, annotated = file.get("annotation"), file.get("annotated")
        if annotation is None:
            raise PixitError("the protocol gives no 'annotation' (an RTTM file)")
    except PixitError as error:
        note("error", str(error))
        return report
    if not _check_turns(annotation, note):
        return report
    if annotated is not None and not annotated:
        note("error", "no stretch of it is annotated: the UEM has no line of it")
    duration_s = math.inf if audio is None else audio.duration_s
    for what, timeline in (("annotation", annotation.get_timeline()), ("annotated stretch", annotated)):
        overrun_s = timeline.extent().end - duration_s if timeline else 0.0
        if overrun_s > ROUNDING_S:
            message = f"the {what} ends {overrun_s:.3f} s after the audio, which lasts {duration_s:.3f} s"
            note("error" if overrun_s > OVERRUN_S else "warning", message)
    _measure(report, annotation, annotated, duration_s, note)
    return report


def _check_turns(annotation: Annotation, note: Note) -> bool:
    """Check the turns by themselves; return whether they can be measured."""
    if not annotation:
        note("error", "nobody speaks in it: the annotation has no turn of it")
        return True
    turns = [(s.start, s.end, speaker) for s, _, speaker in annotation.itertracks(yield_label=True)]
    if not all(math.isfinite(start_s + end_s) for start_s, end_s, _ in turns):
        note("error", "a turn has a time that is not a finite number")
        return False
    if not all(isinstance(speaker, str) for *_, speaker in turns):
        note("error", "a turn has no speaker")
        return False
    first_s = min(start_s for start_s, *_ in turns)
    if first_s < 0:
        note("error", f"a turn begins at {first_s:.3f} s, before the recording")
    own_s = sum(end_s - start_s for start_s, end_s, _ in turns) - _total(annotation.support())
    if own_s > ROUNDING_S:
        message = f"speakers overlap with themselves, by {own_s:.3f} s; expected turns of one to be disjoint"
        note("warning", message)
    return True


def _measure(
    report: FileReport, annotation: Annotation, annotated: Timeline | None, duration_s: float, note: Note
) -> None:
    """Count speech where it is annotated and there is audio, and remark on what lies outside."""
    from pyannote.core import Segment, Timeline

    whole = Timeline([Segment(0.0, duration_s)])
    if annotated is not None and annotated:
        outside_s = _total(annotation) - _total(annotation.crop(annotated.support()))
        if outside_s > ROUNDING_S:
            note("warning", f"{outside_s:.3f} s of speech lie outside of what is annotated, and do not count")
        whole = annotated.support().crop(whole)
    inside = annotation.crop(whole).support()
    report.annotated_s = whole.duration() if math.isfinite(whole.duration()) else 0.0
    report.speech_s = inside.get_timeline().support().duration()
    report.overlap_s = inside.get_overlap().duration()
    report.speakers = {str(label) for label in inside.labels()}


def _total(annotation: Annotation) -> float:
    return float(sum(duration_s for _, duration_s in annotation.chart()))
