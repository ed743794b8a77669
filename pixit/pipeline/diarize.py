"""Who spoke when: from the activities of local speakers who know their name to the diarization of the recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from pydantic import Field

from pixit.config import Settings
from pixit.pipeline.spool import Spool
from pixit.windows import OverlapAdd, frame_centres_samples, intervals_from_frames

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class StitchingSettings(Settings):
    """How window outputs become tracks and turns."""

    onset: float = Field(0.5, gt=0, lt=1, description="activity, mean of the windows, that a turn must reach")
    offset: float = Field(0.4, gt=0, lt=1, description="activity that a turn keeps from its start to its end")
    min_duration_on_s: float = Field(0.1, ge=0, description="shorter turns are dropped")
    min_duration_off_s: float = Field(0.2, ge=0, description="shorter pauses of a speaker are filled")
    mixture_consistency: bool = Field(
        True, description="let the tracks of those who talk sum to the recording"
    )
    leakage_removal_db: float = Field(
        20.0,
        ge=0,
        description="decibels by which a track is turned down where its speaker is not heard; 0: none",
    )
    collar_s: float = Field(0.1, ge=0, description="seconds around each turn that leakage removal spares")


def diarize(
    local: Spool, speakers: Ints, settings: StitchingSettings
) -> tuple[list[list[tuple[float, float]]], Bools, Ints]:
    """Average the activities of overlapping windows and decide who talks.

    Parameters
    ----------
    local
        Activities of all windows.
    speakers
        Speaker of the recording of every local speaker, (W, K), -1 for none.

    Returns
    -------
    turns
        For each speaker who talks, in the order of their first words, the turns ``(start_s, end_s)``.
    talking
        The same on the frames of the recording, (N, F).
    speakers
        As the parameter, with the numbers that `turns` has; -1 also for those who never talk.
    """
    geometry = local.geometry
    grid = geometry.frame_grid
    activities = mean_activities(local, speakers)  # (N, F)
    decisions = [decide(row, geometry.frame_s, settings) for row in activities]
    heard = sorted((int(row.argmax()), number) for number, row in enumerate(decisions) if row.any())
    turns = [
        intervals_from_frames(
            decisions[number],
            grid.step_samples,
            grid.centre_samples(0),
            geometry.sample_rate_hz,
            geometry.num_samples,
        )
        for _, number in heard
    ]
    renumbered = np.full(len(decisions) + 1, -1, np.int64)  # the last entry serves -1
    for new, (_, number) in enumerate(heard):
        renumbered[number] = new
    talking = np.array([decisions[number] for _, number in heard], bool)
    talking = talking.reshape(len(heard), activities.shape[1])
    return turns, talking, renumbered[speakers]


def mean_activities(local: Spool, speakers: Ints) -> Halves:
    """Return the activity of every speaker of the recording, the mean of the windows, (N, F)."""
    geometry = local.geometry
    num_speakers = int(speakers.max(initial=-1)) + 1
    overlap_add = OverlapAdd(geometry.num_frames, geometry.step_frames, num_speakers)
    total = (len(local) - 1) * geometry.step_frames + geometry.num_frames
    # Half precision: the one table of the recording's frames that is not of single bytes.
    activities = np.zeros((num_speakers, total), np.float16)
    for window in local:
        start = window * geometry.step_frames
        values = by_speaker(local.activities(window), speakers[window], num_speakers)
        stretch = overlap_add.add(start, values)
        activities[:, start - stretch.shape[1] : start] = stretch
    rest = overlap_add.finish(total)
    activities[:, total - rest.shape[1] :] = rest
    inside = frame_centres_samples(geometry.frame_grid, total) < geometry.num_samples
    return activities[:, : np.count_nonzero(inside)]


def by_speaker(rows: Floats, speakers: Ints, num_speakers: int, combine: np.ufunc = np.maximum) -> Floats:
    """Return rows (K, …) of local speakers as rows (N, …) of the speakers of the recording.

    Where two local speakers are one, `combine` says how: the larger of activities, the sum of sources.
    """
    ordered = np.zeros((num_speakers, *rows.shape[1:]), np.float32)
    for row, speaker in zip(rows, speakers, strict=True):
        if speaker >= 0:
            combine(ordered[speaker], row, out=ordered[speaker])
    return ordered


def decide(activity: Halves | Floats, frame_s: float, settings: StitchingSettings) -> Bools:
    """Return where a speaker talks, (F,).

    A turn is a run of frames at or above the offset that reaches the onset somewhere (hysteresis). Then short
    pauses are filled, and short turns dropped.
    """
    reached = np.concatenate([[0], np.cumsum(activity >= settings.onset, dtype=np.int32)])
    talking = np.zeros(len(activity), bool)
    for start, end in _runs(activity >= min(settings.offset, settings.onset)):
        talking[start:end] = reached[end] > reached[start]
    for start, end in _runs(~talking):
        if start > 0 and end < len(talking) and (end - start) * frame_s < settings.min_duration_off_s:
            talking[start:end] = True
    for start, end in _runs(talking):
        if (end - start) * frame_s < settings.min_duration_on_s:
            talking[start:end] = False
    return talking


def _runs(flags: Bools) -> Ints:
    """Return where the runs of set flags start and end, (runs, 2)."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)


def annotate(turns: list[list[tuple[float, float]]], uri: str) -> Annotation:
    """Return the turns of all speakers as an annotation."""
    annotation = Annotation(uri=uri)
    for number, own in enumerate(turns):
        for start_s, end_s in own:
            annotation[Segment(start_s, end_s), number] = speaker_name(number)
    return annotation


def speaker_name(number: int) -> str:
    """Return the label of a speaker."""
    return f"SPEAKER_{number:02d}"
