"""Which recording is which, never a guess; and results and their recordings, wherever they were moved to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.files import file_hash
from pixit.formats.names import find_files, find_recording, find_results, match_names, some
from pixit.results import Separation
from pixit.types import PixitError


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("meeting", "meeting.wav"),
        ("meeting.FLAC", "meeting"),
        ("my meeting", "my_meeting"),
        ("corpus/dev/meeting.wav", "meeting"),
        ("C:\\audio\\my meeting.m4a", "my_meeting"),
        ("EN2002a", "EN2002a.Mix-Headset"),
        ("EN2002a.Array1-01", "EN2002a"),
        ("2021.05.01", "2021.05.01.wav"),
    ],
)
def test_other_spellings_are_found_and_told(wanted: str, given: str) -> None:
    found, notes = match_names([wanted], [given, "other"], "HYP")
    assert found == {wanted: given}
    assert notes == [f"taken for the same recording, by the names in HYP: {wanted} = {given}"]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [("meeting1", "meeting10"), ("2021.05.01", "2021.05.02"), ("a", "A"), ("m.Mix-Headset", "m.Array1-01")],
)
def test_other_recordings_are_not_found(wanted: str, given: str) -> None:
    assert match_names([wanted], [given], "HYP") == ({}, [])


def test_equal_names_come_first_and_keep_their_order() -> None:
    assert match_names(["b", "a"], ["a", "a.wav", "b", "b.x"], "HYP") == ({"b": "b", "a": "a"}, [])
    found, _ = match_names(["m", "m.x"], ["m.x", "m.y"], "HYP")  # m.x is taken
    assert found == {"m": "m.y", "m.x": "m.x"}


def test_what_could_be_two_recordings_is_an_error() -> None:
    with pytest.raises(PixitError, match=r"m could be m\.Array1-01, m\.Mix-Headset of HYP; keep one of them"):
        match_names(["m"], ["m.Mix-Headset", "m.Array1-01"], "HYP")
    with pytest.raises(PixitError, match=r"m of HYP could be a/m, b/m"):
        match_names(["a/m", "b/m"], ["m"], "HYP")


def test_long_lists_are_cut() -> None:
    assert some([]) == ""
    assert some("abcde") == "a, b, c, d, e"
    assert some("abcdefg") == "a, b, c, d, e and 2 more"


RATE = 8000
NUM_SAMPLES = 2 * RATE


def noise(path: Path, seed: int = 0, num_samples: int = NUM_SAMPLES, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (num_samples, channels))
    soundfile.write(path, samples, RATE)
    return path


def separated(folder: Path, recording: Path, has_hash: bool = True, **settings: object) -> Path:
    """Save what `pixit separate` makes of a recording of 2 s, as far as finding goes."""
    diarization = Annotation(uri=recording.stem)
    diarization[Segment(0, 1), "SPEAKER_00"] = "SPEAKER_00"
    track = Track.open(noise(folder.parent / ".track.wav", seed=9))
    request = {"source_sha256": file_hash(recording) if has_hash else None}
    settings = {"source": str(recording), "channel": "mean", "request": request} | settings
    tracks = {"SPEAKER_00": track}
    return Separation(recording.stem, diarization, tracks, RATE, NUM_SAMPLES, settings).save(folder)


def found_of(result: Path, audio: Path | None = None) -> Path | None:
    recording = find_recording(Separation.load(result), audio)
    return None if recording is None else recording.info.path


def test_results_are_found_in_folders_and_by_their_files(tmp_path: Path) -> None:
    one = separated(tmp_path / "out", noise(tmp_path / "one.wav"))
    two = separated(tmp_path / "out" / "deep" / "er", noise(tmp_path / "my two.wav"))
    separated(tmp_path / "out" / ".hidden", noise(tmp_path / "three.wav"))
    (tmp_path / "out" / "notes").mkdir()
    (tmp_path / "out" / "notes" / "notes.json").write_text("{}")  # a result has an RTTM too
    assert find_results([tmp_path / "out"]) == [two, one]
    assert find_results([one, one / "one.json", one / "one.rttm", one.parent]) == [one, two]
    for path, message in (
        (tmp_path / "out" / "notes", "holds no result of pixit separate"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "one.wav", "holds no result of pixit separate"),
    ):
        with pytest.raises(
            PixitError, match=re.escape(f"{path}: {message}; expected a folder NAME with NAME.json")
        ):
            find_results([one, path])


def test_the_recording_is_where_it_was_or_beside_the_result(tmp_path: Path) -> None:
    recording = noise(tmp_path / "in" / "a.wav")
    result = separated(tmp_path / "in" / "separated", recording)
    assert found_of(result) == recording
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "in", moved)
    result = moved / "separated" / "a"
    assert found_of(result) == moved / "a.wav"
    shutil.move(moved / "a.wav", moved / "separated" / "a.wav")
    assert found_of(result) == moved / "separated" / "a.wav"
    (moved / "separated" / "a.wav").unlink()
    noise(moved / "b.wav")  # of the same content, but another name
    assert found_of(result) is None


@pytest.mark.parametrize("place", ["in/a.wav", "in/separated/a.wav", "a.wav"])
def test_another_recording_of_the_same_name_is_refused(tmp_path: Path, place: str) -> None:
    recording = noise(tmp_path / "in" / "a.wav")
    result = separated(tmp_path / "in" / "separated", recording)
    recording.unlink()
    other = noise(tmp_path / place, seed=1)
    if place == "a.wav":  # that is not beside it
        assert found_of(result) is None
        return
    with pytest.raises(
        PixitError, match=re.escape(f"{other}: is not the recording that a was separated from")
    ):
        found_of(result)
    assert found_of(result, other) == other, "the user knows better"
    both = noise(
        tmp_path / "in" / "a.wav" if "separated" in place else tmp_path / "in" / "separated" / "a.wav"
    )
    assert found_of(result) == both, "the right one is taken, wherever it is"


def test_without_a_hash_the_length_decides(tmp_path: Path) -> None:
    recording = noise(tmp_path / "a.wav")
    result = separated(tmp_path / "separated", recording, has_hash=False)
    noise(recording, seed=1)
    assert found_of(result) == recording
    noise(recording, num_samples=NUM_SAMPLES - 2)
    with pytest.raises(PixitError, match="is not the recording"):
        found_of(result)


def test_a_recording_that_is_named_wins_if_it_is_as_long(tmp_path: Path) -> None:
    recording = noise(tmp_path / "a.wav")
    result = separated(tmp_path / "separated", recording)
    other = noise(tmp_path / "other" / "a.flac", seed=1)
    assert found_of(result, other) == found_of(result, other.parent) == other
    with pytest.raises(PixitError, match=r"short.wav: lasts 1.000 s, the result a 2.000 s"):
        found_of(result, noise(tmp_path / "short.wav", num_samples=RATE))
    with pytest.raises(
        PixitError, match=r"separated: holds no recording 'a'; expected a.wav, found no audio"
    ):
        found_of(result, tmp_path / "separated")
    with pytest.raises(PixitError, match=r"nowhere.wav"):
        found_of(result, tmp_path / "nowhere.wav")


def test_the_channel_that_was_separated_is_read(tmp_path: Path) -> None:
    recording = noise(tmp_path / "a.wav", channels=3)
    result = Separation.load(separated(tmp_path / "separated", recording, channel=2))
    found = find_recording(result)
    assert found is not None
    np.testing.assert_array_equal(found.read(), soundfile.read(recording, dtype="float32")[0][:, 2])
    only = noise(tmp_path / "only.wav")
    found = find_recording(result, only)
    assert found is not None
    np.testing.assert_array_equal(found.read(), soundfile.read(only, dtype="float32")[0])


def test_files_are_found_by_the_names_of_recordings(tmp_path: Path) -> None:
    for name in ("EN2002a.Mix-Headset.wav", "b.WAV", "b.txt", ".c.wav", "d.wav", "d.mp3"):
        (tmp_path / name).touch()
    found, notes = find_files(tmp_path, ["b", "EN2002a"])
    assert found == {"b": tmp_path / "b.WAV", "EN2002a": tmp_path / "EN2002a.Mix-Headset.wav"}
    assert notes == [
        f"taken for the same recording, by the names in {tmp_path}: EN2002a = EN2002a.Mix-Headset"
    ]
    with pytest.raises(
        PixitError, match=r"holds no recording 'c'; expected c.wav, found EN2002a.Mix-Headset.wav"
    ):
        find_files(tmp_path, ["b", "c"])
    assert find_files(tmp_path / "d.wav", ["any"]) == ({"any": tmp_path / "d.wav"}, [])
    with pytest.raises(PixitError, match=r"d.wav: is one file for 2 recordings; give the folder"):
        find_files(tmp_path / "d.wav", ["b", "d"])
    with pytest.raises(PixitError, match=r"holds d.mp3, d.wav; expected one recording 'd'"):
        find_files(tmp_path, ["d"])
