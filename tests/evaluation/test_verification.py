"""Verification measures against counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.evaluation.verification import (
    Crops,
    Trial,
    draw_crops,
    draw_trials,
    equal_error_rate,
    mean_clustering_purity,
    purity,
    read_trials,
    score_trials,
    trial_error_rate,
    write_trials,
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


def test_trials_scored_by_hand() -> None:
    same = np.array([True] * 4 + [False] * 4)
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.1, 0.0])
    found = score_trials(scores, same, prior=0.5)
    assert found.eer == 0.25
    assert found.threshold == 0.3  # what scores above is accepted: one miss, one false alarm
    assert found.accuracy == 0.75
    assert found.tar_at_1_far == 0.75  # above 0.6 no different pair is accepted
    assert found.min_dcf == pytest.approx(0.25)  # one miss of four, no false alarm
    assert (found.same, found.different) == (4, 4)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.5]))
def test_costs_are_the_least_over_all_thresholds(seed: int, prior: float) -> None:
    rng = np.random.default_rng(seed)
    same = np.arange(40) % 3 == 0
    scores = np.round(rng.standard_normal(40) + same, 1)
    found = score_trials(scores, same, prior)
    costs, accepted_at_1 = [], []
    for threshold in [-np.inf, *scores]:
        accepted = scores > threshold
        missed, false_alarm = np.mean(~accepted[same]), np.mean(accepted[~same])
        costs.append((missed * prior + false_alarm * (1 - prior)) / min(prior, 1 - prior))
        accepted_at_1.append(1 - missed if false_alarm <= 0.01 else 0)
    assert found.min_dcf == pytest.approx(min(costs))
    assert found.min_dcf <= 1 + 1e-12
    assert found.tar_at_1_far == pytest.approx(max(accepted_at_1))
    assert found.accuracy == np.mean((scores > found.threshold) == same)


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, 0.2], [True, True], "2 of one speaker only"),
        ([0.1, 0.2], [False, False], "2 of two speakers only"),
        ([0.1, np.nan], [True, False], "1 scores that are no numbers"),
    ],
)
def test_trials_that_cannot_be_scored_are_told(scores: list[float], same: list[bool], message: str) -> None:
    with pytest.raises(PixitError, match=message):
        score_trials(np.array(scores), np.array(same))


def recordings(folder: Path, counts: dict[str, int]) -> dict[str, list[Path]]:
    speech: dict[str, list[Path]] = {}
    for speaker, count in counts.items():
        (folder / speaker).mkdir(parents=True)
        speech[speaker] = [folder / speaker / f"{number}.wav" for number in range(count)]
        for path in speech[speaker]:
            path.touch()
    return speech


def test_drawn_trials_are_true_and_different(tmp_path: Path) -> None:
    speech = recordings(tmp_path, {"a": 4, "b": 5, "c": 1})
    trials = draw_trials(speech, 1000, np.random.default_rng(0))
    assert len({frozenset((t.first, t.second)) for t in trials}) == len(trials)
    assert all(trial.same == (trial.first.parent == trial.second.parent) for trial in trials)
    assert sum(trial.same for trial in trials) == 6 + 10  # all that there are
    assert sum(not trial.same for trial in trials) == 20 + 4 + 5
    assert len(draw_trials(speech, 10, np.random.default_rng(0))) == 10
    with pytest.raises(PixitError, match="1 speakers, 1 with two recordings"):
        draw_trials({"a": speech["a"]}, 10, np.random.default_rng(0))


def test_written_trials_are_read_back(tmp_path: Path) -> None:
    trials = draw_trials(recordings(tmp_path / "speech", {"a": 3, "b": 3}), 12, np.random.default_rng(0))
    write_trials(tmp_path / "trials.txt", trials)
    assert read_trials(tmp_path / "trials.txt") == trials
    kaldi = "".join(
        f"{t.first.relative_to(tmp_path)} {t.second.relative_to(tmp_path)} {'' if t.same else 'non'}target\n"
        for t in trials
    )
    (tmp_path / "kaldi.txt").write_text(kaldi)
    assert read_trials(tmp_path / "kaldi.txt") == trials
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "kaldi.txt").rename(tmp_path / "elsewhere" / "kaldi.txt")
    assert read_trials(moved, root=tmp_path) == trials


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no trials"),
        (b"1 a.wav\n", "line 1: found '1 a.wav', expected"),
        (b"\n2 a.wav a.wav\n", "line 2: found"),
        (b"1 a.wav nowhere.wav\n", "line 1: .*nowhere.wav is not a file; say with --root"),
        (b"\xff\xfe", "is not UTF-8 text, expected a list of trials"),
    ],
)
def test_bad_lists_of_trials_are_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "trials.txt").write_bytes(content)
    with pytest.raises(PixitError, match=message):
        read_trials(tmp_path / "trials.txt")


def test_trials_with_spaces_are_not_written(tmp_path: Path) -> None:
    trials = [Trial(tmp_path / "my a.wav", tmp_path / "b.wav", True)]
    with pytest.raises(PixitError, match=r"my a\.wav: has a space in its name"):
        write_trials(tmp_path / "trials.txt", trials)
    assert not (tmp_path / "trials.txt").exists()


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "trials.txt").write_text("1 a.wav b.wav\n", encoding="utf-8-sig")
    assert len(read_trials(tmp_path / "trials.txt")) == 1
