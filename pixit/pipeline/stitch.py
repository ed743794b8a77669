"""From the sources of local speakers, each assigned to a speaker, to long-form tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from pixit.audio import Track, TrackWriter
from pixit.config import Settings
from pixit.pipeline.diarize import Bools, Floats, Ints, by_speaker, speaker_name
from pixit.pipeline.local import Progress
from pixit.pipeline.spool import Geometry, Spool
from pixit.windows import OverlapAdd, Window, frame_centres_samples

SMALL = 1e-12
"""Energy of a window below that of any sound."""


class StitchingSettings(Settings):
    """How window outputs become tracks."""

    levels: Literal["window", "track"] = Field(
        "window",
        description="where a source gets the level that it has in the recording: in each window for itself, or once "
        "for the whole track, which leaves what the model says from window to window (as pyannote.audio does)",
    )

    keep_room: bool = Field(
        True,
        description="let the tracks of those who talk sum to the recording, its noise and room included; "
        "else they hold what the model separated and nothing more",
    )
    absent: Literal["skip", "silence"] = Field(
        "skip",
        description="what a window in which a speaker was not found adds to the track where others cover the same "
        "time: nothing, so that the level stays, or silence (as in pyannote.audio)",
    )
    taper: Literal["hann", "hamming"] = Field(
        "hann", description="weights of the samples of a window (pyannote.audio: hamming)"
    )
    leakage_removal_db: float = Field(
        20.0,
        ge=0,
        le=200,
        description="decibels by which a track is turned down where its speaker is not heard; 0: none",
    )
    collar_s: float = Field(
        0.1, ge=0, le=60, description="seconds around each turn that leakage removal spares"
    )


def stitch_tracks(
    local: Spool,
    speakers: Ints,
    talking: Bools,
    windows: Iterable[Window],
    settings: StitchingSettings,
    onset: float,
    progress: Progress,
    gains: Floats | None = None,
) -> Iterator[Floats]:
    """Yield the tracks (N, n) in finished stretches, from the first sample of the recording to the last.

    Each window's sources are added with a taper. What is normalised is the sum over the windows in which
    a speaker was found, so that a track keeps its level where only some of the windows heard the speaker. `gains`
    (N,) are those of `fit_levels`, where the levels are those of the tracks.
    """
    geometry = local.geometry
    num_speakers = len(talking)
    sizes = geometry.window_samples, geometry.step_samples
    overlap_add = OverlapAdd(*sizes, 2 * num_speakers, settings.taper)
    position = 0
    for window in windows:
        rows = np.flatnonzero(local.active[window.index])
        names = speakers[window.index, rows]
        sources = local.sources(window.index)[rows]
        if gains is not None:
            sources = sources * np.append(gains, 0)[names][:, None]  # the last entry serves -1
        if settings.keep_room:  # what was said by nobody who has a track is left to the others
            named = (names >= 0).astype(np.float32)[:, None]
            activities = local.activities(window.index)[rows] * named
            sources = share_residual(sources * named, activities, window, geometry, onset)
        present = local.gates(window.index)[rows]
        values = np.concatenate(
            (by_speaker(sources, names, num_speakers, np.add), by_speaker(present, names, num_speakers))
        )
        stretch = overlap_add.add(window.start_samples, values)
        yield finish_stretch(stretch, talking, position, geometry, settings)
        position += stretch.shape[1]
        progress(window.index + 1, len(local))
    yield finish_stretch(overlap_add.finish(geometry.num_samples), talking, position, geometry, settings)


def fit_levels(local: Spool, speakers: Ints, windows: Iterable[Window]) -> Floats:
    """Return the gain of each speaker's sources, (N,), with which their sum comes nearest to the recording.

    As `restore_levels` of single windows, but of all windows together. No track becomes louder than the recording.
    """
    num_speakers = int(speakers.max(initial=-1)) + 1
    gram, cross = np.zeros((num_speakers, num_speakers)), np.zeros(num_speakers)
    power = 0.0
    for window in windows:
        sources = by_speaker(local.sources(window.index), speakers[window.index], num_speakers, np.add)
        gram += sources @ sources.T
        cross += sources @ window.samples
        power += float(window.samples @ window.samples)
    own = gram.diagonal()
    gains = np.linalg.solve(gram + np.diag(1e-3 * own + (own <= SMALL)), cross)
    loudest = np.sqrt(power / np.maximum(own, SMALL))
    return gains.clip(-loudest, loudest).astype(np.float32)


def share_residual(
    sources: Floats, activities: Floats, window: Window, geometry: Geometry, onset: float
) -> Floats:
    """Give what the sources do not explain of the mixture to those who talk (mixture consistency).

    After Wisdom et al., "Differentiable consistency constraints", ICASSP 2019, with the power of a source times
    its activity as weight: one who talks alone gets all of it, even if the source is silent, and where nobody
    talks it is dropped. Sources are (K, T), activities (K, F); from the activity `onset` on, all is given.
    """
    if not len(sources):
        return sources
    centres = frame_centres_samples(geometry.frame_grid, activities.shape[1])
    centres = centres[: max(1, np.count_nonzero(centres < window.valid))]  # who talks last talks to the end
    samples = np.arange(len(window.samples))
    gates = np.stack([np.interp(samples, centres, row[: len(centres)]) for row in activities])
    # of the time for which it may talk: a turn is no weaker for being short
    power = np.square(sources).sum(axis=1, keepdims=True)
    power /= np.maximum((sources != 0).sum(axis=1, keepdims=True), 1)
    weights = gates * (power + 1e-6 * power.max() + SMALL)
    share = weights / np.maximum(weights.sum(axis=0), 1e-3 * SMALL)
    residual = window.samples - sources.sum(axis=0)
    heard = np.minimum(1, gates.max(axis=0) / onset)
    return (sources + share * heard * residual).astype(np.float32)


def finish_stretch(
    stretch: Floats, talking: Bools, position: int, geometry: Geometry, settings: StitchingSettings
) -> Floats:
    """Normalise a stretch (2N, n) of sources and presence, and turn down those who do not talk: (N, n)."""
    num_speakers = len(talking)
    tracks = stretch[:num_speakers]
    if settings.absent == "skip":
        tracks = np.divide(tracks, np.maximum(stretch[num_speakers:], 1e-3), dtype=np.float32)
    return turn_down(tracks, talking, position, geometry, settings)


def turn_down(
    tracks: Floats, talking: Bools, position: int, geometry: Geometry, settings: StitchingSettings
) -> Floats:
    """Remove leakage: turn down tracks (N, n), from sample `position` on, where their speakers do not talk."""
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
