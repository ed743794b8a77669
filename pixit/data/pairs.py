"""Pairs of chunks to train on: one recording, no speaker in common, at most K speakers together.

Mixing the two chunks of such a pair gives a mixture of mixtures for MixIT (Kalda et al., "PixIT", Odyssey
2024): no speaker is in both, so every separated source belongs to exactly one of them. Turns and numbers are
enough to draw a pair (`PairSampler`); `PairDataset` reads the audio and makes tensors of it.

The speakers of the chunk ``[t, t + d)`` change only where a turn begins (at ``t = start − d``) or ends (at
``t = end``). Between these points the set is constant, so that all starts fall into finitely many
*stretches*, and drawing a pair is drawing two sets of speakers, then a start of each: exact, and without
rejection.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pixit.audio import Samples, open_audio
from pixit.types import FrameGrid, PixitError, Recording
from pixit.windows import frames_from_intervals, seconds_to_samples

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Item = dict[str, Tensor]

_ROUNDING_S = 1e-6
"""Differences below this (less than a sample at any rate) come from floating-point arithmetic."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of `recording` from `start_s` on; `speakers` (sorted) are all who talk in it, if shortly."""

    recording: Recording
    start_s: float
    speakers: tuple[str, ...]


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
        return self._tables[_draw(self._cumulative, rng)].sample(rng)

    def describe(self) -> str:
        """Say in one line how many recordings give pairs, and name those that do not, with the reason."""
        usable, total = len(self._tables), len(self._tables) + len(self.unusable)
        hours = sum(table.usable_s for table in self._tables) / 3600
        line = f"{usable} of {total} recordings give pairs ({hours:.2f} h)"
        reasons = "; ".join(f"{uri} ({problem})" for uri, problem in self.unusable.items())
        return f"{line}; without: {reasons}" if reasons else line


class _PairTable:
    """All pairs of one recording: sets of speakers (S, speakers), and the stretches of starts of each set.

    `problem` says why there are none, or is None.
    """

    def __init__(self, recording: Recording, duration_s: float, max_speakers: int) -> None:
        self.recording = recording
        self.problem: str | None = None
        regions = [(a, b) for a, b in recording.annotated if b - a >= duration_s - _ROUNDING_S]
        self.usable_s = sum(b - a for a, b in regions)
        if not regions:
            self.problem = f"no annotated stretch of {duration_s:g} s"
            return
        low_s, high_s, weights = _stretches(recording, regions, duration_s)
        speakers, active = _who_talks(recording, (low_s + high_s) / 2, duration_s)
        few = active.sum(axis=1) <= max_speakers
        self._low_s, self._high_s, self._stretch_weights = low_s[few], high_s[few], weights[few]
        self._sets, set_of = np.unique(active[few], axis=0, return_inverse=True)
        self._set_of = set_of.reshape(-1)  # NumPy 2.0 keeps an axis
        self._names = [tuple(s for s, on in zip(speakers, row, strict=True) if on) for row in self._sets]
        self._sizes = self._sets.sum(axis=1)
        self._max_speakers = max_speakers
        self._weights = np.bincount(self._set_of, weights=weights[few], minlength=len(self._sets))
        partner_weights = [self._weights[self._partners(i)].sum() for i in range(len(self._sets))]
        self._cumulative = np.cumsum(self._weights * np.array(partner_weights))
        if not (self._cumulative > 0).any():
            self.problem = f"any two chunks are silent, share a speaker or have over {max_speakers} together"

    def sample(self, rng: np.random.Generator) -> Pair:
        """Draw a pair of sets by the product of their weights, then a chunk of each."""
        first = _draw(self._cumulative, rng)
        partners = np.flatnonzero(self._partners(first))
        second = int(partners[_draw(np.cumsum(self._weights[partners]), rng)])
        return Pair(self._chunk(first, rng), self._chunk(second, rng))

    def _partners(self, index: int) -> Bools:
        """Which sets of speakers may stand beside set `index`, (S,)."""
        shared = (self._sets & self._sets[index]).any(axis=1)
        together = self._sizes + self._sizes[index]
        return ~shared & (together <= self._max_speakers) & (together > 0)

    def _chunk(self, index: int, rng: np.random.Generator) -> Chunk:
        stretches = np.flatnonzero(self._set_of == index)
        stretch = stretches[_draw(np.cumsum(self._stretch_weights[stretches]), rng)]
        start_s = rng.uniform(self._low_s[stretch], self._high_s[stretch])
        return Chunk(self.recording, float(start_s), self._names[index])


def _stretches(
    recording: Recording, regions: Sequence[tuple[float, float]], duration_s: float
) -> tuple[Floats, Floats, Floats]:
    """Cut the possible starts where the speakers change: first start, last start and weight, each (P,)."""
    changes_s = [turn.start_s - duration_s for turn in recording.turns] + [t.end_s for t in recording.turns]
    stretches = []
    for region_start_s, region_end_s in regions:
        length_s = region_end_s - region_start_s
        last_s = region_end_s - duration_s
        if last_s - region_start_s < _ROUNDING_S:  # as long as a chunk: there is one start
            stretches.append((region_start_s, region_start_s, length_s))
            continue
        inside_s = [t for t in changes_s if region_start_s < t < last_s]
        edges_s = np.unique([region_start_s, *inside_s, last_s])
        density = length_s / (last_s - region_start_s)
        stretches += [
            (low_s, high_s, density * (high_s - low_s))
            for low_s, high_s in itertools.pairwise(edges_s)
            if high_s - low_s > 1e-3 * _ROUNDING_S  # else two changes at once, but for rounding
        ]
    low_s, high_s, weights = np.array(stretches).T
    return low_s, high_s, weights


def _who_talks(recording: Recording, starts_s: Floats, duration_s: float) -> tuple[list[str], Bools]:
    """Speakers of the recording, and which of them talk in the chunks at `starts_s`, (P, speakers)."""
    speakers = sorted({turn.speaker for turn in recording.turns})
    active = np.zeros((len(starts_s), len(speakers)), dtype=bool)
    for turn in recording.turns:
        overlaps = (starts_s + duration_s > turn.start_s) & (starts_s < turn.end_s)
        active[:, speakers.index(turn.speaker)] |= overlaps
    return speakers, active


def _draw(cumulative: Floats, rng: np.random.Generator) -> int:
    """Draw an index by the cumulative sum of non-negative weights; one of weight 0 is never drawn."""
    total = cumulative[-1]
    level = min(rng.random() * total, np.nextafter(total, 0.0))  # the product may be rounded up to the total
    return int(np.searchsorted(cumulative, level, side="right"))


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
                references[i, k] = _read(known[speaker], chunk, shape)
    return {
        "mixtures": torch.from_numpy(np.stack([_read(c.recording.audio, c, shape) for c in chunks])),
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


def _read(path: Path, chunk: Chunk, shape: ChunkShape) -> Samples:
    """Read a chunk of a file, (T,); rounding may leave a sample to fill at the end of the file."""
    start = seconds_to_samples(chunk.start_s, shape.sample_rate_hz)
    audio = open_audio(path, sample_rate_hz=shape.sample_rate_hz)
    signal = audio.read(start, min(start + shape.num_samples, audio.num_samples))
    return np.pad(signal, (0, shape.num_samples - len(signal)))
