"""One folder of RTTM, and one pair of names, through everything that reads them: the same recordings or error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.cli import cli
from pixit.data.protocol import read_recording
from pixit.evaluation.diarization import evaluate_diarization
from pixit.evaluation.separation.evaluate import evaluate_separation
from pixit.evaluation.separation.score import ScoringOptions
from pixit.evaluation.transcript import evaluate_transcript
from pixit.experiments.cpwer import select_references
from pixit.formats.labelled import read_labelled
from pixit.formats.rttm import read_rttm
from pixit.formats.transcripts import match_sessions, write_transcript
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.simulation.turntaking import TurnTaking
from pixit.transcription.jobs import Job, prepare
from pixit.types import PixitError, Turn

RATE = 8000
LINE = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three meetings in two files at different depths, a silent one, a hidden one, and other files."""
    files = {
        "ab.rttm": LINE.format("a", 0, 2, "A") + LINE.format("b", 1, 2, "A") + LINE.format("a", 1, 2, "B"),
        "deep/er/c.RTTM": LINE.format("c", 0, 3, "A"),
        "silent.rttm": ";; nobody speaks\n",
        ".old/a.rttm": LINE.format("a", 0, 9, "Z"),
        "notes.txt": "no RTTM",
    }
    for name, text in files.items():
        path = tmp_path / "rttm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "rttm"


def save_sources(folder: Path, names: list[str]) -> Path:
    """Write the sources A and B of each recording, 3 s of noise each."""
    for seed, name in enumerate(names):
        for speaker in "AB":
            (folder / name).mkdir(parents=True, exist_ok=True)
            samples = np.random.default_rng([seed, ord(speaker)]).uniform(-0.5, 0.5, 3 * RATE)
            soundfile.write(folder / name / f"{speaker}.wav", samples, RATE)
    return folder


def save_result(folder: Path, uri: str) -> Path:
    sources = save_sources(folder / "sources", [uri])
    diarization = Annotation(uri=uri)
    diarization[Segment(0, 2), "A"] = "A"
    tracks = {"A": Track.open(sources / uri / "A.wav")}
    return Separation(uri, diarization, tracks, RATE, 3 * RATE).save(folder / "separated")


def by_evaluate_diarization(folder: Path) -> dict[str, int]:
    scores = evaluate_diarization(folder, folder)
    return {name: round(counts.total_s) for name, counts in scores.recordings.items()}


def by_evaluate_separation(folder: Path) -> dict[str, int]:
    sources = save_sources(folder.parent / "sources", ["a", "b", "c", "silent"])
    options = ScoringOptions(("single", "overlap"), ("si_sdr",))
    scores, _ = evaluate_separation(sources, sources, rttm=folder, options=options)
    alone = {score.recording: sum(speaker.scored_s for speaker in score.speakers) for score in scores}
    return {name: round(talk_s) for name, talk_s in alone.items()}


def by_export(folder: Path) -> dict[str, int]:
    return {
        item.uri: round(sum(u.end_s - u.start_s for u in item.utterances)) for item in read_labelled([folder])
    }


def by_report(folder: Path) -> dict[str, int]:
    found = {}
    for uri in ("a", "b", "c", "silent"):
        result = save_result(folder.parent / "results", uri)
        page = folder.parent / f"{uri}.html"
        arguments = ["report", str(result), "--reference", str(folder), "-o", str(page), "--sound", "none"]
        done = CliRunner().invoke(cli, arguments)
        if done.exit_code:
            raise PixitError(done.output)
        data = page.read_text().partition('id="data">')[2].partition("</script>")[0]
        lanes = json.loads(data)["lanes"]
        found[uri] = round(sum(end - start for lane in lanes for start, end in lane["reference"]))
    return found


def turns_of_job(uri: str, rttm: Path) -> list[Turn]:
    """Return the turns by which ``pixit transcribe --rttm`` cuts a recording up."""
    transcriber = SimpleNamespace(description={}, mixture=lambda path, turns: turns)
    with TemporaryDirectory() as folder:
        audio = Path(folder) / f"{uri}.wav"
        soundfile.write(audio, np.zeros(10), RATE)
        _, transcribe, _ = prepare(transcriber, Job(audio, rttm, "diarization", rttm=rttm))  # type: ignore[arg-type]
        return transcribe()  # type: ignore[return-value]


def by_transcribe(folder: Path) -> dict[str, int]:
    found = {}
    for uri in ("a", "b", "c", "silent"):
        found[uri] = round(sum(turn.end_s - turn.start_s for turn in turns_of_job(uri, folder)))
    return found


READERS = [by_evaluate_diarization, by_evaluate_separation, by_export, by_report, by_transcribe]


@pytest.mark.parametrize("read", READERS)
def test_a_folder_holds_the_same_recordings_for_everybody(
    folder: Path, read: Callable[[Path], dict[str, int]]
) -> None:
    talk_s = {
        name: round(sum(t.end_s - t.start_s for t in turns)) for name, turns in read_rttm(folder).items()
    }
    assert talk_s == {"a": 4, "b": 2, "c": 3, "silent": 0}
    assert read(folder) == talk_s


def test_turn_taking_is_that_of_all_who_speak(folder: Path) -> None:
    assert [meeting.end_s for meeting in TurnTaking.from_rttms([folder]).meetings] == [3, 3, 3]


def by_turn_taking(folder: Path) -> TurnTaking:
    return TurnTaking.from_rttms([folder])


def by_preparation(folder: Path) -> object:
    soundfile.write(folder.parent / "a.wav", np.zeros(3 * RATE), RATE)
    return read_recording(folder.parent / "a.wav", folder)


@pytest.mark.parametrize("read", [*READERS, by_turn_taking, by_preparation])
def test_a_recording_in_two_files_is_the_same_error_for_everybody(
    folder: Path, read: Callable[[Path], object]
) -> None:
    (folder / "deep" / "a.rttm").write_text(LINE.format("a", 5, 1, "A"))
    with pytest.raises(
        PixitError, match=r"ab\.rttm and .*deep.a\.rttm: both hold 'a'; expected one file a recording"
    ):
        read(folder)


NOTE = "taken for the same recording, by the names in"


def test_names_of_recordings_are_compared_alike_everywhere(tmp_path: Path) -> None:
    """EN2002a, as the corpus has it, and EN2002a.Mix-Headset, as its audio file is named."""
    long, short = "EN2002a.Mix-Headset", "EN2002a"
    rttm = tmp_path / f"{short}.rttm"
    rttm.write_text(LINE.format(short, 0, 2, "A"))
    words = [Utterance(short, "A", 0.0, 1.0, "hello"), Utterance("other", "A", 0.0, 1.0, "hello")]
    stm = tmp_path / "words.stm"
    write_transcript(stm, words)
    diarization = evaluate_diarization({long: read_rttm(rttm)[short]}, rttm)
    transcript = evaluate_transcript([Utterance(long, "A", 0, 1, "hello")], stm, normalizer="none")
    sources = save_sources(tmp_path / "ref", [long, "second"])
    tracks = save_sources(tmp_path / "est", [short, "second"])
    options = ScoringOptions(("whole",), ("si_sdr",))
    separation, separation_notes = evaluate_separation(sources, tracks, options=options)
    sessions, session_notes = match_sessions([long, "third"], stm)
    references, reference_notes = select_references(words, [long], {})

    assert diarization.total.der == 0
    total = transcript.total("cpwer")
    assert total is not None
    assert total.errors == 0
    assert [speaker.values["si_sdr_db"] > 90 for speaker in separation[0].speakers] == [True, True]
    assert [u.words for u in sessions[long]] == ["hello"]
    assert [(u.session, u.words) for u in references] == [(long, "hello")]
    for notes in (diarization.notes, transcript.notes, separation_notes, session_notes, reference_notes):
        assert notes[0].startswith(NOTE)
        assert notes[0].endswith(f"{long} = {short}")

    result = save_result(tmp_path, long)
    soundfile.write(tmp_path / f"{short}.wav", np.zeros(3 * RATE), RATE)
    for arguments in (
        ["report", result, "--reference", rttm, "--transcript", stm, "-o", tmp_path / "page.html"],
        ["export", result, rttm.with_name("second.rttm"), "--to", "uem", "--audio", tmp_path],
    ):
        if arguments[0] == "export":
            (tmp_path / "second.rttm").write_text(LINE.format("second", 0, 2, "A"))
            soundfile.write(tmp_path / "second.wav", np.zeros(3 * RATE), RATE)
            arguments += ["-o", tmp_path / "out"]
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        assert f"pixit: warning: {NOTE}" in done.output
        assert f"{long} = {short}" in done.output
    assert len(turns_of_job(long, rttm)) == 1
