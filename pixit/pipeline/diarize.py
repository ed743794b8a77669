"""Who spoke when: from activities, numbers between 0 and 1, to the diarization of the recording.

Every step of the pipeline decides who talks by the same pair of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from pydantic import Field

from pixit.config import Settings
from pixit.pipeline.spool import Geometry, Spool
from pixit.windows import OverlapAdd, frame_centres_samples, intervals_from_frames

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class ActivitySettings(Settings):
    """From which activity on somebody talks, in a window as in the whole recording."""

    decision: Literal["threshold", "count"] = Field(
        "threshold",
        description="threshold: who talks is whose mean activity reaches onset and offset; count: in each frame talk "
        "as many as in most windows, those with the most activity (speaker counting, as in pyannote.audio)",
    )
    unknown_voices: bool = Field(
        False,
        description="with the decision count: where more talk at once than there are voices, the others are speakers "
        "of their own (as in pyannote.audio); never where tracks are made",
    )
    onset: float = Field(0.5, gt=0, lt=1, description="activity that speech must reach")
    offset: float = Field(0.4, gt=0, lt=1, description="activity that speech keeps from its start to its end")
    min_local_s: float = Field(
        0.15, ge=0, le=3600, description="speech in a window from which a local speaker counts as active"
    )
    min_duration_on_s: float = Field(0.1, ge=0, le=3600, description="shorter turns are dropped")
    min_duration_off_s: float = Field(
        0.2, ge=0, le=3600, description="shorter pauses of a speaker are filled"
    )


def find_speech(activities: Floats | Halves, settings: ActivitySettings) -> Bools:
    """Return the frames of speech (…, F): runs at or above the offset that reach the onset (hysteresis).

    The rows of `activities` (…, F) are independent; an offset above the onset counts as the onset.
    """
    # a frame of silence after each row, so that no run goes on into the next
    silence = [(0, 0)] * (activities.ndim - 1) + [(0, 1)]
    kept = np.pad(activities >= min(settings.offset, settings.onset), silence)
    reached = np.pad(activities >= settings.onset, silence)
    runs = find_runs(kept.ravel())
    if len(runs):
        runs = runs[np.logical_or.reduceat(reached.ravel(), runs.ravel())[::2]]
    steps = np.zeros(kept.shape, np.int8)  # a byte a frame: rows may be as long as the recording
    steps.ravel()[runs[:, 0]], steps.ravel()[runs[:, 1]] = 1, -1
    speech: Bools = np.cumsum(steps, axis=-1, dtype=np.int8)[..., :-1] > 0
    return speech


def find_solo(speech: Bools) -> Bools:
    """Return where a local speaker talks and no other does, for the speech of all, both (K, F)."""
    return speech & (speech.sum(axis=0) == 1)


def decide(activity: Halves | Floats, frame_s: float, settings: ActivitySettings) -> Bools:
    """Return where a speaker of the recording talks, (F,), for the activity (F,) and the seconds of a frame.

    Short pauses in the speech are filled, then short turns are dropped.
    """
    return _smooth(find_speech(activity, settings), frame_s, settings)


def _smooth(talking: Bools, frame_s: float, settings: ActivitySettings) -> Bools:
    """Fill short pauses in the speech (F,), then drop short turns."""
    for start, end in find_runs(~talking):
        if start > 0 and end < len(talking) and (end - start) * frame_s < settings.min_duration_off_s:
            talking[start:end] = True
    for start, end in find_runs(talking):
        if (end - start) * frame_s < settings.min_duration_on_s:
            talking[start:end] = False
    return talking


def find_runs(flags: Bools) -> Ints:
    """Return where the runs of set flags start and end, (runs, 2)."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)


def diarize(
    local: Spool, speakers: Ints, settings: ActivitySettings, max_speakers: int | None = None
) -> tuple[list[list[tuple[float, float]]], Halves, Ints]:
    """Average the activities of overlapping windows and decide who talks.

    Speech that the windows agree on but not who says it, so that nobody's mean reaches the onset, goes to the one
    most of them name: an uncertain speaker is no reason to lose words.

    Parameters
    ----------
    speakers
        Speaker of the recording of every local speaker, (W, K), -1 for none.
    max_speakers
        Bound on the number of speakers, of unknown voices too.

    Returns
    -------
    turns
        For each speaker who talks, in the order of their first words, the turns ``(start_s, end_s)``.
    gates
        How far the track of each is open on the frames of the recording, (N, F): 1 in turns; with the decision
        threshold, elsewhere the share of the onset that the activity reaches, as words may have been missed there.
    speakers
        As the parameter, with the numbers that `turns` has; -1 also for those who never talk.
    """
    if settings.decision == "count":
        talking = _decide_by_count(local, speakers, settings, max_speakers)
        gates = talking.astype(np.float16)
    else:
        talking, activities = _decide_by_threshold(local, speakers, settings)
        gates = open_gates(talking, activities, settings)
    heard = sorted((int(row.argmax()), number) for number, row in enumerate(talking) if row.any())
    chosen = [number for _, number in heard]
    renumbered = np.full(len(talking) + 1, -1, np.int64)  # the last entry serves -1
    renumbered[chosen] = np.arange(len(chosen))
    return find_turns(talking[chosen], local.geometry), gates[chosen], renumbered[speakers]


def open_gates(talking: Bools, activities: Halves | Floats, settings: ActivitySettings) -> Halves:
    """Return how far tracks are open, for who talks and the mean activities, all (N, F)."""
    return np.where(talking, 1, np.minimum(1, activities / settings.onset)).astype(np.float16)


def _decide_by_threshold(local: Spool, speakers: Ints, settings: ActivitySettings) -> tuple[Bools, Halves]:
    """Return where each speaker talks, whose mean activity is enough, and that activity; both (N, F)."""
    frame_s = local.geometry.frame_s
    activities, anybody = mean_activities(local, speakers)  # (N, F), (F,)
    talking = np.array([decide(row, frame_s, settings) for row in activities], bool)
    talking = talking.reshape(activities.shape)
    if not len(talking):
        return talking, activities
    disputed = np.flatnonzero(find_speech(anybody, settings) & ~talking.any(axis=0))
    likeliest = activities[:, disputed].argmax(axis=0)
    activities[likeliest, disputed] = anybody[disputed]
    for number in np.unique(likeliest):
        talking[number] = decide(activities[number], frame_s, settings)
    return talking, activities


def _decide_by_count(
    local: Spool, speakers: Ints, settings: ActivitySettings, max_speakers: int | None
) -> Bools:
    """Return where each speaker talks, (N, F): in each frame the most active of them, as many as talk.

    How many that is, is the mean of the windows, rounded to the nearest whole number; as Bredin, "pyannote.audio 2.1
    speaker diarization pipeline", Interspeech 2023.
    """
    geometry = local.geometry
    num_speakers = num_voices = int(speakers.max(initial=-1)) + 1
    if settings.unknown_voices and num_voices:
        most = local.num_speakers // local.num_turns
        most = most if max_speakers is None else min(max_speakers, most)
        num_speakers = max(num_voices, most)
    overlap_add = OverlapAdd(geometry.num_frames, geometry.step_frames, num_speakers + 1, "flat")
    total = geometry.start_frames(len(local) - 1) + geometry.num_frames
    talking = np.zeros((num_speakers, total), bool)

    def choose(end: int, stretch: Floats) -> None:
        """Decide the frames before `end`, for the activity of each speaker and the count, (N + 1, n)."""
        likeliest = np.argsort(-stretch[:-1].T, axis=1)[:, :num_speakers]  # (n, N)
        is_one = np.arange(num_speakers) < np.rint(stretch[-1])[:, None]
        frames, places = np.nonzero(is_one)
        talking[likeliest[frames, places], end - stretch.shape[1] + frames] = True

    for window in local:
        activities = local.activities(window)
        values = by_speaker(activities, speakers[window], num_speakers)
        count = find_speech(activities, settings).sum(axis=0)
        start = geometry.start_frames(window)
        choose(start, overlap_add.add(start, np.vstack([values, count])))
    choose(total, overlap_add.finish(total))
    talking = talking[:, : _num_inside(geometry, total)]
    return np.array([_smooth(row, geometry.frame_s, settings) for row in talking], bool).reshape(
        talking.shape
    )


def _num_inside(geometry: Geometry, num_frames: int) -> int:
    """Return how many frames have their middle in the recording, of `num_frames` that the windows have."""
    return int(
        np.count_nonzero(frame_centres_samples(geometry.frame_grid, num_frames) < geometry.num_samples)
    )


def find_turns(talking: Bools, geometry: Geometry) -> list[list[tuple[float, float]]]:
    """Return the turns ``(start_s, end_s)`` of each row of `talking` (N, F)."""
    grid = geometry.frame_grid
    place = grid.step_samples, grid.centre_samples(0), geometry.sample_rate_hz, geometry.num_samples
    return [intervals_from_frames(row, *place) for row in talking]


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
    activities = activities[:, : _num_inside(geometry, total)]
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


def annotate(
    turns: list[list[tuple[float, float]]], uri: str, names: Sequence[str] | None = None
) -> Annotation:
    """Return the turns of all speakers, of these names or else numbered, as an annotation."""
    annotation = Annotation(uri=uri)
    names = speaker_names(len(turns)) if names is None else names
    for number, (name, own) in enumerate(zip(names, turns, strict=True)):
        for start_s, end_s in own:
            annotation[Segment(start_s, end_s), number] = name
    return annotation


def speaker_names(count: int) -> list[str]:
    """Return the labels of so many speakers whom nobody knows."""
    return [speaker_name(number) for number in range(count)]


def speaker_name(number: int) -> str:
    """Return the label of a speaker."""
    return f"SPEAKER_{number:02d}"
