"""A talker a channel: turns and tracks are those of the channels, whatever the microphones hear of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pixit.pipeline.channels import ChannelSettings, find_talkers
from pixit.pipeline.diarize import ActivitySettings
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.results import Separation
from pixit.types import LocalOutput, PixitError


class Hearing:
    """Hears one voice wherever there is sound, however faint; a constant hum is none."""

    num_speakers, sample_rate_hz, window_samples = 2, 1000, 2000

    def __init__(self, grid: Any) -> None:
        self.frame_grid = grid

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 20

    def __call__(self, waveforms: torch.Tensor) -> LocalOutput:
        levels = waveforms.unfold(2, 20, 20).std(-1)
        logits = torch.where(levels > 1e-4, 8.0, -8.0)
        return LocalOutput(
            torch.cat([logits, torch.full_like(logits, -8.0)], 1), torch.cat([waveforms, 0 * waveforms], 1)
        )


def separate(oracle: Any, channels: np.ndarray, **call: Any) -> Separation:
    separator = Separator(
        Hearing(oracle.grid), oracle.Embedder(), SeparationSettings(step_s=0.5), device="cpu"
    )
    audio = {"waveform": channels.astype(np.float32), "sample_rate": 1000, "uri": "meeting"}
    return separator(audio, channels_are_speakers=True, **call)


def share_of_errors(found: Separation, label: str, talking: np.ndarray) -> float:
    """The share of the recording where a speaker's turns are wrong."""
    times_s = (np.arange(len(talking)) + 0.5) / 1000
    turns = found.diarization.label_timeline(label)
    said = np.any([(turn.start <= times_s) & (times_s < turn.end) for turn in turns], axis=0)
    return float(np.mean(said != talking))


@pytest.mark.parametrize("gains", [(1, 1, 1), (0.2, 1, 0.5)])
@pytest.mark.parametrize("bleed", [0.0, 0.1])
def test_each_channel_that_speaks_is_a_speaker(oracle: Any, bleed: float, gains: tuple[float, ...]) -> None:
    """Microphones of different gain that hear each other; the last one's owner says nothing."""
    truth = oracle.conversation(3, 60, seed=1)
    heard = truth.sources + bleed * (truth.mixture - truth.sources)
    microphones = np.concatenate([heard * np.array(gains)[:, None], bleed * truth.mixture[None]])
    result = separate(oracle, microphones)
    assert result.speakers == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
    assert result.settings["speaker_channels"] == {"SPEAKER_00": 0, "SPEAKER_01": 1, "SPEAKER_02": 2}
    assert result.settings["channel"] == "each"
    for number, (label, track) in enumerate(result.tracks.items()):
        assert share_of_errors(result, label, truth.talking[number]) < 0.05
        samples, far = track.read(), np.ones(truth.num_samples, bool)
        for turn in result.diarization.label_timeline(label):
            inside = slice(round(turn.start * 1000) + 20, round(turn.end * 1000) - 20)
            np.testing.assert_allclose(samples[inside], microphones[number, inside], atol=1e-6)
            far[max(0, round(turn.start * 1000) - 150) : round(turn.end * 1000) + 150] = False
        np.testing.assert_allclose(samples[far], 0.1 * microphones[number, far], atol=1e-6)


def test_channels_that_say_nothing_give_nobody(oracle: Any) -> None:
    result = separate(oracle, np.zeros((3, 5000)))
    assert (result.tracks, len(result.diarization)) == ({}, 0)
    truth = oracle.conversation(1, 10)
    result = separate(oracle, np.stack([0 * truth.mixture, truth.mixture]))
    assert result.settings["speaker_channels"] == {"SPEAKER_00": 1}


def test_what_cannot_be(oracle: Any) -> None:
    both = np.stack([oracle.conversation(1, 5).mixture] * 2)
    for channels, call, message in (
        (both[:1], {}, "has one channel"),
        (both, {"channel": 1}, "not both"),
        (both, {"num_speakers": 2}, "leave out numbers of speakers"),
    ):
        with pytest.raises(PixitError, match=message):
            separate(oracle, channels, **call)


def test_the_request_says_that_channels_are_speakers(oracle: Any) -> None:
    truth = oracle.conversation(2, 10)
    separator = Separator(
        Hearing(oracle.grid), oracle.Embedder(), SeparationSettings(step_s=0.5), device="cpu"
    )
    audio = {"waveform": truth.sources, "sample_rate": 1000}
    each, best = (separator(audio, channels_are_speakers=flag).settings["request"] for flag in (True, False))
    assert each["call"] == best["call"] | {"channels_are_speakers": ChannelSettings().model_dump()}
    assert "channels" not in best["separation"]  # results of older versions have no such settings


@pytest.mark.parametrize(("fainter_db", "is_own"), [(5, True), (9, True), (11, False), (30, False)])
def test_how_faint_a_voice_may_be_beside_a_louder_channel(fainter_db: float, is_own: bool) -> None:
    """Both talk alone first, equally loud; then both channels hear something, the second one less."""
    powers = np.ones((2, 900), np.float32)
    activities = np.ones((2, 900), np.float32)
    activities[1, :300] = activities[0, 300:600] = 0
    powers[1, :300] = powers[0, 300:600] = 1e-6
    powers[1, 600:] = 10 ** (-fainter_db / 10)
    talking = find_talkers(activities, powers, 0.01, ActivitySettings(), ChannelSettings())
    assert talking[0, :300].all()
    assert talking[1, 300:600].all()
    assert talking[0, 630:].all()
    assert talking[1, 630:].all() == is_own
    assert talking[1, 630:].any() == is_own
