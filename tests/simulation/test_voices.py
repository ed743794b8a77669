"""Finding speech, and filling turns with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.simulation.voices import (
    SPEECH_DBFS,
    Voice,
    clip_intervals,
    detect_speech,
    merge_close,
    talk,
)

RATE_HZ = 8000
INTERVALS = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 15)), max_size=12)


def _timeline(intervals: np.ndarray, length: int) -> np.ndarray:
    active = np.zeros(length, dtype=bool)
    for start, end in intervals:
        active[start:end] = True
    return active


def _array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array([(start, start + length) for start, length in pairs], dtype=np.int64).reshape(-1, 2)


def _utterance(bursts_s: list[tuple[float, float]], duration_s: float, level: float = 0.1) -> np.ndarray:
    """Noise bursts over a background 60 dB below them."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(round(duration_s * RATE_HZ)) * level / 1000
    for start_s, end_s in bursts_s:
        start, end = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
        signal[start:end] += rng.standard_normal(end - start) * level
    return signal.astype(np.float32)


@pytest.fixture(scope="module")
def voice() -> Voice:
    found = Voice.from_utterances("ann", [_utterance([(0.3, 1.0), (1.2, 2.0), (2.8, 3.5)], 4.0)], RATE_HZ)
    assert found is not None
    return found


@given(INTERVALS, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_merge_close_fills_short_gaps_only(pairs: list[tuple[int, int]], gap: int) -> None:
    intervals = _array(pairs)
    expected = _timeline(intervals, 120)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], expected, [0]]).astype(int)))
    for end, start in zip(edges[1:-1:2], edges[2::2], strict=True):
        if start - end <= gap:
            expected[end:start] = True
    merged = merge_close(intervals, gap)
    np.testing.assert_array_equal(_timeline(merged, 120), expected)
    assert (merged[1:, 0] > merged[:-1, 1] + gap).all()


@given(INTERVALS, st.integers(0, 50), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_clip_intervals_is_a_view_of_the_timeline(
    pairs: list[tuple[int, int]], start: int, length: int
) -> None:
    intervals = _array(pairs)
    clipped = clip_intervals(intervals, start, start + length)
    expected = _timeline(intervals, 120)[start : start + length]
    np.testing.assert_array_equal(_timeline(clipped, length), expected)


def test_speech_is_found_where_it_is() -> None:
    found = detect_speech(_utterance([(0.5, 1.5), (2.0, 2.6)], 3.0), RATE_HZ) / RATE_HZ
    np.testing.assert_allclose(found, [[0.5, 1.5], [2.0, 2.6]], atol=0.06)


@pytest.mark.parametrize("signal", [np.zeros(8000), np.zeros(3), np.zeros(0)])
def test_silence_has_no_speech(signal: np.ndarray) -> None:
    assert len(detect_speech(signal.astype(np.float32), RATE_HZ)) == 0
    assert Voice.from_utterances("x", [signal.astype(np.float32)], RATE_HZ) is None


def test_voice_is_trimmed_levelled_and_bridges_short_pauses(voice: Voice) -> None:
    assert len(voice.samples) / RATE_HZ == pytest.approx(3.2, abs=0.1)
    np.testing.assert_allclose(voice.speech / RATE_HZ, [[0, 1.7], [2.5, 3.2]], atol=0.1)
    assert len(voice.onsets) == 3  # the pause of 0.2 s is bridged, but speech sets in after it
    active = np.concatenate([voice.samples[a:b] for a, b in voice.speech]) / 32768
    # The bridged 0.2 s of 2.4 s lower the level by 0.4 dB.
    assert 10 * np.log10(np.mean(active**2)) == pytest.approx(SPEECH_DBFS, abs=0.7)


def test_cut_wraps_around(voice: Voice) -> None:
    total = len(voice.samples)
    signal, speech = voice.cut(total - 100, 2 * total)
    expected = np.roll(np.tile(voice.samples, 2), 100)
    np.testing.assert_allclose(signal * 32768, expected, atol=1e-3)
    active = np.roll(np.tile(_timeline(voice.speech, total), 2), 100)
    np.testing.assert_array_equal(_timeline(speech, 2 * total), active)


def test_talk_is_silent_outside_its_turns_and_labelled_by_its_energy(voice: Voice) -> None:
    turns = np.array([[0, 4000], [9000, 9400], [12000, 20000]])
    for seed in range(5):
        signal, speech = talk(voice, turns, 24000, RATE_HZ, np.random.default_rng(seed))
        inside = _timeline(turns, 24000)
        assert not signal[~inside].any()
        active = _timeline(speech, 24000)
        loud = np.mean(signal[active & inside] ** 2)
        quiet = np.mean(signal[inside & ~active] ** 2) if (inside & ~active).any() else 0
        assert loud > 100 * quiet
        assert active[9050]  # a turn begins with speech


def test_talk_goes_on_where_it_stopped() -> None:
    ramp = np.arange(1, 20001, dtype=np.int16)
    voice = Voice("ann", ramp, np.array([[0, 20000]]), np.arange(0, 20000, 500))
    signal, _ = talk(voice, np.array([[100, 1100], [5000, 6000]]), 8000, RATE_HZ, np.random.default_rng(0))
    first, second = signal[600] * 32768, signal[5500] * 32768
    assert 1000 <= (second - first) % 20000 < 1500


def test_no_turns_no_talk(voice: Voice) -> None:
    signal, speech = talk(voice, np.empty((0, 2), dtype=np.int64), 100, RATE_HZ, np.random.default_rng(0))
    assert not signal.any()
    assert speech.shape == (0, 2)


def test_turns_of_nothing_are_left_out(voice: Voice) -> None:
    turns, with_empty = np.array([[400, 900]]), np.array([[400, 900], [1000, 1000]])
    first, second = (
        talk(voice, given, 2000, 1000, np.random.default_rng(0)) for given in (turns, with_empty)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.real
def test_real_speech_is_told_from_its_pauses(shared_data) -> None:
    folder = shared_data / "librispeech" / "dev" / "3080"
    from pixit.audio import open_audio

    utterances = [open_audio(path, 16000).read() for path in sorted(folder.glob("*.flac"))[:4]]
    voice = Voice.from_utterances("3080", utterances, 16000)
    assert voice is not None
    active = _timeline(voice.speech, len(voice.samples))
    assert 0.7 < active.mean() < 0.98
    power = (voice.samples / 32768) ** 2
    assert 10 * np.log10(power[active].mean() / power[~active].mean()) > 20
