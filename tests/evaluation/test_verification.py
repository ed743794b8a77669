"""Verification measures against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pixit.evaluation.verification import (
    Crops,
    draw_crops,
    equal_error_rate,
    mean_clustering_purity,
    purity,
    trial_error_rate,
)
from pixit.types import PixitError


@pytest.mark.parametrize(
    ("same_scores", "different_scores", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.8, 0.9], 1.0),
        ([0.9, 0.8, 0.7, 0.2], [0.6, 0.3, 0.1, 0.0], 0.25),
        ([0.5, 0.5], [0.5, 0.5], 0.5),
    ],
)
def test_equal_error_rate_by_hand(
    same_scores: list[float], different_scores: list[float], expected: float
) -> None:
    scores = np.array(same_scores + different_scores)
    same = np.array([True] * len(same_scores) + [False] * len(different_scores))
    assert equal_error_rate(scores, same) == pytest.approx(expected)


def test_equal_error_rate_of_two_gaussians() -> None:
    """Two unit Gaussians whose means are 2 apart cross at one standard deviation: 15.87 %."""
    rng = np.random.default_rng(0)
    same = np.arange(200_000) % 4 == 0
    scores = rng.standard_normal(200_000) + 2 * same
    assert equal_error_rate(scores, same) == pytest.approx(0.1587, abs=0.004)


def test_purity_by_hand() -> None:
    assert purity(np.array([1, 1, 1, 2, 2]), np.array([7, 7, 8, 8, 8])) == pytest.approx(4 / 5)


def clustered_crops(spread: float) -> tuple[np.ndarray, Crops]:
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(4), 12)
    embeddings = np.eye(4)[speakers] + spread * rng.standard_normal((48, 4))
    return embeddings.astype(np.float32), Crops(np.zeros((48, 1), np.float32), speakers, np.arange(48) // 3)


def test_separate_voices_score_perfectly_and_noise_does_not() -> None:
    embeddings, crops = clustered_crops(0.01)
    assert trial_error_rate(embeddings, crops) == 0
    assert mean_clustering_purity(embeddings, crops, np.random.default_rng(0), meetings=20) == 1
    embeddings, crops = clustered_crops(100.0)
    assert trial_error_rate(embeddings, crops) > 0.3
    assert mean_clustering_purity(embeddings, crops, np.random.default_rng(0), meetings=20) < 0.8


def test_pairs_of_one_utterance_are_no_trials() -> None:
    embeddings, crops = clustered_crops(0.01)
    for utterance in range(0, 16, 2):  # make halves of each speaker differ: only within utterances alike
        embeddings[crops.utterances == utterance] *= -1
    assert trial_error_rate(embeddings, crops) > 0.3


def test_crops_are_cut_from_long_enough_utterances() -> None:
    speech = {
        "b": [np.full(100, 2, np.float32), np.full(5, 9, np.float32)],
        "a": [np.full(50, 1, np.float32)],
    }
    crops = draw_crops(speech, 20, 3, np.random.default_rng(0))
    assert crops.waveforms.shape == (6, 20)
    np.testing.assert_array_equal(crops.waveforms[:, 0], crops.speakers + 1)
    np.testing.assert_array_equal(crops.utterances, [1, 1, 1, 2, 2, 2])
    with pytest.raises(PixitError, match="2 or more"):
        draw_crops(speech, 60, 3, np.random.default_rng(0))


def test_crops_avoid_pauses() -> None:
    signal = np.zeros(1000, np.float32)
    signal[500:] = 1
    crops = draw_crops({"a": [signal], "b": [signal]}, 100, 2, np.random.default_rng(0))
    assert np.square(crops.waveforms).mean(1).min() > 0.5
