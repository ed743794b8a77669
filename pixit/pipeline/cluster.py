"""From the embeddings of local speakers to the speakers of the recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from pixit.config import Settings

Floats = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Refine = Callable[[Floats, Ints], Ints]
"""Takes vectors (n, D) and their labels (n,), and returns better labels, of no more clusters."""


class ClusteringSettings(Settings):
    """Clustering of speaker embeddings."""

    method: Literal["average", "agglomerative", "vbx", "kmeans", "spectral", "oracle"] = Field(
        "average",
        description="average: pixit's own, average linkage; agglomerative, vbx, kmeans: as pyannote.audio has them "
        "(kmeans needs the number of speakers); spectral: as many speakers as the largest gap between eigenvalues "
        "says; oracle: the true speakers, from a reference",
    )
    threshold: float | None = Field(
        None,
        gt=0,
        le=2,
        description="average: mean cosine distance up to which embeddings are of one speaker, by default the "
        "embedder's; agglomerative, vbx: distance at which the tree is cut, of centroids of unit vectors Euclidean",
    )
    linkage: Literal["centroid", "average", "complete", "median", "single", "ward", "weighted"] = Field(
        "centroid", description="agglomerative: distance between clusters"
    )
    min_cluster_size: int = Field(
        12,
        ge=1,
        le=100_000,
        description="agglomerative: embeddings (one a window) that a speaker has at least",
    )
    refined: bool = Field(
        True,
        description="average: VBx decides anew which embeddings are of one speaker, where the embedder has a PLDA",
    )
    fa: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="vbx, and refined: how much each embedding counts as evidence; by default 0.07 with vbx, as in "
        "pyannote.audio, and where it refines the step divided by the window, as so many windows hear the same",
    )
    fb: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="vbx, and refined: the larger, the fewer speakers; by default 0.8 with vbx, 0.5 where it refines",
    )
    plda: str | None = Field(
        None,
        description="vbx: folder with a PLDA, xvec_transform.npz and plda.npz; by default the embedder's own",
    )
    min_active_ratio: float = Field(
        0.2,
        ge=0,
        le=1,
        description="all but average and oracle: share of a window for which a local speaker talks alone to be "
        "clustered (pyannote.audio 4: 0.2, 3: 0)",
    )
    constrained: bool | None = Field(
        None,
        description="all but average and oracle: local speakers of a window are different speakers; by default "
        "with vbx, unless the number of speakers had to be changed",
    )
    min_speech_s: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="average: seconds of speech that an embedding to be clustered stands on",
    )
    min_speaker_s: float = Field(
        2.0,
        ge=0,
        le=36_000,
        description="average, and with known speakers: seconds of the recording for which a speaker talks at least",
    )
    split_gap: float = Field(
        0.5,
        ge=0,
        le=2,
        description="average: loss of cosine similarity from which two outputs are one voice that was split",
    )
    known_distance: float | None = Field(
        None,
        gt=0,
        le=2,
        description="mean cosine distance up to which a speaker is one who is known; by default that of the "
        "embeddings of one speaker",
    )
    max_vectors: int = Field(
        2000, ge=2, le=20_000, description="most embeddings to cluster; others join the nearest"
    )


def cluster(
    vectors: Floats,
    embedded_s: Floats,
    talk_s: Floats,
    apart: Bools,
    settings: ClusteringSettings,
    min_speakers: int = 1,
    max_speakers: int | None = None,
    refine: Refine | None = None,
) -> Ints:
    """Assign every local speaker to a speaker of the recording.

    The embeddings that stand on enough speech are clustered (average linkage on cosine distance, and `refine` after
    it), which gives the speakers and their centroids; then each window assigns its local speakers to the centroids,
    different ones to those who cannot be the same person; unless that forces one of them to a voice much less like
    its own (``split_gap``): then the network has split a voice in two, and both parts go to the same speaker.

    Parameters
    ----------
    vectors
        (W, K, D), NaN where a local speaker is silent.
    embedded_s, talk_s
        Seconds of speech behind each vector; those of the recording that it stands for (`count_talk`), (W,
        K).
    apart
        Which local speakers of a window are different people, (W, K, K).
    min_speakers, max_speakers
        Bounds on the number of speakers; kept if there is enough speech to distinguish them.

    Returns
    -------
    numpy.ndarray
        (W, K), counted from 0 in the order of first appearance; -1 where silent.
    """
    active: Bools = np.asarray(np.isfinite(vectors).all(axis=-1))
    if not active.any():
        return np.full(embedded_s.shape, -1, np.int64)
    chosen = _choose(active, embedded_s, settings, min_speakers)
    clustered = unit(vectors[chosen])
    seconds = _talk_near(clustered, vectors, talk_s, active)
    labels = _agglomerate(clustered, seconds, settings, (min_speakers, max_speakers), refine)
    centroids = _centroids(clustered, labels)
    return by_first_appearance(assign(vectors, active, centroids, apart, settings.split_gap))


def assign(vectors: Floats, active: Bools, centroids: Numbers, apart: Bools, split_gap: float) -> Ints:
    """Return the nearest of the centroids (N, D) for each `active` local speaker, (W, K), as `cluster` does."""
    speakers = np.full(active.shape, -1, np.int64)
    for window in np.flatnonzero(active.any(axis=1)):
        local = np.flatnonzero(active[window])
        similarity = unit(vectors[window, local]) @ centroids.T
        speakers[window, local] = _assign(similarity, apart[window][np.ix_(local, local)], split_gap)
    return speakers


def _assign(similarity: Numbers, apart: Bools, split_gap: float) -> Ints:
    """Return a column for each row: of rows that are `apart` different ones, if that costs less than `split_gap`.

    The clearest row comes first. Takes similarities (n, N) and (n, n).
    """
    best = np.sort(similarity, axis=1)
    margins = best[:, -1] - best[:, -2] if best.shape[1] > 1 else best[:, -1]
    columns = np.full(len(similarity), -1, np.int64)
    for row in np.argsort(-margins, kind="stable"):
        taken = columns[apart[row] & (columns >= 0)]
        left = similarity[row].copy()
        left[taken] -= split_gap
        columns[row] = left.argmax()
    return columns


def _choose(
    active: Bools, embedded_s: Floats, settings: ClusteringSettings, min_speakers: int
) -> tuple[Ints, Ints]:
    """Return the places (window, local speaker) of the embeddings to cluster, evenly spread over time."""
    enough = active & (embedded_s >= settings.min_speech_s)
    if enough.sum() < min_speakers:
        enough = active
    return tuple(spread(np.argwhere(enough), settings.max_vectors).T)


def spread(places: Ints, most: int) -> Ints:
    """Return at most so many rows, evenly spread over all."""
    return places[np.linspace(0, len(places) - 1, min(len(places), most)).round().astype(int)]


def _talk_near(
    clustered: Floats, vectors: Floats, talk_s: Floats, active: Bools, block: int = 1000
) -> Floats:
    """Return the seconds of talk that each clustered vector stands for: of all vectors nearest to it."""
    places = np.argwhere(active)
    totals = np.zeros(len(clustered), np.float32)
    for first in range(0, len(places), block):  # in blocks: the table of similarities would be large
        part = tuple(places[first : first + block].T)
        nearest = (unit(vectors[part]) @ clustered.T).argmax(axis=1)
        np.add.at(totals, nearest, talk_s[part])
    return totals


def _agglomerate(
    vectors: Floats,
    seconds: Floats,
    settings: ClusteringSettings,
    bounds: tuple[int, int | None],
    refine: Refine | None,
) -> Ints:
    """Return a label for each vector; clusters with too little speech join the nearest larger one."""
    if len(vectors) == 1:
        return np.zeros(1, np.int64)
    # Between vectors of length 1 this is the cosine distance; unlike that, it is defined for a zero vector.
    assert settings.threshold is not None, "the separator puts the embedder's in its place"
    tree = linkage(pdist(vectors, "sqeuclidean") / 2, method="average")
    labels = fcluster(tree, settings.threshold, criterion="distance") - 1
    labels = labels if refine is None else refine(vectors, labels)
    large = _large(labels, seconds, settings)
    low, high = bounds[0], bounds[1] or len(vectors)
    if not low <= max(1, len(large)) <= high:
        labels, large = _cut_to(tree, seconds, settings, low if len(large) < low else high)
        better = labels if refine is None else refine(vectors, labels)
        if len(large) == len(found := _large(better, seconds, settings)):  # all speakers are still there
            labels, large = better, found
    if len(large) == 0:
        large = np.array([np.argmax(np.bincount(labels, weights=seconds))])
    nearest = large[(vectors @ _centroids(vectors, labels, large).T).argmax(axis=1)]
    return np.where(np.isin(labels, large), labels, nearest)


def _large(labels: Ints, seconds: Floats, settings: ClusteringSettings) -> Ints:
    """Return the clusters that have enough speech."""
    return np.flatnonzero(np.bincount(labels, weights=seconds) >= settings.min_speaker_s)


def _centroids(vectors: Floats, labels: Ints, of: Ints | None = None) -> Floats:
    """Return the directions of the means of the clusters `of`, by default of all that have a vector, (N, D)."""
    clusters = np.unique(labels) if of is None else of
    return unit(np.stack([vectors[labels == n].mean(axis=0) for n in clusters]))


def _cut_to(tree: Floats, seconds: Floats, settings: ClusteringSettings, wanted: int) -> tuple[Ints, Ints]:
    """Cut the tree so that `wanted` clusters have enough speech, or at the nearest that it allows."""
    best: tuple[int, Ints, Ints] | None = None
    for count in range(wanted, min(len(seconds), wanted + 30) + 1):
        labels = fcluster(tree, count, criterion="maxclust") - 1
        totals = np.bincount(labels, weights=seconds)
        large = np.flatnonzero(totals >= settings.min_speaker_s)
        if len(large) > wanted:
            large = np.sort(np.argsort(totals)[::-1][:wanted])
        if best is None or abs(len(large) - wanted) < best[0]:
            best = abs(len(large) - wanted), labels, large
        if best[0] == 0:
            break
    if best is None or best[0]:  # too little speech for so many speakers: take the clusters as they are
        labels = fcluster(tree, wanted, criterion="maxclust") - 1
        return labels, np.unique(labels)
    return best[1], best[2]


def unit(vectors: Numbers) -> Numbers:
    """Return vectors (…, D) at length 1; zero vectors stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def by_first_appearance(speakers: Ints) -> Ints:
    """Return speakers (W, K), -1 for none, with numbers in the order in which they come."""
    flat = speakers.ravel()
    found, first = np.unique(flat[flat >= 0], return_index=True)
    order = np.full(found.max() + 1 if len(found) else 1, -1, np.int64)
    order[found[np.argsort(first)]] = np.arange(len(found))
    return np.where(speakers >= 0, order[np.maximum(speakers, 0)], -1)
