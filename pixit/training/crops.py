"""Crops of speech for the training of the speaker embedder, augmented to sound like separated speech."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pixit.config import Settings
from pixit.models.embedders.resnet import STEP_S
from pixit.simulation.augmentation import change_formants, change_speed, draw_channel
from pixit.simulation.pool import SpeakerPool
from pixit.simulation.rooms import NoiseBank, RoomBank
from pixit.types import LocalModel, PixitError

Signal = NDArray[np.float32]


class CropSettings(Settings):
    """What is cut, and how it is changed before the network hears it; probabilities are per crop."""

    batch_size: int = Field(48, ge=4, multiple_of=2, description="crops in a batch, two a speaker")
    length_s: tuple[float, float] = Field((1.0, 3.0), description="range of their length")
    speeds: tuple[float, ...] = Field(
        (0.87, 1.0, 1.13),
        min_length=1,
        description="every speaker at every speed is a class: another pitch and vocal tract, another voice",
    )
    formants: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="the same with the formants moved, the pitch as it is"
    )
    speed_jitter: float = Field(0.02, ge=0, lt=1, description="random change of the speed within a class")
    partial_probability: float = Field(
        0.5, ge=0, le=1, description="crops in which the speaker talks, and weights count, only at times"
    )
    reverberation_probability: float = Field(0.5, ge=0, le=1, description="crops heard in a room")
    separated_probability: float = Field(
        0.5, ge=0, le=1, description="crops that went through the mask of an imperfect separation"
    )
    separated_sir_db: tuple[float, float] = Field((-3.0, 15.0), description="speech to intruder before it")
    leakage_sir_db: tuple[float, float] = Field((5.0, 25.0), description="the same in all other crops")
    noise_probability: float = Field(0.7, ge=0, le=1, description="crops with noise")
    noise_snr_db: tuple[float, float] = Field((5.0, 30.0), description="speech to noise")
    channel_probability: float = Field(0.7, ge=0, le=1, description="crops through a telephone or the like")
    session_probability: float = Field(
        0.0,
        ge=0,
        le=1,
        description="batches of one meeting: in one room, noise and channel, so that only voices tell speakers apart",
    )

    def milder(self, severity: float) -> CropSettings:
        """Return settings under which augmentations are `severity` (0 to 1) times as frequent."""
        names = ("reverberation", "separated", "noise", "channel")
        scaled = {f"{name}_probability": severity * getattr(self, f"{name}_probability") for name in names}
        return self.model_copy(update=scaled)


@dataclass(frozen=True)
class Batch:
    """Crops (B, T), the weights of their 10 ms frames (B, F), and class labels (B,)."""

    waveforms: Tensor
    weights: Tensor
    labels: Tensor


class CropSampler:
    """Draw batches of augmented crops of at least two voices; the same generator draws the same batch.

    With a `model` the crops that are separated went through it; else the separation is imitated.
    """

    def __init__(
        self,
        voices: SpeakerPool,
        rooms: RoomBank | None,
        noises: NoiseBank,
        settings: CropSettings,
        model: LocalModel | None = None,
    ) -> None:
        if len(voices) < 2:
            raise PixitError(f"speech: found {len(voices)} speaker, expected two or more")
        self.pool, self.sample_rate_hz = voices, voices.sample_rate_hz
        self.rooms, self.noises, self.settings, self.model = rooms, noises, settings, model
        self.kinds = [(speed, formants) for speed in settings.speeds for formants in settings.formants]

    @property
    def num_classes(self) -> int:
        """Speakers times speeds times formants."""
        return len(self.pool.voices) * len(self.kinds)

    def batch(self, rng: np.random.Generator, severity: float = 1.0) -> Batch:
        """Draw crops of one length: pairs of one speaker, rows 2 i and 2 i + 1, of different speakers.

        Where there are too few speakers, the batch is smaller than asked for.
        `severity` between 0 and 1 makes augmentations that much rarer.
        """
        settings = self.settings.milder(severity)
        size = min(len(self.pool), settings.batch_size // 2)
        speakers = self.pool.draw_places(size, rng).repeat(2)
        kinds = rng.integers(len(self.kinds), size=size).repeat(2)
        step = round(STEP_S * self.sample_rate_hz)
        num_frames = round(rng.uniform(*settings.length_s) / STEP_S)
        targets, intruders = np.zeros((2, len(speakers), num_frames * step), np.float32)
        weights = np.zeros((len(speakers), num_frames), np.float32)
        for row, speaker in enumerate(speakers):
            other = (speaker + rng.integers(1, len(self.pool.voices))) % len(self.pool.voices)
            another = int(rng.integers(len(self.kinds)))
            active = draw_activity(num_frames, settings.partial_probability, rng)
            target, speech = self._talk(int(speaker), int(kinds[row]), num_frames, rng)
            intruder, _ = self._talk(int(other), another, num_frames, rng)
            weights[row] = active * speech if np.any(active * speech) else speech
            targets[row], intruders[row] = target * np.repeat(weights[row], step), intruder
        if rng.random() < severity * settings.session_probability:
            waveforms = self._in_a_meeting(targets, intruders, settings, rng)
        else:
            waveforms = self._anywhere(targets, intruders, settings, rng)
        labels = torch.as_tensor(speakers * len(self.kinds) + kinds)
        return Batch(torch.from_numpy(waveforms), torch.from_numpy(weights), labels)

    def _anywhere(
        self, targets: Signal, intruders: Signal, settings: CropSettings, rng: np.random.Generator
    ) -> Signal:
        """Augment targets and intruders (B, T), each row in a room, noise and channel of its own."""
        noises = np.zeros_like(targets)
        for row in range(len(targets)):
            if self.rooms is not None and rng.random() < settings.reverberation_probability:
                places = self.rooms.draw(2, rng)
                targets[row], intruders[row] = places[0](targets[row]), places[1](intruders[row])
            noises[row] = self.noises.draw([targets.shape[1]], rng)[0]
        return augment(targets, intruders, noises, settings, self.sample_rate_hz, rng, self.model)

    def _in_a_meeting(
        self, targets: Signal, intruders: Signal, settings: CropSettings, rng: np.random.Generator
    ) -> Signal:
        """Augment targets and intruders (B, T) in one room, one noise and one channel, if in any."""
        size, num_samples = targets.shape
        if self.rooms is not None and rng.random() < settings.reverberation_probability:
            places = self.rooms.draw(2 * size, rng)
            targets = np.stack([place(row) for place, row in zip(places[:size], targets, strict=True)])
            intruders = np.stack([place(row) for place, row in zip(places[size:], intruders, strict=True)])
        noises = np.stack(self.noises.draw([num_samples] * size, rng))
        has_channel = rng.random() < settings.channel_probability
        settings = settings.model_copy(update={"channel_probability": 0.0})
        mixed = augment(targets, intruders, noises, settings, self.sample_rate_hz, rng, self.model)
        if not has_channel:
            return mixed
        channel = draw_channel(self.sample_rate_hz, rng)
        return np.stack([channel(row) for row in mixed])

    def _talk(
        self, speaker: int, kind: int, num_frames: int, rng: np.random.Generator
    ) -> tuple[Signal, Signal]:
        """Return a stretch of talk (T,), and per frame whether it is speech (F,)."""
        step, voice = round(STEP_S * self.sample_rate_hz), self.pool.voices[speaker]
        speed, formants = self.kinds[kind]
        speed *= rng.uniform(1 - self.settings.speed_jitter, 1 + self.settings.speed_jitter)
        source, stretches = voice.cut(voice.draw_middle(rng), math.ceil((num_frames + 1) * step * speed))
        speech = np.zeros(num_frames, np.float32)
        for start, end in np.round(stretches / (speed * step)).astype(int):
            speech[start:end] = 1
        if not speech.any():
            speech[0] = 1
        changed = change_speed(source, speed)[: num_frames * step]
        return change_formants(changed, formants, self.sample_rate_hz), speech


def draw_activity(num_frames: int, partial_probability: float, rng: np.random.Generator) -> Signal:
    """Draw when the speaker talks, as 0 and 1: always, or in one or two stretches of 0.4 s and more."""
    if rng.random() >= partial_probability:
        return np.ones(num_frames, np.float32)
    active = np.zeros(num_frames, np.float32)
    for _ in range(rng.integers(1, 3)):
        length = rng.integers(min(40, num_frames), num_frames + 1)
        start = rng.integers(num_frames - length + 1)
        active[start : start + length] = 1
    return active


def augment(
    targets: Signal,
    intruders: Signal,
    noises: Signal,
    settings: CropSettings,
    sample_rate_hz: int,
    rng: np.random.Generator,
    model: LocalModel | None = None,
) -> Signal:
    """Mix targets (B, T) with intruders and noise, separate some of them, and filter some."""
    size = len(targets)
    separated = rng.random(size) < settings.separated_probability
    sir_db = np.where(
        separated, rng.uniform(*settings.separated_sir_db, size), rng.uniform(*settings.leakage_sir_db, size)
    )
    noisy = rng.random(size) < settings.noise_probability
    snr_db = np.where(noisy, rng.uniform(*settings.noise_snr_db, size), np.inf)
    exponents = rng.uniform(0.5, 1.0, size).astype(np.float32)
    power = np.square(targets).mean(1)
    rest = at_level(intruders, power, sir_db) + at_level(noises, power, snr_db)
    mixed = targets + rest
    if separated.any():
        chosen = targets[separated], rest[separated]
        mixed[separated] = separate(*chosen, model) if model else imitate(*chosen, exponents[separated])
    for row in np.flatnonzero(rng.random(size) < settings.channel_probability):
        mixed[row] = draw_channel(sample_rate_hz, rng)(mixed[row])
    return mixed


def separate(targets: Signal, rest: Signal, model: LocalModel) -> Signal:
    """Return the source most like its target, of what `model` makes of targets and the rest, all (B, T)."""
    with torch.inference_mode():
        sources = model(torch.from_numpy(targets + rest).unsqueeze(1)).sources.float().cpu()  # (B, K, T)
    likeness = (sources * torch.from_numpy(targets).unsqueeze(1)).sum(-1) / (sources.norm(dim=-1) + 1e-8)
    best = likeness.abs().argmax(1)
    return np.asarray(sources[torch.arange(len(sources)), best].numpy(), np.float32)


def imitate(targets: Signal, rest: Signal, exponents: Signal) -> Signal:
    """Separate targets from the rest, both (B, T), as imperfectly as a network may.

    By the ratio mask of the true spectra, ``(S / (S + N)) ** exponent``, with exponents (B,) between 0.5 and 1:
    what leaks, and what is cut out, lies where a real mask errs as well.
    """
    window = torch.hann_window(512)
    speech, others = (
        torch.stft(torch.from_numpy(signals), 512, 128, window=window, return_complex=True)
        for signals in (targets, rest)
    )
    speech_power, other_power = speech.abs().square(), others.abs().square()
    mask = (speech_power / (speech_power + other_power + 1e-9)) ** torch.from_numpy(exponents)[:, None, None]
    found = torch.istft(mask * (speech + others), 512, 128, window=window, length=targets.shape[1])
    return np.asarray(found.numpy(), np.float32)


def at_level(signals: Signal, power: Signal, ratio_db: NDArray[np.float64]) -> Signal:
    """Scale signals (B, T) to be `ratio_db` below `power`, both (B,)."""
    own_power = np.square(signals).mean(1) + 1e-12
    gains = np.sqrt(power / own_power) * 10 ** (-ratio_db / 20)
    return signals * gains[:, None].astype(np.float32)
