from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation, Segment

from pixit.audio import Samples, Track
from pixit.formats.transcripts import read_transcript
from pixit.results import Separation
from pixit.transcription.jobs import transcribe_all
from pixit.transcription.transcribe import TranscriptionSettings
from pixit.types import PixitError

RATE = 16000


class Parrot:
    """Says one word a stretch, and counts."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, samples: Samples, sample_rate_hz: int) -> str:
        self.heard += 1
        return "hello"


def make_result(folder: Path, name: str) -> Path:
    """Write a result of two speakers, one after the other, 4 s in all, and its recording beside the folder."""
    recording = folder.parent / f"{name}.wav"
    soundfile.write(recording, np.full(4 * RATE, 0.1), RATE)
    diarization = Annotation(uri=name)
    diarization[Segment(0, 2), 0] = "SPEAKER_00"
    diarization[Segment(2, 4), 1] = "SPEAKER_01"
    track = Track.open(recording)
    tracks = {"SPEAKER_00": track, "SPEAKER_01": track}
    settings = {"source": str(recording), "channel": "mean"}
    return Separation(name, diarization, tracks, RATE, 4 * RATE, settings).save(folder)


def test_every_input_has_its_outcome_as_soon_as_it_is_known(tmp_path: Path) -> None:
    parrot, results = Parrot(), [make_result(tmp_path / "sep", name) for name in ("a", "b", "c")]
    (results[1] / "SPEAKER_00.wav").write_bytes(b"")
    outcomes = transcribe_all([tmp_path / "sep"], parrot, tmp_path / "out", formats=["seglst", "srt"])
    assert isinstance(outcomes, Iterator)
    assert parrot.heard == 0
    first = next(outcomes)
    assert parrot.heard == 2
    assert first.files == (tmp_path / "out" / "a.seglst.json", tmp_path / "out" / "a.srt")
    assert first.utterances == tuple(read_transcript(first.files[0]))
    assert [u.speaker for u in first.utterances] == ["SPEAKER_00", "SPEAKER_01"]
    second, third = outcomes
    assert second.utterances is None
    assert "SPEAKER_00.wav" in str(second.error)
    assert (third.error, third.is_new) == (None, True)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith("b.")]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    parrot, result = Parrot(), make_result(tmp_path / "sep", "a")
    (first,) = transcribe_all([result], parrot)
    (again,) = transcribe_all([str(result)], parrot)
    assert (first.is_new, again.is_new, parrot.heard) == (True, False, 2)
    assert again.utterances == first.utterances
    (other,) = transcribe_all([result], parrot, settings=TranscriptionSettings(padding_s=0.5))
    assert "transcription" in str(other.error)
    (other,) = transcribe_all([result], parrot, settings=TranscriptionSettings(padding_s=0.5), overwrite=True)
    assert (other.error, other.is_new) == (None, True)


def test_a_recogniser_may_be_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*arguments: Any) -> Parrot:
        asked.append(arguments)
        return Parrot()

    monkeypatch.setattr("pixit.transcription.recognizers.load_recognizer", load)
    (done,) = transcribe_all([make_result(tmp_path / "sep", "a")], "whisper:x", language="en", device="cpu")
    assert done.error is None
    assert asked == [("whisper:x", "en", "cpu")]


def test_the_turns_of_an_rttm_are_part_of_the_request(tmp_path: Path) -> None:
    parrot, rttm = Parrot(), tmp_path / "a.rttm"
    soundfile.write(tmp_path / "a.wav", np.full(4 * RATE, 0.1), RATE)
    rttm.write_text("SPEAKER a 1 0 1 <NA> <NA> ann <NA> <NA>\n")
    (first,) = transcribe_all([tmp_path / "a.wav"], parrot, rttm=rttm)
    assert first.utterances is not None
    assert [u.speaker for u in first.utterances] == ["ann"]
    rttm.write_text("SPEAKER a 1 0 2 <NA> <NA> ann <NA> <NA>\n")
    (other,) = transcribe_all([tmp_path / "a.wav"], parrot, rttm=rttm)
    assert "turns_sha256" in str(other.error)


def test_mistakes_are_said_at_once(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep", "a")
    (tmp_path / "empty").mkdir()
    for inputs, options, message in (
        ([tmp_path / "empty"], {}, "holds no result"),
        ([result], {"formats": ["doc"]}, "unknown format 'doc'"),
        ([result], {"rttm": tmp_path / "a.rttm"}, "is a folder of results"),
        ([result], {"recognizer": "parrot"}, "recogniser 'parrot': is unknown"),
    ):
        with pytest.raises(PixitError, match=message):
            transcribe_all(inputs, **{"recognizer": Parrot(), **options})


def test_overwriting_leaves_no_transcript_of_before(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep", "a")
    list(transcribe_all([result], Parrot(), formats=["seglst", "srt"]))
    (tmp_path / "sep" / "a.stm").write_text("a reference of my own")
    list(transcribe_all([result], Parrot(), formats=["vtt"], overwrite=True))
    left = {path.name for path in (tmp_path / "sep").iterdir() if path.name.startswith("a.")}
    assert left == {"a.vtt", "a.stm", "a.transcription.jsonl"}
    list(transcribe_all([result], Parrot(), formats=["srt"]))  # of the same words
    assert (tmp_path / "sep" / "a.srt").exists()
    assert (tmp_path / "sep" / "a.vtt").exists()


def test_a_recording_is_of_no_use_where_tracks_are_transcribed(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep", "a")
    with pytest.raises(PixitError, match="--audio goes with --attribution diarization"):
        transcribe_all([result], Parrot(), audio=tmp_path / "a.wav")
