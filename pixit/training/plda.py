"""Fit the PLDA of an embedder: how its embeddings vary between speakers, and within what one speaker says."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from pixit.models.embedders import SpeakerEncoder
from pixit.training.crops import CropSampler
from pixit.types import Plda

Numbers = NDArray[np.float64]
SEED = 1
"""The crops are others than those of the training."""
LEAST_SHARE = 1e-6
"""Of the largest variance, which every direction has at least: few speakers do not span all of them."""


def fit_plda(encoder: SpeakerEncoder, sampler: CropSampler, num_crops: int, seed: int = 0) -> Plda:
    """Fit the two covariances by their moments, on augmented crops of the sampler's speakers.

    After Prince and Elder, "Probabilistic linear discriminant analysis for inferences about identity", ICCV 2007, on
    centred embeddings of length one (Garcia-Romero and Espy-Wilson, Interspeech 2011).
    """
    vectors, labels = _embed(encoder, sampler, num_crops, seed)
    centre, size = vectors.mean(axis=0), vectors.shape[1]
    inner = vectors - centre
    scaled = np.sqrt(size) * inner / np.linalg.norm(inner, axis=1, keepdims=True)
    between, within = covariances(scaled, labels)
    variances, basis = eigh(between, within)  # within speakers one, between them diagonal
    order = np.argsort(-variances)
    return Plda(centre, scaled.mean(axis=0), basis[:, order], variances[order])


def _embed(
    encoder: SpeakerEncoder, sampler: CropSampler, num_crops: int, seed: int
) -> tuple[Numbers, NDArray[np.int64]]:
    """Return embeddings (n, D) of so many crops, and the classes that they are of (n,)."""
    vectors: list[Numbers] = []
    labels: list[NDArray[np.int64]] = []
    encoder.eval()
    while sum(map(len, labels)) < num_crops:
        batch = sampler.batch(np.random.default_rng([seed, SEED, len(labels)]))
        with torch.inference_mode():
            embedded = encoder(batch.waveforms, batch.weights).double().numpy()
        heard = np.isfinite(embedded).all(axis=1)
        vectors.append(embedded[heard])
        labels.append(batch.labels.numpy()[heard])
    return np.concatenate(vectors), np.concatenate(labels)


def covariances(vectors: Numbers, labels: NDArray[np.int64]) -> tuple[Numbers, Numbers]:
    """Return the covariances of vectors (n, D) between and within the classes of `labels` (n,), both (D, D)."""
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, places, vectors)
    means /= counts[:, None]
    inner = vectors - means[places]
    within = inner.T @ inner / (len(vectors) - len(counts))
    outer = means - vectors.mean(axis=0)
    # a mean of few crops varies by itself, too
    between = ((counts * outer.T) @ outer - len(counts) * within) / len(vectors)
    return _positive(between), _positive(within)


def _positive(covariance: Numbers) -> Numbers:
    """Return a symmetric matrix with eigenvalues of `LEAST_SHARE` of the largest and more."""
    values, directions = eigh(covariance)
    return np.asarray((directions * np.maximum(values, LEAST_SHARE * values.max())) @ directions.T)
