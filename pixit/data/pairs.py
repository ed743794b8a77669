"""Pairs of chunks to train on: one recording, no speaker in common, at most K speakers together.

Mixing the two chunks of such a pair gives a mixture of mixtures for MixIT (Kalda et al., "PixIT", Odyssey
2024): no speaker is in both, so every separated source belongs to exactly one of them. Turns and numbers are
enough to draw a pair (`PairSampler`), two sets of speakers and then a chunk of each (`pixit.data.chunks`);
`PairDataset` reads the audio and makes tensors of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pixit.audio import Samples, open_audio
from pixit.data.chunks import Bools, Chunk, ChunkTable, draw
from pixit.types import FrameGrid, PixitError, Recording
from pixit.windows import frames_from_intervals, seconds_to_samples

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Pair:
    """Two chunks of one recording that share no speaker."""

    first: Chunk
    second: Chunk


class PairSampler:
    """Draw pairs of chunks.

    A recording is drawn in proportion to its usable time: its annotated stretches that are long enough for a
    chunk. Within it all pairs of starts that satisfy the constraints are equally likely, except that a short
    annotated stretch counts by its length, not by its few possible starts. The two chunks may overlap in
    time; one of them may be without any speaker, as often as the recordings are, but not both.

    Parameters
    ----------
    recordings
        Where to draw from.
    duration_s
        Length of a chunk.
    max_speakers
        K: most speakers that the two chunks of a pair may have together.

    Raises
    ------
    PixitError
        If no recording gives a pair, or a parameter is out of range.
    """

    def __init__(self, recordings: Sequence[Recording], duration_s: float, max_speakers: int) -> None:
        if not duration_s > 0 or max_speakers < 1:
            raise PixitError(
                f"pairs: found a duration of {duration_s} s and {max_speakers} speakers; "
                "expected more than 0 s and at least 1 speaker"
            )
        self.duration_s, self.max_speakers = duration_s, max_speakers
        tables = [_PairTable(recording, duration_s, max_speakers) for recording in recordings]
        self._tables = [table for table in tables if table.problem is None]
        self.unusable = {table.recording.uri: table.problem for table in tables if table.problem is not None}
        if not self._tables:
            raise PixitError(f"no pair of chunks can be drawn: {self.describe()}")
        self._cumulative = np.cumsum([table.usable_s for table in self._tables])

    def sample(self, rng: np.random.Generator) -> Pair:
        """Draw one pair."""
        return self._tables[draw(self._cumulative, rng)].sample(rng)

    def describe(self) -> str:
        """Say in one line how many recordings give pairs, and name those that do not, with the reason."""
        usable, total = len(self._tables), len(self._tables) + len(self.unusable)
        hours = sum(table.usable_s for table in self._tables) / 3600
        line = f"{usable} of {total} recordings give pairs ({hours:.2f} h)"
        reasons = "; ".join(f"{uri} ({problem})" for uri, problem in self.unusable.items())
        return f"{line}; without: {reasons}" if reasons else line


class _PairTable:
    """All pairs of one recording, as pairs of sets of speakers; `problem` says why there are none, or is None."""

    def __init__(self, recording: Recording, duration_s: float, max_speakers: int) -> None:
        self.recording, self._max_speakers = recording, max_speakers
        self._chunks = ChunkTable(recording, duration_s, max_speakers)
        self.usable_s, self.problem = self._chunks.usable_s, self._chunks.problem
        if self.problem is not None:
            return
        self._sizes, weights = self._chunks.sets.sum(axis=1), self._chunks.weights
        partner_weights = [weights[self._partners(i)].sum() for i in range(len(weights))]
        self._cumulative = np.cumsum(weights * np.array(partner_weights))
        if not (self._cumulative > 0).any():
            self.problem = f"any two chunks are silent, share a speaker or have over {max_speakers} together"

    def sample(self, rng: np.random.Generator) -> Pair:
        """Draw a pair of sets by the product of their weights, then a chunk of each."""
        first = draw(self._cumulative, rng)
        partners = np.flatnonzero(self._partners(first))
        second = int(partners[draw(np.cumsum(self._chunks.weights[partners]), rng)])
        return Pair(self._chunks.chunk(first, rng), self._chunks.chunk(second, rng))

    def _partners(self, index: int) -> Bools:
        """Which sets of speakers may stand beside set `index`, (S,)."""
        sets = self._chunks.sets
        shared = (sets & sets[index]).any(axis=1)
        together = self._sizes + self._sizes[index]
        return ~shared & (together <= self._max_speakers) & (together > 0)


@dataclass(frozen=True)
class ChunkShape:
    """Size of a training item: T samples at a rate, F frames that lie on a grid, K speakers."""

    sample_rate_hz: int
    num_samples: int
    frame_grid: FrameGrid
    num_frames: int
    max_speakers: int


class EpochDataset(Dataset[Item]):
    """Items for a torch DataLoader with its default collation, drawn anew in each epoch.

    Item `index` depends only on the seed, the epoch and `index`: any number of workers gives the same items,
    and a run can be taken up at any of them. Without `set_epoch`, the items are the same in every pass, as
    validation needs.

    An item holds ``mixtures`` (2, T), the two chunks; ``activities`` (2, K, F); ``references`` (2, K, T),
    the sources in the order of the activities, zeros where none are known; and ``has_references`` ().

    Parameters
    ----------
    items_per_epoch, seed
        Number of items, and the seed of all that is random here.
    """

    def __init__(self, items_per_epoch: int, seed: int) -> None:
        self.seed, self._items_per_epoch = seed, items_per_epoch
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
        return self.draw(np.random.default_rng([self.seed, int(self._epoch), index]))

    def draw(self, rng: np.random.Generator) -> Item:
        """Draw an item."""
        raise NotImplementedError


class PairDataset(EpochDataset):
    """Pairs of real recordings as tensors of a shape (T, K, F and how they relate); see `EpochDataset`.

    Raises
    ------
    PixitError
        If the chunks of `sampler` are not T samples long, or may hold more than K speakers.
    """

    def __init__(self, sampler: PairSampler, shape: ChunkShape, items_per_epoch: int, seed: int) -> None:
        num_samples = seconds_to_samples(sampler.duration_s, shape.sample_rate_hz)
        if num_samples != shape.num_samples or sampler.max_speakers > shape.max_speakers:
            raise PixitError(
                f"training items: found pairs of {num_samples} samples and {sampler.max_speakers} speakers, "
                f"expected {shape.num_samples} samples and at most {shape.max_speakers} speakers"
            )
        super().__init__(items_per_epoch, seed)
        self.sampler, self.shape = sampler, shape

    def draw(self, rng: np.random.Generator) -> Item:
        """Draw a pair and read its audio."""
        return load_pair(self.sampler.sample(rng), self.shape)


def load_pair(pair: Pair, shape: ChunkShape) -> Item:
    """Read the audio of a pair; see `EpochDataset` for what an item holds."""
    chunks = (pair.first, pair.second)
    references = np.zeros((2, shape.max_speakers, shape.num_samples), dtype=np.float32)
    known = pair.first.recording.references
    if known:
        for i, chunk in enumerate(chunks):
            for k, speaker in enumerate(chunk.speakers):
                references[i, k] = read_chunk(known[speaker], chunk, shape)
    return {
        "mixtures": torch.from_numpy(np.stack([read_chunk(c.recording.audio, c, shape) for c in chunks])),
        "activities": torch.from_numpy(np.stack([activities(chunk, shape) for chunk in chunks])),
        "references": torch.from_numpy(references),
        "has_references": torch.tensor(bool(known)),
    }


def activities(chunk: Chunk, shape: ChunkShape) -> Samples:
    """Return who talks when in a chunk, (K, F): 1 where the centre of the frame lies in a turn, else 0.

    Rows are in the order of ``chunk.speakers``, then rows of zeros up to K.
    """
    # Counted from the first sample that is read, which rounding may have moved by half a sample.
    offset_s = seconds_to_samples(chunk.start_s, shape.sample_rate_hz) / shape.sample_rate_hz
    active = np.zeros((shape.max_speakers, shape.num_frames), dtype=np.float32)
    for row, speaker in enumerate(chunk.speakers):
        own = [turn for turn in chunk.recording.turns if turn.speaker == speaker]
        intervals = [(turn.start_s - offset_s, turn.end_s - offset_s) for turn in own]
        active[row] = frames_from_intervals(
            intervals, shape.frame_grid, shape.num_frames, shape.sample_rate_hz
        )
    return active


def read_chunk(path: Path, chunk: Chunk, shape: ChunkShape) -> Samples:
    """Read a chunk of a file, (T,); rounding may leave a sample to fill at the end of the file."""
    start = seconds_to_samples(chunk.start_s, shape.sample_rate_hz)
    audio = open_audio(path, sample_rate_hz=shape.sample_rate_hz)
    signal = audio.read(start, min(start + shape.num_samples, audio.num_samples))
    return np.pad(signal, (0, shape.num_samples - len(signal)))
