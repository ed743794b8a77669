"""From the sources of local speakers, each assigned to a speaker, to long-form tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import maximum_filter1d

from pixit.audio import Track, TrackWriter
from pixit.config import Settings
from pixit.pipeline.diarize import Bools, Floats, Halves, Ints, by_speaker
from pixit.pipeline.local import Progress
from pixit.pipeline.spool import Geometry, Spool
from pixit.windows import OverlapAdd, Window

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
        description="decibels by which a track is turned down where its speaker is not heard; less where the speaker "
        "may be heard; 0: none",
    )
    collar_s: float = Field(
        0.1, ge=0, le=60, description="seconds around each turn that leakage removal spares"
    )


def stitch_tracks(
    local: Spool,
    speakers: Ints,
    gates: Halves,
    windows: Iterable[Window],
    settings: StitchingSettings,
    progress: Progress,
    gains: Floats | None = None,
) -> Iterator[Floats]:
    """Yield the tracks (N, n) in finished stretches, from the first sample of the recording to the last.

    Each window's sources are added with a taper. What is normalised is the sum over the windows in which
    a speaker was found, so that a track keeps its level where only some of the windows heard the speaker. `gates`
    (N, F) say where each talks, and `gains` (N,) are those of `fit_levels`, where the levels are those of the tracks.
    """
    geometry, num_speakers = local.geometry, len(gates)
    sizes = geometry.window_samples, geometry.step_samples
    overlap_add = OverlapAdd(*sizes, 1 + 2 * num_speakers, settings.taper)
    position = 0
    for window in windows:
        names = speakers[window.index, local.active[window.index]]
        sources = local.sources(window.index)
        if gains is not None:
            sources = sources * np.append(gains, 0)[names][:, None]  # the last entry serves -1
        own = by_speaker(sources, names, num_speakers, np.add)
        present = by_speaker(local.gates(window.index), names, num_speakers)
        values = np.concatenate((window.samples[None], own, present))
        stretch = overlap_add.add(window.start_samples, values)
        yield finish_stretch(stretch, gates, position, geometry, settings)
        position += stretch.shape[1]
        progress(window.index + 1, len(local))
    yield finish_stretch(overlap_add.finish(geometry.num_samples), gates, position, geometry, settings)


def fit_levels(local: Spool, speakers: Ints, windows: Iterable[Window]) -> Floats:
    """Return the gain of each speaker's sources, (N,), with which their sum comes nearest to the recording.

    As `restore_levels` of single windows, but of all windows together. No track becomes louder than the recording.
    """
    num_speakers = int(speakers.max(initial=-1)) + 1
    gram, cross = np.zeros((num_speakers, num_speakers)), np.zeros(num_speakers)
    power = 0.0
    for window in windows:
        names = speakers[window.index, local.active[window.index]]
        sources = by_speaker(local.sources(window.index), names, num_speakers, np.add)
        gram += sources @ sources.T
        cross += sources @ window.samples
        power += float(window.samples @ window.samples)
    own = gram.diagonal()
    gains = np.linalg.solve(gram + np.diag(1e-3 * own + (own <= SMALL)), cross)
    loudest = np.sqrt(power / np.maximum(own, SMALL))
    return gains.clip(-loudest, loudest).astype(np.float32)


def finish_stretch(
    stretch: Floats, gates: Halves, position: int, geometry: Geometry, settings: StitchingSettings
) -> Floats:
    """Return a stretch of the tracks, (N, n), from sample `position` on.

    Parameters
    ----------
    stretch
        The recording, the sources of all speakers, and how much of the windows' weight these stand on, (1 + 2N, n).
    gates
        Where each speaker talks, (N, F).
    """
    mixture, (tracks, present) = stretch[0], stretch[1:].reshape(2, len(gates), stretch.shape[1])
    if settings.absent == "skip":
        tracks = np.divide(tracks, np.maximum(present, 1e-3), dtype=np.float32)
    place = position, tracks.shape[1], geometry
    gains = open_tracks(gates, *place, settings.collar_s)
    found = turn_down(tracks, gains, settings)
    if settings.keep_room and len(tracks):
        # of others only a frame around their turns: within the rest of their collars one talks alone, too
        talking = open_tracks(gates, *place, min(settings.collar_s, geometry.frame_s))
        rest = mixture - (talking * tracks).sum(axis=0)
        found += share_residual(rest - (gains - talking) * tracks, talking)
    return found


def share_residual(residual: Floats, gains: Floats) -> Floats:
    """Return what of the recording the tracks do not hold, (N, n) as each track sees it, by how far each talks.

    Mixture consistency (Wisdom et al., "Differentiable consistency constraints", ICASSP 2019) among the speakers
    whose `gains` (N, n) are not 0: the tracks of those who talk sum to the recording, and who talks alone has all of
    it, whatever the model separated there. Where nobody talks it is dropped.
    """
    everybody = gains.sum(axis=0)
    share: Floats = gains * (gains.max(axis=0) / np.maximum(everybody, np.finfo(np.float32).tiny))
    return share * residual


def turn_down(tracks: Floats, gains: Floats, settings: StitchingSettings) -> Floats:
    """Remove leakage: turn down tracks (N, n) where their speakers do not talk, by the `gains` of `open_tracks`."""
    # Not to silence: words that the diarization missed stay in the track, if softly.
    floor = np.float32(10 ** (-settings.leakage_removal_db / 20))
    return tracks * (floor + (1 - floor) * gains)


def open_tracks(
    gates: Halves | Bools, start: int, length: int, geometry: Geometry, collar_s: float
) -> Floats:
    """Return gains (N, n) for samples from `start` on: those of `gates` (N, F), within a collar of each frame too.

    Between the middles of two frames they are interpolated. Who talks last talks up to the very end.
    """
    if not len(gates):
        return np.zeros((0, length), np.float32)
    grid, collar = geometry.frame_grid, round(collar_s / geometry.frame_s)
    first_centre = grid.centre_samples(0)
    low = int((start - first_centre) // grid.step_samples) - collar - 1
    high = int((start + length - first_centre) // grid.step_samples) + collar + 3
    frames, samples = np.arange(low, high), np.arange(start, start + length)
    centres = first_centre + frames * grid.step_samples
    near = gates[:, frames.clip(0, gates.shape[1] - 1)].astype(np.float32)
    widened = maximum_filter1d(near, 2 * collar + 1, axis=1)
    return np.array([np.interp(samples, centres, row) for row in widened], np.float32)


def write_tracks(
    stretches: Iterable[Floats], names: Sequence[str], folder: Path, geometry: Geometry
) -> dict[str, Track]:
    """Write finished stretches (N, n) of all tracks, of speakers of these names, as they come."""
    rate_hz, length = geometry.sample_rate_hz, geometry.num_samples
    paths = {name: folder / f"{name}.w64" for name in names}
    with ExitStack() as stack:
        writers = [
            stack.enter_context(TrackWriter(path, rate_hz, "w64", num_samples=length))
            for path in paths.values()
        ]
        for stretch in stretches:
            for writer, samples in zip(writers, stretch, strict=True):
                writer.write(samples)
    return {name: Track(path, rate_hz, length) for name, path in paths.items()}
