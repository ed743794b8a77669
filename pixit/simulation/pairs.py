"""Training pairs made on the fly from simulated meetings: endless, and with reference sources."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pixit.data.dataset import ChunkShape, Item
from pixit.simulation.simulate import (
    Ingredients,
    Positive,
    Probability,
    Scene,
    SceneSettings,
    draw_gain,
    perform,
    to_samples,
)
from pixit.simulation.voices import Intervals
from pixit.types import PixitError
from pixit.windows import frames_from_intervals


class PairSettings(SceneSettings):
    """Two simulated chunks of one meeting, in the same room."""

    speaker_counts: tuple[tuple[int, int, float], ...] = (
        (1, 1, 0.35),
        (2, 1, 0.3),
        (2, 0, 0.15),
        (1, 0, 0.1),
        (3, 0, 0.1),
    )
    """Speakers of the one and of the other chunk, and how often; which of the two comes first is drawn."""
    full_overlap_probability: Probability = 0.15
    """How often all speakers of a chunk talk all the time, instead of taking turns as in a real meeting."""
    min_talk_s: Positive = 0.3
    """Each speaker of a chunk talks at least so long."""


class SimulatedPairs(Dataset[Item]):
    """Simulated pairs of chunks without a common speaker, at most K speakers together.

    The items are as those of `pixit.data.dataset.PairDataset`, with reference sources: item `index` depends on
    the seed, the epoch and `index` only, and holds ``mixtures`` (2, T), the two chunks; ``activities``
    (2, K, F), the speakers of the chunk in the first rows, then zeros; ``references`` (2, K, T) in the same
    rows; and ``has_references`` (), which is true.

    Parameters
    ----------
    ingredients
        Speech, turn-taking, rooms and noises.
    settings
        How the pairs are made.
    shape
        T, K, F and how they relate.
    items_per_epoch
        Number of items.
    seed
        Seed of all that is random here.

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
        self.ingredients, self.settings, self.shape, self.seed = ingredients, settings, shape, seed
        self._items_per_epoch = items_per_epoch
        weights = np.array([weight for *_, weight in settings.speaker_counts])
        self._cumulative = np.cumsum(weights / weights.sum())
        # Shared memory: workers that outlive an epoch see the next one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        if ingredients.rooms is not None and settings.reverb_probability > 0:
            ingredients.rooms.prepare()  # once, here, and not again in each worker

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; another epoch gives other pairs."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self._items_per_epoch

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._items_per_epoch:
            raise IndexError(f"item {index} of {self._items_per_epoch}")
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        shape = self.shape
        counts = self._draw_counts(rng)
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
                activities[chunk, row] = self._to_frames(speech)
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
        return [to_samples(turns, rate_hz) for turns in excerpt]

    def _to_frames(self, speech: Intervals) -> NDArray[np.bool_]:
        rate_hz = self.shape.sample_rate_hz
        return frames_from_intervals(
            (speech / rate_hz).tolist(), self.shape.frame_grid, self.shape.num_frames, rate_hz
        )


def _check_counts(counts: tuple[tuple[int, int, float], ...], max_speakers: int, pool_size: int) -> None:
    for first, second, weight in counts:
        if min(first, second) < 0 or not 1 <= first + second <= max_speakers or weight < 0:
            raise PixitError(
                f"speaker_counts: found {first} and {second} speakers with weight {weight}; expected 1 to "
                f"{max_speakers} speakers (the sources of the model) together, and a weight of at least 0"
            )
        if weight > 0 and first + second > pool_size:
            raise PixitError(
                f"speaker_counts: {first + second} speakers asked for, but there is speech of {pool_size}"
            )
    if not any(weight > 0 for *_, weight in counts):
        raise PixitError("speaker_counts: found no weight above 0, expected at least one")
