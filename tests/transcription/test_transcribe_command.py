from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from pyannote.core import Annotation, Segment

from pixit.audio import Samples, Track
from pixit.cli import cli
from pixit.formats.transcripts import read_transcript
from pixit.results import Separation

RATE = 16000


class Parrot:
    """Says one word a stretch, and counts."""

    heard = 0

    def __init__(self, name: str, language: str | None) -> None:
        self.description = {"recognizer": name, "language": language}

    def __call__(self, samples: Samples, sample_rate_hz: int) -> str:
        type(self).heard += 1
        return "hello"


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> type[Parrot]:
    def load(name: str, language: str | None = None, device: str = "auto") -> Parrot:
        return Parrot(name, language)

    Parrot.heard = 0
    monkeypatch.setattr("pixit.transcription.recognizers.load_recognizer", load)
    return Parrot


def make_folder(folder: Path, name: str) -> Path:
    """Write the result of a separation, two speakers of 4 s, and its recording beside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder.parent / f"{name}.wav"
    samples = np.full(4 * RATE, 0.1, np.float32)
    soundfile.write(recording, samples, RATE)
    diarization = Annotation(uri=name)
    diarization[Segment(0, 1.5), 0] = "SPEAKER_00"
    diarization[Segment(1, 4), 1] = "SPEAKER_01"
    track = Track.open(recording)
    tracks = {"SPEAKER_00": track, "SPEAKER_01": track}
    settings = {"source": str(recording), "channel": "mean"}
    return Separation(name, diarization, tracks, RATE, 4 * RATE, settings).save(folder)


def run_transcribe(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["transcribe", *map(str, arguments)], catch_exceptions=False)


def test_a_result_is_transcribed_beside_it(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_folder(tmp_path / "sep", "my meeting")
    done = run_transcribe(result, *(f"--format={kind}" for kind in ("seglst", "stm", "srt", "vtt")))
    assert done.exit_code == 0, done.output
    assert parrot.heard == 2
    for ending in (".seglst.json", ".stm", ".srt", ".vtt"):
        found = read_transcript(tmp_path / "sep" / f"my_meeting{ending}")
        assert [(u.session, u.speaker, u.words) for u in found] == [
            ("my_meeting", "SPEAKER_00", "hello"),
            ("my_meeting", "SPEAKER_01", "hello"),
        ]
    assert sorted(path.name for path in result.iterdir()) == sorted(
        ["SPEAKER_00.wav", "SPEAKER_01.wav", "my_meeting.json", "my_meeting.rttm", "timeline.png"]
    ), "a result holds nothing else, so that it can be replaced"


def test_done_is_done(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_folder(tmp_path / "sep", "a")
    run_transcribe(result)
    target = tmp_path / "sep" / "a.seglst.json"
    target.write_text("[]")  # someone worked on it
    assert "is done" in run_transcribe(result).output
    assert target.read_text() == "[]"
    run_transcribe(result, "--format", "srt")
    assert (tmp_path / "sep" / "a.srt").exists()
    assert parrot.heard == 2
    other = run_transcribe(result, "--language", "en")
    assert other.exit_code == 2
    assert "language" in other.output
    assert run_transcribe(result, "--language", "en", "--overwrite").exit_code == 0
    assert parrot.heard == 4
    assert len(read_transcript(target)) == 2


def test_a_transcript_of_someone_else_is_kept(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_folder(tmp_path / "sep", "a")
    (tmp_path / "sep" / "a.seglst.json").write_text("[]")
    done = run_transcribe(result)
    assert done.exit_code == 2
    assert "--overwrite" in done.output
    assert parrot.heard == 0


def test_a_folder_of_results_by_diarization(tmp_path: Path, parrot: type[Parrot]) -> None:
    for name in ("a", "b"):
        make_folder(tmp_path / "sep", name)
    done = run_transcribe(tmp_path / "sep", "--attribution=diarization", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"a.seglst.json", "b.seglst.json"}
    mixed = run_transcribe(tmp_path / "sep" / "a", "-o", tmp_path / "out")
    assert mixed.exit_code == 2
    assert "attribution" in mixed.output


def test_the_recording_of_a_result(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_folder(tmp_path / "sep", "a")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "a.wav", moved / "a.wav")
    call = (result, "--attribution", "diarization", "--quiet")
    assert "--audio" in run_transcribe(*call).output
    assert run_transcribe(*call, "--audio", moved).exit_code == 0
    assert run_transcribe(*call, "--audio", moved / "a.wav", "--overwrite").exit_code == 0
    soundfile.write(moved / "short.wav", np.zeros(RATE), RATE)
    short = run_transcribe(*call, "--audio", moved / "short.wav", "--overwrite")
    assert short.exit_code == 2
    assert "lasts 1.000 s" in short.output


def test_a_recording_with_and_without_diarization(tmp_path: Path, parrot: type[Parrot]) -> None:
    soundfile.write(tmp_path / "talk.flac", np.full(3 * RATE, 0.1), RATE)
    assert run_transcribe(tmp_path / "talk.flac", "--quiet").exit_code == 0
    (only,) = read_transcript(tmp_path / "talk.seglst.json")
    assert (only.speaker, only.start_s, only.end_s) == ("unknown", 0, 3)
    rttm = tmp_path / "x.rttm"
    rttm.write_text(
        "SPEAKER talk 1 0 1 <NA> <NA> ann <NA> <NA>\nSPEAKER talk 1 2 1 <NA> <NA> bob <NA> <NA>\n"
    )
    output = tmp_path / "out"
    assert run_transcribe(tmp_path / "talk.flac", "--rttm", rttm, "-o", output).exit_code == 0
    assert [u.speaker for u in read_transcript(output / "talk.seglst.json")] == ["ann", "bob"]
    rttm.write_text("SPEAKER other 1 0 1 <NA> <NA> ann <NA> <NA>\n")
    wrong = run_transcribe(tmp_path / "talk.flac", "--rttm", rttm, "-o", tmp_path / "new")
    assert wrong.exit_code == 2
    assert "it is of other" in wrong.output
    assert not (tmp_path / "new").exists(), "nothing half-written"


def test_options_that_do_not_fit_are_told(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_folder(tmp_path / "sep", "a")
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "more", "a")
    wrong = [
        ([tmp_path / "empty"], "holds no result"),
        ([tmp_path / "missing.wav"], "cannot be read"),
        ([result / "a.json"], "not audio"),
        ([tmp_path / "a.wav", "--attribution=separation"], "is not the folder of a result"),
        ([tmp_path / "a.wav", "--audio", tmp_path / "a.wav"], "is not the folder of a result"),
        ([result, "--rttm", result / "a.rttm"], "--rttm is for recordings"),
        ([result, tmp_path / "more" / "a", "-o", tmp_path / "out"], "rename one"),
        ([result, "--set", "pading_s=1"], "did you mean 'padding_s'"),
    ]
    for arguments, message in wrong:
        done = run_transcribe(*arguments)
        assert done.exit_code == 2, arguments
        assert message in done.output
        assert done.output.strip().count("\n") == 0


@pytest.mark.real
def test_pocketsphinx_on_a_real_recording(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("pocketsphinx")
    samples, rate = soundfile.read(shared_data / "telephone" / "sample.wav", start=6 * RATE, stop=8 * RATE)
    soundfile.write(tmp_path / "hello.wav", samples, rate)
    assert run_transcribe(tmp_path / "hello.wav").exit_code == 0
    assert "hello" in " ".join(u.words for u in read_transcript(tmp_path / "hello.seglst.json"))
