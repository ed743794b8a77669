"""Training items: pairs of chunks as tensors, audio and frame-wise activities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pixit.audio import open_audio
from pixit.data.pairs import Chunk, Pair, PairSampler
from pixit.types import FrameGrid, PixitError
from pixit.windows import frames_from_intervals, seconds_to_samples

Item = dict[str, Tensor]


@dataclass(frozen=True)
class ChunkShape:
    """Size of a training item: T samples at a rate, F frames that lie on a grid, K speakers."""

    sample_rate_hz: int
    num_samples: int
    frame_grid: FrameGrid
    num_frames: int
    max_speakers: int


def activities(
    chunk: Chunk, grid: FrameGrid, num_frames: int, sample_rate_hz: int, max_speakers: int
) -> NDArray[np.float32]:
    """Return who talks when in a chunk.

    Returns
    -------
    array, (K, F)
        1 where the centre of the frame lies in a turn, else 0; rows in the order of ``chunk.speakers``, then
        rows of zeros up to K = `max_speakers`.
    """
    # Counted from the first sample that is read, which rounding may have moved by half a sample.
    offset_s = seconds_to_samples(chunk.start_s, sample_rate_hz) / sample_rate_hz
    active = np.zeros((max_speakers, num_frames), dtype=np.float32)
    for row, speaker in enumerate(chunk.speakers):
        intervals = [
            (turn.start_s - offset_s, turn.end_s - offset_s)
            for turn in chunk.recording.turns
            if turn.speaker == speaker
        ]
        active[row] = frames_from_intervals(intervals, grid, num_frames, sample_rate_hz)
    return active


class PairDataset(Dataset[Item]):
    """Pairs as tensors, for a torch DataLoader with its default collation.

    Item `index` depends only on the seed, the epoch and `index`: any number of workers gives the same items,
    and a run can be taken up at any of them. Without `set_epoch`, the items are the same in every pass, as
    validation needs.

    An item holds ``mixtures`` (2, T), the two chunks; ``activities`` (2, K, F); ``references`` (2, K, T),
    the sources in the order of the activities, zeros where none are known; and ``has_references`` ().

    Parameters
    ----------
    sampler
        Draws the pairs.
    shape
        T, K, F and how they relate.
    items_per_epoch
        Number of items.
    seed
        Seed of all that is random here.
    augment
        Changes an item, with the generator it is to draw from.

    Raises
    ------
    PixitError
        If the chunks of `sampler` are not T samples long, or may hold more than K speakers.
    """

    def __init__(
        self,
        sampler: PairSampler,
        shape: ChunkShape,
        items_per_epoch: int,
        seed: int,
        augment: Callable[[Item, np.random.Generator], Item] | None = None,
    ) -> None:
        num_samples = seconds_to_samples(sampler.duration_s, shape.sample_rate_hz)
        if num_samples != shape.num_samples or sampler.max_speakers > shape.max_speakers:
            raise PixitError(
                f"training items: found pairs of {num_samples} samples and {sampler.max_speakers} speakers, "
                f"expected {shape.num_samples} samples and at most {shape.max_speakers} speakers"
            )
        self.sampler, self.shape, self.seed, self.augment = sampler, shape, seed, augment
        self._items_per_epoch = items_per_epoch
        # Shared memory: workers that outlive an epoch see the next one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the items of `epoch`; to be called before the DataLoader starts on it."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self._items_per_epoch

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._items_per_epoch:
            raise IndexError(f"item {index} of {self._items_per_epoch}")
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        item = load_pair(self.sampler.sample(rng), self.shape)
        return self.augment(item, rng) if self.augment is not None else item


def load_pair(pair: Pair, shape: ChunkShape) -> Item:
    """Read the audio of a pair; see `PairDataset` for what an item holds."""
    chunks = (pair.first, pair.second)
    grid, rate_hz = shape.frame_grid, shape.sample_rate_hz
    active = [activities(c, grid, shape.num_frames, rate_hz, shape.max_speakers) for c in chunks]
    references = np.zeros((2, shape.max_speakers, shape.num_samples), dtype=np.float32)
    known = pair.first.recording.references
    if known:
        for i, chunk in enumerate(chunks):
            for k, speaker in enumerate(chunk.speakers):
                references[i, k] = _read(known[speaker], chunk, shape)
    return {
        "mixtures": torch.from_numpy(np.stack([_read(c.recording.audio, c, shape) for c in chunks])),
        "activities": torch.from_numpy(np.stack(active)),
        "references": torch.from_numpy(references),
        "has_references": torch.tensor(bool(known)),
    }


def _read(path: Path, chunk: Chunk, shape: ChunkShape) -> NDArray[np.float32]:
    """Read a chunk of a file, (T,); rounding may leave a sample to fill at the end of the file."""
    start = seconds_to_samples(chunk.start_s, shape.sample_rate_hz)
    audio = open_audio(path, sample_rate_hz=shape.sample_rate_hz)
    signal = audio.read(start, min(start + shape.num_samples, audio.num_samples))
    return np.pad(signal, (0, shape.num_samples - len(signal)))
