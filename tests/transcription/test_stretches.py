from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.audio import MemoryAudio
from pixit.transcription.stretches import active_intervals, split
from pixit.types import Turn

DURATION = 60  # in steps of a second: all times are whole, so that a boolean timeline is exact

turns_of_three = st.lists(
    st.tuples(st.integers(0, DURATION - 1), st.integers(0, 15), st.sampled_from("ABC")).map(
        lambda t: Turn(float(t[0]), float(min(t[0] + t[1], DURATION)), t[2])
    ),
    max_size=8,
)


def drawn(turns: list[Turn]) -> np.ndarray:
    line = np.zeros(DURATION, bool)
    for turn in turns:
        line[round(turn.start_s) : round(turn.end_s)] = True
    return line


def spoken_by(turns: list[Turn], speaker: str) -> list[Turn]:
    return [turn for turn in turns if turn.speaker == speaker]


@given(turns=turns_of_three, gap=st.integers(0, 5), padding=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_intervals_against_a_boolean_timeline(turns: list[Turn], gap: int, padding: int) -> None:
    found = active_intervals(turns, [(0.0, DURATION)], gap, padding)
    for speaker in "ABC":
        own = drawn(spoken_by(turns, speaker))
        merged = own.copy()
        edges = np.flatnonzero(own)
        for before, after in pairwise(edges):
            if after - before - 1 < gap:
                merged[before:after] = True
        expected = np.convolve(merged, np.ones(2 * padding + 1), "same") > 0 if merged.any() else merged
        assert np.array_equal(drawn(spoken_by(found, speaker)), expected)
        ordered = spoken_by(found, speaker)
        assert all(one.end_s <= other.start_s for one, other in pairwise(ordered))


@given(turns=turns_of_three, gap=st.integers(0, 5), padding=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_in_a_mixture_nobody_is_given_what_only_others_say(turns: list[Turn], gap: int, padding: int) -> None:
    found = active_intervals(turns, [(0.0, DURATION)], gap, padding, keep_apart=True)
    free = active_intervals(turns, [(0.0, DURATION)], gap, padding)
    for speaker in "ABC":
        own, others = drawn(spoken_by(turns, speaker)), drawn([t for t in turns if t.speaker != speaker])
        given_to = drawn(spoken_by(found, speaker))
        assert not (given_to & others & ~own).any()
        assert (given_to >= own).all()
        assert (given_to <= drawn(spoken_by(free, speaker))).all()
        assert all(own[round(t.start_s) : round(t.end_s)].any() for t in spoken_by(found, speaker))


def test_nothing_leaves_what_is_annotated() -> None:
    turns = [Turn(0, 4, "A"), Turn(9, 12, "A"), Turn(30, 31, "B")]
    found = active_intervals(turns, [(2.0, 3.0), (3.0, 10.0)], 1.0, 0.5)
    assert found == [Turn(2.0, 4.5, "A"), Turn(8.5, 10.0, "A")]
    assert active_intervals(turns, [], 1.0, 0.5) == []
    assert active_intervals([], [(0, 1)], 1.0, 0.5) == []


@given(length=st.integers(0, 5000), max_samples=st.integers(400, 1000), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_parts_follow_each_other_and_are_not_too_long(length: int, max_samples: int, seed: int) -> None:
    samples = np.random.default_rng(seed).standard_normal((1, 6000)).astype(np.float32)
    parts = split(MemoryAudio(samples, 1000), 500, 500 + length, max_samples)
    assert parts[0][0] == 500
    assert parts[-1][1] == 500 + length
    assert all(one[1] == other[0] for one, other in pairwise(parts))
    assert all(stop - start <= max_samples for start, stop in parts)
    assert all(stop - start >= max_samples // 2 for start, stop in parts[:-1])


def test_the_cut_goes_through_a_pause() -> None:
    samples = np.ones((1, 16000 * 10), np.float32)
    samples[:, 16000 * 6 : 16000 * 6 + 8000] = 0.01
    (_, cut), _ = split(MemoryAudio(samples, 16000), 0, 16000 * 10, 16000 * 8)
    assert 6.0 <= cut / 16000 <= 6.5
