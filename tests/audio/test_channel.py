"""The best channel: speech in one, and every kind of trouble in the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from pixit.audio import AudioFile, MemoryAudio, Samples, open_audio, recording
from pixit.audio.signals import best_channel
from pixit.types import PixitError

RATE_HZ = 16000
MEETING = Path(__file__).resolve().parents[2] / "examples" / "meeting.flac"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return AudioFile(MEETING, RATE_HZ).read()


def worse(speech: np.ndarray, trouble: str) -> np.ndarray:
    """A channel with the same speech, but."""
    rng = np.random.default_rng(0)
    level = speech.std()
    if trouble == "silent":
        return np.zeros_like(speech)
    if trouble == "nothing but noise":
        return rng.normal(0, 3 * level, len(speech)).astype(np.float32)
    if trouble == "nothing but soft noise":
        return rng.normal(0, 1e-3 * level, len(speech)).astype(np.float32)
    if trouble == "nothing but hum":
        return (level * np.sin(2 * np.pi * 100 * np.arange(len(speech)) / RATE_HZ)).astype(np.float32)
    if trouble == "noisy":
        return speech + rng.normal(0, 0.3 * level, len(speech)).astype(np.float32)
    if trouble == "noisy and louder":
        return 5 * worse(speech, "noisy")
    if trouble == "reverberant":
        tail = rng.normal(size=RATE_HZ // 2) * np.exp(-np.arange(RATE_HZ // 2) / (0.15 * RATE_HZ))
        return np.convolve(speech, tail)[: len(speech)].astype(np.float32)
    return np.where(np.arange(len(speech)) == 100, np.nan, speech).astype(np.float32)


TROUBLES = [
    *(
        "silent",
        "nothing but noise",
        "nothing but soft noise",
        "nothing but hum",
        "noisy",
        "noisy and louder",
    ),
    *("reverberant", "not a number"),
]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("place", [0, 1])
def test_the_channel_with_trouble_is_not_taken(speech: np.ndarray, trouble: str, place: int) -> None:
    channels = [speech, worse(speech, trouble)]
    audio = MemoryAudio(np.stack(channels if place else channels[::-1]), RATE_HZ, channel="best")
    assert audio.channel == 1 - place
    np.testing.assert_array_equal(audio.read(), speech)


@pytest.mark.parametrize("gain", [1.0, -1.0, 0.03])
@pytest.mark.parametrize("delay", [0, 5, 160])
def test_channels_as_good_as_each_other_give_the_first(speech: np.ndarray, gain: float, delay: int) -> None:
    other = gain * np.roll(speech, delay)
    for pair in ([speech, other], [other, speech]):
        audio = MemoryAudio(np.stack(pair), RATE_HZ, channel="best")
        assert audio.channel == 0
        np.testing.assert_array_equal(audio.read(), pair[0])


@pytest.mark.parametrize("num_samples", [1, 2, 100, 511, 5000])
@pytest.mark.parametrize("rate_hz", [50, 1000, 16000])
def test_the_shortest_recordings_have_a_best_channel(num_samples: int, rate_hz: int) -> None:
    silence = np.zeros((num_samples, 3), np.float32)
    assert best_channel([silence], rate_hz) == 0


def test_a_long_recording_is_measured_here_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Samples] = []

    def measure(blocks: Iterable[Samples], sample_rate_hz: int) -> int:
        measured.extend(blocks)
        return 1

    monkeypatch.setattr(recording, "best_channel", measure)
    seconds = np.repeat(np.arange(3600, dtype=np.float32), 100)
    audio = MemoryAudio(np.stack([seconds, seconds]), 100, channel="best")
    assert (audio.channel, audio.at(50).channel, audio.channel) == (1, 1, 1)
    assert 150 <= len(measured) <= 300  # and once only
    assert np.diff([block[0, 0] for block in measured]).max() <= 24


def test_what_is_asked_for(speech: np.ndarray) -> None:
    both = np.stack([worse(speech, "noisy"), speech])
    given = {"waveform": both, "sample_rate": RATE_HZ}
    assert open_audio(given).channel == open_audio(given, channel="mean").channel == "mean"
    assert open_audio(given).asked_channel is None
    assert open_audio({**given, "channel": "best"}).channel == 1
    assert open_audio({**given, "channel": "best"}, channel=0).channel == 0
    np.testing.assert_allclose(open_audio(given, channel="mean").read(), both.mean(axis=0), atol=1e-6)
    assert open_audio({"waveform": speech[None], "sample_rate": RATE_HZ}, channel="mean").channel == 0
    with pytest.raises(PixitError, match="has no channel worst; expected one of 0 to 1, best or mean"):
        open_audio(given, channel="worst")  # type: ignore[arg-type]
