"""Clustering by other methods: known owners are found, bounds are kept, and what is missing is said."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.pipeline.cluster import ClusteringSettings, by_first_appearance, cluster
from pixit.pipeline.methods import cluster_by_centroids, label_by_kmeans, label_by_linkage
from pixit.pipeline.vbx import refine
from pixit.types import PixitError, Plda

SIZE = 16
METHODS: dict[str, dict[str, Any]] = {
    **{
        linkage: {
            "method": "agglomerative",
            "linkage": linkage,
            "threshold": threshold,
            "min_cluster_size": 2,
        }
        for linkage, threshold in {
            **{"centroid": 0.7, "median": 0.7, "ward": 1.5},
            **{"average": 0.5, "complete": 0.7, "single": 0.3, "weighted": 0.5},
        }.items()
    },
    "kmeans": {"method": "kmeans"},
    "spectral": {"method": "spectral"},
}


def make(num_speakers: int, seed: int = 0, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners (W, K), -1 silent, in the order of first appearance; vectors (W, K, D); share of solo speech (W, K)."""
    rng = np.random.default_rng(seed)
    owners = np.array([rng.permutation(num_speakers + 1)[:2] - 1 for _ in range(60)])
    owners = np.concatenate([[[0, -1]], owners])
    numbers: dict[int, int] = {-1: -1}
    owners = np.array([[numbers.setdefault(o, len(numbers) - 1) for o in row] for row in owners.tolist()])
    vectors = np.eye(SIZE)[owners.clip(0)] + noise * rng.standard_normal((*owners.shape, SIZE))
    vectors *= rng.uniform(0.1, 10, (*owners.shape, 1))
    vectors[owners < 0] = np.nan
    solo = np.where(owners < 0, 0, rng.uniform(0.25, 1, owners.shape))
    return owners, vectors.astype(np.float32), solo.astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=5, deadline=None)
@given(num_speakers=st.integers(2, 5), seed=st.integers(0, 99))
def test_owners_are_found(method: str, num_speakers: int, seed: int) -> None:
    owners, vectors, solo = make(num_speakers, seed)
    bounds = (num_speakers, num_speakers) if method == "kmeans" else (1, None)
    found = by_first_appearance(
        cluster_by_centroids(vectors, solo, ClusteringSettings(**METHODS[method]), *bounds)
    )
    np.testing.assert_array_equal(found, owners)


@pytest.mark.parametrize("method", ["centroid", "spectral", "kmeans"])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_number_of_speakers_is_kept(method: str, count: int) -> None:
    _, vectors, solo = make(4, noise=0.3)
    found = by_first_appearance(
        cluster_by_centroids(vectors, solo, ClusteringSettings(**METHODS[method]), count, count)
    )
    assert set(found.ravel().tolist()) - {-1} == set(range(count))


def test_who_hardly_talks_alone_makes_no_speaker_but_joins_one() -> None:
    owners, vectors, solo = make(3)
    chosen = ClusteringSettings(**METHODS["centroid"])
    solo[owners == 2] = 0.1
    found = by_first_appearance(cluster_by_centroids(vectors, solo, chosen))
    assert found.max() == 1
    assert (found[owners == 2] >= 0).all()
    everybody = chosen.model_copy(update={"min_active_ratio": 0.0})
    np.testing.assert_array_equal(by_first_appearance(cluster_by_centroids(vectors, solo, everybody)), owners)


def test_silence_and_a_single_voice() -> None:
    chosen = ClusteringSettings(**METHODS["centroid"])
    nobody = np.full((3, 2, SIZE), np.nan, np.float32)
    assert (cluster_by_centroids(nobody, np.zeros((3, 2), np.float32), chosen) == -1).all()
    one = nobody.copy()
    one[1, 1] = 1
    found = cluster_by_centroids(one, np.ones((3, 2), np.float32), chosen)
    assert found.tolist() == [[-1, -1], [-1, 0], [-1, -1]]


def test_constrained_speakers_of_a_window_differ() -> None:
    """Two like voices in one window: to the same speaker, unless that is forbidden."""
    owners, vectors, solo = make(2)
    vectors[5] = np.eye(SIZE)[owners[0, 0]] + np.array([[0.0], [0.01]])
    free, bound = (
        cluster_by_centroids(
            vectors, solo, ClusteringSettings(**METHODS["centroid"], constrained=constrained)
        )
        for constrained in (None, True)
    )
    assert free[5, 0] == free[5, 1]
    assert bound[5, 0] != bound[5, 1]


def test_small_clusters_join_the_most_similar_large_one() -> None:
    rng = np.random.default_rng(0)
    directions = np.eye(4) + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0.9, 0, 0, 0], [0, 0.9, 0, 0]])
    owners = np.repeat([0, 1, 2, 3], [30, 30, 2, 2])
    vectors = directions[owners] + 0.01 * rng.standard_normal((64, 4))
    chosen = ClusteringSettings(method="agglomerative", threshold=0.2, min_cluster_size=5)
    labels = label_by_linkage(vectors, chosen, 1, 64)
    np.testing.assert_array_equal(labels == labels[0], (owners == 0) | (owners == 2))
    assert labels.max() == 1


def test_kmeans_always_gives_the_same() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 4))
    np.testing.assert_array_equal(label_by_kmeans(vectors, 3), label_by_kmeans(vectors, 3))


def test_vbx_mends_what_a_tree_gives() -> None:
    """Each speaker twice, and a quarter of mistakes; they differ in one of many axes."""
    rng = np.random.default_rng(0)
    owners = np.arange(80) % 2
    vectors = rng.normal(size=(80, SIZE))
    vectors[:, 0] += np.where(owners, 5, -5)
    variances = np.array([30.0, *[0.01] * (SIZE - 1)])
    plda = Plda(np.zeros(SIZE), np.zeros(SIZE), np.eye(SIZE), variances)
    start = np.where(rng.random(80) < 0.25, rng.integers(4, size=80), 2 * owners + rng.integers(2, size=80))
    found = refine(vectors, start, plda, 0.5, 0.5)
    assert set(zip(found.tolist(), owners.tolist(), strict=True)) in ({(0, 0), (1, 1)}, {(0, 1), (1, 0)})
    assert refine(vectors[owners == 0], start[owners == 0], plda, 0.5, 0.5).tolist() == [0] * 40


def test_the_embedders_plda_serves_vbx_and_refines_average_linkage() -> None:
    owners, vectors, solo = make(3)
    plda = Plda(np.zeros(SIZE), np.zeros(SIZE), np.eye(SIZE), np.full(SIZE, 20.0))
    vbx = ClusteringSettings(method="vbx", threshold=0.3, fa=0.2, fb=0.5)
    found = by_first_appearance(cluster_by_centroids(vectors, solo, vbx, plda=plda))
    np.testing.assert_array_equal(found, owners)
    talk = np.where(owners < 0, 0, 2).astype(np.float32)
    apart = np.broadcast_to(~np.eye(2, dtype=bool), (len(owners), 2, 2))
    wanted = ClusteringSettings(threshold=0.01, min_speech_s=0)
    tree = cluster(vectors, talk, talk, apart, wanted)
    assert tree.max() > 2  # far too many
    better = partial(refine, plda=plda, fa=0.2, fb=0.5)
    np.testing.assert_array_equal(cluster(vectors, talk, talk, apart, wanted, refine=better), owners)
    for count in (2, 3, 5):  # what is known about the number still holds
        known = cluster(vectors, talk, talk, apart, wanted, count, count, better)
        assert known.max() + 1 == count


def test_what_a_method_lacks_is_said(tmp_path: Path) -> None:
    _, vectors, solo = make(3)
    with pytest.raises(PixitError, match="num_speakers"):
        cluster_by_centroids(vectors, solo, ClusteringSettings(method="kmeans"), 1, 4)
    with pytest.raises(PixitError, match=r"clustering\.plda"):
        cluster_by_centroids(vectors, solo, ClusteringSettings(method="vbx", threshold=0.6))
    vbx = ClusteringSettings(method="vbx", threshold=0.6, plda=str(tmp_path))
    with pytest.raises(PixitError, match=r"xvec_transform\.npz: cannot be read"):
        cluster_by_centroids(vectors, solo, vbx)
    pickled = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "xvec_transform.npz", mean1=pickled, mean2=pickled, lda=pickled)
    with pytest.raises(PixitError, match=r"xvec_transform\.npz: cannot be read"):
        cluster_by_centroids(vectors, solo, vbx)
    np.savez(tmp_path / "xvec_transform.npz", mean1=np.zeros(5), mean2=np.zeros(3), lda=np.eye(5, 3))
    np.savez(tmp_path / "plda.npz", mu=np.zeros(3), tr=np.eye(3), psi=np.ones(3))
    with pytest.raises(PixitError, match="no PLDA for embeddings of 16"):
        cluster_by_centroids(vectors, solo, vbx)


@pytest.mark.parametrize("linkage", ["centroid", "average", "complete", "single", "weighted"])
def test_an_embedding_of_zeros_is_far_from_all(linkage: str) -> None:
    vectors = np.zeros((5, 1, 3), np.float32)
    vectors[:4, 0, 0] = 1
    settings = ClusteringSettings.model_validate(
        {"method": "agglomerative", "threshold": 0.5, "linkage": linkage, "min_cluster_size": 1}
    )
    found = cluster_by_centroids(vectors, np.ones((5, 1), np.float32), settings)
    assert len(set(found[:4, 0].tolist())) == 1
    assert (found >= 0).all()
