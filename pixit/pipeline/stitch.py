"""From local speakers who know their name to long-form tracks and the diarization of the recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from pydantic import Field

from pixit.audio import Track, TrackWriter
from pixit.config import Settings
from pixit.pipeline.local import Progress
from pixit.pipeline.spool import Geometry, Spool
from pixit.windows import OverlapAdd, Window, frame_centres_samples, intervals_from_frames

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SMALL = 1e-12
"""Energy of a window below that of any sound."""


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
        names = speakers[window.index]
        sources = local.sources(window.index)
        if settings.mixture_consistency:  # what was said by nobody who has a track is left to the others
            named = (names >= 0).astype(np.float32)[:, None]
            activities = local.activities(window.index) * named
            sources = share_residual(sources * named, activities, window, geometry)
        present = np.repeat(local.active[window.index][:, None], geometry.window_samples, axis=1)
        values = np.concatenate(
            (by_speaker(sources, names, num_speakers, np.add), by_speaker(present, names, num_speakers))
        )
        stretch = overlap_add.add(window.start_samples, values)
        yield _finish(stretch, talking, position, geometry, settings)
        position += stretch.shape[1]
        progress(window.index + 1, len(local))
    yield _finish(overlap_add.finish(geometry.num_samples), talking, position, geometry, settings)


def share_residual(sources: Floats, activities: Floats, window: Window, geometry: Geometry) -> Floats:
    """Give what the sources leave of the mixture to those who talk (mixture consistency).

    After Wisdom et al., "Differentiable consistency constraints", ICASSP 2019, with the power of a source times
    its activity as weight: one who talks alone gets all of it, even if the source is silent, and where nobody
    talks it is dropped.

    Parameters
    ----------
    sources, activities
        (K, T) and (K, F).
    window
        The mixture.
    """
    centres = frame_centres_samples(geometry.frame_grid, activities.shape[1])
    centres = centres[: max(1, np.count_nonzero(centres < window.valid))]  # who talks last talks to the end
    samples = np.arange(len(window.samples))
    gates = np.stack([np.interp(samples, centres, row[: len(centres)]) for row in activities])
    power = np.square(sources).sum(axis=1, keepdims=True)
    weights = gates * (power + 1e-6 * power.max() + SMALL)
    share = weights / np.maximum(weights.sum(axis=0), 1e-3 * SMALL)
    residual = window.samples - sources.sum(axis=0)
    heard = np.minimum(1, 2 * gates.max(axis=0))  # all of it where somebody is more likely to talk than not
    return (sources + share * heard * residual).astype(np.float32)


def _finish(
    stretch: Floats, talking: Bools, position: int, geometry: Geometry, settings: StitchingSettings
) -> Floats:
    """Normalise a stretch (2N, n) of sources and presence, and turn down those who do not talk: (N, n)."""
    num_speakers = len(talking)
    presence = np.maximum(stretch[num_speakers:], 1e-3)
    tracks: Floats = np.divide(stretch[:num_speakers], presence, dtype=np.float32)
    if settings.leakage_removal_db == 0 or tracks.shape[1] == 0:
        return tracks
    gates = [gate(row, position, tracks.shape[1], geometry, settings.collar_s) for row in talking]
    # Not to silence: words that the diarization missed stay in the track, if softly.
    floor = np.float32(10 ** (-settings.leakage_removal_db / 20))
    return tracks * (floor + (1 - floor) * np.reshape(gates, tracks.shape))


def gate(talking: Bools, start: int, length: int, geometry: Geometry, collar_s: float) -> Floats:
    """Return a gain (n,) that is 1 in the turns and within a collar of them, and fades to 0 over one frame."""
    grid = geometry.frame_grid
    collar = round(collar_s / geometry.frame_s)
    first_centre = grid.centre_samples(0)
    low = int((start - first_centre) // grid.step_samples) - collar - 1
    high = int((start + length - first_centre) // grid.step_samples) + collar + 3
    frames = np.arange(low, high)
    open_frames = talking[frames.clip(0, len(talking) - 1)]  # who talks last talks up to the very end
    counts = np.convolve(open_frames, np.ones(2 * collar + 1), mode="same")
    samples = np.arange(start, start + length)
    return np.interp(samples, first_centre + frames * grid.step_samples, counts > 0).astype(np.float32)


# --- what the user gets -------------------------------------------------------------------------------


def write_tracks(
    stretches: Iterable[Floats], num_speakers: int, folder: Path, geometry: Geometry
) -> dict[str, Track]:
    """Write finished stretches (N, n) of all tracks as they come."""
    rate_hz, length = geometry.sample_rate_hz, geometry.num_samples
    paths = {speaker_name(number): folder / f"{speaker_name(number)}.w64" for number in range(num_speakers)}
    with ExitStack() as stack:
        writers = [
            stack.enter_context(TrackWriter(path, rate_hz, "w64", num_samples=length))
            for path in paths.values()
        ]
        for stretch in stretches:
            for writer, samples in zip(writers, stretch, strict=True):
                writer.write(samples)
    return {name: Track(path, rate_hz, length) for name, path in paths.items()}


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
