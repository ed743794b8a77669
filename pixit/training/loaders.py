"""From settings to batches: real pairs, simulated pairs, or both in one batch; resumable at any step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pydantic import Field
from torch.utils.data import DataLoader, Dataset, Sampler

from pixit.config import Settings
from pixit.data.database import load_recordings
from pixit.data.dataset import ChunkShape, Item, PairDataset
from pixit.data.pairs import PairSampler
from pixit.data.simulate import Ingredients
from pixit.data.simulated_pairs import PairSettings, SimulatedPairs
from pixit.types import LocalModel, PixitError


class SimulationSettings(Settings):
    """Pairs made on the fly, in training and (from other speakers) in validation."""

    speech: Path = Field(description="folder of one folder of utterances per speaker")
    validation_speech: Path = Field(description="the same, of speakers who are not in `speech`")
    turn_taking: tuple[Path, ...] = Field(description="RTTM files or folders of real meetings")
    noise: tuple[Path, ...] = Field((), description="recordings of noise")
    num_rooms: int = Field(60, ge=1, description="rooms with simulated reverberation")
    room_cache: Path | None = Field(None, description=".npz file that keeps the rooms between runs")
    pairs: PairSettings = PairSettings()


class DataSettings(Settings):
    """What a batch is made of."""

    duration_s: float = Field(5.0, gt=0, description="length of a chunk in seconds")
    batch_size: int = Field(8, ge=1, description="pairs in a batch of one device; each gives three mixtures")
    pairs_per_epoch: int = Field(4000, ge=1, description="pairs between two validations")
    validation_pairs: int = Field(200, ge=1, description="pairs to validate on, always the same")
    num_workers: int = Field(4, ge=0, description="processes that prepare batches")
    real_share: float = Field(0.5, ge=0, le=1, description="share of real pairs where both kinds are given")
    simulation: SimulationSettings | None = None


class MixedPairs(Dataset[Item]):
    """Several datasets as one: which of them gives an item is drawn from the seed, the epoch and the index."""

    def __init__(self, parts: Sequence[Any], weights: Sequence[float], seed: int) -> None:
        self.parts, self.seed = parts, seed
        self.weights = np.asarray(weights) / np.sum(weights)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the items of `epoch`."""
        self._epoch.fill_(epoch)
        for part in self.parts:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        return self.parts[rng.choice(len(self.parts), p=self.weights)][index]


class ResumableSampler(Sampler[int]):
    """The items of one process in order, without the first `skip` ones in the first pass.

    Which items an epoch has is the dataset's affair, so `set_epoch` (which Lightning calls) is handed on.
    """

    def __init__(self, dataset: Any, rank: int, world_size: int, skip: int = 0) -> None:
        self.dataset, self.rank, self.world_size, self.skip = dataset, rank, world_size, skip

    def set_epoch(self, epoch: int) -> None:
        """Choose the items of `epoch`."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset) // self.world_size

    def __iter__(self) -> Iterator[int]:
        first, self.skip = self.skip, 0
        for position in range(first, len(self)):
            yield position * self.world_size + self.rank


class PairData(pl.LightningDataModule):
    """Training and validation batches for one model.

    Parameters
    ----------
    model
        Gives the geometry: sample rate, frames, number of speakers.
    settings
        What a batch is made of.
    database, protocol
        Real meetings, as a pyannote.database protocol; both None to train on simulated pairs alone.
    seed
        Seed of all that is random here.

    Raises
    ------
    PixitError
        If neither real nor simulated meetings are given, or one of them is unfit.
    """

    def __init__(
        self,
        model: LocalModel,
        settings: DataSettings,
        database: Path | None,
        protocol: str | None,
        seed: int,
    ) -> None:
        super().__init__()
        if database is None and protocol is None and settings.simulation is None:
            raise PixitError(
                "no training data: give --database with a database.yml, or data.simulation in the config"
            )
        num_samples = round(settings.duration_s * model.sample_rate_hz)
        self.shape = ChunkShape(
            sample_rate_hz=model.sample_rate_hz,
            num_samples=num_samples,
            frame_grid=model.frame_grid,
            num_frames=model.num_frames(num_samples),
            max_speakers=model.num_speakers,
        )
        self.settings, self.seed = settings, seed
        self.real = database is not None or protocol is not None
        self.database, self.protocol = database, protocol
        self.reports: list[str] = []
        self.skip_batches = 0
        if len(self) == 0:
            raise PixitError(
                f"pairs_per_epoch={settings.pairs_per_epoch}: expected at least a batch, {settings.batch_size}"
            )
        self.training_set = self._dataset("train", settings.pairs_per_epoch)
        self.validation_set = self._dataset("development", settings.validation_pairs)

    def __len__(self) -> int:
        return self.settings.pairs_per_epoch // self.settings.batch_size

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the loader of an epoch; after a resume, its first pass goes on where the run stopped."""
        skip = self.skip_batches * self.settings.batch_size
        return self._loader(self.training_set, skip, drop_last=True)

    def val_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the validation pairs, always the same."""
        return self._loader(self.validation_set, 0, drop_last=False)

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches of the running epoch have been used."""
        if self.trainer is None:
            return {"skip_batches": 0}
        per_epoch = max(1, len(self) // self.trainer.world_size)
        steps = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return {"skip_batches": steps % per_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember where the run stopped."""
        self.skip_batches = state_dict["skip_batches"]

    def _loader(self, dataset: Any, skip: int, drop_last: bool) -> DataLoader[Item]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            dataset,
            batch_size=self.settings.batch_size,
            sampler=ResumableSampler(dataset, rank, world, skip),
            num_workers=self.settings.num_workers,
            persistent_workers=self.settings.num_workers > 0,
            drop_last=drop_last,
        )

    def _dataset(self, subset: str, count: int) -> MixedPairs:
        parts: list[Any] = []
        weights: list[float] = []
        if self.real:
            recordings = load_recordings(self.protocol, subset, self.database)
            sampler = PairSampler(recordings, self.settings.duration_s, self.shape.max_speakers)
            self.reports.append(f"{subset}: {sampler.describe()}")
            parts.append(PairDataset(sampler, self.shape, count, self._seed_of(subset)))
            weights.append(self.settings.real_share if self.settings.simulation else 1.0)
        if self.settings.simulation is not None:
            parts.append(self._simulated(self.settings.simulation, subset, count))
            weights.append(1 - self.settings.real_share if self.real else 1.0)
        return MixedPairs(parts, weights, self._seed_of(subset))

    def _simulated(self, simulation: SimulationSettings, subset: str, count: int) -> SimulatedPairs:
        speech = simulation.speech if subset == "train" else simulation.validation_speech
        ingredients = Ingredients.from_folders(
            speech,
            simulation.turn_taking,
            simulation.noise,
            sample_rate_hz=self.shape.sample_rate_hz,
            num_rooms=simulation.num_rooms,
            seed=self.seed,
            room_cache=simulation.room_cache,
        )
        return SimulatedPairs(ingredients, simulation.pairs, self.shape, count, self._seed_of(subset))

    def _seed_of(self, subset: str) -> int:
        return self.seed if subset == "train" else self.seed + 1_000_003
