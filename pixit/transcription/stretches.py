"""Which stretches of a recording a recogniser is given, neither too short nor too long, and what it said.

A recogniser that is given the long silences of a separated track invents words; one that is given a single
word without its surroundings misses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Segment, Timeline

from pixit.audio import Audio
from pixit.files import check_file, write_text
from pixit.transcription.recognizers import Word
from pixit.types import PixitError, Turn

QUIET_S = 0.2  # a cut goes through the middle of the quietest stretch of this length


@dataclass(frozen=True)
class Stretch:
    """Samples [start, stop) of a recording, and who speaks there."""

    speaker: str
    start: int
    stop: int


def active_intervals(
    turns: Iterable[Turn],
    within: Sequence[tuple[float, float]],
    merge_gap_s: float,
    padding_s: float,
    keep_apart: bool = False,
) -> list[Turn]:
    """Merge the turns of each speaker over short gaps, pad them, cut them to `within`, and order by start.

    Parameters
    ----------
    turns
        In any order; they may overlap, and those of no length count for nothing.
    within
        Stretches ``(start_s, end_s)`` that nothing may leave: the recording, or what of it is annotated.
    merge_gap_s, padding_s
        Turns of one speaker that are less than the gap apart become one; the padding comes before and after.
    keep_apart
        For a mixture: neither gaps nor padding may reach where only others speak, whose words would be
        taken for the speaker's.
    """
    scope = Timeline(Segment(*interval) for interval in within).support()
    spoken: dict[str, Timeline] = {}
    for turn in turns:
        spoken.setdefault(turn.speaker, Timeline()).add(Segment(turn.start_s, turn.end_s))
    found = []
    for speaker, own in spoken.items():
        merged = own.support(collar=merge_gap_s)
        padded = Timeline(Segment(s.start - padding_s, s.end + padding_s) for s in merged).support()
        active = padded.crop(scope)
        if keep_apart:
            others = Timeline(s for name, timeline in spoken.items() if name != speaker for s in timeline)
            active = active.extrude(others.support().extrude(own.support()))
        # a piece that holds no turn is the rest of a gap
        found += [Turn(s.start, s.end, speaker) for s in active if own.crop(s)]
    return sorted(found, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker))


def split(audio: Audio, start: int, stop: int, max_samples: int) -> list[tuple[int, int]]:
    """Split the samples [start, stop) where it is quietest, so that no part is longer than `max_samples`.

    Each part but the last is at least half as long. Memory holds half a part.
    """
    parts = []
    while stop - start > max_samples:
        first = start + max_samples // 2
        energy = np.cumsum(np.square(audio.read(first, start + max_samples), dtype=np.float64))
        width = min(round(QUIET_S * audio.sample_rate_hz), len(energy) - 1)
        cut = first + int(np.argmin(energy[width:] - energy[: len(energy) - width])) + width // 2 + 1
        parts.append((start, cut))
        start = cut
    return [*parts, (start, stop)]


class Journal:
    """What was recognised so far, on disk: a killed run goes on where it was, a finished one is not repeated.

    JSON lines: first the request, then a line for each recognised stretch, on disk before the next begins, and one
    for each transcript that was made of them. A last line that a killed run left unfinished is dropped. The request
    is everything that determines the words, fit for JSON; the file is made, with it, when the first stretch is added
    or by `begin`.

    Raises
    ------
    PixitError
        If the file cannot be read, is not a journal, or is that of another request.
    """

    def __init__(self, path: Path, request: Mapping[str, Any]) -> None:
        self.path = path
        self.request = json.loads(json.dumps(request))
        self._words: dict[Stretch, list[Word]] = {}
        self.transcripts: set[str] = set()
        """Names of the files that were made of it."""
        self._is_begun = False
        self.num_added = 0  # by this run
        if path.exists():
            self._read()

    def get(self, stretch: Stretch) -> list[Word] | None:
        """Return the words of a stretch, or None if it was not recognised yet."""
        return self._words.get(stretch)

    def add(self, stretch: Stretch, words: Sequence[Word]) -> None:
        """Write down the words of a stretch."""
        self.begin()
        self._words[stretch] = list(words)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(stretch, words))
            file.flush()
            os.fsync(file.fileno())
        self.num_added += 1

    def note(self, transcript: Path) -> None:
        """Write down that a transcript was made, in the folder of the journal."""
        self.begin()
        if transcript.name not in self.transcripts:
            self.transcripts.add(transcript.name)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_transcript_line(transcript.name))

    def begin(self) -> None:
        """Write the file as far as it is known, whole or not at all."""
        if not self._is_begun:
            lines = [json.dumps({"request": self.request}, ensure_ascii=False) + "\n"]
            lines += [_line(stretch, words) for stretch, words in self._words.items()]
            lines += map(_transcript_line, sorted(self.transcripts))
            write_text(self.path, "".join(lines))
            self._is_begun = True

    def _read(self) -> None:
        check_file(self.path, "the journal of a transcription")
        try:
            first, *lines = self.path.read_bytes().split(b"\n")[:-1] or [b""]
            request = dict(json.loads(first)["request"])
            for line in lines:
                entry = json.loads(line)
                if "transcript" in entry:
                    self.transcripts.add(str(entry["transcript"]))
                    continue
                stretch = Stretch(str(entry["speaker"]), int(entry["start"]), int(entry["stop"]))
                words = [Word(str(text), float(start), float(end)) for text, start, end in entry["words"]]
                self._words[stretch] = words
        except OSError as error:
            raise PixitError(f"{self.path}: cannot be read ({error.strerror})") from None
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            raise PixitError(f"{self.path}: is not the journal of a transcription; remove it") from None
        if request.get("corrected"):
            raise PixitError(
                f"{self.path}: its transcript was corrected by hand; pass --overwrite to make it again without that"
            )
        if changed := [key for key in self.request if request.get(key) != self.request[key]]:
            raise PixitError(
                f"{self.path}: was begun with something else ({', '.join(changed)}); pass --overwrite to "
                "start afresh, or choose another folder for the output"
            )


def _line(stretch: Stretch, words: Sequence[Word]) -> str:
    rounded = [[word.text, round(word.start_s, 4), round(word.end_s, 4)] for word in words]
    return json.dumps(asdict(stretch) | {"words": rounded}, ensure_ascii=False) + "\n"


def _transcript_line(name: str) -> str:
    return json.dumps({"transcript": name}, ensure_ascii=False) + "\n"
