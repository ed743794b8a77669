"""From local speakers who know their name to long-form tracks and the diarization of the recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixit.config import Settings
from pixit.pipeline.local import Progress
from pixit.pipeline.spool import Geometry, Spool
from pixit.windows import OverlapAdd, Window, frame_centres_samples, intervals_from_frames

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class StitchingSettings(Settings):
    """How window outputs become tracks and turns."""

    onset: float = Field(0.5, gt=0, lt=1, description="activity, mean of the windows, at which a turn begins")
    offset: float = Field(0.4, gt=0, lt=1, description="activity below which a turn ends")
    min_duration_on_s: float = Field(0.1, ge=0, description="shorter turns are dropped")
    min_duration_off_s: float = Field(0.2, ge=0, description="shorter pauses of a speaker are filled")
    mixture_consistency: bool = Field(
        True, description="let the tracks of those who talk sum to the recording"
    )
    leakage_removal: bool = Field(True, description="silence a track where the diarization does not hear it")
    collar_s: float = Field(0.1, ge=0, description="seconds around each turn that leakage removal spares")


# --- who spoke when -----------------------------------------------------------------------------------


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


def mean_activities(local: Spool, speakers: Ints) -> Floats:
    """Return the activity of every speaker of the recording, the mean of the windows, (N, F)."""
    geometry = local.geometry
    num_speakers = int(speakers.max(initial=-1)) + 1
    overlap_add = OverlapAdd(geometry.num_frames, geometry.step_frames, num_speakers)
    stretches = []
    for window in local:
        values = by_speaker(local.activities(window), speakers[window], num_speakers)
        stretches.append(overlap_add.add(window * geometry.step_frames, values))
    total = (len(local) - 1) * geometry.step_frames + geometry.num_frames
    activities = np.concatenate([*stretches, overlap_add.finish(total)], axis=1)
    inside = frame_centres_samples(geometry.frame_grid, total) < geometry.num_samples
    return activities[:, inside]


def by_speaker(rows: Floats, speakers: Ints, num_speakers: int) -> Floats:
    """Return rows (K, …) of local speakers as rows (N, …) of the speakers of the recording."""
    ordered = np.zeros((num_speakers, *rows.shape[1:]), np.float32)
    known = speakers >= 0
    ordered[speakers[known]] = rows[known]
    return ordered


def decide(activity: Floats, frame_s: float, settings: StitchingSettings) -> Bools:
    """Return where a speaker talks, (F,): hysteresis, then short pauses filled and short turns dropped."""
    above, keeps = activity >= settings.onset, activity >= settings.offset
    # A frame takes the state of the last frame that was clear: at or above the onset, or below the offset.
    clear = np.where(above | ~keeps, np.arange(len(activity)), -1)
    last = np.maximum.accumulate(clear)
    talking = np.where(last >= 0, above[np.maximum(last, 0)], False)
    backward = np.minimum.accumulate(np.where(clear >= 0, clear, len(activity))[::-1])[::-1]
    ahead = np.where(backward < len(activity), above[np.minimum(backward, len(activity) - 1)], False)
    talking = talking | (keeps & ahead)
    talking = _without_short(talking, False, settings.min_duration_off_s / frame_s)
    return _without_short(talking, True, settings.min_duration_on_s / frame_s)


def _without_short(talking: Bools, value: bool, min_frames: float) -> Bools:
    """Flip runs of `value` shorter than `min_frames`; pauses at the ends of the recording stay."""
    edges = np.flatnonzero(np.diff(talking)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(talking)]])
    result = talking.copy()
    for start, end in zip(starts, ends, strict=True):
        at_end = start == 0 or end == len(talking)
        if end > start and talking[start] == value and end - start < min_frames and (value or not at_end):
            result[start:end] = not value
    return result


# --- tracks -------------------------------------------------------------------------------------------


def stitch_tracks(
    local: Spool,
    speakers: Ints,
    talking: Bools,
    windows: Iterable[Window],
    settings: StitchingSettings,
    progress: Progress,
) -> Iterator[Floats]:
    """Yield the tracks (N, n) in finished stretches, from the first sample of the recording to the last.

    Each window's sources are added with a taper. What is normalised is the sum over the windows in which
    a speaker was found, so that a track keeps its level where only some of the windows heard the speaker.
    """
    geometry = local.geometry
    num_speakers = len(talking)
    overlap_add = OverlapAdd(geometry.window_samples, geometry.step_samples, 2 * num_speakers)
    position = 0
    for window in windows:
        sources = local.sources(window.index)
        if settings.mixture_consistency:
            sources = share_residual(sources, local.activities(window.index), window.samples, geometry)
        present = np.repeat(local.active[window.index][:, None], geometry.window_samples, axis=1)
        names = speakers[window.index]
        values = [by_speaker(rows.astype(np.float32), names, num_speakers) for rows in (sources, present)]
        stretch = overlap_add.add(window.start_samples, np.concatenate(values))
        yield _finish(stretch, talking, position, geometry, settings)
        position += stretch.shape[1]
        progress(window.index + 1, len(local))
    yield _finish(overlap_add.finish(geometry.num_samples), talking, position, geometry, settings)


def share_residual(sources: Floats, activities: Floats, mixture: Floats, geometry: Geometry) -> Floats:
    """Give what the sources leave of the mixture to those who talk (mixture consistency).

    After Wisdom et al., "Differentiable consistency constraints", ICASSP 2019, with the power of a source times
    its activity as weight: one who talks alone gets all of it, and where nobody talks it is dropped.

    Parameters
    ----------
    sources, activities, mixture
        (K, T), (K, F) and (T,).
    """
    centres = frame_centres_samples(geometry.frame_grid, activities.shape[1])
    samples = np.arange(len(mixture))
    gates = np.stack([np.interp(samples, centres, row) for row in activities]).astype(np.float32)
    power = np.square(sources).sum(axis=1, keepdims=True)
    weights = gates * power
    share = weights / np.maximum(weights.sum(axis=0), 1e-20)
    residual = mixture - sources.sum(axis=0)
    return sources + share * gates.max(axis=0) * residual


def _finish(
    stretch: Floats, talking: Bools, position: int, geometry: Geometry, settings: StitchingSettings
) -> Floats:
    """Normalise a stretch (2N, n) of sources and presence, and silence those who do not talk: (N, n)."""
    num_speakers = len(talking)
    tracks, presence = stretch[:num_speakers], stretch[num_speakers:]
    tracks = tracks / np.maximum(presence, 1e-3)
    if not settings.leakage_removal or tracks.shape[1] == 0:
        return tracks
    gates = [gate(row, position, tracks.shape[1], geometry, settings.collar_s) for row in talking]
    return tracks * np.reshape(gates, tracks.shape)


def gate(talking: Bools, start: int, length: int, geometry: Geometry, collar_s: float) -> Floats:
    """Return a gain (n,) that is 1 in the turns and within a collar of them, and fades to 0 over one frame."""
    grid = geometry.frame_grid
    collar = round(collar_s / geometry.frame_s)
    first_centre = grid.centre_samples(0)
    low = int((start - first_centre) // grid.step_samples) - collar - 1
    high = int((start + length - first_centre) // grid.step_samples) + collar + 3
    frames = np.arange(low, high)
    inside = (frames >= 0) & (frames < len(talking))
    open_frames = np.zeros(len(frames), bool)
    open_frames[inside] = talking[frames[inside]]
    counts = np.convolve(open_frames, np.ones(2 * collar + 1), mode="same")
    samples = np.arange(start, start + length)
    return np.interp(samples, first_centre + frames * grid.step_samples, counts > 0).astype(np.float32)
