"""Reading speakers from folders and lists, drawing them, and keeping them decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pixit.simulation import pool as module
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
    with pytest.raises(PixitError, match="rename the speaker"):
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


def test_folders_of_one_name_keep_all_their_voices(tmp_path: Path) -> None:
    for corpus in ("one", "other"):
        for speaker in ("a", "b"):
            write_speech(tmp_path / corpus / "train" / speaker / "1.wav")
        write_speech(tmp_path / corpus / "unknown" / "x.wav")
    write_speech(tmp_path / "third" / "a" / "1.wav")
    write_speech(tmp_path / "third" / "train" / "c" / "1.wav")
    folders = [tmp_path / name for name in ("one/train", "other/train", "third", "third/train")]
    unlabelled = [tmp_path / name / "unknown" for name in ("one", "other")]
    pool = SpeakerPool.from_folders(folders, RATE_HZ, unlabelled, balance=1.0)
    assert [voice.speaker for voice in pool.voices] == [
        *("one-train-a", "one-train-b", "other-train-a", "other-train-b"),
        *("third-a", "third-train", "train-c"),  # which are no other's names
        *("one-unknown-0", "other-unknown-0"),
    ]
    with pytest.raises(PixitError, match=r"one/train: the voice .*-one-train-a is one of .*one/train too"):
        SpeakerPool.from_folders([folders[0], folders[0]], RATE_HZ)


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


@pytest.mark.parametrize(("share", "names"), [(0.0, {"speech-a"}), (1.0, {"unknown-0", "unknown-1"})])
def test_voices_that_are_never_drawn_do_not_count(tmp_path: Path, share: float, names: set[str]) -> None:
    write_speech(tmp_path / "speech" / "a" / "1.flac")
    for number in range(2):
        write_speech(tmp_path / "unknown" / f"{number}.wav")
    place = [tmp_path / "speech"], RATE_HZ
    pool = SpeakerPool.from_folders(*place, [tmp_path / "unknown"], unlabelled_share=share)
    assert len(pool) == len(names)
    assert {voice.speaker for voice in pool.draw(len(names), np.random.default_rng(0))} == names
    with pytest.raises(PixitError, match=f"3 speakers asked for, but the pool has {len(names)}"):
        pool.draw(3, np.random.default_rng(0))
    with pytest.raises(PixitError, match="all 1 voices have weight 0; expected one above 0"):
        SpeakerPool.from_folders(*place, unlabelled_share=1)


def test_balance_makes_folders_alike(tmp_path: Path) -> None:
    for number in range(9):
        write_speech(tmp_path / "large" / f"s{number}" / "1.wav")
    write_speech(tmp_path / "small" / "s" / "1.wav")
    for balance, expected in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        pool = SpeakerPool.from_folders([tmp_path / "large", tmp_path / "small"], RATE_HZ, balance=balance)
        rng = np.random.default_rng(0)
        drawn = [pool.draw(1, rng)[0].speaker for _ in range(2000)]
        assert np.mean([name.startswith("small") for name in drawn]) == pytest.approx(expected, abs=0.03)


def test_a_list_stands_for_a_folder(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        write_speech(tmp_path / "speech" / f"{name}.wav")
    (tmp_path / "list.csv").write_text(
        "path,speaker,more\nspeech/x.wav,ann,1\nspeech/y.wav,bob,2\nspeech/z.wav,ann,3\n"
    )
    speakers = module.find_speakers(tmp_path / "list.csv")
    assert {name: len(paths) for name, paths in speakers.items()} == {"ann": 2, "bob": 1}
    pool = SpeakerPool.from_folders([tmp_path / "list.csv"], RATE_HZ)
    assert [voice.speaker for voice in pool.voices] == ["ann", "bob"]


def test_speakers_who_are_trained_and_validated_on_are_found(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_speech(tmp_path / "all" / name / "1.wav")
    (tmp_path / "train").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "list.csv").write_text("speaker,path\nann,all/c/1.wav\n")
    for folder, name in (("train", "a"), ("train", "b"), ("dev", "c")):
        (tmp_path / folder / name).symlink_to(tmp_path / "all" / name)
    train, dev = tmp_path / "train", tmp_path / "dev"
    module.check_apart([train], [dev])
    with pytest.raises(
        PixitError, match=r"dev: its speaker c is trained on too, in .*list\.csv, ann; expected"
    ):
        module.check_apart([train, tmp_path / "list.csv"], [dev])
    (dev / "other").symlink_to(tmp_path / "all" / "b")
    with pytest.raises(
        PixitError, match=r"dev: its speaker other is trained on too, in .*train, b; expected"
    ):
        module.check_apart([train], [dev])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,who\nx.wav,ann\n", "has no column 'speaker'"),
        ("path,speaker\n", "lists no utterances"),
        ("path,speaker\nnowhere.wav,ann\n", "nowhere.wav, which is not a file"),
        ("path,speaker\nlist.csv,ann bo\n", "'ann bo' has spaces"),
        (b"\xff\xfe\x00", "cannot be read as a list"),
    ],
)
def test_a_bad_list_is_told(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PixitError, match=message):
        SpeakerPool.from_folders([path], RATE_HZ)


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
