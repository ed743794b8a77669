"""Augmented crops: labels, weights, levels, and that a seed determines everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixit.simulation.pool import SpeakerPool
from pixit.simulation.rooms import Filter, NoiseBank, RoomBank
from pixit.training.crops import CropSampler, CropSettings, at_level, augment, draw_activity
from pixit.types import LocalOutput, PixitError

RATE_HZ = 16000
PLAIN = {
    "partial_probability": 0,
    "reverberation_probability": 0,
    "separated_probability": 0,
    "leakage_sir_db": (200, 200),
    "noise_probability": 0,
    "channel_probability": 0,
}


def tone(frequency_hz: float, seconds: float = 4.0) -> NDArray[np.float32]:
    """A tone that is silent in every fourth second."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.1 * np.sin(2 * np.pi * frequency_hz * time_s) * (time_s % 4 < 3)).astype(np.float32)


@pytest.fixture(scope="module")
def noises() -> NoiseBank:
    return NoiseBank(num_generated=2)


@pytest.fixture(scope="module")
def voices() -> SpeakerPool:
    return SpeakerPool.from_utterances({f"{hz} Hz": [tone(hz, 8)] for hz in (400, 1000, 2500)}, RATE_HZ)


def draw(voices: SpeakerPool, noises: NoiseBank, seed: int = 0, **changes: object):
    settings = CropSettings.model_validate({"batch_size": 6, **changes})
    return CropSampler(voices, None, noises, settings).batch(np.random.default_rng(seed))


def loudest_hz(waveform: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(np.fft.rfftfreq(len(waveform), 1 / RATE_HZ)[spectrum.argmax()])


def test_labels_tell_speaker_and_speed(voices: SpeakerPool, noises: NoiseBank) -> None:
    speeds = (0.8, 1.0, 1.25)
    batch = draw(voices, noises, speeds=speeds, speed_jitter=0, length_s=(1, 1), **PLAIN)
    pitches_hz = [float(voice.speaker.removesuffix(" Hz")) for voice in voices.voices]
    assert sorted(int(label) // 3 for label in batch.labels) == [0, 0, 1, 1, 2, 2]
    assert batch.labels[0::2].equal(batch.labels[1::2])  # pairs of one voice
    for waveform, label in zip(batch.waveforms.numpy(), batch.labels, strict=True):
        speaker, speed = divmod(int(label), 3)
        assert loudest_hz(waveform) == pytest.approx(pitches_hz[speaker] * speeds[speed], rel=0.02)


def test_weights_lie_on_the_speech(voices: SpeakerPool, noises: NoiseBank) -> None:
    batch = draw(voices, noises, length_s=(2, 2), **PLAIN)
    assert batch.waveforms.shape == (6, 2 * RATE_HZ)
    assert batch.weights.shape == (6, 200)
    energy = batch.waveforms.square().reshape(6, 200, 160).mean(2)
    assert (batch.weights.sum(1) > 0).all()
    # frames with a weight hold the tone, the others almost nothing; some at each edge are forgiven
    assert ((energy > 1e-4).float() - batch.weights).abs().sum(1).max() <= 10


def test_the_seed_tells_all(voices: SpeakerPool, noises: NoiseBank) -> None:
    first, again, other = (draw(voices, noises, seed) for seed in (1, 1, 2))
    assert first.waveforms.equal(again.waveforms)
    assert first.weights.equal(again.weights)
    assert first.labels.equal(again.labels)
    assert first.waveforms.shape != other.waveforms.shape or not first.waveforms.equal(other.waveforms)


def test_everything_stays_finite(voices: SpeakerPool, noises: NoiseBank) -> None:
    for seed in range(5):
        batch = draw(voices, noises, seed)
        assert batch.waveforms.isfinite().all()
        assert (batch.weights.sum(1) > 0).all()


def test_rooms_are_heard(voices: SpeakerPool, noises: NoiseBank) -> None:
    class Amplifier(RoomBank):
        def __init__(self, gain: float) -> None:
            self.gain = gain

        def draw(self, num_speakers: int, rng: np.random.Generator) -> list[Filter]:
            return [Filter(np.array([0, self.gain], np.float32), 1)] * num_speakers

    settings = CropSettings.model_validate({**PLAIN, "batch_size": 4, "reverberation_probability": 1})
    dry, wet = (
        CropSampler(voices, Amplifier(gain), noises, settings).batch(np.random.default_rng(0)).waveforms
        for gain in (1.0, 2.0)
    )
    torch.testing.assert_close(wet, 2 * dry, rtol=1e-3, atol=1e-5)


def test_a_meeting_is_in_one_room_and_channel(voices: SpeakerPool, noises: NoiseBank) -> None:
    asked: list[int] = []

    class Rooms(RoomBank):
        def __init__(self) -> None:
            pass

        def draw(self, num_speakers: int, rng: np.random.Generator) -> list[Filter]:
            asked.append(num_speakers)
            return [Filter(np.array([1], np.float32), 0)] * num_speakers

    many = {"reverberation_probability": 1, "channel_probability": 1, "session_probability": 1}
    settings = CropSettings.model_validate({**PLAIN, "batch_size": 6, "length_s": (1, 1), **many})
    found = [
        CropSampler(voices, Rooms(), noises, settings).batch(np.random.default_rng(0), severity)
        for severity in (0.0, 1.0)
    ]
    assert asked == [12]  # a place for each speaker, and for each intruder
    dry, heard = (batch.waveforms.numpy() for batch in found)
    levels = [np.std(row) for row in heard] / np.std(dry, axis=1)
    assert dry.shape == heard.shape
    np.testing.assert_allclose(levels[0::2], levels[1::2], rtol=0.1)  # the same tone through the same channel
    assert np.ptp(levels) > 0.05


def test_severity_makes_augmentations_rarer() -> None:
    settings = CropSettings().milder(0.5)
    assert settings.noise_probability == CropSettings().noise_probability / 2
    assert settings.partial_probability == CropSettings().partial_probability


def test_one_speaker_is_too_few(noises: NoiseBank) -> None:
    with pytest.raises(PixitError, match="two or more"):
        CropSampler(SpeakerPool.from_utterances({"a": [tone(400)]}, RATE_HZ), None, noises, CropSettings())


def ratio_db(target: NDArray[np.float32], mixed: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.sum(target**2) / np.sum((mixed - target) ** 2)))


@pytest.mark.parametrize("sir_db", [0.0, 12.0])
def test_leakage_has_the_level_asked_for(sir_db: float) -> None:
    targets, intruders = tone(400)[None], tone(1000)[None]
    settings = CropSettings.model_validate({**PLAIN, "leakage_sir_db": (sir_db, sir_db)})
    mixed = augment(targets, intruders, intruders, settings, RATE_HZ, np.random.default_rng(0))
    assert ratio_db(targets[0], mixed[0]) == pytest.approx(sir_db, abs=0.1)


def test_separation_removes_most_of_the_intruder() -> None:
    targets, intruders = tone(400)[None], tone(1000)[None]
    settings = CropSettings.model_validate({**PLAIN, "separated_probability": 1, "separated_sir_db": (0, 0)})
    mixed = augment(targets, intruders, intruders, settings, RATE_HZ, np.random.default_rng(0))
    assert 10 < ratio_db(targets[0], mixed[0]) < 80


def test_levels_by_hand() -> None:
    scaled = at_level(np.full((2, 10), 3, np.float32), np.array([4.0, 4.0]), np.array([0.0, np.inf]))
    np.testing.assert_allclose(scaled, [[2] * 10, [0] * 10], rtol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 30, 100])
def test_activity_is_never_empty(num_frames: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        active = draw_activity(num_frames, 1.0, rng)
        assert set(active) <= {0, 1}
        assert active.sum() >= min(40, num_frames)


def test_formants_make_classes_of_their_own(voices: SpeakerPool, noises: NoiseBank) -> None:
    settings = CropSettings.model_validate(
        {**PLAIN, "batch_size": 6, "speeds": (1.0, 1.25), "formants": (1.0, 1.2), "speed_jitter": 0}
    )
    sampler = CropSampler(voices, None, noises, settings)
    assert sampler.num_classes == 12
    labels = torch.cat([sampler.batch(np.random.default_rng(seed)).labels for seed in range(30)])
    assert set(labels.tolist()) == set(range(12))


def test_what_is_separated_went_through_the_model(voices: SpeakerPool, noises: NoiseBank) -> None:
    """A model that gives low and high tones apart: the target's own output is taken, without the intruder."""

    class Splitter:
        def __call__(self, waveforms: torch.Tensor) -> LocalOutput:
            spectra = torch.fft.rfft(waveforms)
            bins = torch.fft.rfftfreq(waveforms.shape[-1], 1 / RATE_HZ)
            edges = [(0, 700), (700, 1700), (1700, 9000)]
            bands = [spectra * ((low <= bins) & (bins < high)) for low, high in edges]
            sources = torch.cat([torch.fft.irfft(band, waveforms.shape[-1]) for band in bands], 1)
            return LocalOutput(torch.zeros(len(sources), 3, 1), sources)

    settings = CropSettings.model_validate(
        {**PLAIN, "batch_size": 6, "separated_probability": 1, "separated_sir_db": (-3, -3), "speeds": (1.0,)}
    )
    batch = CropSampler(voices, None, noises, settings, Splitter()).batch(np.random.default_rng(0))  # type: ignore[arg-type]
    pitches_hz = [float(voice.speaker.removesuffix(" Hz")) for voice in voices.voices]
    for waveform, label in zip(batch.waveforms.numpy(), batch.labels, strict=True):
        spectrum = np.abs(np.fft.rfft(waveform)) ** 2
        frequencies = np.fft.rfftfreq(len(waveform), 1 / RATE_HZ)
        own = np.abs(frequencies - pitches_hz[int(label)]) < 0.1 * pitches_hz[int(label)]
        assert spectrum[own].sum() > 0.9 * spectrum.sum()
