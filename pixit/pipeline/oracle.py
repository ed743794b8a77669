"""Speakers by the reference: who each local speaker really is. What is then still wrong is not the clustering's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pyannote.core import Annotation

from pixit.formats.names import match_items
from pixit.formats.rttm import read_rttm
from pixit.pipeline.cluster import Ints, by_first_appearance
from pixit.pipeline.diarize import ActivitySettings, Bools, find_speech
from pixit.pipeline.local_turns import find_apart
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import PixitError, Turn
from pixit.windows import frames_from_intervals

Reference: TypeAlias = "str | Path | Annotation | Sequence[Turn]"


def find_turns_of(reference: Reference, uri: str) -> list[Turn]:
    """Return the turns of a recording that a reference holds; a PixitError if an RTTM holds none of it."""
    if isinstance(reference, Annotation):
        found = reference.itertracks(yield_label=True)
        return [Turn(segment.start, segment.end, str(label)) for segment, _, label in found]
    if not isinstance(reference, str | Path):
        return list(reference)
    turns, _ = match_items([uri], read_rttm(reference), str(reference))
    if uri not in turns:
        raise PixitError(f"{reference}: has no turns of {uri}; does it belong to it?")
    return turns[uri]


def lay_turns(turns: Sequence[Turn], geometry: Geometry) -> tuple[list[str], Bools]:
    """Return the speakers of turns, and where each of them talks on the frames of the recording, (N, F)."""
    names = list(dict.fromkeys(turn.speaker for turn in turns))
    num_frames = geometry.start_frames(geometry.num_windows - 1) + geometry.num_frames
    rows = [
        frames_from_intervals(
            [(turn.start_s, turn.end_s) for turn in turns if turn.speaker == name],
            geometry.frame_grid,
            num_frames,
            geometry.sample_rate_hz,
        )
        for name in names
    ]
    return names, np.array(rows, bool).reshape(len(names), num_frames)


def cluster_by_reference(local: Spool, turns: Sequence[Turn], settings: ActivitySettings) -> Ints:
    """Assign local speakers to the true ones, so that the frames agree best, different people to different ones.

    Returns (W, K), -1 for who is silent, or shares no frame with the true speakers that are left.
    """
    geometry = local.geometry
    _, truth = lay_turns(turns, geometry)
    speakers = np.full((len(local), local.num_speakers), -1, np.int64)
    for window in local:
        start = geometry.start_frames(window)
        here = truth[:, start : start + geometry.num_frames].astype(np.float64)  # (N, F)
        activities = local.activities(window)
        speech = find_speech(activities, settings).astype(np.float64)  # (K, F)
        shared = speech @ here.T  # (K, N)
        apart = find_apart(activities, local.num_turns, settings)
        for row in np.argsort(-shared.max(axis=1, initial=0), kind="stable"):
            taken = speakers[window][apart[row] & (speakers[window] >= 0)]
            shared[row, taken] = 0
            if shared[row].any():
                speakers[window, row] = shared[row].argmax()
    return by_first_appearance(speakers)
