"""Cut what each speaker of real recordings says alone.

``cut_voices.py database.yml OUT`` writes OUT/<speaker>/<recording>-<start in ms>.flac, of the training subset,
stretches of half a second and more. So the embedder hears voices that share a room and a microphone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import soundfile
from pyannote.core import Annotation, Segment

from pixit.audio import open_audio
from pixit.data.database import load_recordings
from pixit.types import Turn

RATE_HZ = 16000
MARGIN_S, LEAST_S = 0.05, 0.5
"""Left out at both ends of a stretch, where another one may still be heard; and how long it is at least."""


def find_alone(turns: Sequence[Turn]) -> list[tuple[str, float, float]]:
    """Return speaker, start and end of the stretches in which one speaker talks, and nobody else."""
    annotation = Annotation()
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    overlap = annotation.get_overlap()
    return [
        (speaker, alone.start + MARGIN_S, alone.end - MARGIN_S)
        for speaker in annotation.labels()
        for alone in annotation.label_timeline(speaker).support().extrude(overlap)
        if alone.duration >= LEAST_S + 2 * MARGIN_S
    ]


def main() -> None:
    """Parse and cut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    for recording in load_recordings(None, "train", asked.database):
        samples = open_audio(recording.audio, RATE_HZ).read()
        for speaker, start_s, end_s in find_alone(recording.turns):
            path = asked.out / speaker / f"{recording.uri}-{round(1000 * start_s)}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)], RATE_HZ)


if __name__ == "__main__":
    main()
