"""From settings to batches: real pairs, simulated pairs, or both in one batch; resumable at any step."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
from pydantic import Field
from torch.utils.data import DataLoader, Sampler

from pixit.config import Settings
from pixit.data.chunks import ChunkSampler
from pixit.data.database import load_recordings
from pixit.data.pairs import ChunkShape, EpochDataset, Item, PairDataset, PairSampler
from pixit.simulation.pairs import BesideSimulated, PairSettings, SimulatedPairs
from pixit.simulation.pool import check_apart
from pixit.simulation.simulate import Ingredients
from pixit.types import LocalModel, PixitError


class SimulationSettings(Settings):
    """Pairs made on the fly, in training and, from other speakers, turns, noises and rooms, in validation."""

    speech: tuple[Path, ...] = Field(
        min_length=1, description="folders of one folder of utterances per speaker"
    )
    unlabelled_speech: tuple[Path, ...] = Field(
        (), description="folders of recordings of one unknown speaker each"
    )
    unlabelled_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="how often a voice is one of these; by default all voices are drawn alike"
    )
    validation_speech: tuple[Path, ...] = Field(
        min_length=1, description="as `speech`, of speakers who are in neither of them"
    )
    turn_taking: tuple[Path, ...] = Field(min_length=1, description="RTTM files or folders of real meetings")
    validation_turn_taking: tuple[Path, ...] = Field(min_length=1, description="the same, of other meetings")
    noise: tuple[Path, ...] = Field((), description="recordings of noise, or folders of them")
    validation_noise: tuple[Path, ...] = Field(
        (), description="the same, of other noises; none: only generated noise is heard in validation"
    )
    rooms: tuple[Path, ...] = Field((), description="measured room responses, or folders of them")
    validation_rooms: tuple[Path, ...] = Field((), description="the same, of other rooms")
    num_rooms: int = Field(
        60, ge=1, le=10_000, description="rooms with simulated reverberation; validation has its own"
    )
    cache: Path | None = Field(None, description="folder that keeps decoded speech and rooms between runs")
    pairs: PairSettings = PairSettings()


class DataSettings(Settings):
    """What a batch is made of."""

    duration_s: float = Field(5.0, gt=0, le=600, description="length of a chunk in seconds")
    batch_size: int = Field(
        8, ge=1, le=4096, description="pairs in a batch of one device; each gives three mixtures"
    )
    pairs_per_epoch: int = Field(4000, ge=1, le=10**9, description="pairs between two validations")
    validation_pairs: int = Field(200, ge=1, le=10**6, description="pairs to validate on, always the same")
    num_workers: int = Field(4, ge=0, le=1024, description="processes that prepare batches")
    real_share: float = Field(0.5, ge=0, le=1, description="share of real pairs where both kinds are given")
    beside_simulated: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the real pairs, in training, whose other chunk is simulated: any real chunk serves",
    )
    simulation: SimulationSettings | None = None


class MixedPairs(EpochDataset):
    """Several datasets as one: which of them gives an item is drawn from the seed, the epoch and the index."""

    def __init__(self, parts: Sequence[Any], weights: Sequence[float], seed: int) -> None:
        super().__init__(len(parts[0]), seed)
        self.parts, self.weights = parts, np.asarray(weights) / np.sum(weights)

    def set_epoch(self, epoch: int) -> None:
        """Choose the items of `epoch`, of all parts."""
        super().set_epoch(epoch)
        for part in self.parts:
            part.set_epoch(epoch)

    def __getitem__(self, index: int) -> Item:
        # The parts draw from [seed, epoch, index]: the choice between them must not hang on the same numbers.
        rng = np.random.default_rng([self.seed, int(self._epoch), index, 1])
        return self.parts[rng.choice(len(self.parts), p=self.weights)][index]


class ResumableSampler(Sampler[int]):
    """The items of one process, from where the training stands.

    Each pass first asks how many batches of one process the training has used since it began, earlier runs included.
    This gives the epoch, which is handed to the dataset (``set_epoch``) before any worker begins with it, and the
    first item. An epoch has whole batches only.

    Parameters
    ----------
    dataset, batch_size, batches_used
        Of what, how many, and after how many batches.
    rank, world_size
        Which of how many processes this is.
    since
        Items that all processes together had used, and batches of each, when the training was resumed: before, there
        may have been more processes or fewer. What epochs leave out counts as used.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        batches_used: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
        since: tuple[int, int] = (0, 0),
    ) -> None:
        self.dataset, self.batch_size, self.batches_used = dataset, batch_size, batches_used
        self.rank, self.world_size, self.since = rank, world_size, since

    def __len__(self) -> int:
        return self.batches_left(0) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        epoch, first = self.position()
        self.dataset.set_epoch(epoch)
        for place in range(self.batches_left(first) * self.batch_size):
            yield first + place * self.world_size + self.rank

    def batches_left(self, first: int) -> int:
        """Return how many batches of each process an epoch still has behind its first so many items."""
        return (len(self.dataset) - first) // (self.world_size * self.batch_size)

    def position(self) -> tuple[int, int]:
        """Return the epoch, and how many of its items all processes together have used."""
        items, batches = self.since
        epoch, first = divmod(items, len(self.dataset))
        used, left = self.batches_used() - batches, self.batches_left(first)
        if used >= left:
            epochs, used = divmod(used - left, self.batches_left(0))
            epoch, first = epoch + 1 + epochs, 0
        return epoch, first + used * self.world_size * self.batch_size


class PairData(pl.LightningDataModule):
    """Training and validation batches for one model, whose geometry it takes.

    From real meetings (a database.yml and a protocol of it), simulated ones (``settings.simulation``) or
    both; a PixitError if neither is given, or one is unfit.
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
        if model.num_frames(num_samples) < 1:
            raise PixitError(
                f"data.duration_s={settings.duration_s:g}: is too short for one frame of the model; expected more"
            )
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
        if settings.simulation is not None:
            check_apart(settings.simulation.speech, settings.simulation.validation_speech)
        self.reports: list[str] = []
        self._since = 0, 0
        self.training_set = self._dataset("train", settings.pairs_per_epoch)
        self.validation_set = self._dataset("development", settings.validation_pairs)

    def check_size(self, world_size: int) -> None:
        """Raise PixitError if there are too few pairs for so many processes."""
        settings = self.settings
        needed = {"pairs_per_epoch": settings.batch_size * world_size, "validation_pairs": world_size}
        for name, least in needed.items():
            found = getattr(settings, name)
            if found < least:
                raise PixitError(
                    f"data.{name}={found}: expected {least} or more for {world_size} processes and "
                    f"batches of {settings.batch_size}"
                )

    def state_dict(self) -> dict[str, int]:
        """Return how much has been used: batches of each process, and items of all."""
        epoch, first = self._sampler().position()
        return {"items": epoch * len(self.training_set) + first, "batches": self._batches_used()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on behind the items that have been used, by however many processes."""
        self._since = state_dict["items"], state_dict["batches"]

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the training pairs, which continues where the training stands."""
        sampler = self._sampler()
        self._count_anew(sampler)
        return self._loader(self.training_set, sampler, persistent=True)

    def val_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the validation pairs, always the same; each process takes its share."""
        rank, world_size = self._processes()
        # workers that stay would keep a copy of the memory that the trainer had at the first validation
        share = range(rank, len(self.validation_set), world_size)
        return self._loader(self.validation_set, share, persistent=False)

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _batches_used(self) -> int:
        return self.trainer.fit_loop.total_batch_idx + 1 if self.trainer is not None else 0

    def _sampler(self) -> ResumableSampler:
        of = self.training_set, self.settings.batch_size
        return ResumableSampler(*of, self._batches_used, *self._processes(), self._since)

    def _count_anew(self, sampler: ResumableSampler) -> None:
        """Tell Lightning how far the epoch is, in batches of as many processes as there are now."""
        if self.trainer is None or self._since == (0, 0):
            return
        _, first = sampler.position()
        left = sampler.batches_left(first) if first else 0  # the end of an epoch is the start of the next one
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        difference = sampler.batches_left(0) - left - progress.ready
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, getattr(progress, name) + difference)

    def _loader(self, dataset: MixedPairs, sampler: Iterable[int], persistent: bool) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_size=self.settings.batch_size,
            sampler=sampler,
            num_workers=self.settings.num_workers,
            persistent_workers=persistent and self.settings.num_workers > 0,
            worker_init_fn=_leave_signals_to_the_trainer,
        )

    def _dataset(self, subset: str, count: int) -> MixedPairs:
        settings, seed = self.settings, self.seed if subset == "train" else self.seed + 1_000_003
        size = settings.duration_s, self.shape.max_speakers
        simulation, parts, weights = settings.simulation, list[EpochDataset](), list[float]()
        share = (settings.real_share if simulation is not None else 1.0) if self.real else 0.0
        beside = settings.beside_simulated if simulation is not None and subset == "train" else 0.0
        recordings = load_recordings(self.protocol, subset, self.database) if self.real else []
        if self.real and beside < 1:
            sampler = PairSampler(recordings, *size)
            self.reports.append(f"{subset}: {sampler.describe()}")
            parts.append(PairDataset(sampler, self.shape, count, seed))
            weights.append(share * (1 - beside))
        if simulation is not None:
            simulated = self._simulated(simulation, subset, count, seed)
            parts.append(simulated)
            weights.append(1 - share)
            if self.real and beside > 0:
                chunks = ChunkSampler(recordings, settings.duration_s, self.shape.max_speakers - 1)
                parts.append(BesideSimulated(chunks, simulated, count, seed))
                weights.append(share * beside)
        return MixedPairs(parts, weights, seed)

    def _simulated(
        self, simulation: SimulationSettings, subset: str, count: int, seed: int
    ) -> SimulatedPairs:
        training = subset == "train"
        share = simulation.unlabelled_share
        if not training and share == 1:  # which would leave it no voice: it has only those with names
            share = 0.0
        ingredients = Ingredients.from_folders(
            simulation.speech if training else simulation.validation_speech,
            simulation.turn_taking if training else simulation.validation_turn_taking,
            simulation.noise if training else simulation.validation_noise,
            simulation.unlabelled_speech if training else (),
            simulation.rooms if training else simulation.validation_rooms,
            sample_rate_hz=self.shape.sample_rate_hz,
            num_rooms=simulation.num_rooms,
            seed=seed,
            cache=simulation.cache,
            unlabelled_share=share,
        )
        voices = ingredients.pool.voices
        hours = sum(len(voice.samples) for voice in voices) / self.shape.sample_rate_hz / 3600
        self.reports.append(f"{subset}: simulated meetings of {len(voices)} voices ({hours:.2f} h)")
        return SimulatedPairs(ingredients, simulation.pairs, self.shape, count, seed)


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """Keep signals that all processes get, of a terminal or a cluster, from ending workers before all is saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _heed_the_next)


def _heed_the_next(number: int, _frame: FrameType | None) -> None:
    """Go on, but end at the next signal of this kind, which is the trainer's own."""
    signal.signal(number, signal.SIG_DFL)
