"""Training pairs made on the fly from simulated meetings, and beside real ones: endless."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pixit.audio import Samples
from pixit.data.chunks import ChunkSampler
from pixit.data.pairs import ChunkShape, EpochDataset, Item, activities, read_chunk
from pixit.simulation.simulate import (
    Ingredients,
    Positive,
    Probability,
    Scene,
    SceneSettings,
    draw_gain,
    perform,
    to_integers,
)
from pixit.simulation.voices import Intervals
from pixit.types import PixitError
from pixit.windows import frames_from_intervals

Counts = tuple[tuple[int, int, float], ...]


class PairSettings(SceneSettings):
    """Two simulated chunks of one meeting, in the same room."""

    speaker_counts: Counts = ((1, 1, 0.35), (2, 1, 0.3), (2, 0, 0.15), (1, 0, 0.1), (3, 0, 0.1))
    """Speakers of the one and of the other chunk, and how often; which of the two comes first is drawn.

    ``(0, 0)`` is a pair in which nobody talks: without any, a model hears voices in the noise of a pause.
    """
    full_overlap_probability: Probability = 0.15
    """How often all speakers of a chunk talk all the time, instead of taking turns as in a real meeting."""
    min_talk_s: Positive = 0.3
    """Each speaker of a chunk talks at least so long."""


class SimulatedPairs(EpochDataset):
    """Simulated pairs of chunks without a common speaker, at most K speakers together.

    Items are as `EpochDataset` has them, with reference sources: the speakers of a chunk are the first rows
    of its activities and references, the others are zeros.

    Parameters
    ----------
    ingredients
        Speech, turn-taking, rooms and noises.
    settings
        How the pairs are made.
    shape, items_per_epoch, seed
        As of `pixit.data.pairs.PairDataset`.

    Raises
    ------
    PixitError
        If the settings ask for more than K speakers, for none at all, or for more than the pool has, or the
        speech has another sample rate than `shape`.
    """

    def __init__(
        self,
        ingredients: Ingredients,
        settings: PairSettings,
        shape: ChunkShape,
        items_per_epoch: int,
        seed: int,
    ) -> None:
        pool = ingredients.pool
        if pool.sample_rate_hz != shape.sample_rate_hz:
            raise PixitError(
                f"simulated pairs: found speech at {pool.sample_rate_hz} Hz, expected {shape.sample_rate_hz} Hz"
            )
        _check_counts(settings.speaker_counts, shape.max_speakers, len(pool))
        super().__init__(items_per_epoch, seed)
        self.ingredients, self.settings, self.shape = ingredients, settings, shape
        weights = np.array([weight for *_, weight in settings.speaker_counts])
        self._cumulative = np.cumsum(weights / weights.sum())
        if ingredients.rooms is not None and settings.reverb_probability > 0:
            ingredients.rooms.prepare()  # once, here, and not again in each worker

    def draw(self, rng: np.random.Generator) -> Item:
        """Simulate two chunks."""
        return self.make(self._draw_counts(rng), rng)

    def make(self, counts: tuple[int, int], rng: np.random.Generator) -> Item:
        """Simulate two chunks with so many speakers each."""
        shape = self.shape
        voices = iter(self.ingredients.pool.draw(sum(counts), rng))
        scene = Scene.draw(self.ingredients, sum(counts), self.settings, rng)
        parts = iter(scene.parts)
        references = np.zeros((2, shape.max_speakers, shape.num_samples), dtype=np.float32)
        activities = np.zeros((2, shape.max_speakers, shape.num_frames), dtype=np.float32)
        for chunk, count in enumerate(counts):
            for row, turns in enumerate(self._draw_turns(count, rng)):
                references[chunk, row], speech = perform(
                    next(voices), turns, shape.num_samples, next(parts), shape.sample_rate_hz, rng
                )
                speech_s = (speech / shape.sample_rate_hz).tolist()
                activities[chunk, row] = frames_from_intervals(
                    speech_s, shape.frame_grid, shape.num_frames, shape.sample_rate_hz
                )
        mixtures = references.sum(axis=1) + scene.draw_noise(2, shape.num_samples, rng)
        gain = draw_gain(float(np.abs(mixtures.sum(axis=0)).max()), self.settings, rng)
        return {
            "mixtures": torch.from_numpy(mixtures * gain),
            "activities": torch.from_numpy(activities),
            "references": torch.from_numpy(references * gain),
            "has_references": torch.tensor(True),
        }

    def _draw_counts(self, rng: np.random.Generator) -> tuple[int, int]:
        index = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
        first, second, _ = self.settings.speaker_counts[min(index, len(self._cumulative) - 1)]
        return (first, second) if rng.random() < 0.5 else (second, first)

    def _draw_turns(self, count: int, rng: np.random.Generator) -> list[Intervals]:
        """Draw the turns of `count` speakers, in samples."""
        if rng.random() < self.settings.full_overlap_probability:
            return [np.array([[0, self.shape.num_samples]])] * count
        rate_hz = self.shape.sample_rate_hz
        duration_s = self.shape.num_samples / rate_hz
        excerpt = self.ingredients.turn_taking.excerpt(count, duration_s, rng, self.settings.min_talk_s)
        return [to_integers(turns * rate_hz) for turns in excerpt]


class BesideSimulated(EpochDataset):
    """Pairs of a real chunk and a simulated one, of as many speakers as there is room for; for MixIT, as real pairs.

    Any real chunk will do, whoever talks in the rest of its recording, and no two items are alike: a few minutes of
    real meetings go a long way. Speech is as loud in both, but for ``level_spread_db``, and beside a silent chunk so
    much louder than it as ``snr_db`` says.

    Parameters
    ----------
    chunks
        Where real chunks are drawn from, of less than K speakers: there has to be room for one.
    simulated
        What makes the other ones.
    items_per_epoch, seed
        As of `pixit.data.pairs.PairDataset`.
    """

    def __init__(
        self, chunks: ChunkSampler, simulated: SimulatedPairs, items_per_epoch: int, seed: int
    ) -> None:
        super().__init__(items_per_epoch, seed)
        self.chunks, self.simulated = chunks, simulated

    def draw(self, rng: np.random.Generator) -> Item:
        """Read a real chunk, and simulate one beside it."""
        shape, settings = self.simulated.shape, self.simulated.settings
        chunk = self.chunks.sample(rng)
        free = min(shape.max_speakers - len(chunk.speakers), len(self.simulated.ingredients.pool))
        made = self.simulated.make((int(rng.integers(1, free + 1)), 0), rng)
        real, other = read_chunk(chunk.recording.audio, chunk, shape), made["mixtures"][0].numpy()
        talk = np.stack([activities(chunk, shape), made["activities"][0].numpy()])
        is_silent = not talk[0].any()
        spread_db = rng.uniform(*settings.snr_db) if is_silent else rng.normal(0, settings.level_spread_db)
        levels = _level(real, talk[0], shape), _level(other, talk[1], shape)
        if all(levels):
            other = other * np.float32(levels[0] / levels[1] * 10 ** (spread_db / 20))
        mixtures = np.stack([real, other])
        mixtures *= np.float32(draw_gain(float(np.abs(mixtures.sum(axis=0)).max()), settings, rng))
        return {
            "mixtures": torch.from_numpy(mixtures),
            "activities": torch.from_numpy(talk),
            "references": torch.zeros_like(made["references"]),
            "has_references": torch.tensor(False),
        }


def _level(samples: Samples, talk: NDArray[np.float32], shape: ChunkShape) -> float:
    """Return the root mean square of a chunk (T,) where anybody talks (K, F), or of all of it if nobody does."""
    frames = np.flatnonzero(talk.any(axis=0)) if talk.any() else np.arange(shape.num_frames)
    grid = shape.frame_grid
    # the middles of the outermost frames may lie beyond the chunk, if the model pads it
    centres = [min(max(round(grid.centre_samples(frame)), 0), len(samples) - 1) for frame in frames.tolist()]
    edges = [slice(max(0, at - grid.step_samples // 2), at + (grid.step_samples + 1) // 2) for at in centres]
    return float(np.sqrt(np.mean(np.concatenate([np.square(samples[edge]) for edge in edges]))))


def _check_counts(counts: Counts, max_speakers: int, pool_size: int) -> None:
    for first, second, weight in counts:
        if min(first, second) < 0 or first + second > max_speakers or weight < 0:
            raise PixitError(
                f"speaker_counts: found {first} and {second} speakers with weight {weight}; expected 0 to "
                f"{max_speakers} speakers (the sources of the model) together, and a weight of at least 0"
            )
        if weight > 0 and first + second > pool_size:
            raise PixitError(
                f"speaker_counts: {first + second} speakers asked for, but there is speech of {pool_size}"
            )
    if not any(weight > 0 and first + second > 0 for first, second, weight in counts):
        raise PixitError(
            "speaker_counts: nobody ever talks; expected a weight above 0 for 1 or more speakers"
        )
