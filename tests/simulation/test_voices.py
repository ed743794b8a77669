"""Finding speech, filling turns with it, reading speakers from folders, and keeping them decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.simulation import voices as module
from pixit.simulation.voices import (
    SPEECH_DBFS,
    SpeakerPool,
    Voice,
    clip_intervals,
    detect_speech,
    merge_close,
    talk,
)
from pixit.types import PixitError

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


def tone(pitch_hz: float = 150) -> np.ndarray:
    """A second of tone amid silence."""
    signal = 0.1 * np.sin(2 * np.pi * pitch_hz * np.arange(RATE_HZ) / RATE_HZ)
    signal[: RATE_HZ // 10] = signal[-RATE_HZ // 10 :] = 0
    return signal.astype(np.float32)


def write_speech(path: Path, pitch_hz: float = 150) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(pitch_hz), RATE_HZ)


def test_pool_draws_different_voices_and_leaves_out_the_silent() -> None:
    speech = tone()
    pool = SpeakerPool.from_utterances({"b": [speech], "a": [speech], "silent": [speech * 0]}, RATE_HZ)
    assert sorted(voice.speaker for voice in pool.draw(2, np.random.default_rng(0))) == ["a", "b"]
    with pytest.raises(PixitError, match="3 speakers asked for, but the pool has 2"):
        pool.draw(3, np.random.default_rng(0))
    with pytest.raises(PixitError, match="found no speech"):
        SpeakerPool.from_utterances({"silent": [speech * 0]}, RATE_HZ)


def test_folder_without_utterances_is_named(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match=r"expected <speaker>/\*\.flac"):
        SpeakerPool.from_folders([tmp_path], RATE_HZ)
    write_speech(tmp_path / "two words" / "1.flac")
    with pytest.raises(PixitError, match="rename the folder"):
        SpeakerPool.from_folders([tmp_path], RATE_HZ)


def test_speakers_of_several_folders_and_of_unlabelled_recordings(tmp_path: Path) -> None:
    for corpus, ending in (("one", "flac"), ("other", "ogg")):
        for speaker in ("a", "b"):
            write_speech(tmp_path / corpus / speaker / f"1.{ending}")
    write_speech(tmp_path / "unknown" / "deep" / "x.wav")
    write_speech(tmp_path / "unknown" / "y.wav")
    folders = [tmp_path / "one", tmp_path / "other"]
    pool = SpeakerPool.from_folders(folders, RATE_HZ, [tmp_path / "unknown"])
    names = [voice.speaker for voice in pool.voices]
    assert names == ["one-a", "one-b", "other-a", "other-b", "unknown-0", "unknown-1"]
    assert [voice.speaker for voice in SpeakerPool.from_folders(folders[:1], RATE_HZ).voices] == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PixitError, match="empty: found no recordings"):
        SpeakerPool.from_folders(folders, RATE_HZ, [tmp_path / "empty"])


def test_the_share_of_unlabelled_voices(tmp_path: Path) -> None:
    for speaker in ("a", "b"):
        write_speech(tmp_path / "speech" / speaker / "1.flac")
    for number in range(6):
        write_speech(tmp_path / "unknown" / f"{number}.wav")
    place = [tmp_path / "speech"], RATE_HZ, [tmp_path / "unknown"]
    for share, expected in ((None, 6 / 8), (0.1, 0.1), (0.0, 0.0)):
        pool = SpeakerPool.from_folders(*place, unlabelled_share=share)
        rng = np.random.default_rng(0)
        drawn = [pool.draw(1, rng)[0].speaker for _ in range(2000)]
        found = np.mean([name.startswith("unknown") for name in drawn])
        assert found == pytest.approx(expected, abs=0.03)
    assert len({voice.speaker for voice in pool.draw(2, rng)}) == 2


def test_a_cache_gives_the_same_voices_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for speaker, pitch_hz in (("a", 100), ("b", 200)):
        write_speech(tmp_path / "speech" / speaker / "1.flac", pitch_hz)
        write_speech(tmp_path / "speech" / speaker / "2.flac", 1.1 * pitch_hz)
    plain = SpeakerPool.from_folders([tmp_path / "speech"], RATE_HZ)
    decoded: list[Path] = []
    original = module.open_audio

    def counted(path: Path, rate_hz: int):
        decoded.append(path)
        return original(path, rate_hz)

    monkeypatch.setattr(module, "open_audio", counted)
    for expected in (4, 0):
        decoded.clear()
        found = SpeakerPool.from_folders([tmp_path / "speech"], RATE_HZ, cache=tmp_path / "cache")
        assert len(decoded) == expected
        for mine, other in zip(found.voices, plain.voices, strict=True):
            assert mine.speaker == other.speaker
            for name in ("samples", "speech", "onsets"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
    write_speech(tmp_path / "speech" / "b" / "3.flac")
    decoded.clear()
    SpeakerPool.from_folders([tmp_path / "speech"], RATE_HZ, cache=tmp_path / "cache")
    assert len(decoded) == 5  # a new recording: all anew


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    write_speech(tmp_path / "speech" / "a" / "1.flac")
    SpeakerPool.from_folders([tmp_path / "speech"], RATE_HZ, cache=tmp_path / "cache")
    (place,) = (tmp_path / "cache").iterdir()
    (place / "index.json").write_text("{")
    with pytest.raises(PixitError, match="is not a cache of speech"):
        SpeakerPool.from_folders([tmp_path / "speech"], RATE_HZ, cache=tmp_path / "cache")
