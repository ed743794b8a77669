from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pixit.data.database import load_recordings
from pixit.types import PixitError, Turn

pytest.importorskip("pyannote.database")

NAME = "Tiny.SpeakerDiarization.words"
DATABASE_YML = """
Databases:
  Tiny: audio/{uri}.wav
Protocols:
  Tiny:
    SpeakerDiarization:
      words:
        scope: file
        train:
          uri: train.lst
          annotation: train.rttm
          annotated: train.uem
        development:
          uri: development.lst
          annotation: rttm/{uri}.rttm
"""
RTTM = """\
SPEAKER one 1 3.500 1.500 <NA> <NA> bob <NA> <NA>
SPEAKER one 1 0.250 1.000 <NA> <NA> ann <NA> <NA>
SPEAKER two 1 1.000 4.500 <NA> <NA> eve <NA> <NA>
"""
UEM = "one NA 0.000 2.000\none NA 1.500 3.000\none NA 4.000 6.200\ntwo NA 0.000 5.000\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database of three recordings of 5 s."""
    files = {
        "database.yml": DATABASE_YML,
        "train.lst": "one\ntwo\n\n",
        "train.rttm": RTTM,
        "train.uem": UEM,
        "development.lst": "three\n",
        "rttm/three.rttm": "SPEAKER three 1 1.0 2.0 <NA> <NA> ann <NA> <NA>\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "audio").mkdir()
    for uri in ("one", "two", "three"):
        soundfile.write(tmp_path / "audio" / f"{uri}.wav", np.zeros(5 * 8000), 8000)
    return tmp_path


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_turns_and_annotated_stretches(folder: Path) -> None:
    one, two = load_recordings(NAME, "train", folder / "database.yml")
    assert (one.uri, two.uri) == ("one", "two")
    assert one.audio == folder / "audio" / "one.wav"
    assert one.turns == (Turn(0.25, 1.25, "ann"), Turn(4.0, 5.0, "bob"))  # cut to what is annotated
    assert one.annotated == ((0.0, 3.0), (4.0, 5.0))  # merged, and cut at the end of the audio
    assert two.turns == (Turn(1.0, 5.0, "eve"),)
    assert two.annotated == ((0.0, 5.0),)
    assert one.references == two.references == {}


def test_without_uem_the_whole_file_is_annotated(folder: Path) -> None:
    (three,) = load_recordings(NAME, "development", str(folder / "database.yml"))
    assert three.annotated == ((0.0, 5.0),)
    assert three.turns == (Turn(1.0, 3.0, "ann"),)


def test_a_recording_without_lines_in_the_rttm_is_silent(folder: Path) -> None:
    (folder / "train.rttm").write_text(RTTM.splitlines()[0] + "\n")
    _, two = load_recordings(NAME, "train", folder / "database.yml")
    assert two.turns == ()
    assert two.annotated == ((0.0, 5.0),)


def test_only_one_protocol_needs_no_name(folder: Path) -> None:
    assert len(load_recordings(None, "train", folder / "database.yml")) == 2


def test_several_protocols_need_a_name(folder: Path) -> None:
    block = DATABASE_YML[DATABASE_YML.index("      words:") :]
    (folder / "database.yml").write_text(DATABASE_YML + block.replace("words", "sounds"))
    with pytest.raises(
        PixitError, match=r"Tiny\.SpeakerDiarization\.sounds.*Tiny\.SpeakerDiarization\.words"
    ):
        load_recordings(None, "train", folder / "database.yml")
    assert len(load_recordings(NAME, "train", folder / "database.yml")) == 2


def test_databases_do_not_mix(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    load_recordings(NAME, "train", folder / "database.yml")
    other = tmp_path_factory.mktemp("other") / "database.yml"
    other.write_text("Protocols: {}\n")
    with pytest.raises(PixitError, match="defines no protocol"):
        load_recordings(NAME, "train", other)


def test_nothing_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace_in(folder / "database.yml", "        scope: file\n", "")  # pyannote.database prints a remark
    load_recordings(NAME, "train", folder / "database.yml")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_meta_protocols(folder: Path) -> None:
    meta = f"""
  X:
    SpeakerDiarization:
      both:
        train:
          {NAME}: [train, development]
"""
    (folder / "database.yml").write_text(DATABASE_YML + meta)
    found = load_recordings("X.SpeakerDiarization.both", "train", folder / "database.yml")
    assert [recording.uri for recording in found] == ["one", "two", "three"]
    with pytest.raises(PixitError, match="no subset 'development'; found: train"):
        load_recordings("X.SpeakerDiarization.both", "development", folder / "database.yml")


def test_requirements_and_equal_names_in_two_databases(folder: Path) -> None:
    (folder / "far.yml").write_text(DATABASE_YML.replace("Tiny", "Far"))
    meta = f"""
  X:
    SpeakerDiarization:
      both:
        train:
          {NAME}: [train]
          Far.SpeakerDiarization.words: [train]
Requirements: far.yml
"""
    (folder / "database.yml").write_text(DATABASE_YML + meta)
    found = load_recordings("X.SpeakerDiarization.both", "train", folder / "database.yml")
    assert [recording.uri for recording in found] == ["Tiny/one", "Tiny/two", "Far/one", "Far/two"]


def test_references_of_simulated_meetings(folder: Path) -> None:
    replace_in(folder / "database.yml", "train.uem", "train.uem\n          references: references.map")
    (folder / "references.map").write_text("one references/one\ntwo references/two\n")
    for uri, speaker, suffix in (("one", "ann", "flac"), ("one", "bob", "flac"), ("two", "eve", "wav")):
        (folder / "references" / uri).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "references" / uri / f"{speaker}.{suffix}", np.zeros(40000), 8000)
    one, two = load_recordings(NAME, "train", folder / "database.yml")
    references = folder / "references"
    assert one.references == {"ann": references / "one" / "ann.flac", "bob": references / "one" / "bob.flac"}
    assert two.references == {"eve": references / "two" / "eve.wav"}
    (references / "one" / "bob.flac").unlink()
    with pytest.raises(PixitError, match=r"one: no reference source .*bob\.flac"):
        load_recordings(NAME, "train", folder / "database.yml")
    (folder / "references.map").write_text("one elsewhere\n")
    with pytest.raises(PixitError, match="one: no folder of reference sources 'elsewhere'"):
        load_recordings(NAME, "train", folder / "database.yml")


@pytest.mark.parametrize(("start_s", "is_mistake"), [("4.9", False), ("5.4", False), ("5.6", True)])
def test_an_rttm_that_outlasts_its_audio(folder: Path, start_s: str, is_mistake: bool) -> None:
    rttm = folder / "rttm" / "three.rttm"
    rttm.write_text(rttm.read_text() + f"SPEAKER three 1 {start_s} 1.0 <NA> <NA> eve <NA> <NA>\n")
    if is_mistake:
        with pytest.raises(
            PixitError, match=r"three: .*turn of eve begins at 5\.600 s, expected .* 5\.000 s"
        ):
            load_recordings(NAME, "development", folder / "database.yml")
        return
    (three,) = load_recordings(NAME, "development", folder / "database.yml")
    rest = (Turn(4.9, 5.0, "eve"),) if start_s == "4.9" else ()
    assert three.turns == (Turn(1.0, 3.0, "ann"), *rest)


def test_a_uem_that_outlasts_its_audio_hides_no_late_turn(folder: Path) -> None:
    late = "SPEAKER one 1 5.600 0.500 <NA> <NA> eve <NA> <NA>\n"
    (folder / "train.rttm").write_text(RTTM + late)
    with pytest.raises(PixitError, match="one: the annotation outlasts the audio"):
        load_recordings(NAME, "train", folder / "database.yml")


def break_audio(folder: Path) -> None:
    (folder / "audio" / "two.wav").unlink()


def break_audio_twice(folder: Path) -> None:
    replace_in(folder / "database.yml", "audio/{uri}.wav", "'*/{uri}.wav'")
    (folder / "copy").mkdir()
    (folder / "audio" / "two.wav").rename(folder / "copy" / "two.wav")
    (folder / "audio" / "two.wav").write_bytes((folder / "copy" / "two.wav").read_bytes())


def break_audio_content(folder: Path) -> None:
    (folder / "audio" / "two.wav").write_text("no audio")


def break_sources(folder: Path) -> None:
    replace_in(folder / "database.yml", "  Tiny: audio/{uri}.wav", "  Other: audio/{uri}.wav")


def break_list(folder: Path) -> None:
    (folder / "train.lst").unlink()


def break_list_content(folder: Path) -> None:
    (folder / "train.lst").write_text("\n")


def break_list_twice(folder: Path) -> None:
    (folder / "train.lst").write_text("one\none\n")


def break_rttm(folder: Path) -> None:
    (folder / "train.rttm").write_text("SPEAKER one 1 zero 1.5 <NA> <NA> bob <NA> <NA>\n")


def break_rttm_time(folder: Path) -> None:
    with (folder / "train.rttm").open("a") as file:
        file.write("SPEAKER one 1 nan 1.5 <NA> <NA> bob <NA> <NA>\n")


def break_rttm_name(folder: Path) -> None:
    replace_in(folder / "train.rttm", "eve", "eve adams")


def break_uem(folder: Path) -> None:
    replace_in(folder / "train.uem", "6.200", "inf")


def break_rttm_away(folder: Path) -> None:
    replace_in(folder / "database.yml", "train.rttm", "rttm/{uri}.rttm")


def break_annotation(folder: Path) -> None:
    replace_in(folder / "database.yml", "          annotation: train.rttm\n", "")


def break_loader(folder: Path) -> None:
    replace_in(folder / "database.yml", "train.uem", "train.lst")


def break_yaml(folder: Path) -> None:
    (folder / "database.yml").write_text("Protocols: [")


def break_yaml_away(folder: Path) -> None:
    (folder / "database.yml").write_text("# later\n")


def break_structure(folder: Path) -> None:
    (folder / "database.yml").write_text("Protocols: [one]\n")


def break_file(folder: Path) -> None:
    (folder / "database.yml").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_audio, r"two: audio: .*two\.wav"),
        (break_audio_twice, r"two: audio: .*more than one"),
        (break_audio_content, r"two\.wav"),
        (break_sources, "one: no audio; add 'Tiny'"),
        (break_list, r"Tiny\.SpeakerDiarization\.words\.train: .*train\.lst"),
        (break_list_content, "lists no recording"),
        (break_list_twice, "'Tiny/one' is listed more than once"),
        (break_rttm, r"train\.rttm:1: expected .* found 'SPEAKER one 1 zero"),
        (break_rttm_time, r"train\.rttm:4: expected .* found 'SPEAKER one 1 nan"),
        (break_rttm_name, r"train\.rttm:3: expected .* without spaces in names, found .*eve adams"),
        (break_uem, r"train\.uem:3: expected 'uri 1 start end'"),
        (break_rttm_away, r"one\.rttm"),
        (break_annotation, "one: the protocol gives no 'annotation'"),
        (break_loader, r"\.lst"),
        (break_yaml, r"database\.yml: is not valid YAML"),
        (break_yaml_away, r"database\.yml: is empty, expected a pyannote\.database"),
        (break_structure, r"database\.yml: "),
        (break_file, r"database\.yml: no such file"),
    ],
)
def test_bad_input_is_told_in_one_line(folder: Path, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(PixitError, match=message) as caught:
        load_recordings(NAME, "train", folder / "database.yml")
    assert "\n" not in str(caught.value)


def test_unknown_names(folder: Path) -> None:
    database = folder / "database.yml"
    with pytest.raises(PixitError, match=rf"did you mean '{NAME}'"):
        load_recordings("Tiny.SpeakerDiarization.word", "train", database)
    with pytest.raises(PixitError, match=f"found: {NAME}"):
        load_recordings("nonsense", "train", database)
    with pytest.raises(PixitError, match="no subset 'test'; found: train, development"):
        load_recordings(NAME, "test", database)
    with pytest.raises(PixitError, match="expected one of train, development, test"):
        load_recordings(NAME, "dev", database)


def run_python(code: str, folder: Path, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


LOAD = f"""
from pixit.data.database import load_recordings
from pixit.types import PixitError
try:
    print(len(load_recordings({NAME!r}, "train")))
except PixitError as error:
    print(error)
"""


def test_discovery_of_pyannote_database(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert "defines no protocol" in run_python(LOAD, elsewhere, PYANNOTE_DATABASE_CONFIG="")
    assert run_python(LOAD, folder, PYANNOTE_DATABASE_CONFIG="") == "2\n"
    assert run_python(LOAD, elsewhere, PYANNOTE_DATABASE_CONFIG=str(folder / "database.yml")) == "2\n"


def test_without_pyannote_database(folder: Path) -> None:
    missing = "import sys; sys.modules['pyannote.database'] = None"
    assert "pip install 'pixit-audio[train]'" in run_python(missing + LOAD, folder)


@pytest.mark.real
def test_real_clips(shared_data: Path) -> None:
    database = shared_data / "ami" / "database.yml"
    train, development = (load_recordings(None, subset, database) for subset in ("train", "development"))
    assert len(train) == 10
    assert [recording.uri for recording in development] == ["dev00", "dev01"]
    assert all(recording.annotated == ((0.0, 30.0),) for recording in train + development)
    assert development[0].turns[0] == Turn(1.44, pytest.approx(13.312), "MEE009")
    lines = (shared_data / "ami" / "clips" / "train.rttm").read_text().splitlines()
    assert sum(len(recording.turns) for recording in train) == len(lines)
