"""Incremental clustering: as diart has it, and what is to be said of it beyond."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixit.pipeline.incremental import IncrementalClustering, IncrementalSettings

GOLDEN = np.load(Path(__file__).parent / "golden" / "diart_clustering.npz")


def make(**settings: float) -> IncrementalClustering:
    return IncrementalClustering(IncrementalSettings(**{"delta_new": 0.5, **settings}))


def test_there_are_enough_golden_sequences_of_enough_speakers() -> None:
    assert len(GOLDEN["speakers"]) >= 50
    assert GOLDEN["speakers"].max() == 19
    assert np.isnan(GOLDEN["vectors"]).any()


@pytest.mark.parametrize("number", range(len(GOLDEN["speakers"])))
def test_assignments_and_centroids_are_those_of_diart(number: int) -> None:
    tau_active, rho_update, delta_new, most = GOLDEN["settings"][number]
    clustering = make(
        tau_active=tau_active, rho_update=rho_update, delta_new=delta_new, max_speakers=int(most)
    )
    for activities, vectors, expected in zip(
        *(GOLDEN[name][number] for name in ("activities", "vectors", "speakers")), strict=True
    ):
        np.testing.assert_array_equal(clustering.assign(activities, vectors), expected)
    centroids = GOLDEN["centroids"][number]
    np.testing.assert_array_equal(clustering.sums, centroids[: clustering.num_speakers])
    assert not centroids[clustering.num_speakers :].any()


TALK, HUSH = np.ones(10), np.zeros(10)
BRIEF = np.array([1.0] + 9 * [0.0])
ANN, BOB, CAT = np.eye(3)


def test_who_returns_after_an_hour_is_known() -> None:
    clustering = make()
    assert clustering.assign(np.stack([TALK, HUSH]), np.stack([ANN, BOB])).tolist() == [0, -1]
    for _ in range(7200):
        assert clustering.assign(np.stack([HUSH, TALK]), np.stack([CAT, BOB])).tolist() == [-1, 1]
    assert clustering.assign(np.stack([TALK, TALK]), np.stack([BOB, ANN])).tolist() == [1, 0]
    assert clustering.num_speakers == 2


def test_two_local_speakers_of_a_window_are_never_one() -> None:
    clustering = make()
    clustering.assign(TALK[None], ANN[None])
    found = clustering.assign(np.stack([TALK, TALK]), np.stack([ANN, 0.9 * ANN + 0.1 * BOB]))
    assert found.tolist() in ([0, 1], [1, 0])


def test_a_few_words_begin_no_speaker() -> None:
    clustering = make()
    clustering.assign(np.stack([TALK, HUSH]), np.stack([ANN, BOB]))
    before = clustering.sums.copy()
    assert clustering.assign(BRIEF[None], BOB[None]).tolist() == [0]  # the only one there is
    assert clustering.assign(np.stack([TALK, BRIEF]), np.stack([ANN, BOB])).tolist() == [0, -1]
    np.testing.assert_array_equal(clustering.sums, before + ANN)  # and teach nobody's centroid


def test_no_more_than_the_most_speakers() -> None:
    clustering = make(max_speakers=2)
    for voice in (ANN, BOB):
        clustering.assign(TALK[None], voice[None])
    assert clustering.assign(TALK[None], (CAT + 0.1 * BOB)[None]).tolist() == [1]
    assert clustering.num_speakers == 2


def test_a_vector_of_zeros_is_nobody_near() -> None:
    clustering = make()
    clustering.assign(TALK[None], ANN[None])
    assert clustering.assign(TALK[None], np.zeros((1, 3))).tolist() == [1]


NOBODY, ALL = np.zeros((3, 3), bool), ~np.eye(3, dtype=bool)


def test_turns_of_one_output_may_be_one_speaker_or_several() -> None:
    """Ann, Bob, and Ann again, none of them at the same time: a new speaker is known within the window."""
    clustering = make()
    clustering.assign(HUSH[None], np.full((1, 3), np.nan))
    talk = np.stack([TALK, TALK, TALK])
    assert clustering.assign(talk, np.stack([ANN, BOB, ANN]), NOBODY).tolist() == [0, 1, 0]
    assert clustering.assign(talk, np.stack([BOB, BOB, CAT]), NOBODY).tolist() == [1, 1, 2]
    np.testing.assert_array_equal(clustering.sums, [2 * ANN, 3 * BOB, CAT])


def test_turns_at_the_same_time_are_different_people() -> None:
    clustering = make()
    clustering.assign(TALK[None], ANN[None], NOBODY[:1, :1])
    alike = np.stack([ANN, 0.9 * ANN + 0.1 * BOB, np.full(3, np.nan)])
    assert clustering.assign(np.stack([TALK, TALK, HUSH]), alike, ALL).tolist() == [0, 1, -1]
    few = np.stack([TALK, BRIEF, BRIEF])  # a few words go to the nearest who is free, or to nobody
    assert clustering.assign(few, np.stack([ANN, ANN, CAT]), ALL)[0] == 0
    assert sorted(clustering.assign(few, np.stack([ANN, ANN, CAT]), ALL).tolist()) == [-1, 0, 1]
    assert make(max_speakers=1).assign(np.stack([TALK] * 3), np.eye(3), ALL).tolist() == [0, -1, -1]
