"""The PLDA of an embedder: what varies between speakers is told from what varies within one."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pixit.models.embedders import SpeakerEncoder
from pixit.pipeline.vbx import project
from pixit.training.crops import Batch, CropSampler
from pixit.training.plda import Numbers, covariances, fit_plda

SIZE = 6


def draw(num_classes: int, crops: int, rng: np.random.Generator) -> tuple[Numbers, np.ndarray]:
    """Vectors whose first axis varies between classes, the second within them, the others in both."""
    between, within = np.array([3, 0.1, 1, 1, 1, 1]), np.array([0.1, 3, 1, 1, 1, 1])
    means = between * rng.normal(size=(num_classes, SIZE))
    labels = np.arange(num_classes).repeat(crops)
    return means[labels] + within * rng.normal(size=(len(labels), SIZE)), labels


def test_covariances_are_found_from_few_crops_of_many_classes() -> None:
    between, within = covariances(*draw(4000, 2, np.random.default_rng(0)))
    np.testing.assert_allclose(np.diag(between), np.square([3, 0.1, 1, 1, 1, 1]), atol=0.4)
    np.testing.assert_allclose(np.diag(within), np.square([0.1, 3, 1, 1, 1, 1]), atol=0.4)
    assert np.linalg.eigvalsh(between).min() > 0


class Vectors:
    """Stands in for a sampler and an encoder at once: its crops are vectors."""

    def __init__(self) -> None:
        self.vectors, self.labels = draw(300, 20, np.random.default_rng(1))
        self.drawn: list[int] = []

    def eval(self) -> None:
        pass

    def batch(self, rng: np.random.Generator) -> Batch:
        chosen = rng.integers(len(self.labels), size=100)
        self.drawn.append(int(chosen[0]))
        waveforms = torch.from_numpy(self.vectors[chosen])
        waveforms[0] = torch.nan
        return Batch(waveforms, torch.ones(100, 1), torch.from_numpy(self.labels[chosen]))

    def __call__(self, waveforms: Tensor, weights: Tensor) -> Tensor:
        return waveforms / waveforms.norm(dim=1, keepdim=True)


def test_in_its_space_speakers_vary_by_one() -> None:
    source: Any = Vectors()
    plda = fit_plda(cast(SpeakerEncoder, source), cast(CropSampler, source), 5000)
    assert len(set(source.drawn)) > 45  # each batch is another one
    assert (np.diff(plda.variances) <= 0).all()
    vectors = source.vectors / np.linalg.norm(source.vectors, axis=1, keepdims=True)
    features = np.asarray(project(vectors, plda), np.float64)
    between, within = covariances(features, source.labels)
    np.testing.assert_allclose(within, np.eye(SIZE), atol=0.15)
    np.testing.assert_allclose(np.diag(between), plda.variances, atol=0.3 * plda.variances.max())
    assert abs(plda.basis[0, 0]) > abs(plda.basis[1, 0])  # what tells speakers best
