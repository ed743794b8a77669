"""How far two diarizations agree: a frame is forgiven, names are nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pixit.experiments.agreement import PAPER_FRAME_S, agreement
from pixit.types import Turn

FRAME = PAPER_FRAME_S


def test_the_same_under_other_names() -> None:
    ours = [Turn(0.0, 1.0, "a"), Turn(0.8, 2.0, "b")]
    theirs = [Turn(0.8, 2.0, "x"), Turn(0.0, 1.0, "y")]
    assert agreement(ours, theirs, 3.0) == (1.0, [("a", "y"), ("b", "x")])


@pytest.mark.parametrize("frames", [-1, 0, 1])
def test_a_boundary_may_be_a_frame_off(frames: int) -> None:
    share, _ = agreement([Turn(0.4, 0.8, "a")], [Turn(0.4 + frames * FRAME, 0.8, "x")], 1.6)
    assert share == 1.0


def test_what_differs_counts_by_its_time() -> None:
    rng = np.random.default_rng(0)
    table = rng.random(200) < 0.5  # runs of some frames
    table = np.repeat(table, 10)
    other = table.copy()
    other[500:600] = ~other[500:600]
    turns = [
        [Turn(n * FRAME, (n + 1) * FRAME, "a") for n in np.flatnonzero(row).tolist()]
        for row in (table, other)
    ]
    share, _ = agreement(*turns, len(table) * FRAME)
    assert share == pytest.approx(1 - 100 / 2000, abs=22 / 2000)  # but for the frames at its boundaries


def test_a_speaker_more() -> None:
    share, pairs = agreement([Turn(0.0, 4.0, "a")], [Turn(0.0, 3.0, "x"), Turn(3.0, 4.0, "y")], 4.0)
    assert share == pytest.approx(0.75, abs=0.01)
    assert pairs == [("a", "x")]
    assert agreement([], [], 1.0) == (1.0, [])
