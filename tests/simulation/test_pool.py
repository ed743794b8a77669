"""Reading speakers from folders, and keeping them decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pixit.simulation import pool as pool_module
from pixit.simulation.pool import SpeakerPool
from pixit.types import PixitError

RATE_HZ = 8000


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


def test_a_cache_gives_the_same_voices_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for speaker, pitch_hz in (("a", 100), ("b", 200)):
        write_speech(tmp_path / "speech" / speaker / "1.flac", pitch_hz)
        write_speech(tmp_path / "speech" / speaker / "2.flac", 1.1 * pitch_hz)
    plain = SpeakerPool.from_folders([tmp_path / "speech"], RATE_HZ)
    decoded: list[Path] = []
    original = pool_module.open_audio

    def counted(path: Path, rate_hz: int):
        decoded.append(path)
        return original(path, rate_hz)

    monkeypatch.setattr(pool_module, "open_audio", counted)
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
