"""The methods of clustering: pixit's own, and other ways.

In these, embeddings of clean speech are labelled, and every embedding joins the nearest centroid.

Agglomerative clustering and VBx decide as pyannote.audio 4 does, so that its settings mean the same here (Bredin,
"pyannote.audio 2.1 speaker diarization pipeline", Interspeech 2023); distances are in the units that it has.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist

from pixit.pipeline.cluster import (
    ClusteringSettings,
    Floats,
    Ints,
    Numbers,
    Refine,
    cluster,
    spread,
    unit,
)
from pixit.pipeline.diarize import ActivitySettings
from pixit.pipeline.local import count_solo, count_talk
from pixit.pipeline.local_turns import find_all_apart
from pixit.pipeline.spool import Spool
from pixit.pipeline.vbx import label_by_vbx, refine
from pixit.types import PixitError, Plda

ON_UNIT_VECTORS = ("centroid", "median", "ward")
"""Linkages that are defined for Euclidean distances only."""
SMALLEST_SHARE = 0.1
"""Of a few embeddings a cluster need not hold more than this share, whatever ``min_cluster_size`` says."""
REFINED_FB = 0.5
"""Weight of VBx's prior where it refines average linkage."""
Bounds = tuple[int, int | None]
"""Fewest and most speakers; None for any number."""
RUNS = 10
"""Of k-means, of which the best is taken."""
NEIGHBOURS, MOST_BY_GAP = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3), 20
"""Of spectral clustering: shares of all embeddings that count as near, which are tried; and most speakers, where
nobody says how many there may be."""


def cluster_speakers(
    local: Spool,
    vectors: Floats,
    embedded_s: Floats,
    settings: ClusteringSettings,
    activity: ActivitySettings,
    bounds: Bounds,
    plda: Plda | None = None,
) -> Ints:
    """Assign every local speaker to a speaker of the recording, (W, K), by the method of the settings.

    `vectors` (W, K, D) and `embedded_s` (W, K) are what `embed_speakers` gave, and `plda` is the embedder's, if it
    has one; a PixitError as of `cluster_by_centroids`.
    """
    if settings.method == "average":
        apart = find_all_apart(local, activity)
        better = _make_refine(local, settings, plda) if settings.refined and plda else None
        talk_s = count_talk(local, activity)
        return cluster(vectors, embedded_s, talk_s, apart, settings, *bounds, better)
    return cluster_by_centroids(vectors, count_solo(local, activity), settings, *bounds, plda)


def _make_refine(local: Spool, settings: ClusteringSettings, plda: Plda) -> Refine:
    """Return VBx for turns of windows that overlap: together they are the evidence of one hearing."""
    step, window = local.geometry.step_samples, local.geometry.window_samples
    return partial(refine, plda=plda, fa=settings.fa or step / window, fb=settings.fb or REFINED_FB)


def cluster_by_centroids(
    vectors: Floats,
    solo: Floats,
    settings: ClusteringSettings,
    min_speakers: int = 1,
    max_speakers: int | None = None,
    plda: Plda | None = None,
) -> Ints:
    """Assign every local speaker to a speaker of the recording.

    Parameters
    ----------
    vectors
        (W, K, D), NaN where a local speaker is silent.
    solo
        Share of its window for which each local speaker talks alone, (W, K).
    min_speakers, max_speakers
        Bounds on the number of speakers; kept if there are enough embeddings.
    plda
        The embedder's, for VBx.

    Returns
    -------
    numpy.ndarray
        (W, K), -1 where silent; numbered as pyannote.audio numbers clusters, which decides between speakers who are
        equally active.

    Raises
    ------
    PixitError
        If the method needs the number of speakers, or a PLDA, and is not given it.
    """
    speakers = np.full(solo.shape, -1, np.int64)
    active: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=-1))
    if settings.method == "kmeans" and min_speakers != max_speakers:
        raise PixitError("clustering.method=kmeans: needs the number of speakers; give num_speakers")
    clean = spread(np.argwhere(active & (solo >= settings.min_active_ratio)), settings.max_vectors)
    train = vectors[tuple(clean.T)].astype(np.float64)
    low = min(len(train), min_speakers)
    high = min(len(train), max_speakers or len(train))
    if high < 2:
        speakers[active] = 0
        return speakers
    weights, constrained = _share_out(train, settings, (low, high), plda)
    centroids = weights.T @ train / weights.sum(axis=0)[:, None]
    if settings.constrained is not None:
        constrained = settings.constrained
    distances = cdist(vectors[active].astype(np.float64), centroids, "cosine")
    distances = np.nan_to_num(distances, nan=2.0)  # of a zero vector
    windows = np.argwhere(active)[:, 0]
    if constrained:
        speakers[active] = _one_to_one(distances, windows)
    else:
        speakers[active] = distances.argmin(axis=1)
    return speakers


def _share_out(
    vectors: Numbers, settings: ClusteringSettings, bounds: tuple[int, int], plda: Plda | None
) -> tuple[Numbers, bool]:
    """Return how much each vector counts for each speaker, (n, N), and whether speakers of a window differ."""
    low, high = bounds
    if settings.method == "vbx":
        weights = label_by_vbx(vectors, settings, plda)
        if low <= weights.shape[1] <= high:
            return weights, True
        labels = label_by_kmeans(vectors, int(np.clip(weights.shape[1], low, high)))
    elif settings.method == "kmeans":
        labels = label_by_kmeans(vectors, low)
    else:
        label = label_by_linkage if settings.method == "agglomerative" else label_by_spectrum
        labels = label(vectors, settings, low, high)
    return np.eye(labels.max() + 1)[labels], False


def _one_to_one(distances: Numbers, windows: Ints) -> Ints:
    """Return the speaker of each row, different ones for rows of the same window; -1 if there are too few."""
    found = np.full(len(distances), -1, np.int64)
    for window in np.unique(windows):
        rows = np.flatnonzero(windows == window)
        own, columns = linear_sum_assignment(distances[rows])
        found[rows[own]] = columns
    return found


def label_by_linkage(vectors: Numbers, settings: ClusteringSettings, low: int, high: int) -> Ints:
    """Agglomerative clustering; a cluster of less than ``min_cluster_size`` joins the most similar larger one.

    If that leaves less than `low` or more than `high` clusters, the tree is cut elsewhere: as near to the threshold
    as there is a cut that gives the nearest number.
    """
    on_unit = settings.linkage in ON_UNIT_VECTORS
    vectors = unit(vectors) if on_unit else vectors
    distances = pdist(vectors, "euclidean" if on_unit else "cosine")
    tree = linkage(np.nan_to_num(distances, nan=1.0), settings.linkage)  # NaN: to a vector of zeros
    smallest = min(settings.min_cluster_size, max(1, round(SMALLEST_SHARE * len(vectors))))
    labels = fcluster(tree, settings.threshold, criterion="distance") - 1
    num_large = len(_large(labels, smallest))
    wanted = int(np.clip(num_large, low, high))
    if num_large != wanted:
        labels = _cut_near(tree, settings.threshold or 0.0, wanted, smallest)
    large = _large(labels, smallest)
    if len(large) == 0:
        return np.zeros(len(vectors), np.int64)
    numbers = np.unique(labels)
    centroids = np.stack([vectors[labels == number].mean(axis=0) for number in numbers])
    is_large = np.isin(numbers, large)
    nearest = large[cdist(centroids, centroids[is_large], "cosine").argmin(axis=1)]
    nearest[is_large] = large
    return np.unique(nearest[np.searchsorted(numbers, labels)], return_inverse=True)[1]


def _large(labels: Ints, smallest: int) -> Ints:
    numbers, sizes = np.unique(labels, return_counts=True)
    return numbers[sizes >= smallest]


def _cut_near(tree: Numbers, threshold: float, wanted: int, smallest: int) -> Ints:
    """Cut a tree after the merge whose distance is nearest to the threshold, of those that give `wanted` clusters.

    If none does, the number of large clusters comes as near to it as it can.
    """
    by_order = tree.copy()
    by_order[:, 2] = np.arange(len(tree))  # distances of centroids need not rise, the order of merges does
    best, off = len(tree), abs(1 - wanted)
    for merge in np.argsort(np.abs(tree[:, 2] - threshold)):
        if tree[merge, 3] < smallest:
            continue  # no large cluster came of it
        labels = fcluster(by_order, merge, criterion="distance") - 1
        distance = abs(len(_large(labels, smallest)) - wanted)
        if distance == 0:
            return labels
        if distance < off:
            best, off = int(merge), distance
    return fcluster(by_order, best, criterion="distance") - 1


def label_by_kmeans(vectors: Numbers, count: int) -> Ints:
    """k-means on vectors of length 1, the best of some runs; always the same for the same vectors."""
    vectors = unit(vectors)
    best, labels = np.inf, np.arange(len(vectors)) % count  # of vectors that are all alike, whatever
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        try:
            centres, found = kmeans2(vectors, count, iter=100, minit="++", rng=rng, missing="raise")
        except ClusterError:  # a cluster lost all its vectors
            continue
        spent = float(np.square(vectors - centres[found]).sum())
        if spent < best:
            best, labels = spent, found
    return np.unique(labels, return_inverse=True)[1]


def label_by_spectrum(vectors: Numbers, settings: ClusteringSettings, low: int, high: int) -> Ints:
    """Spectral clustering, where the largest gap between eigenvalues says how many clusters there are.

    How many neighbours of each embedding count is chosen as in Park et al., "Auto-tuning spectral clustering for
    speaker diarization using normalized maximum eigengap", IEEE Signal Processing Letters 2020.
    """
    similarity = unit(vectors) @ unit(vectors).T
    ranks = np.argsort(np.argsort(-similarity, axis=1), axis=1)
    count_high = min(high, max(low, MOST_BY_GAP))
    best: tuple[float, int, Numbers] | None = None
    for share in NEIGHBOURS:
        near = (ranks < max(3, round(share * len(vectors)))).astype(float)
        near = (near + near.T) / 2
        values, directions = eigh(np.diag(near.sum(axis=1)) - near)
        gaps = np.diff(values[: count_high + 1])[low - 1 :]
        count = low + int(gaps.argmax()) if len(gaps) else low
        ratio = share / max(gaps.max(initial=0) / max(values[-1], 1e-12), 1e-12)
        if best is None or ratio < best[0]:
            best = ratio, count, directions[:, :count]
    assert best is not None
    return label_by_kmeans(best[2], best[1])
