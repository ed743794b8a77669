"""Names and turns that people mend: everywhere or nowhere, and everything reads them afterwards."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from pyannote.core import Annotation, Segment

from pixit.audio import Samples, Track
from pixit.cli import cli
from pixit.corrections import identity, rename_saved
from pixit.formats.rttm import read_rttm
from pixit.formats.transcripts import find_words, read_transcript
from pixit.ownership import claim
from pixit.results import Separation
from pixit.transcription.transcribe import Transcriber
from pixit.types import PixitError

RATE_HZ = 16000
LEVELS = {"SPEAKER_00": 0.1, "SPEAKER_01": 0.2}
SPANS = {"SPEAKER_00": (0.0, 1.5), "SPEAKER_01": (1.0, 4.0)}
ENDINGS = ("seglst", "stm", "srt", "vtt")


class Parrot:
    """Says how loud the track is, and counts."""

    heard = 0
    description: dict[str, Any] = {"recognizer": "parrot"}  # noqa: RUF012 (read only)

    def __call__(self, samples: Samples, sample_rate_hz: int) -> str:
        type(self).heard += 1
        return f"level {np.abs(samples).max():.1f}"


@pytest.fixture(autouse=True)
def parrot(monkeypatch: pytest.MonkeyPatch) -> type[Parrot]:
    monkeypatch.setattr("pixit.transcription.recognizers.load_recognizer", lambda *_: Parrot())
    Parrot.heard = 0
    return Parrot


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeline takes longer to draw than all else."""
    monkeypatch.setattr(Separation, "_repr_png_", lambda self: b"picture")


def make_result(folder: Path, name: str = "meeting") -> Path:
    """Save a result of two speakers, each told by the level of the track."""
    folder.mkdir(parents=True, exist_ok=True)
    diarization, tracks = Annotation(uri=name), {}
    for speaker, level in LEVELS.items():
        path = folder / f"{speaker}.tmp.wav"
        soundfile.write(path, np.full(4 * RATE_HZ, level), RATE_HZ, "PCM_16")
        tracks[speaker] = Track.open(path)
        diarization[Segment(*SPANS[speaker]), speaker] = speaker
    result = Separation(name, diarization, tracks, RATE_HZ, 4 * RATE_HZ, {"step_s": 1.0})
    saved = result.save(folder)
    for track in tracks.values():
        track.path.unlink()
    return saved


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


def transcribe(result: Path) -> str:
    return works("transcribe", result, *(f"--format={kind}" for kind in ENDINGS))


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def levels(result: Separation) -> dict[str, float]:
    return {speaker: round(float(track.read(0, 1)[0]), 1) for speaker, track in result.tracks.items()}


def check_named(result: Path, first: str, second: str) -> None:
    """Everything on disk has the first speaker's name, and the second's, where it belongs."""
    loaded = Separation.load(result)
    assert levels(loaded) == {first: 0.1, second: 0.2}
    assert [(t.start_s, t.end_s, t.speaker) for t in loaded.turns] == [(0, 1.5, first), (1, 4, second)]
    tracks = {f"{first}.wav", f"{second}.wav"}
    assert {p.name for p in result.iterdir()} == tracks | {"meeting.rttm", "meeting.json", "timeline.png"}
    (turns,) = read_rttm(result / "meeting.rttm").values()
    assert [turn.speaker for turn in turns] == [first, second]
    for ending in (".seglst.json", ".stm", ".srt", ".vtt"):
        if (path := result.parent / f"meeting{ending}").exists():
            said = {(u.speaker, u.words) for u in read_transcript(path)}
            assert said == {(first, "level 0.1"), (second, "level 0.2")}


# --- renaming -------------------------------------------------------------------------------------------


def test_all_that_is_saved_follows(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_result(tmp_path / "sep")
    transcribe(result)
    heard = parrot.heard
    assert "Ann, SPEAKER_01" in works("rename", result, "SPEAKER_00=Ann")
    check_named(result, "Ann", "SPEAKER_01")
    assert "is done" in transcribe(result), "the words of a renamed speaker are not recognised again"
    assert parrot.heard == heard
    (tmp_path / "sep" / "meeting.vtt").unlink()
    transcribe(result)
    assert parrot.heard == heard
    check_named(result, "Ann", "SPEAKER_01")


def test_lines_that_are_none_of_a_journal_are_left_out(tmp_path: Path, parrot: type[Parrot]) -> None:
    result = make_result(tmp_path)
    transcribe(result)
    heard, journal = parrot.heard, tmp_path / "meeting.transcription.jsonl"
    with journal.open("a", encoding="utf-8") as file:
        file.write('[1]\n3\n{"request": 3}\n' + "[" * 100_000 + '\n{"speaker": "SPEA')
    works("rename", result, "SPEAKER_00=Ann")
    assert "is done" in transcribe(result)
    assert parrot.heard == heard
    check_named(result, "Ann", "SPEAKER_01")


def test_swaps_and_there_and_back(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep")
    transcribe(result)
    before = contents(tmp_path)
    works("rename", result, "SPEAKER_00=SPEAKER_01", "SPEAKER_01=SPEAKER_00")
    check_named(result, "SPEAKER_01", "SPEAKER_00")
    works("rename", result, "SPEAKER_00=Ann", "SPEAKER_01=SPEAKER_00")  # the second takes the freed name
    check_named(result, "SPEAKER_00", "Ann")
    assert Separation.load(result).settings["renamed"] == {"SPEAKER_01": "Ann"}
    works("rename", result, "Ann=SPEAKER_01")
    assert contents(tmp_path) == before


def test_everything_reads_the_new_names(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep")
    works("rename", result, "SPEAKER_00=Zoë", "SPEAKER_01=Ben")
    transcribe(result)
    check_named(result, "Zoë", "Ben")
    works("report", result, "--sound", "none")
    assert 'aria-label="Zoë"' in (tmp_path / "sep" / "meeting.html").read_text(encoding="utf-8")
    works("export", result, "--to", "srt", "-o", tmp_path / "out")
    assert "[Zoë]: level 0.1" in (tmp_path / "out" / "meeting.srt").read_text(encoding="utf-8")
    shown = Separation.load(result)._repr_html_()
    assert "<td>Zoë</td>" in shown
    assert "SPEAKER" not in shown
    evaluated = works("evaluate", "diarization", result / "meeting.rttm", tmp_path / "sep", "--format", "csv")
    assert ",0.0" in evaluated


def test_in_memory(tmp_path: Path) -> None:
    loaded = Separation.load(make_result(tmp_path))
    loaded.folder = None  # as `separate` gives it
    before = contents(tmp_path)
    assert loaded.rename({"SPEAKER_00": "Ann"}) is loaded
    assert levels(loaded) == {"Ann": 0.1, "SPEAKER_01": 0.2}
    assert loaded.diarization.labels() == ["Ann", "SPEAKER_01"]
    assert contents(tmp_path) == before
    check_named(loaded.save(tmp_path / "new"), "Ann", "SPEAKER_01")


def test_a_loaded_result_stays_usable(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    loaded = Separation.load(result).rename({"SPEAKER_01": "Ann"}).rename({"Ann": "Ben"})
    assert levels(loaded) == {"SPEAKER_00": 0.1, "Ben": 0.2}
    check_named(result, "SPEAKER_00", "Ben")
    stale = Separation.load(result)
    works("rename", result, "Ben=Cleo")
    with pytest.raises(PixitError, match="has other speakers by now, SPEAKER_00, Cleo"):
        stale.rename({"Ben": "Dora"})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["SPEAKER_09=Ann"], "has no speaker 'SPEAKER_09'; expected one of SPEAKER_00, SPEAKER_01"),
        (["SPEAKER_00=SPEAKER_01"], "SPEAKER_00 and SPEAKER_01 would both be 'SPEAKER_01'"),
        (["SPEAKER_00=A", "SPEAKER_01=A"], "would both be 'A'"),
        (["SPEAKER_00=ann", "SPEAKER_01=Ann"], "same file name"),
        (["SPEAKER_00=A", "SPEAKER_00=B"], "SPEAKER_00 was to be A already"),
        (["SPEAKER_00"], "'SPEAKER_00': is no new name of a speaker; expected one as SPEAKER_00=Ann"),
        (
            ["SPEAKER_00=Ann Lee"],
            "neither spaces nor any of <>:\"/\\|?*, and only so many letters; call the speaker 'Ann_Lee'",
        ),
        (["SPEAKER_00="], "call the speaker '_'"),
        (["SPEAKER_00=../x"], "call the speaker '__x'"),
        (["SPEAKER_00=a\udce4"], "call the speaker 'a_'"),
        (["SPEAKER_00=" + "x" * 300], "and only so many letters; call the speaker 'xxx"),
    ],
)
def test_bad_names_change_nothing(tmp_path: Path, names: list[str], message: str) -> None:
    result = make_result(tmp_path)
    before = contents(tmp_path)
    assert message in fails("rename", result, *names)
    assert contents(tmp_path) == before


def test_a_transcript_that_would_lose_something_is_left(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    stm = tmp_path / "meeting.stm"
    stm.write_text("meeting 1 SPEAKER_01 0.000 1.000 <o,f0,male> hello\n")
    segment = {"session_id": "x", "speaker": "SPEAKER_01", "words": "hi", "mood": "merry"}
    (tmp_path / "meeting.seglst.json").write_text(json.dumps([segment]))
    before = contents(tmp_path)
    assert "meeting.stm: holds more than speakers, times and words" in fails("rename", result, "SPEAKER_01=A")
    assert contents(tmp_path) == before
    works("rename", result, "SPEAKER_00=B")  # nothing of that speaker is in it
    stm.unlink()
    works("rename", result, "SPEAKER_01=A")
    (changed,) = json.loads((tmp_path / "meeting.seglst.json").read_text())
    assert changed == segment | {"speaker": "A"}


class Killed(BaseException):
    """As `kill -9`: nothing is cleaned up after it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, limit: int) -> list[int]:
    """Let everything that changes a folder fail from the given operation on; return their number so far."""
    done = [0]

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if done[0] >= limit:
                raise Killed
            done[0] += 1
            return act(*arguments, **options)

        return call

    places = [(Path, name) for name in ("replace", "rename", "unlink", "mkdir", "write_text", "write_bytes")]
    for place, name in (*places, (os, "link"), (shutil, "rmtree")):
        monkeypatch.setattr(place, name, counted(getattr(place, name)))
    return done


def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is killed: what is read next is whole, its tracks and transcripts of the same names."""
    transcribe(make_result(tmp_path / "made"))
    found = []
    for limit in range(60):
        result = tmp_path / f"{limit}" / "meeting"
        shutil.copytree(tmp_path / "made", result.parent)
        with monkeypatch.context() as patch:
            done = kill_after(patch, limit)
            with contextlib.suppress(Killed):
                Separation.load(result).rename({"SPEAKER_00": "B", "SPEAKER_01": "SPEAKER_00"})
        names = Separation.load(result).speakers
        shutil.rmtree(
            result / ".pixit-change-new", ignore_errors=True
        )  # part of no result, and replaced by the next
        check_named(result, *names)
        assert (result.parent / "meeting.transcription.jsonl").read_text().count(f'"{names[0]}"') == 1
        found.append(names[0])
        if done[0] < limit:
            break
    assert set(found) == {"SPEAKER_00", "B"}
    assert found == sorted(found, reverse=True), "old names up to some moment, new ones from there"
    assert len(found) > 15


RENAMER = """
import sys
from pathlib import Path
from pixit.corrections import rename_saved
from pixit.results import Separation
from pixit.saved import read_description
from pixit.types import PixitError
Separation._repr_png_ = lambda self: b"picture"
folder, mark, done = Path(sys.argv[1]), sys.argv[2], 0
print("ready", flush=True)
sys.stdin.readline()
while done < 25:
    old = list(read_description(folder).tracks)[done % 2]
    try:
        assert f"{mark}{done}" in rename_saved(folder, [f"{old}={mark}{done}"]).speakers
    except PixitError as error:
        assert "has no speaker" in str(error), error
    else:
        done += 1
"""


def test_two_processes_rename_while_a_third_reads(tmp_path: Path) -> None:
    """Each is told what it did, and no track is lost."""
    result = make_result(tmp_path)
    transcribe(result)
    commands = [[sys.executable, "-c", RENAMER, str(result), mark] for mark in ("one", "other")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for command in commands]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        while any(process.poll() is None for process in processes):
            assert len(Separation.load(result).tracks) == 2
    assert [process.returncode for process in processes] == [0, 0]
    first, second = sorted(levels(Separation.load(result)).items(), key=lambda pair: pair[1])
    check_named(result, first[0], second[0])
    assert not list(tmp_path.glob(".pixit*"))


def test_a_change_waits_for_whoever_has_the_result(tmp_path: Path) -> None:
    """A thread that has it itself may change it."""
    result = make_result(tmp_path)
    with claim(result):
        other = threading.Thread(target=rename_saved, args=(result, ["SPEAKER_00=B"]))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        works("rename", result, "SPEAKER_01=A")
        path = corrections_of(result)
        works("correct", result, path)
    other.join()
    check_named(result, "B", "A")


def test_old_tracks_stay_where_a_new_one_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = make_result(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pixit.saved._finish_change", lambda folder: None)
        works("rename", result, "SPEAKER_00=Ann")
    (result / ".pixit-change" / "Ann.wav").unlink()
    assert "Ann.wav: cannot be read" in fails("rename", result, "SPEAKER_01=Ben")
    assert (result / "SPEAKER_00.wav").exists()


def test_annotations_renamed_by_hand_are_told(tmp_path: Path) -> None:
    """`rename_labels` renames in the diarization alone, which used to break the result."""
    result = make_result(tmp_path)
    loaded = Separation.load(result)
    loaded.diarization = loaded.diarization.rename_labels({"SPEAKER_00": "Ann"})
    with pytest.raises(PixitError, match=r"'Ann' has turns but no track, .* Separation\.rename"):
        loaded.save(tmp_path / "other")
    with pytest.raises(PixitError, match="'Ann' has turns but no track"):
        loaded.rename({"SPEAKER_01": "Ben"})
    with pytest.raises(PixitError, match="'Ann' has turns but no track"):
        Transcriber(Parrot()).separation(loaded)
    path = result / "meeting.json"
    path.write_text(path.read_text().replace('"speaker": "SPEAKER_00"', '"speaker": "Ann"'))
    assert "has turns of 'Ann', who has no track" in fails("transcribe", result)


# --- the transcript beside a result ---------------------------------------------------------------------


def test_words_are_found_beside_the_result(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep")
    works("transcribe", result, "--format", "vtt")

    def exported(to: str, *options: object) -> str:
        works("export", result, "--to", to, "-o", tmp_path / f"x.{to}", "--overwrite", *options)
        return (tmp_path / f"x.{to}").read_text()

    assert "[SPEAKER_00]: level 0.1" in exported("srt")
    assert "SPEAKER_01,level 0.2" in exported("csv")
    assert "[SPEAKER_00]:\n" in exported("srt", "--no-transcript")
    assert exported("rttm") == (result / "meeting.rttm").read_text(), "who spoke when is of the diarization"
    other = tmp_path / "other.stm"
    other.write_text("meeting 1 SPEAKER_00 0.000 1.000 by hand\n")
    assert "[SPEAKER_00]: by hand" in exported("srt", "--transcript", other)
    works("export", tmp_path / "sep", "--to", "vtt", "-o", tmp_path / "out")
    assert "level 0.2" in (tmp_path / "out" / "meeting.vtt").read_text()

    page = tmp_path / "sep" / "meeting.html"
    works("report", result, "--sound", "none")
    assert "level 0.2" in page.read_text()
    works("report", result, "--sound", "none", "--no-transcript")
    assert "level 0.2" not in page.read_text()
    works("report", result, "--sound", "none", "--transcript", other)
    assert "by hand" in page.read_text()


def test_words_of_an_earlier_result_are_left_out(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep")
    transcribe(result)
    path = result / "meeting.json"
    path.write_text(path.read_text().replace("1.0", "2.0"))  # separated again, with another step
    done = run("export", result, "--to", "srt", "-o", tmp_path / "x.srt")
    assert (done.exit_code, done.stderr.count("\n")) == (0, 1)
    assert "meeting.seglst.json: is the transcript of an earlier result, left out" in done.stderr
    assert "level" not in (tmp_path / "x.srt").read_text()


# --- corrections of a page ------------------------------------------------------------------------------


def corrections_of(result: Path, **changes: Any) -> Path:
    loaded = Separation.load(result)
    content = {
        "pixit": "corrections",
        "uri": loaded.uri,
        "made": identity(loaded),
        "speakers": loaded.speakers,
        "turns": [{"speaker": t.speaker, "start": t.start_s, "end": t.end_s} for t in loaded.turns],
        "words": [],
    }
    path = result.parent / "meeting.corrections.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_corrections_change_turns_names_and_words(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    transcribe(result)
    turns = [
        {"speaker": "Ann", "start": 0.5, "end": 1.0},
        {"speaker": "Ann", "start": 1.0, "end": 1.5},  # it was split
        {"speaker": "Ann", "start": 2.0, "end": 4.0},
    ]
    said = read_transcript(tmp_path / "meeting.seglst.json")
    words = [
        {"speaker": "Ann", "start_time": round(u.start_s, 3), "end_time": round(u.end_s, 3), "words": u.words}
        for u in said
    ]
    path = corrections_of(result, speakers=["Ann", "SPEAKER_01"], turns=turns, words=words)
    assert "3 turns of Ann, SPEAKER_01" in works("correct", result, path)
    loaded = Separation.load(result)
    assert levels(loaded) == {"Ann": 0.1, "SPEAKER_01": 0.2}
    assert [(t.start_s, t.end_s, t.speaker) for t in loaded.turns] == [
        (t["start"], t["end"], t["speaker"]) for t in turns
    ]
    assert loaded.settings["corrected"] is True
    for ending in (".seglst.json", ".stm", ".srt", ".vtt"):
        assert {u.speaker for u in read_transcript(tmp_path / f"meeting{ending}")} == {"Ann"}
    once = contents(tmp_path)
    works("correct", result, path)  # the page may be open still, and save more
    assert contents(tmp_path) == once
    told = fails("transcribe", result)
    assert "meeting.transcription.jsonl: its transcript was corrected by hand; pass --overwrite" in told
    works("export", result, "--to", "srt", "-o", tmp_path / "x.srt")
    assert "[Ann]: level 0.2" in (tmp_path / "x.srt").read_text()


def test_names_alone_are_no_other_turns(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    transcribe(result)
    loaded = Separation.load(result)
    turns = [{"speaker": "AB"[i], "start": t.start_s, "end": t.end_s} for i, t in enumerate(loaded.turns)]
    works("correct", result, corrections_of(result, speakers=["A", "B"], turns=turns))
    check_named(result, "A", "B")
    assert "corrected" not in Separation.load(result).settings
    assert "is done" in transcribe(result)


def test_a_corrected_transcript_is_of_no_later_result(tmp_path: Path) -> None:
    result = make_result(tmp_path / "sep")
    transcribe(result)
    words = read_transcript(tmp_path / "sep" / "meeting.vtt")
    turns = [{"speaker": "SPEAKER_00", "start": 0.0, "end": 4.0}]
    works("correct", result, corrections_of(result, turns=turns))
    works("rename", result, "SPEAKER_01=Ben")
    loaded = Separation.load(result)
    found, notes = find_words([loaded])
    assert (len(found["meeting"]), notes) == (len(words), [])
    assert "was corrected by hand; pass --overwrite" in fails("transcribe", result)
    loaded.settings["step_s"] = 2.0
    loaded.save(tmp_path / "sep", overwrite=True)  # as pixit separate --overwrite
    found, notes = find_words([Separation.load(result)])
    assert found == {}
    assert "is the transcript of an earlier result, left out" in notes[0]


def test_words_stay_with_whoever_has_no_track_and_go_to_no_other(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    stm = tmp_path / "meeting.stm"
    stm.write_text("meeting 1 Zoe 0.000 1.000 hello\n")
    before = contents(tmp_path)
    said = {"start_time": 0.0, "end_time": 1.0, "words": "hello"}
    path = corrections_of(result, words=[said | {"speaker": "Yan"}])
    assert "words at 0.000 s are of 'Yan', none of the speakers of the file" in fails("correct", result, path)
    path.unlink()
    assert contents(tmp_path) == before
    works("correct", result, corrections_of(result, words=[said | {"speaker": "Zoe"}]))
    assert [u.speaker for u in read_transcript(stm)] == ["Zoe"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": [{"speaker": "SPEAKER_00", "start": 0, "end": math.inf}]}, "finite number"),
        ({"words": [{"speaker": "A", "start_time": -math.inf, "end_time": 1, "words": ""}]}, "finite number"),
        ({"pixit": "notes"}, "is no file of corrections (pixit: "),
        ({"turns": 3}, "is no file of corrections (turns: "),
        ({"made": "0"}, "corrects another result than"),
        ({"speakers": ["SPEAKER_00"]}, "corrects another result than"),
        ({"speakers": ["A B", "SPEAKER_01"]}, "call the speaker 'A_B'"),
        ({"turns": [{"speaker": "C", "start": 0, "end": 1}]}, "a turn is of 'C', none of the speakers"),
        ({"turns": [{"speaker": "SPEAKER_00", "start": 1, "end": 1}]}, "is empty, outside the 4.000 s"),
        ({"turns": [{"speaker": "SPEAKER_00", "start": 1, "end": 9}]}, "is empty, outside the 4.000 s"),
        ({"turns": [{"speaker": "SPEAKER_00", "start": 0, "end": e} for e in (1, 2)]}, "overlaps one of the"),
    ],
)
def test_corrections_that_do_not_fit_change_nothing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    result = make_result(tmp_path)
    path = corrections_of(result, **changes)
    before = contents(tmp_path)
    assert message in fails("correct", result, path)
    assert contents(tmp_path) == before


def test_names_may_differ_by_capitals_alone(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    Separation.load(result).rename({"SPEAKER_00": "ann"}).rename({"ann": "Ann"})
    assert {path.name for path in result.glob("*.wav")} == {"Ann.wav", "SPEAKER_01.wav"}
    check_named(result, "Ann", "SPEAKER_01")
