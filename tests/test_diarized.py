"""A result without tracks, wherever results go: turns are enough, or one line says what is missing."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from pyannote.core import Annotation, Segment

from pixit.audio import Samples
from pixit.cli import cli
from pixit.diarized import Diarization
from pixit.formats.rttm import read_rttm
from pixit.results import Separation
from pixit.types import PixitError

RATE_HZ = 8000
TURNS = [("SPEAKER_00", 0.5, 1.5), ("SPEAKER_01", 1.0, 3.0), ("SPEAKER_00", 3.25, 3.5)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE_HZ)
    soundfile.write(path, noise, RATE_HZ)
    return path


def make(recording: Path) -> Diarization:
    annotation = Annotation(uri="talk")
    for number, (speaker, start_s, end_s) in enumerate(TURNS):
        annotation[Segment(start_s, end_s), number] = speaker
    return Diarization(
        "talk", annotation, RATE_HZ, 4 * RATE_HZ, {"source": str(recording), "channel": "mean"}
    )


@pytest.fixture
def folder(recording: Path, tmp_path: Path) -> Path:
    return make(recording).save(tmp_path / "diarized")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def works(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def fails(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_its_folder_holds_all_but_tracks(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["talk.json", "talk.rttm", "timeline.png"]
    described = json.loads((folder / "talk.json").read_text())
    assert described["tracks"] is None
    assert [(t["speaker"], t["start"], t["end"]) for t in described["diarization"]] == TURNS
    assert (folder / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_speakers_of_one_name_in_rttm_are_refused(recording: Path, tmp_path: Path) -> None:
    result = make(recording)
    result.diarization = result.diarization.rename_labels({"SPEAKER_00": "Ann Lee", "SPEAKER_01": "Ann_Lee"})
    with pytest.raises(
        PixitError, match="two speakers have the same file name; rename one of 'Ann Lee', 'Ann_Lee'"
    ):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_turn_that_begins_before_the_recording_is_clipped(recording: Path, tmp_path: Path) -> None:
    result = make(recording)
    result.diarization[Segment(-2.0, -1.0), "before"] = "SPEAKER_00"
    result.diarization[Segment(-0.5, 0.25), "into"] = "SPEAKER_00"
    loaded = Diarization.load(result.save(tmp_path / "out"))
    assert [(turn.start_s, turn.end_s) for turn in loaded.turns] == [(0.0, 0.25), *(t[1:] for t in TURNS)]
    (turns,) = read_rttm(tmp_path / "out" / "talk" / "talk.rttm").values()
    assert turns[0].start_s == 0.0


def test_it_is_loaded_and_sent_as_its_folder(folder: Path) -> None:
    for result in (Diarization.load(folder), pickle.loads(pickle.dumps(Diarization.load(folder)))):
        assert type(result) is Diarization
        assert [(t.speaker, t.start_s, t.end_s) for t in result.turns] == TURNS
        assert result.speakers == ["SPEAKER_00", "SPEAKER_01"]
        assert result.duration_s == 4
        assert "<audio" not in result._repr_html_()
    with pytest.raises(PixitError, match=f"^{re.escape(str(folder))}: was diarized only.*pixit separate"):
        Separation.load(folder)


def test_it_is_sent_unsaved_too(recording: Path) -> None:
    result = pickle.loads(pickle.dumps(make(recording)))
    assert [(t.speaker, t.start_s, t.end_s) for t in result.turns] == TURNS


def test_a_result_with_tracks_is_loaded_with_them(tmp_path: Path) -> None:
    saved = Separation("talk", Annotation(uri="talk"), {}, RATE_HZ, RATE_HZ).save(tmp_path)
    assert isinstance(Diarization.load(saved), Separation)  # nobody talks, but it was separated


def test_it_replaces_a_result_with_tracks_if_asked_to(folder: Path, recording: Path) -> None:
    with pytest.raises(PixitError, match="exists already"):
        make(recording).save(folder.parent)
    other = make(recording)
    other.settings["new"] = True
    assert Diarization.load(other.save(folder.parent, overwrite=True)).settings["new"] is True


def test_export(folder: Path, tmp_path: Path) -> None:
    works("export", folder, "--to", "csv", "-o", tmp_path / "out.csv")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[1] == "talk,0.500,1.500,SPEAKER_00,"
    assert len(rows) == 4


def test_export_to_elan_links_the_recording_only(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pympi")
    works("export", folder, "--to", "elan", "-o", tmp_path / "out.eaf")
    links = re.findall(r'RELATIVE_MEDIA_URL="([^"]*)"', (tmp_path / "out.eaf").read_text())
    assert links == ["./talk.wav"]


def test_evaluate_diarization(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyannote.metrics")
    works("evaluate", "diarization", folder / "talk.rttm", folder.parent, "-o", tmp_path / "der.json")
    scores = json.loads((tmp_path / "der.json").read_text())
    assert scores["rows"][-1]["der_percent"] == 0


def test_evaluate_separation_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ref" / "talk").mkdir(parents=True)
    soundfile.write(tmp_path / "ref" / "talk" / "ann.wav", np.zeros(4 * RATE_HZ), RATE_HZ)
    for place in (folder, folder.parent):
        assert "was diarized only" in fails("evaluate", "separation", tmp_path / "ref", place)


def test_report_has_turns_and_the_sound_of_the_recording(folder: Path, tmp_path: Path) -> None:
    works("report", folder, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [lane["name"] for lane in data["lanes"]] == ["Mixture", "SPEAKER_00", "SPEAKER_01"]
    assert ["peaks" in lane for lane in data["lanes"]] == [True, False, False]
    assert data["lanes"][2]["turns"] == [[1, 3]]
    assert page.count('class="mute"') == 1  # of the recording alone
    assert page.count('class="rename"') == 2
    assert "No speech was found" not in page


def test_report_without_the_recording(folder: Path, recording: Path, tmp_path: Path) -> None:
    recording.unlink()
    works("report", folder, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [lane["name"] for lane in data["lanes"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert data["sound"] == "none"


def test_rename(folder: Path) -> None:
    assert "Zoe, SPEAKER_01" in works("rename", folder, "SPEAKER_00=Zoe")
    loaded = Diarization.load(folder)
    assert loaded.speakers == ["Zoe", "SPEAKER_01"]
    assert loaded.settings["renamed"] == {"SPEAKER_00": "Zoe"}
    assert " Zoe " in (folder / "talk.rttm").read_text()
    loaded.rename({"Zoe": "Ann"})
    assert Diarization.load(folder).speakers == loaded.speakers == ["Ann", "SPEAKER_01"]


def test_correct(folder: Path, tmp_path: Path) -> None:
    from pixit.corrections import identity

    wanted = {
        "pixit": "corrections",
        "uri": "talk",
        "made": identity(Diarization.load(folder)),
        "speakers": ["Ann", "SPEAKER_01"],
        "turns": [{"speaker": "Ann", "start": 0.5, "end": 2.0}],
    }
    (tmp_path / "corrections.json").write_text(json.dumps(wanted))
    works("correct", folder, tmp_path / "corrections.json")
    loaded = Diarization.load(folder)
    assert [(t.speaker, t.start_s, t.end_s) for t in loaded.turns] == [("Ann", 0.5, 2.0)]
    assert loaded.settings["corrected"] is True


class Parrot:
    def __call__(self, samples: Samples, sample_rate_hz: int) -> str:
        return "word"


def test_transcribe_takes_the_recording(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixit.transcription.recognizers.load_recognizer", lambda *_: Parrot())
    assert "was diarized only, it has no tracks; pass --attribution diarization" in fails(
        "transcribe", folder
    )
    works("transcribe", folder, "--attribution", "diarization")
    said = json.loads((folder.parent / "talk.seglst.json").read_text())
    assert {utterance["speaker"] for utterance in said} == {"SPEAKER_00", "SPEAKER_01"}
