"""What is exported is read back by other programs' readers and must equal its source."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.cli import cli
from pixit.cli.results import EXPORT_FORMATS as CHOICES
from pixit.formats.export import FORMATS, export, speech_table, tiers
from pixit.formats.labelled import Labelled, read_labelled
from pixit.formats.transcripts import read_transcript, write_transcript
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.types import PixitError

Spans = set[tuple[int, int, str]]
"""(start, end, speaker or text), in milliseconds."""

RTTM = """\
SPEAKER talk 1 0.500 2.070 <NA> <NA> anna <NA> <NA>
SPEAKER talk 1 2.000 1.250 <NA> <NA> ben <NA> <NA>
SPEAKER talk 1 8.000 0.100 <NA> <NA> anna <NA> <NA>
"""
TURNS: Spans = {(500, 2570, "anna"), (2000, 3250, "ben"), (8000, 8100, "anna")}

TEXTS = ["one two", 'say "hi" & <go> → ☃', "a\tb\nc", "x --> y", "<v>", "10"]


def ms(time_s: float | str) -> int:
    return round(float(time_s) * 1000)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def fails(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    message = result.stderr
    assert message.startswith("pixit: error: ")
    assert message.count("\n") == 1
    return message


@pytest.fixture
def rttm_file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.rttm"
    path.write_text(RTTM)
    return path


def save_result(folder: Path, uri: str, spans: Spans, num_samples: int, source: Path | None = None) -> Path:
    """Save what `pixit separate` saves; the tracks are silent."""
    folder.mkdir(parents=True, exist_ok=True)
    diarization, tracks = Annotation(uri=uri), {}
    for start, end, speaker in sorted(spans):
        diarization[Segment(start / 1000, end / 1000), speaker] = speaker
    for speaker in sorted({speaker for _, _, speaker in spans}):
        path = folder / f"temporary-{speaker}.wav"
        soundfile.write(path, np.zeros(num_samples, np.float32), 8000)
        tracks[speaker] = Track(path, 8000, num_samples)
    settings = {"source": str(source)} if source else {}
    saved = Separation(uri, diarization, tracks, 8000, num_samples, settings).save(folder)
    for path in folder.glob("temporary-*"):
        path.unlink()
    return saved


# --- independent readers --------------------------------------------------------------------------------


def read_praat(path: Path) -> dict[str, Spans]:
    """Read with praatio, and check that pympi's reader of TextGrids, another program, reads the same."""
    from praatio import textgrid
    from pympi import Praat

    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    found = {
        name: {(ms(i.start), ms(i.end), i.label) for i in grid.getTier(name).entries}
        for name in grid.tierNames
    }
    again = {
        tier.name: {(ms(start), ms(end), text) for start, end, text in tier.get_intervals() if text}
        for tier in Praat.TextGrid(str(path)).get_tiers()
    }
    assert found == again
    return found


def read_elan(path: Path) -> dict[str, Spans]:
    """Read with pympi, and check that the bare XML says the same."""
    from pympi.Elan import Eaf

    document = Eaf(str(path))
    found = {
        name: {(a[0], a[1], a[2]) for a in document.get_annotation_data_for_tier(name)}
        for name in document.get_tier_names()
    }
    root = ElementTree.parse(path).getroot()
    times = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE", "")) for s in root.iter("TIME_SLOT")}
    bare: dict[str, Spans] = {}
    for tier in root.iter("TIER"):
        bare[tier.get("TIER_ID", "")] = {
            (
                times[a.get("TIME_SLOT_REF1")],
                times[a.get("TIME_SLOT_REF2")],
                a.findtext("ANNOTATION_VALUE") or "",
            )
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        }
    assert found == bare
    return found


def read_subtitles(path: Path) -> Spans:
    import pysubs2

    return {(event.start, event.end, event.plaintext) for event in pysubs2.load(str(path))}


def read_audacity(path: Path) -> Spans:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {(ms(start), ms(end), text) for start, end, text in rows}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_annotation(annotation: Annotation) -> Spans:
    return {(ms(s.start), ms(s.end), who) for s, _, who in annotation.itertracks(yield_label=True)}


def read_by_pyannote(path: Path) -> Spans:
    """Read RTTM or LAB as the field's training code does."""
    from pyannote.database.util import load_lab, load_rttm

    if path.suffix == ".lab":
        return read_annotation(load_lab(str(path), uri=path.stem))
    (annotation,) = load_rttm(str(path)).values()
    return read_annotation(annotation)


def read_back(path: Path, to: str) -> Spans:
    """Return the turns in an exported diarization."""
    if to == "textgrid":
        return set().union(*read_praat(path).values())
    if to == "elan":
        return set().union(*read_elan(path).values())
    if to == "srt":
        return {(start, end, text[1:-2]) for start, end, text in read_subtitles(path)}
    if to == "csv":
        return {(ms(row["start_s"]), ms(row["end_s"]), row["speaker"]) for row in read_csv(path)}
    readers = {"vtt": read_subtitles, "audacity": read_audacity}
    return readers.get(to, read_by_pyannote)(path)


TURN_FORMATS = ["audacity", "textgrid", "elan", "csv", "srt", "vtt", "rttm", "lab"]


# --- diarization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", TURN_FORMATS)
def test_turns_are_read_back_by_other_readers(rttm_file: Path, tmp_path: Path, to: str) -> None:
    result = run(rttm_file, "--to", to, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == f"talk{FORMATS[to].ending}"
    assert read_back(path, to) == TURNS


@st.composite
def diarizations(draw: st.DrawFn) -> Labelled:
    """Turns of up to three speakers in 3 s, touching, equal and overlapping ones of one speaker too."""
    speaker = st.sampled_from(["a b", "B", "ç"])
    spans = st.tuples(st.integers(0, 3000), st.integers(1, 900), speaker)
    drawn = sorted(draw(st.sets(spans, max_size=12)))
    turns = [Utterance("r", who, start / 1000, (start + length) / 1000, "") for start, length, who in drawn]
    return Labelled("r", tuple(turns), draw(st.sampled_from([None, 3.0, 5.1234])))


def timeline(spans: Spans) -> dict[str, np.ndarray]:
    lanes: dict[str, np.ndarray] = {}
    for start, end, speaker in spans:
        lanes.setdefault(speaker, np.zeros(6000, bool))[start:end] = True
    return lanes


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recording=diarizations())
def test_tiers_hold_the_same_speech_without_overlap(recording: Labelled, tmp_path: Path) -> None:
    """Against a timeline of milliseconds; praatio refuses to read or write overlaps in a tier."""
    spans = {(ms(u.start_s), ms(u.end_s), u.speaker) for u in recording.utterances}
    for own in tiers(recording).values():
        assert all(one.end_s <= next_.start_s for one, next_ in itertools.pairwise(own))
    if recording.end_s:
        (path,) = export([recording], "textgrid", tmp_path, overwrite=True)
        assert same(timeline(read_back(path, "textgrid")), timeline(spans))
    (path,) = export([recording], "elan", tmp_path, overwrite=True)
    assert same(timeline(read_back(path, "elan")), timeline(spans))
    for to in ("csv", "audacity"):  # nothing is merged where that is not needed
        (path,) = export([recording], to, tmp_path, overwrite=True)
        assert read_back(path, to) == spans


@settings(deadline=None, max_examples=100)
@given(recording=diarizations())
def test_the_table_cuts_the_recording_into_speech_and_the_rest(recording: Labelled) -> None:
    rows = speech_table(recording)
    if rows:
        assert rows[0][0] == 0
        assert rows[-1][1] == pytest.approx(recording.end_s, abs=0.00501)
    assert all(one[1] == next_[0] and one[2] != next_[2] for one, next_ in itertools.pairwise(rows))
    speech = np.zeros(6000, bool)
    for utterance in recording.utterances:  # edges are rounded to 10 ms, gaps below may vanish
        speech[ms(utterance.start_s) : ms(utterance.end_s)] = True
    found = np.zeros(6000, bool)
    for start_s, end_s, is_speech in rows:
        found[ms(start_s) : ms(end_s)] = is_speech
    for index in np.flatnonzero(speech != found):  # only within 5 ms of an edge of a turn
        edges = [ms(t) for u in recording.utterances for t in (u.start_s, u.end_s)]
        assert min(abs(index + 0.5 - edge) for edge in edges) <= 5


def test_the_table_is_as_speechbrain_writes_it(rttm_file: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", np.zeros(80_000), 8000)
    assert run(rttm_file, "--to", "table", "-o", tmp_path, "--audio", tmp_path).exit_code == 0
    assert (tmp_path / "talk.table.txt").read_text() == (
        "segment_001 0.00 0.50 NON_SPEECH\n"
        "segment_002 0.50 3.25 SPEECH\n"
        "segment_003 3.25 8.00 NON_SPEECH\n"
        "segment_004 8.00 8.10 SPEECH\n"
        "segment_005 8.10 10.00 NON_SPEECH\n"
    )


def test_turns_of_no_length_are_left_out_and_finer_times_rounded(tmp_path: Path) -> None:
    lines = ["1.00049 0.5 a", "2 0 a", "3 0.0004 b", "0.9999 0.1001 c"]
    rttm = "".join(f"SPEAKER r 1 {s} {d} <NA> <NA> {who} <NA> <NA>\n" for s, d, who in map(str.split, lines))
    (tmp_path / "r.rttm").write_text(rttm)
    for to in TURN_FORMATS:
        (path,) = export(read_labelled([tmp_path / "r.rttm"]), to, tmp_path / to)
        assert read_back(path, to) == {(1000, 1500, "a"), (1000, 1100, "c")}


# --- transcripts ----------------------------------------------------------------------------------------


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    utterances = [
        Utterance("talk", f"S {index % 2}", index, index + 1.5, text) for index, text in enumerate(TEXTS)
    ]
    path = tmp_path / "talk.seglst.json"
    write_transcript(path, utterances)
    return path


@pytest.mark.parametrize("to", ["audacity", "textgrid", "elan", "csv", "srt", "vtt"])
def test_words_are_read_back_by_other_readers(transcript: Path, tmp_path: Path, to: str) -> None:
    assert run(transcript, "--to", to, "-o", tmp_path / "out").exit_code == 0
    (path,) = (tmp_path / "out").iterdir()
    words = {(i * 1000, i * 1000 + 1500): " ".join(text.split()) for i, text in enumerate(TEXTS)}
    speakers = {(i * 1000, i * 1000 + 1500): f"S {i % 2}" for i in range(len(TEXTS))}
    if to in ("textgrid", "elan"):
        read = {"textgrid": read_praat, "elan": read_elan}[to](path)
        found = {(a, b): (who, text) for who, spans in read.items() for a, b, text in spans}
        assert found == {span: (speakers[span], words[span]) for span in words}
    elif to == "csv":
        rows = read_csv(path)
        found = {(ms(r["start_s"]), ms(r["end_s"])): (r["speaker"], r["words"]) for r in rows}
        assert found == {span: (speakers[span], words[span]) for span in words}
        assert {row["recording"] for row in rows} == {"talk"}
    elif to == "audacity":
        assert read_audacity(path) == {(*span, f"{speakers[span]}: {words[span]}") for span in words}
    else:
        again = {(ms(u.start_s), ms(u.end_s)): (u.speaker, u.words) for u in read_transcript(path) if u.words}
        assert again == {span: (speakers[span], words[span]) for span in words}
        plain = {(a, b): text for a, b, text in read_subtitles(path)}
        assert plain.keys() == words.keys()
        assert words[0, 1500] in plain[0, 1500]


def test_overlapping_utterances_of_one_speaker_become_one_in_a_tier(tmp_path: Path) -> None:
    utterances = [
        Utterance("r", "a", 0.0, 2.0, "first"),
        Utterance("r", "a", 1.0, 1.5, "inside"),
        Utterance("r", "a", 2.0, 3.0, "touching"),
        Utterance("r", "b", 1.0, 2.5, "other"),
    ]
    write_transcript(tmp_path / "r.stm", utterances)
    (path,) = export(read_labelled([tmp_path / "r.stm"]), "textgrid", tmp_path)
    assert read_praat(path) == {
        "a": {(0, 2000, "first inside"), (2000, 3000, "touching")},
        "b": {(1000, 2500, "other")},
    }


def test_words_of_no_length_keep_a_millisecond(tmp_path: Path) -> None:
    write_transcript(tmp_path / "r.stm", [Utterance("r", "a", 1.0, 1.0, "hm")])
    for to, read in (("textgrid", read_praat), ("elan", read_elan)):
        (path,) = export(read_labelled([tmp_path / "r.stm"]), to, tmp_path)
        assert read(path) == {"a": {(1000, 1001, "hm")}}


def test_what_xml_cannot_hold_is_left_out(tmp_path: Path) -> None:
    segment = {
        "session_id": "r",
        "speaker": "",
        "start_time": 0,
        "end_time": 1,
        "words": "a\x00b\x1b[0m\ud800c",
    }
    (tmp_path / "r.json").write_text(json.dumps([segment]))
    (path,) = export(read_labelled([tmp_path / "r.json"]), "elan", tmp_path)
    assert read_elan(path) == {"unknown": {(0, 1000, "a b [0m\ufffdc")}}


# --- results, several recordings, audio -----------------------------------------------------------------


def test_a_result_brings_its_length_its_names_and_its_audio(tmp_path: Path) -> None:
    source = tmp_path / "a talk.wav"
    soundfile.write(source, np.zeros(80_001), 8000)
    spans: Spans = {(0, 1000, "SPEAKER_00"), (900, 10_000, "SPEAKER_01")}
    saved = save_result(tmp_path / "separated", "a talk", spans, 80_001, source)
    for to in (*TURN_FORMATS, "uem"):
        assert run(saved, "--to", to, "-o", tmp_path / "out").exit_code == 0
        if to != "uem":
            assert read_back(tmp_path / "out" / f"a_talk{FORMATS[to].ending}", to) == spans
    assert (tmp_path / "out" / "a_talk.uem").read_text() == "a_talk 1 0.000 10.000\n"
    assert read_csv(tmp_path / "out" / "a_talk.csv")[0]["recording"] == "a talk"
    from praatio import textgrid

    grid = textgrid.openTextgrid(str(tmp_path / "out" / "a_talk.TextGrid"), False)
    assert grid.maxTimestamp == pytest.approx(80_001 / 8000, abs=1e-12)
    linked = linked_files(tmp_path / "out" / "a_talk.eaf")
    assert linked == [source, saved / "SPEAKER_00.wav", saved / "SPEAKER_01.wav"]


def linked_files(path: Path) -> list[Path]:
    """Return the media of an ELAN document; both of their addresses must lead to the same file."""
    from pympi.Elan import Eaf

    found = []
    for media in Eaf(str(path)).get_linked_files():
        absolute = Path(unquote(urlparse(media["MEDIA_URL"]).path))
        assert (path.parent / media["RELATIVE_MEDIA_URL"]).resolve() == absolute.resolve()
        assert media["MIME_TYPE"] == "audio/x-wav"
        found.append(absolute)
    return found


@pytest.mark.parametrize("to", CHOICES)
def test_a_silent_result(tmp_path: Path, to: str) -> None:
    """Nobody speaks: a valid file that says so."""
    saved = save_result(tmp_path / "separated", "quiet", set(), 16_000)
    assert run(saved, "--to", to, "-o", tmp_path / "out").exit_code == 0
    (path,) = (tmp_path / "out").iterdir()
    if to == "table":
        assert path.read_text() == "segment_001 0.00 2.00 NON_SPEECH\n"
    elif to == "uem":
        assert path.read_text() == "quiet 1 0.000 2.000\n"
    elif to in ("textgrid", "elan"):
        assert {"textgrid": read_praat, "elan": read_elan}[to](path) == {"no speech found": set()}
    elif to in ("rttm", "lab", "audacity", "srt"):
        assert path.read_text() == ""
    else:
        assert read_back(path, to) == set()


def test_an_empty_rttm_is_a_recording_without_speech(tmp_path: Path) -> None:
    (tmp_path / "quiet.rttm").write_text("\n")
    assert run(tmp_path / "quiet.rttm", "--to", "csv", "-o", tmp_path / "out").exit_code == 0
    assert read_csv(tmp_path / "out" / "quiet.csv") == []
    assert "length is unknown" in fails(tmp_path / "quiet.rttm", "--to", "textgrid", "-o", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    soundfile.write(tmp_path / "other.wav", np.zeros(8000), 8000)
    done = run(
        tmp_path / "quiet.rttm",
        "--to",
        "textgrid",
        "-o",
        tmp_path / "q.TextGrid",
        "--audio",
        tmp_path / "other.wav",
    )
    assert done.exit_code == 0
    assert read_praat(tmp_path / "q.TextGrid") == {"no speech found": set()}


def test_folders_of_results_and_rttms(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    save_result(folder, "one", {(0, 500, "SPEAKER_00")}, 8000)
    save_result(folder, "two", {(0, 700, "SPEAKER_00")}, 8000)
    (folder / ".pixit-0-new").mkdir()
    (folder / ".pixit-0-new" / "half.rttm").write_text("damaged")
    (folder / "more.rttm").write_text(RTTM + RTTM.replace("talk", "walk"))
    assert run(folder, "--to", "srt", "-o", tmp_path / "out").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "one.srt",
        "talk.srt",
        "two.srt",
        "walk.srt",
    ]
    assert run(folder, "--to", "csv", "-o", tmp_path / "all.csv").exit_code == 0
    counts: dict[str, int] = {}
    for row in read_csv(tmp_path / "all.csv"):
        counts[row["recording"]] = counts.get(row["recording"], 0) + 1
    assert counts == {"one": 1, "two": 1, "talk": 3, "walk": 3}
    assert run(folder, "--to", "rttm", "-o", tmp_path / "all.rttm").exit_code == 0
    from pyannote.database.util import load_rttm

    assert read_annotation(load_rttm(str(tmp_path / "all.rttm"))["walk"]) == TURNS


@pytest.mark.real
def test_all_of_ami(shared_data: Path, tmp_path: Path) -> None:
    """The reference annotation of a real meeting, through every format with turns."""
    from pyannote.database.util import load_rttm

    source = next((shared_data / "ami" / "annotations" / "only_words").rglob("ES2011a.rttm"))
    (expected,) = load_rttm(str(source)).values()
    for to in TURN_FORMATS:
        (path,) = export(read_labelled([source]), to, tmp_path)
        assert read_back(path, to) == read_annotation(expected)


# --- wrong input ----------------------------------------------------------------------------------------


def test_nothing_is_replaced_unless_asked_for(rttm_file: Path, tmp_path: Path) -> None:
    for to in CHOICES:
        if to == "uem":
            continue
        path = tmp_path / to / f"talk{FORMATS[to].ending}"
        path.parent.mkdir()
        path.write_text("mine")
        assert "exists already" in fails(rttm_file, "--to", to, "-o", path.parent)
        assert path.read_text() == "mine"
        assert run(rttm_file, "--to", to, "-o", path.parent, "--overwrite").exit_code == 0
        assert path.read_text() != "mine"
        assert [p.name for p in path.parent.iterdir()] == [path.name]  # no backup, no rest


def test_all_or_nothing(tmp_path: Path) -> None:
    """The second recording cannot be written: the first is not either, nor is the folder made."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.rttm").write_text(RTTM)
    (tmp_path / "in" / "b.rttm").write_text("")
    out = tmp_path / "out"
    fails(tmp_path / "in", "--to", "textgrid", "-o", out)
    assert not out.exists()
    out.mkdir()
    (out / "talk.TextGrid").write_text("mine")
    fails(tmp_path / "in", "--to", "textgrid", "-o", out, "--overwrite")
    assert {p.name: p.read_text() for p in out.iterdir()} == {"talk.TextGrid": "mine"}


def test_a_full_disk_is_told(rttm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    (recordings, out) = read_labelled([rttm_file]), tmp_path / "out"
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(PixitError, match="No space left"):
        export(recordings, "srt", out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.rttm", "SPEAKER r 1 -0.5 1 <NA> <NA> a <NA> <NA>\n", "expected 0 or later"),
        ("x.rttm", "hello\n", "x.rttm:1"),
        ("x.rttm", "SPEAKER r 1 zero 1 <NA> <NA> a <NA> <NA>\n", "x.rttm:1"),
        ("x.txt", RTTM, "nothing to export"),
        ("x.json", "{}", "SegLST"),
        ("x.json", '[{"session_id": "r", "speaker": "a", "words": "w"}]', "no times"),
    ],
)
def test_wrong_input_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    assert message in fails(tmp_path / name, "--to", "csv", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_requests_are_named(rttm_file: Path, tmp_path: Path) -> None:
    out, two = tmp_path / "out", tmp_path / "two.rttm"
    two.write_text(RTTM.replace("talk", "a?b") + RTTM.replace("talk", "a:b"))
    (tmp_path / "empty").mkdir()
    assert "does not exist" in fails(tmp_path / "none", "--to", "csv", "-o", out)
    assert "nothing to export" in fails(tmp_path / "empty", "--to", "csv")
    again = tmp_path / "again.rttm"
    again.write_text(RTTM)
    assert "both hold 'talk'" in fails(rttm_file, again, "--to", "csv", "-o", out)
    assert "expected a file named .csv" in fails(rttm_file, "--to", "csv", "-o", tmp_path / "x.srt")
    assert "holds one recording" in fails(two, "--to", "srt", "-o", tmp_path / "x.srt")
    assert "rename one" in fails(two, "--to", "srt", "-o", out)
    assert "length is unknown" in fails(rttm_file, "--to", "uem", "-o", out)
    assert "is one file for 2 recordings" in fails(
        two, "--to", "csv", "-o", out, "--audio", save_wav(tmp_path / "q.wav")
    )
    assert not out.exists()


def save_wav(path: Path) -> Path:
    soundfile.write(path, np.zeros(800), 8000)
    return path


def test_speakers_that_rttm_cannot_tell_apart(tmp_path: Path) -> None:
    utterances = [Utterance("r", who, 0.0, 1.0, "x") for who in ("a b", "a_b")]
    write_transcript(tmp_path / "r.json", utterances)
    for to in ("rttm", "lab"):
        assert "same name" in fails(tmp_path / "r.json", "--to", to, "-o", tmp_path / "out")


@pytest.mark.parametrize("to", ["textgrid", "elan"])
def test_a_missing_package_is_named(
    rttm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    for name in ("praatio", "pympi"):
        for module in [m for m in sys.modules if m.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)
    message = fails(rttm_file, "--to", to, "-o", tmp_path / "out")
    assert re.search(r"(praatio|pympi) is not installed; run pip install 'pixit-audio\[export\]'", message)
    assert not (tmp_path / "out").exists()


def test_the_command_knows_all_formats() -> None:
    assert list(FORMATS) == CHOICES


def test_a_spreadsheet_computes_no_names_and_words(tmp_path: Path) -> None:
    said = (Utterance("=m", "@A", 0.0, 1.0, "=HYPERLINK(x)"), Utterance("=m", "B", 1.0, 2.0, "a = b"))
    export([Labelled("=m", said)], "csv", tmp_path / "m.csv")
    rows = [
        (row["recording"], row["start_s"], row["speaker"], row["words"])
        for row in read_csv(tmp_path / "m.csv")
    ]
    assert rows == [("'=m", "0.000", "'@A", "'=HYPERLINK(x)"), ("'=m", "1.000", "B", "a = b")]
