"""Recordings with a talker a channel: each channel is diarized for itself, and is the track of who talks in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from pydantic import Field
from scipy.ndimage import uniform_filter1d

from pixit.audio import Audio
from pixit.config import Settings
from pixit.pipeline.compute import Compute
from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, decide, find_speech, mean_activities
from pixit.pipeline.local import Progress, run_windows
from pixit.pipeline.spool import Geometry, Spool
from pixit.pipeline.stitch import StitchingSettings, open_tracks, turn_down
from pixit.types import LocalDiarizer, PixitError
from pixit.windows import Window

SMOOTHING_S = 0.2
"""Seconds over which the levels of channels are compared: about a syllable."""


class ChannelSettings(Settings):
    """Where channels are speakers: what of a channel is its own talker's voice."""

    bleed_db: float = Field(
        10.0,
        ge=0,
        le=100,
        description="decibels by which a voice may be fainter than the loudest channel, each relative to its own "
        "talker's usual level; what is fainter bled in from another channel",
    )
    min_own_s: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="seconds as the loudest channel from which a channel has a usual level",
    )


def check_channels(recording: Audio, asked: tuple[int | None, ...]) -> Audio:
    """Return a recording whose channels can be speakers, ready for each to be taken.

    A PixitError if it has one channel only, or a channel or a number of speakers was `asked` for.
    """
    if recording.num_channels < 2:
        raise PixitError(
            f"{recording.uri}: has one channel, expected one for each talker; leave out --channels-are-speakers"
        )
    if recording.asked_channel not in (None, "best"):
        raise PixitError(f"{recording.uri}: channels are speakers: give either that or a channel, not both")
    if any(number is not None for number in asked):
        raise PixitError(
            f"{recording.uri}: channels are speakers: their number follows, leave out numbers of speakers"
        )
    return recording.at(channel="mean")  # the best one is not to be searched for


def hear_channels(
    model: LocalDiarizer,
    recording: Audio,
    geometry: Geometry,
    settings: ActivitySettings,
    compute: Compute,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Return the activity of anybody in each channel and its power, both (C, F) on the frames of the recording."""
    activities, powers = [], []
    total = recording.num_channels * geometry.num_windows
    for channel in range(recording.num_channels):
        power = np.zeros(geometry.start_frames(geometry.num_windows - 1) + geometry.num_frames, np.float32)
        windows = _measure(geometry.cut(recording.at(channel=channel)), power, geometry)
        report = partial(_report, progress, channel * geometry.num_windows, total)
        with Spool(geometry, model.num_speakers) as local:
            run_windows(model, windows, local, settings, compute, report)
            _, anybody = mean_activities(local, np.where(local.active, 0, -1))
        activities.append(anybody)
        powers.append(power[: len(anybody)])
    return np.stack(activities).astype(np.float32), np.stack(powers)


def _report(progress: Progress, before: int, total: int, completed: int, _: int) -> None:
    progress(before + completed, total)


def _measure(windows: Iterable[Window], power: Floats, geometry: Geometry) -> Iterator[Window]:
    """Pass windows on, and put the power of their frames into its table, (F,)."""
    step, num_frames = geometry.frame_grid.step_samples, geometry.num_frames
    for window in windows:
        samples = window.samples[: num_frames * step]
        frames = np.pad(samples, (0, num_frames * step - len(samples))).reshape(num_frames, step)
        start = geometry.start_frames(window.index)
        power[start : start + num_frames] = np.square(frames).mean(axis=1)
        yield window


def find_talkers(
    activities: Floats, powers: Floats, frame_s: float, activity: ActivitySettings, settings: ChannelSettings
) -> Bools:
    """Return where the talker of each channel talks, (C, F), for activity and power of each, (C, F).

    A microphone hears the talkers of others too, but fainter. Who is heard where a channel is the loudest is its own
    talker, and gives its usual level; relative to that, microphones of different gain can be compared. What is
    fainter than the loudest by more than ``bleed_db`` is not its own. A channel that is the loudest for less than
    ``min_own_s`` is given the level of the loudest of the others: nearly all that it holds may be bleed.
    """
    size = max(1, round(SMOOTHING_S / frame_s))
    powers = uniform_filter1d(powers, size, axis=1, mode="nearest")
    speech = find_speech(activities, activity)
    own = speech & (powers > 0) & (powers >= powers.max(axis=0))
    enough = own.sum(axis=1) * frame_s >= settings.min_own_s
    known = [float(np.median(row[mine])) for row, mine in zip(powers[enough], own[enough], strict=True)]
    usual = np.full(len(powers), max(known, default=1.0))
    usual[enough] = known
    relative = powers / usual[:, None]
    faintest = relative.max(axis=0) * 10 ** (-settings.bleed_db / 10)
    kept = np.where(relative >= faintest, activities, 0)
    return np.stack([decide(row, frame_s, activity) for row in kept])


def cut_tracks(
    recording: Audio,
    channels: list[int],
    talking: Bools,
    geometry: Geometry,
    settings: StitchingSettings,
    progress: Progress,
) -> Iterator[Floats]:
    """Yield the tracks (N, n) in stretches: `channels` as they are, turned down where `talking` (N, F) is not set."""
    position = 0
    streams = [recording.at(channel=channel).blocks() for channel in channels]
    for blocks in zip(*streams, strict=True):
        gains = open_tracks(talking, position, len(blocks[0]), geometry, settings.collar_s)
        yield turn_down(np.stack(blocks), gains, settings)
        position += len(blocks[0])
        progress(position, geometry.num_samples)
