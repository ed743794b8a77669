"""Embeddings with a known owner must be given back to their owner."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.pipeline import cluster as module
from pixit.pipeline.cluster import ClusteringSettings

DEFAULT = ClusteringSettings(threshold=0.6)
SIZE = 24


def cluster(
    vectors: np.ndarray,
    seconds: np.ndarray,
    settings: ClusteringSettings,
    min_speakers: int = 1,
    max_speakers: int | None = None,
    talk_s: np.ndarray | None = None,
) -> np.ndarray:
    """Windows that do not overlap and speakers who do not: all speech is embedded, and counts in full."""
    talk_s = seconds if talk_s is None else talk_s
    num_windows, num_local = seconds.shape
    apart = np.tile(~np.eye(num_local, dtype=bool), (num_windows, 1, 1))
    return module.cluster(vectors, seconds, talk_s, apart, settings, min_speakers, max_speakers)


def make_vectors(
    owners: np.ndarray, noise: float = 0.05, seed: int = 0, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (W, K, D) and seconds (W, K) of local speakers whose owner is known; -1 is silent."""
    rng = np.random.default_rng(seed)
    directions = np.eye(size, dtype=np.float32)
    vectors = directions[np.maximum(owners, 0)] + noise * rng.standard_normal((*owners.shape, size))
    vectors = vectors * rng.uniform(0.1, 10, (*owners.shape, 1))  # length says nothing
    vectors[owners < 0] = np.nan
    return vectors.astype(np.float32), np.where(owners < 0, 0, 2.0).astype(np.float32)


def make_owners(num_windows: int, num_speakers: int, seed: int = 0, num_local: int = 3) -> np.ndarray:
    """Up to 3 different speakers a window, in random places."""
    rng = np.random.default_rng(seed)
    owners = np.full((num_windows, num_local), -1)
    for row in owners:
        present = rng.permutation(num_speakers)[: rng.integers(0, num_local + 1)]
        row[rng.permutation(num_local)[: len(present)]] = present
    return owners


def in_order(owners: np.ndarray) -> np.ndarray:
    """Renumber by first appearance."""
    numbers: dict[int, int] = {-1: -1}
    return np.array([[numbers.setdefault(o, len(numbers) - 1) for o in row] for row in owners])


@settings(max_examples=30, deadline=None)
@given(num_speakers=st.integers(1, 8), num_windows=st.integers(20, 60), seed=st.integers(0, 99))
def test_owners_are_found(num_speakers: int, num_windows: int, seed: int) -> None:
    owners = make_owners(num_windows, num_speakers, seed)
    found = cluster(*make_vectors(owners, seed=seed), ClusteringSettings(threshold=0.6, min_speaker_s=0))
    np.testing.assert_array_equal(found, in_order(owners))


def test_order_within_a_window_does_not_matter() -> None:
    owners = make_owners(30, 4)
    vectors, seconds = make_vectors(owners)
    rng = np.random.default_rng(5)
    orders = np.array([rng.permutation(3) for _ in owners])
    shuffled = np.take_along_axis(vectors, orders[..., None], 1), np.take_along_axis(seconds, orders, 1)
    straight = np.take_along_axis(cluster(vectors, seconds, DEFAULT), orders, 1)
    np.testing.assert_array_equal(cluster(*shuffled, DEFAULT), in_order(straight))


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("num_speakers", [1, 3, 5])
def test_asked_for_a_number_of_speakers(wanted: int, num_speakers: int) -> None:
    owners = make_owners(60, num_speakers)
    found = cluster(*make_vectors(owners, 0.15), DEFAULT, min_speakers=wanted, max_speakers=wanted)
    assert len(np.unique(found[found >= 0])) == wanted
    for row, owner in zip(found, owners, strict=True):
        kept = row[row >= 0]
        assert len(kept) == (owner >= 0).sum()  # nobody is lost
        if wanted >= num_speakers:
            assert len(set(kept)) == len(kept)  # one to one
        assert (row[owner < 0] == -1).all()
    if wanted == num_speakers:
        np.testing.assert_array_equal(found, in_order(owners))


@pytest.mark.parametrize(("low", "high", "expected"), [(1, None, 4), (1, 2, 2), (6, None, 6), (2, 5, 4)])
def test_bounds(low: int, high: int | None, expected: int) -> None:
    found = cluster(*make_vectors(make_owners(60, 4)), DEFAULT, low, high)
    assert found.max() + 1 == expected


def test_more_speakers_than_vectors() -> None:
    """No speaker is invented where there is nothing to distinguish."""
    found = cluster(*make_vectors(np.array([[0, 1, -1]])), DEFAULT, min_speakers=5)
    assert found.tolist() == [[0, 1, -1]]


def test_a_single_vector() -> None:
    assert cluster(*make_vectors(np.array([[-1, 3]])), DEFAULT).tolist() == [[-1, 0]]
    assert cluster(*make_vectors(np.array([[-1, 3]])), DEFAULT, min_speakers=2).tolist() == [[-1, 0]]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 3)])
def test_everybody_silent(shape: tuple[int, int]) -> None:
    found = cluster(np.full((*shape, 8), np.nan, np.float32), np.zeros(shape, np.float32), DEFAULT)
    np.testing.assert_array_equal(found, np.full(shape, -1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_no_direction_is_silent(bad: float) -> None:
    vectors, seconds = make_vectors(np.array([[0, 1]] * 9))
    vectors[4, 1, 7] = bad
    found = cluster(vectors, seconds, DEFAULT)
    assert found[4].tolist() == [0, -1]
    assert np.delete(found, 4, axis=0).tolist() == [[0, 1]] * 8


def test_zero_vectors_do_no_harm() -> None:
    vectors, seconds = make_vectors(np.array([[0, 1]] * 9))
    vectors[3] = vectors[5, 0] = 0
    found = cluster(vectors, seconds, DEFAULT)
    assert np.delete(found, [3, 5], axis=0).tolist() == [[0, 1]] * 7
    assert cluster(np.zeros((4, 2, 8), np.float32), np.ones((4, 2), np.float32), DEFAULT).max() >= 0


def test_short_speech_founds_no_speaker_but_finds_its_own() -> None:
    owners = make_owners(40, 3, seed=1)
    vectors, seconds = make_vectors(owners)
    short = np.flatnonzero((owners >= 0).sum(axis=1) == 2)[:5]
    rng = np.random.default_rng(3)
    vectors[short] += 0.7 * rng.standard_normal(vectors[short].shape).astype(np.float32)
    seconds[short] = 0.3
    found = cluster(vectors, seconds, DEFAULT)
    assert found.max() == 2
    assert (np.delete(found, short, axis=0) == np.delete(in_order(owners), short, axis=0)).all()


def test_all_speech_is_short() -> None:
    owners = make_owners(40, 3, seed=1)
    vectors, seconds = make_vectors(owners)
    np.testing.assert_array_equal(cluster(vectors, 0.2 * seconds, DEFAULT), in_order(owners))


def test_one_who_says_too_little_joins_the_nearest() -> None:
    owners = np.array([[0, -1]] * 10 + [[1, -1]] * 10 + [[2, -1]])
    vectors, seconds = make_vectors(owners)
    vectors[-1, 0] += np.linalg.norm(vectors[-1, 0]) * np.eye(SIZE)[1] * 0.7  # sounds a little like speaker 1
    seconds[-1] = 1.5
    assert cluster(vectors, seconds, DEFAULT)[:, 0].tolist() == [0] * 10 + [1] * 11


@pytest.mark.parametrize("windows_at_once", [1, 4])
@pytest.mark.parametrize("num_short", [0, 10, 400])
@pytest.mark.parametrize("max_vectors", [10, 2000])
def test_the_least_talk_of_a_speaker_is_in_seconds_of_the_recording(
    windows_at_once: int, num_short: int, max_vectors: int
) -> None:
    """However many local speakers are short, or left out of the clustering, and however often each is heard."""
    owners = np.array([[0, -1]] * (20 + num_short) + [[1, -1]] * 4 * windows_at_once)
    vectors, embedded_s = make_vectors(owners)
    embedded_s[20 : 20 + num_short] /= 10
    talk_s = embedded_s / windows_at_once  # 8 s of the second speaker
    for least_s, num_found in ((7.5, 2), (8.5, 1)):
        least = ClusteringSettings(threshold=0.6, min_speaker_s=least_s, max_vectors=max_vectors)
        assert cluster(vectors, embedded_s, least, talk_s=talk_s).max() + 1 == num_found


def test_asked_for_two_where_one_never_says_much() -> None:
    owners = np.array([[0, -1]] * 10 + [[1, -1]] * 3)
    vectors, seconds = make_vectors(owners)
    seconds[10:] = 0.4
    # two are wanted: there are vectors enough of the first, but the second is the one to find
    found = cluster(vectors, seconds, ClusteringSettings(threshold=0.6, min_speaker_s=1), 2, 2)
    assert len(np.unique(found[found >= 0])) == 2


def test_subsampling_finds_the_same() -> None:
    owners = make_owners(400, 4)
    vectors, seconds = make_vectors(owners)
    few = cluster(vectors, seconds, ClusteringSettings(threshold=0.6, max_vectors=50))
    np.testing.assert_array_equal(few, cluster(vectors, seconds, DEFAULT))


def test_assignment_is_the_best_one_to_one() -> None:
    """Both local speakers sound like the first: together, the second one's is the better for the second."""
    owners = np.array([[0, 1]] * 10 + [[0, 1]])
    vectors, seconds = make_vectors(owners, noise=0)
    vectors[-1, 0] = np.eye(SIZE)[0]
    vectors[-1, 1] = np.eye(SIZE)[0] + 0.5 * np.eye(SIZE)[1]
    for order in itertools.permutations(range(2)):
        mixed = vectors.copy()
        mixed[-1] = vectors[-1, list(order)]
        assert cluster(mixed, seconds, DEFAULT)[-1].tolist() == list(order)


def test_ten_hours_are_lean() -> None:
    owners = np.full((36_000, 3), -1)
    owners[:, 0] = np.arange(36_000) // 7 % 6
    owners[::2, 1] = (owners[::2, 0] + 1) % 6
    vectors, seconds = make_vectors(owners, size=128)
    tracemalloc.start()
    found = cluster(vectors, seconds, DEFAULT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, owners)
    assert peak < 100e6


def test_a_split_voice_is_put_together_again() -> None:
    """Two outputs with the very same voice, where the other speakers sound quite different."""
    owners = make_owners(60, 3)
    vectors, speech_s = make_vectors(owners, 0.05)
    whole = cluster(vectors, speech_s, DEFAULT)
    window = int(np.flatnonzero((owners >= 0).sum(axis=1) == 1)[0])
    speaker = int(np.flatnonzero(owners[window] >= 0)[0])
    other = (speaker + 1) % owners.shape[1]
    vectors[window, other], speech_s[window, other] = vectors[window, speaker], 0.5
    split = cluster(vectors, speech_s, DEFAULT)
    assert split[window, speaker] == split[window, other] == whole[window, speaker]
    apart = cluster(vectors, speech_s, DEFAULT.model_copy(update={"split_gap": 2.0}))
    assert apart[window, speaker] != apart[window, other]
