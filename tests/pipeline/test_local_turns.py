"""An output of the model that carries one voice after another is taken apart at pauses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixit.pipeline.diarize import ActivitySettings
from pixit.pipeline.local_turns import Cut, LocalTurnSettings, find_apart, join_turns, make_cut
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import FrameGrid, LocalOutput

GEOMETRY = Geometry(1000, 900, 8, 200, 100, FrameGrid(10, 10), 20)
ACTIVITY = ActivitySettings(onset=0.5, offset=0.5)


@pytest.mark.parametrize(
    ("turns", "pause", "shortest", "most", "expected"),
    [
        ([], 3, 2, 5, []),
        ([[2, 8]], 3, 2, 5, [[2, 8]]),
        ([[0, 5], [7, 12]], 3, 2, 5, [[0, 12]]),  # the pause is too short
        ([[0, 5], [8, 12]], 3, 2, 5, [[0, 5], [8, 12]]),
        ([[0, 5], [9, 10], [14, 20]], 3, 2, 5, [[0, 10], [14, 20]]),  # a short turn joins the nearer one
        ([[0, 4], [8, 12], [15, 20]], 3, 2, 2, [[0, 4], [8, 20]]),  # too many: over the shortest pause
    ],
)
def test_turns_are_joined(
    turns: list[list[int]], pause: int, shortest: int, most: int, expected: list[list[int]]
) -> None:
    given_turns = np.array(turns, np.int64).reshape(-1, 2)
    assert join_turns(given_turns, pause, shortest, most).tolist() == expected


@given(
    st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 8), st.integers(1, 4)
)
def test_turns_share_all_frames(flags: list[bool], pause: int, shortest: int, most: int) -> None:
    (bounds,) = Cut(ACTIVITY, pause, shortest, most)(np.array([flags], np.float32))
    there = bounds[bounds[:, 1] > bounds[:, 0]]
    assert (there[0, 0], there[-1, 1]) == (0, len(flags))
    assert all(one[1] == other[0] for one, other in pairwise(there))
    np.testing.assert_array_equal(there, bounds[: len(there)])


def test_no_pause_no_cut() -> None:
    assert make_cut(LocalTurnSettings(pause_s=None), ACTIVITY, GEOMETRY) is None
    five_seconds = Geometry(16000, 160_000, 6, 80_000, 16_000, FrameGrid(256, 256), 312)
    cut = make_cut(LocalTurnSettings(), ACTIVITY, five_seconds)
    assert cut is not None
    assert (cut.pause, cut.shortest, cut.most) == (16, 19, 3)


def test_the_turns_of_an_output_are_all_of_it(tmp_path: Path, rng: np.random.Generator) -> None:
    activities = (rng.uniform(size=(8, 2, 20)) < 0.5).astype(np.float32)
    sources = rng.normal(size=(8, 2, 200)).astype(np.float32)
    active = rng.uniform(size=(8, 2)) < 0.8
    cut = Cut(ACTIVITY, 2, 1, 3)
    with Spool(GEOMETRY, 2, tmp_path, cut=cut) as turns, Spool(GEOMETRY, 2, tmp_path) as whole:
        for spool in (turns, whole):
            spool.append(activities, sources, active)
        assert (turns.num_speakers, turns.num_turns, whole.num_turns) == (6, 3, 1)
        np.testing.assert_array_equal(turns.active_outputs, whole.active)
        assert turns.active.sum() > whole.active.sum()
        for window in whole:
            own = turns.activities(window).reshape(2, 3, 20)
            assert ((own > 0).sum(axis=1) <= 1).all()
            np.testing.assert_allclose(own.sum(axis=1), whole.activities(window))
            outputs = np.flatnonzero(turns.active[window]) // 3
            of = np.unique(outputs)[:, None] == outputs  # (n, turns)
            np.testing.assert_allclose(of @ turns.sources(window), whole.sources(window), atol=1e-5)
            np.testing.assert_allclose(of @ turns.gates(window), np.ones((len(of), 200)), atol=1e-6)


def test_who_is_somebody_else() -> None:
    activities = np.zeros((4, 20), np.float32)
    activities[0, :8] = activities[1, 10:] = 1  # two turns of the first output
    activities[2, 4:8] = activities[3, 15:16] = 1  # of the second: one within a turn, one within the other
    expected = np.zeros((4, 4), bool)
    expected[0, 2] = expected[2, 0] = expected[1, 3] = expected[3, 1] = True
    np.testing.assert_array_equal(find_apart(activities, 2, ACTIVITY), expected)
    np.testing.assert_array_equal(find_apart(activities, 1, ACTIVITY), ~np.eye(4, dtype=bool))


@dataclass
class Mixing:
    """An oracle whose first output carries all who talk alone, and the others none but overlapped speech."""

    oracle: Any

    def __post_init__(self) -> None:
        self.sample_rate_hz, self.num_speakers = self.oracle.sample_rate_hz, self.oracle.num_speakers
        self.window_samples, self.frame_grid = self.oracle.window_samples, self.oracle.frame_grid
        self.num_frames = self.oracle.num_frames

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        output = self.oracle(waveforms)
        active = output.activity_logits > 0
        is_alone = active.sum(dim=1) == 1  # (B, F)
        first = torch.where(is_alone, active.any(dim=1), active[:, 0])
        rest = active[:, 1:] & ~is_alone[:, None]
        activities = torch.cat([first[:, None], rest], dim=1)
        alone = torch.nn.functional.interpolate(is_alone[:, None].float(), waveforms.shape[-1])
        sources = torch.where(alone > 0, torch.zeros_like(output.sources), output.sources)
        sources[:, :1] = torch.where(alone > 0, waveforms, sources[:, :1])
        return LocalOutput(torch.where(activities, 8.0, -8.0), sources)


def errors(truth: Any, result: Any, rate_hz: int) -> float:
    """Share of the speech that is not given to the right speaker, of speakers matched in the best way."""
    talking = np.zeros((len(truth.talking), truth.num_samples), bool)
    for number, label in enumerate(sorted(result.diarization.labels())[: len(talking)]):
        for segment in result.diarization.label_timeline(label):
            talking[number, round(segment.start * rate_hz) : round(segment.end * rate_hz)] = True
    shared = talking.astype(float) @ truth.talking.T.astype(float)
    return float(1 - shared.max(axis=0).sum() / truth.talking.sum())


@pytest.mark.parametrize("pause_s", [0.1, None])
def test_voices_that_share_an_output_are_told_apart(oracle: Any, pause_s: float | None) -> None:
    truth = oracle.conversation(2, 40, seed=5)
    truth.talking[1] &= ~truth.talking[0]  # no overlap, and a pause at each change
    change = np.flatnonzero(np.diff(truth.talking[0].astype(int)))
    for place in change:
        truth.talking[:, max(0, place - 150) : place + 150] = False
    truth.sources *= truth.talking
    model = Mixing(oracle.Model(truth, 500))
    result = oracle.separate(truth, model=model, local_turns={"pause_s": pause_s, "min_turn_s": 0.1})
    found = errors(truth, result, oracle.rate_hz)
    assert found < 0.05 if pause_s else found > 0.15
