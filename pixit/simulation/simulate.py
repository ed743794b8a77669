"""Simulated meetings: dry speech put into the turn-taking of real meetings, in a room, with noise.

A mixture is exactly the sum of its reference sources and its noise. A reference source is the speaker as the
microphone hears him, reverberation included: that is what MixIT separates in real meetings too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from pixit.audio import Samples
from pixit.config import Settings
from pixit.simulation.augmentation import change_formants, change_speed, draw_channel, draw_equaliser
from pixit.simulation.pool import SpeakerPool
from pixit.simulation.rooms import Filter, NoiseBank, RoomBank, measured_rooms, read_noises
from pixit.simulation.turntaking import TurnTaking
from pixit.simulation.voices import (
    SPEECH_DBFS,
    Intervals,
    Voice,
    clip_intervals,
    talk,
)
from pixit.types import Turn


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("expected the lower bound first")
    return bounds


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=86_400)]
Speed = Annotated[float, Field(ge=0.1, le=10)]
Decibels = Annotated[float, Field(ge=-200, le=200)]
NotPositive = Annotated[float, Field(le=0)]
Count = Annotated[int, Field(ge=1, le=1000)]
Range = Annotated[tuple[Decibels, Decibels], AfterValidator(_ordered)]


class SceneSettings(Settings):
    """How a scene sounds: levels, room, noise, channel."""

    level_spread_db: Annotated[float, Field(ge=0, le=100)] = 5.0
    """Each speaker is up to so much louder or softer than the nominal level."""
    noise_probability: Probability = 0.9
    snr_db: Range = (8.0, 30.0)
    """Nominal level of speech over the level of the noise."""
    reverb_probability: Probability = 0.6
    speed_probability: Probability = 0.5
    speed: Annotated[tuple[Speed, Speed], AfterValidator(_ordered)] = (0.9, 1.1)
    timbre_probability: Probability = 0.0
    """How often a voice is made another one: its formants are moved, and it goes through its own equaliser."""
    formants: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)] = (0.85, 1.2)
    """How far its formants are moved."""
    channel_probability: Probability = 0.2
    """How often a telephone band, a low-pass or an equaliser stands between microphone and recording."""
    peak_dbfs: Annotated[tuple[Decibels, NotPositive], AfterValidator(_ordered)] = (-30.0, -1.0)
    """Peak of the finished mixture."""


class MeetingSettings(SceneSettings):
    """A simulated meeting."""

    duration_s: Positive = 120.0
    """Length of a meeting in seconds."""
    num_speakers: Annotated[tuple[Count, Count], AfterValidator(_ordered)] = (2, 4)
    """Fewest and most speakers."""
    min_talk_s: Positive = 2.0
    """Each speaker talks at least so long in the excerpt of real turn-taking."""


@dataclass(frozen=True)
class Ingredients:
    """What meetings are made of; rooms or noises may be left out, then there is no reverberation or noise."""

    pool: SpeakerPool
    turn_taking: TurnTaking
    rooms: RoomBank | None = None
    noises: NoiseBank | None = None

    @classmethod
    def from_folders(
        cls,
        speech: Sequence[Path | str],
        turns: Iterable[Path | str],
        noises: Iterable[Path | str] = (),
        unlabelled_speech: Sequence[Path | str] = (),
        rooms: Iterable[Path | str] = (),
        sample_rate_hz: int = 16000,
        num_rooms: int = 40,
        seed: int = 0,
        cache: Path | None = None,
        unlabelled_share: float | None = None,
    ) -> Ingredients:
        """Read folders of utterances per speaker, RTTM, noises and room responses; files, or folders of them.

        To the measured `rooms` come `num_rooms` simulated ones; see `measured_rooms` for their names. The
        folder `cache` keeps decoded speech and simulated rooms from one run to the next.

        Raises
        ------
        PixitError
            If one of them is missing, unreadable or empty.
        """
        recorded = read_noises(noises, sample_rate_hz)  # mistakes come before the work
        return cls(
            pool=SpeakerPool.from_folders(speech, sample_rate_hz, unlabelled_speech, cache, unlabelled_share),
            turn_taking=TurnTaking.from_rttms(turns),
            rooms=RoomBank(
                num_rooms,
                seed=seed,
                sample_rate_hz=sample_rate_hz,
                cache=cache / f"rooms-{num_rooms}-{seed}.npz" if cache is not None else None,
                measured=measured_rooms(rooms, sample_rate_hz),
            ),
            noises=NoiseBank(recorded, seed=seed),
        )


@dataclass(frozen=True)
class Part:
    """How one speaker sounds in a scene: changes of the voice, gain, and the way to the microphone if not dry."""

    speed: float
    formants: float
    gain: float
    path: Filter | None


@dataclass(frozen=True)
class Scene:
    """A room with its speakers and its noise, drawn once for all chunks of a meeting."""

    parts: list[Part]
    channel: Filter | None
    noise_gain: float
    noises: NoiseBank | None

    @classmethod
    def draw(
        cls, ingredients: Ingredients, num_speakers: int, settings: SceneSettings, rng: np.random.Generator
    ) -> Scene:
        """Draw a scene for `num_speakers`."""
        rate_hz = ingredients.pool.sample_rate_hz
        channel = draw_channel(rate_hz, rng) if rng.random() < settings.channel_probability else None
        paths: list[Filter | None] = [channel] * num_speakers
        if ingredients.rooms is not None and rng.random() < settings.reverb_probability:
            paths = [path.then(channel) for path in ingredients.rooms.draw(num_speakers, rng)]
        parts = []
        for path in paths:
            formants = 1.0
            if settings.timbre_probability > 0 and rng.random() < settings.timbre_probability:
                formants = rng.uniform(*settings.formants)
                path = draw_equaliser(rate_hz, rng).then(path)
            speed = rng.uniform(*settings.speed) if rng.random() < settings.speed_probability else 1.0
            level_db = rng.uniform(-settings.level_spread_db, settings.level_spread_db)
            parts.append(Part(round(speed, 2), formants, 10 ** (level_db / 20), path))
        noisy = ingredients.noises is not None and rng.random() < settings.noise_probability
        noise_gain = 10 ** ((SPEECH_DBFS - rng.uniform(*settings.snr_db)) / 20)
        return cls(parts, channel, noise_gain, ingredients.noises if noisy else None)

    def draw_noise(self, count: int, num_samples: int, rng: np.random.Generator) -> Samples:
        """Draw `count` stretches of the scene's noise, (count, T); zero in a scene without noise."""
        if self.noises is None:
            return np.zeros((count, num_samples), dtype=np.float32)
        stretches = self.noises.draw([num_samples] * count, rng)
        if self.channel is not None:
            stretches = [self.channel(stretch) for stretch in stretches]
        return np.stack(stretches) * np.float32(self.noise_gain)


def perform(
    voice: Voice,
    turns: Intervals,
    num_samples: int,
    part: Part,
    sample_rate_hz: int,
    rng: np.random.Generator,
) -> tuple[Samples, Intervals]:
    """Let a voice talk in its turns as its part of the scene says.

    Returns
    -------
    image, speech
        The speaker as the microphone hears him, (T,), and the samples (n, 2) where the dry speech is active.
    """
    dry_turns = to_integers(turns * part.speed)
    dry, speech = talk(voice, dry_turns, round(num_samples * part.speed), sample_rate_hz, rng)
    signal = np.zeros(num_samples, dtype=np.float32)
    changed = change_speed(dry, part.speed)[:num_samples]
    changed = change_formants(changed, part.formants, sample_rate_hz)
    signal[: len(changed)] = changed * np.float32(part.gain)
    if part.path is not None:
        signal = part.path(signal)
    return signal, clip_intervals(to_integers(speech / part.speed), 0, num_samples)


def to_integers(places: NDArray[np.floating]) -> Intervals:
    """Round places in samples."""
    return np.round(places).astype(np.int64)


def draw_gain(loudest: float, settings: SceneSettings, rng: np.random.Generator) -> np.float32:
    """Draw the gain that brings a peak of `loudest` to the wanted level; 1 for silence."""
    peak = 10 ** (rng.uniform(*settings.peak_dbfs) / 20)
    return np.float32(peak / loudest if loudest > 0 else 1.0)


@dataclass(frozen=True)
class SimulatedMeeting:
    """A simulated meeting; ``references.sum(axis=0) + noise`` is ``mixture``.

    Parameters
    ----------
    mixture, noise
        What the microphone hears, and the noise in it, (T,).
    references, speakers
        Each speaker as the microphone hears him, (N, T), and the names.
    turns
        Who spoke when, ordered by start: where the dry speech is active, pauses under 0.3 s bridged.
    """

    mixture: Samples
    references: Samples
    noise: Samples
    turns: tuple[Turn, ...]
    speakers: tuple[str, ...]
    sample_rate_hz: int


def simulate_meeting(
    ingredients: Ingredients, settings: MeetingSettings, rng: np.random.Generator
) -> SimulatedMeeting:
    """Make one meeting.

    Raises
    ------
    PixitError
        If the pool has too few speakers, or no real meeting is as long as the wanted one.
    """
    rate_hz = ingredients.pool.sample_rate_hz
    num_samples = round(settings.duration_s * rate_hz)
    num_speakers = int(rng.integers(settings.num_speakers[0], settings.num_speakers[1], endpoint=True))
    voices = ingredients.pool.draw(num_speakers, rng)
    excerpt = ingredients.turn_taking.excerpt(num_speakers, settings.duration_s, rng, settings.min_talk_s)
    scene = Scene.draw(ingredients, num_speakers, settings, rng)
    references = np.zeros((num_speakers, num_samples), dtype=np.float32)
    turns: list[Turn] = []
    for row, voice, part, seconds in zip(references, voices, scene.parts, excerpt, strict=True):
        row[:], speech = perform(voice, to_integers(seconds * rate_hz), num_samples, part, rate_hz, rng)
        # The end of the meeting may leave a sliver of speech that RTTM would round to nothing.
        long_enough = speech[speech[:, 1] - speech[:, 0] > 0.01 * rate_hz]
        turns += [Turn(start / rate_hz, end / rate_hz, voice.speaker) for start, end in long_enough.tolist()]
    noise = scene.draw_noise(1, num_samples, rng)[0]
    mixture = references.sum(axis=0) + noise
    # A reference can be louder than the mixture where speakers cancel: nothing may clip.
    gain = draw_gain(float(max(np.abs(mixture).max(), np.abs(references).max())), settings, rng)
    return SimulatedMeeting(
        mixture=mixture * gain,
        references=references * gain,
        noise=noise * gain,
        turns=tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker))),
        speakers=tuple(voice.speaker for voice in voices),
        sample_rate_hz=rate_hz,
    )
