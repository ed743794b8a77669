"""Who spoke when: from local speakers, each assigned to a speaker, to the diarization of the recording."""

from __future__ import annotations

import numpy as np
from pyannote.core import Annotation, Segment

from pixit.pipeline.activity import ActivitySettings, Bools, Floats, Halves, Ints, decide, find_speech
from pixit.pipeline.spool import Spool
from pixit.windows import OverlapAdd, frame_centres_samples, intervals_from_frames


def diarize(
    local: Spool, speakers: Ints, settings: ActivitySettings
) -> tuple[list[list[tuple[float, float]]], Bools, Ints]:
    """Average the activities of overlapping windows and decide who talks.

    Speech that the windows agree on but not who says it, so that nobody's mean reaches the onset, goes to the one
    most of them name: an uncertain speaker is no reason to lose words.

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
    activities, anybody = mean_activities(local, speakers)  # (N, F), (F,)
    decisions = np.array([decide(row, geometry.frame_s, settings) for row in activities], bool)
    if len(decisions):
        disputed = np.flatnonzero(find_speech(anybody, settings) & ~decisions.any(axis=0))
        likeliest = activities[:, disputed].argmax(axis=0)
        activities[likeliest, disputed] = anybody[disputed]
        for number in np.unique(likeliest):
            decisions[number] = decide(activities[number], geometry.frame_s, settings)
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


def mean_activities(local: Spool, speakers: Ints) -> tuple[Halves, Halves]:
    """Return the activity of every speaker, the mean of the windows, (N, F); and that of anybody, (F,)."""
    geometry = local.geometry
    num_speakers = int(speakers.max(initial=-1)) + 1
    overlap_add = OverlapAdd(geometry.num_frames, geometry.step_frames, num_speakers + 1)
    total = geometry.start_frames(len(local) - 1) + geometry.num_frames
    # Half precision: the one table of the recording's frames that is not of single bytes.
    activities = np.zeros((num_speakers + 1, total), np.float16)
    for window in local:
        start = geometry.start_frames(window)
        values = by_speaker(local.activities(window), speakers[window], num_speakers)
        stretch = overlap_add.add(start, np.vstack([values, values.max(axis=0, initial=0)]))
        activities[:, start - stretch.shape[1] : start] = stretch
    rest = overlap_add.finish(total)
    activities[:, total - rest.shape[1] :] = rest
    inside = frame_centres_samples(geometry.frame_grid, total) < geometry.num_samples
    activities = activities[:, : np.count_nonzero(inside)]
    return activities[:-1], activities[-1]


def by_speaker(rows: Floats, speakers: Ints, num_speakers: int, combine: np.ufunc = np.maximum) -> Floats:
    """Return rows (K, …) of local speakers as rows (N, …) of the speakers of the recording.

    Where two local speakers are one, `combine` says how: the larger of activities, the sum of sources.
    """
    ordered = np.zeros((num_speakers, *rows.shape[1:]), np.float32)
    for row, speaker in zip(rows, speakers, strict=True):
        if speaker >= 0:
            combine(ordered[speaker], row, out=ordered[speaker])
    return ordered


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
