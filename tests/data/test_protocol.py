from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pixit.data.database import load_recordings
from pixit.data.protocol import read_recording, write_database, write_lines, write_subset
from pixit.types import PixitError, Recording, Turn

LINE = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A recording of 4 s."""
    soundfile.write(tmp_path / "short.wav", np.zeros(4 * 8000), 8000)
    return tmp_path / "short.wav"


def test_turns_and_stretches_are_cut_at_the_end_of_the_audio(short: Path) -> None:
    rttm = short.with_suffix(".rttm")
    lines = [(5.0, 1.0, "c"), (3.0, 3.5, "b"), (1.0, 1.0, "a"), (3.9995, 1.0, "d"), (2.0, 0.0, "e")]
    rttm.write_text("".join(LINE.format("short", *line) for line in lines))
    recording, surplus_s = read_recording(short, rttm, [(2.0, 9.0), (-1.0, 1.5), (4.0, 9.0)])
    assert recording.turns == (Turn(1.0, 2.0, "a"), Turn(3.0, 4.0, "b"))
    assert recording.annotated == ((0.0, 1.5), (2.0, 4.0))
    assert surplus_s == pytest.approx(2.5 + 1.0 + 0.9995)
    assert read_recording(short, rttm)[0].annotated == ((0.0, 4.0),)


def test_silence_is_a_recording_too(short: Path) -> None:
    rttm = short.with_suffix(".rttm")
    rttm.write_text("")
    recording, surplus_s = read_recording(short, rttm)
    assert (recording.turns, surplus_s) == ((), 0.0)


def test_an_rttm_of_another_recording(short: Path) -> None:
    rttm = short.with_suffix(".rttm")
    rttm.write_text(LINE.format("long", 0, 1, "a"))
    with pytest.raises(PixitError, match="turns of 'long', expected 'short'"):
        read_recording(short, rttm)


def test_what_is_written_is_read_back(short: Path) -> None:
    root = short.parent
    recording = Recording("short", short, (Turn(0.5, 2.25, "a"), Turn(1.0, 3.0, "b")), ((0.0, 3.5),))
    entries = {"train": write_subset(root, "train", [recording], part="full")}
    write_database(
        root / "database.yml", {"Tiny": "{uri}.wav"}, {"Tiny.SpeakerDiarization.full": entries}, "file"
    )
    (found,) = load_recordings(None, "train", root / "database.yml")
    assert found == recording


@pytest.mark.parametrize(("uri", "speaker"), [("two words", "a"), ("short", "Ann B"), ("short", "")])
def test_names_that_rttm_cannot_hold(short: Path, uri: str, speaker: str) -> None:
    recording = Recording(uri, short, (Turn(0, 1, speaker),), ((0.0, 4.0),))
    with pytest.raises(PixitError, match="white space"):
        write_subset(short.parent, "train", [recording])
    assert [path.name for path in short.parent.iterdir()] == ["short.wav"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PixitError, match="cannot be written"):
        write_lines(tmp_path / "file" / "lines.txt", ["a"])
