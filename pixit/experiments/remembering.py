"""Networks that remember what they were asked before: the same is not computed twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from pixit.types import Embedder, LocalActivities, LocalDiarizer, LocalOutput, MaskEmbedder, separates


class RememberingModel:
    """A local model that hears no window twice while it is in its `memory`."""

    def __init__(self, model: LocalDiarizer) -> None:
        self.model, self.separates = model, separates(model)
        self.sample_rate_hz, self.num_speakers = model.sample_rate_hz, model.num_speakers
        self.window_samples, self.frame_grid = model.window_samples, model.frame_grid
        self.memory: dict[Hashable, tuple[Tensor, ...]] = {}

    def num_frames(self, num_samples: int) -> int:
        """As of the model."""
        return self.model.num_frames(num_samples)

    def __call__(self, waveforms: Tensor) -> LocalActivities:
        """Diarize, and separate if the model does, what is new of the windows (B, 1, T)."""

        def run(new: list[int]) -> list[Tensor]:
            output = self.model(waveforms[new])
            return [output.activity_logits, *([output.sources] if isinstance(output, LocalOutput) else [])]

        found = _recall(self.memory, [_mark(waveform) for waveform in waveforms], run)
        return LocalOutput(*found) if len(found) == 2 else LocalActivities(*found)


class RememberingEmbedder:
    """An embedder that hears nothing twice, with the same weights, while it is in its `memory`."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder: Any = embedder
        self.sample_rate_hz, self.embedding_size = embedder.sample_rate_hz, embedder.embedding_size
        self.clustering_threshold = embedder.clustering_threshold
        self.memory: dict[Hashable, tuple[Tensor, ...]] = {}

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed what is new of the waveforms (B, T) with their weights (B, F)."""
        assert weights is not None, "the pipeline weighs all that it embeds"
        marks = [(_mark(row), _mark(weight)) for row, weight in zip(waveforms, weights, strict=True)]
        return _recall(self.memory, marks, lambda new: [self.embedder(waveforms[new], weights[new])])[0]


class RememberingMasks(RememberingEmbedder):
    """The same of an embedder that hears a waveform once for all who talk in it."""

    def embed_masks(self, waveforms: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Embed what is new by weights (N, F), of which ``counts`` (B,) belong to each waveform (B, T): (N, D)."""
        owners = torch.repeat_interleave(torch.arange(len(counts)), counts)
        heard = [_mark(row) for row in waveforms]
        marks = [(heard[owner], _mark(row)) for owner, row in zip(owners.tolist(), weights, strict=True)]

        def run(new: list[int]) -> list[Tensor]:
            left = torch.bincount(owners[new], minlength=len(counts))
            return [self.embedder.embed_masks(waveforms[left > 0], weights[new], left[left > 0])]

        return _recall(self.memory, marks, run)[0]


def remembering(embedder: Embedder) -> RememberingEmbedder:
    """Return an embedder that remembers, and takes masks if this one does."""
    return (RememberingMasks if isinstance(embedder, MaskEmbedder) else RememberingEmbedder)(embedder)


def _mark(values: Tensor) -> bytes:
    return hashlib.blake2b(values.contiguous().cpu().numpy().tobytes(), digest_size=16).digest()


def _recall(
    memory: dict[Hashable, tuple[Tensor, ...]],
    marks: Sequence[Hashable],
    run: Callable[[list[int]], list[Tensor]],
) -> list[Tensor]:
    """Return outputs (B, …) by their marks: from `memory`, into which `run` puts what is new, by its rows."""
    new: dict[Hashable, int] = {}
    for row, mark in enumerate(marks):
        if mark not in memory:
            new.setdefault(mark, row)
    if new:
        for mark, *values in zip(new, *run(list(new.values())), strict=True):
            memory[mark] = tuple(values)
    return [torch.stack(column) for column in zip(*(memory[mark] for mark in marks), strict=True)]
