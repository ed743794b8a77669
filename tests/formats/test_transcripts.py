"""Transcripts: what is written is read again, what others wrote is understood, bad files are named."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.formats.transcripts import read_transcript, write_transcript
from pixit.formats.utterances import Utterance
from pixit.types import PixitError

WORDS = ["hello", "it's", "<unk>", "a&b", "[noise]", "naïve", "…", "3", "-->", ";;", "you:"]
MILLISECONDS = st.integers(0, 10**7)


@st.composite
def spoken(draw: st.DrawFn, speakers: tuple[str, ...], first_words: list[str]) -> Utterance:
    start, end = sorted((draw(MILLISECONDS), draw(MILLISECONDS)))
    words = draw(st.lists(st.sampled_from(WORDS), max_size=4))
    words = [draw(st.sampled_from(first_words)), *words] if words else []
    return Utterance("meeting", draw(st.sampled_from(speakers)), start / 1000, end / 1000, " ".join(words))


SPACED = st.lists(spoken(("A", "Dr. Who", "Zoë <z>"), ["so", "<o>", "[x]"]), max_size=6)
PLAIN = st.lists(spoken(("A", "SPEAKER_01"), ["so", "[x]:"]), max_size=6)


def in_time_order(utterances: list[Utterance]) -> list[tuple[float, float, str, str]]:
    return sorted((u.start_s, u.end_s, u.speaker, u.words) for u in utterances)


@settings(max_examples=40, deadline=None)
@given(utterances=SPACED)
def test_seglst_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[Utterance]
) -> None:
    for name in ("meeting.json", "meeting.seglst.json"):
        path = tmp_path_factory.mktemp("seglst") / name
        write_transcript(path, utterances)
        assert read_transcript(path) == utterances


@settings(max_examples=40, deadline=None)
@given(utterances=PLAIN)
def test_stm_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[Utterance]
) -> None:
    path = tmp_path_factory.mktemp("stm") / "any.stm"
    write_transcript(path, utterances)
    assert read_transcript(path) == utterances


@settings(max_examples=40, deadline=None)
@given(utterances=PLAIN)
def test_subtitles_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[Utterance]
) -> None:
    for ending in (".srt", ".vtt"):
        path = tmp_path_factory.mktemp("subtitles") / f"meeting{ending}"
        write_transcript(path, utterances)
        again = read_transcript(path)
        assert in_time_order(again) == in_time_order(utterances)
        assert [u.start_s for u in again] == sorted(u.start_s for u in utterances)


@settings(max_examples=20, deadline=None)
@given(utterances=PLAIN.filter(len))
def test_meeteval_and_pysubs2_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[Utterance]
) -> None:
    meeteval_io, pysubs2 = pytest.importorskip("meeteval.io"), pytest.importorskip("pysubs2")
    folder = tmp_path_factory.mktemp("others")
    write_transcript(folder / "meeting.stm", utterances)
    lines = meeteval_io.STM.load(folder / "meeting.stm", parse_float=float).lines
    theirs = [(str(x.filename), x.speaker_id, x.begin_time, x.end_time, x.transcript) for x in lines]
    assert theirs == [(u.session, u.speaker, u.start_s, u.end_s, u.words) for u in utterances]
    for ending in (".srt", ".vtt"):
        write_transcript(folder / f"meeting{ending}", utterances)
        events = pysubs2.load(str(folder / f"meeting{ending}"))
        times = sorted((round(u.start_s * 1000), round(u.end_s * 1000)) for u in utterances)
        assert sorted((event.start, event.end) for event in events) == times


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_stm_of_others(tmp_path: Path) -> None:
    text = "\ufeff;; comment\n\nm 1 A 0.5 1 <o,f0,male> so  <unk>\nm A B 1 1\r\nm 1 A 2 3 <NA>\nm 1 A 3 4 <b> x\n"
    assert read_transcript(write(tmp_path, "x.STM", text)) == [
        Utterance("m", "A", 0.5, 1.0, "so  <unk>"),
        Utterance("m", "B", 1.0, 1.0, ""),
        Utterance("m", "A", 2.0, 3.0, ""),
        Utterance("m", "A", 3.0, 4.0, "<b> x"),
    ]


def test_each_ctm_of_a_folder_is_a_speaker(tmp_path: Path) -> None:
    write(tmp_path, "ann.ctm", ";; c\nm 1 0.1 0.2 hello 0.9\nm 1 1 0 there\n")
    write(tmp_path, "bob.ctm", "m 1 0.3 0.1 hi\n")
    assert read_transcript(tmp_path) == [
        Utterance("m", "ann", 0.1, 0.3, "hello"),
        Utterance("m", "ann", 1.0, 1.0, "there"),
        Utterance("m", "bob", 0.3, 0.4, "hi"),
    ]


def test_subtitles_of_others(tmp_path: Path) -> None:
    srt = (
        "1\n00:00:01,5 --> 00:00:02,000 X1:3\n<i>Well</i>: [laughs]\n{\\an8}yes\n\n\n"
        "2\n01:00:00.000 --> 01:00:01.000\n"
    )
    assert read_transcript(write(tmp_path, "a b.srt", srt)) == [
        Utterance("a b", "unknown", 1.5, 2.0, "Well: [laughs] yes"),
        Utterance("a b", "unknown", 3600.0, 3601.0, ""),
    ]
    vtt = (
        "WEBVTT - a title\n\nNOTE not this\n\nid 7\n00:01.000 --> 00:02.000 align:start\n"
        "<v.loud Ann &amp; Co>Hi <b>there</b></v>\n<v Bob>&lt;no&gt;\n"
    )
    assert read_transcript(write(tmp_path, "c.vtt", vtt)) == [
        Utterance("c", "Ann & Co", 1.0, 2.0, "Hi there"),
        Utterance("c", "Bob", 1.0, 2.0, "<no>"),
    ]


def test_seglst_without_times(tmp_path: Path) -> None:
    path = write(tmp_path, "x.json", '[{"session_id": 7, "speaker": "A", "words": "so", "extra": 1}]')
    with pytest.raises(PixitError, match=r"x\.json: .*'A'.*start_time"):
        read_transcript(path)
    (utterance,) = read_transcript(path, need_times=False)
    assert utterance.session == "7"
    assert math.isnan(utterance.start_s)
    assert math.isnan(utterance.end_s)
    write_transcript(tmp_path / "y.json", [utterance])
    assert "start_time" not in (tmp_path / "y.json").read_text(encoding="utf-8")
    for ending in (".stm", ".srt", ".vtt"):
        with pytest.raises(PixitError, match="no times"):
            write_transcript(tmp_path / f"y{ending}", [utterance])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.stm", "m 1 A 0 1 a\nm 1 A zero 1 a\n", r"x\.stm:2: expected .* found 'm 1 A zero 1 a'"),
        ("x.stm", "m 1 A 2 1 a\n", r"x\.stm:1"),
        ("x.stm", "m 1 A nan 1 a\n", r"x\.stm:1"),
        ("x.stm", "m 1 A 0 inf a\n", r"x\.stm:1"),
        ("x.stm", "m 1 A\n", r"x\.stm:1"),
        ("x.ctm", "m 1 0 1 a 0.5 extra\n", r"x\.ctm:1"),
        ("x.ctm", "m 1 0 -1 a\n", r"x\.ctm:1"),
        ("x.json", "[\n{]", r"x\.json:2: is not JSON"),
        ("x.json", '{"a": 1}', r"x\.json: holds a JSON dict, expected a SegLST list"),
        (
            "x.json",
            '[{"session_id": "m", "words": "a"}]',
            r"x\.json: segment 1 .*expected session_id, speaker",
        ),
        ("x.json", '[{"session_id": "m", "speaker": null, "words": "a"}]', "segment 1"),
        ("x.json", '[{"session_id": "m", "speaker": "A", "words": ["a"]}]', "segment 1"),
        ("x.json", '[{"session_id": "m", "speaker": "A", "words": "a", "start_time": 1}]', "segment 1"),
        (
            "x.json",
            '[{"session_id": "m", "speaker": "A", "words": "", "start_time": 2, "end_time": 1}]',
            "segment 1",
        ),
        ("x.json", '["a"]', "segment 1"),
        ("x.srt", "1\n00:00:02,000 --> 00:00:01,000\na\n", r"x\.srt:2"),
        ("x.srt", "1\n0:2 --> 0:3\na\n", r"x\.srt:2"),
        (
            "x.srt",
            f"1\n{'1' * 5000}:00:01,000 --> {'1' * 5000}:00:02,000\na\n",
            r"x\.srt:2: expected '00:00:01.500",
        ),
        ("x.vtt", f"WEBVTT\n\n1{'0' * 6}:00:01.000 --> 1{'0' * 6}:00:02.000\na\n", r"x\.vtt:3: expected"),
        ("x.srt", "a transcript\n", r"x\.srt:1: expected the number"),
        ("x.vtt", "00:00.000 --> 00:01.000\na\n", r"x\.vtt:1: expected 'WEBVTT'"),
        ("x.vtt", "", r"x\.vtt:1"),
        ("x.txt", "", "unknown kind of transcript"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(PixitError, match=message) as caught:
        read_transcript(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="none: does not exist"):
        read_transcript(tmp_path / "none")
    (tmp_path / "x.stm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PixitError, match="not UTF-8"):
        read_transcript(tmp_path / "x.stm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PixitError, match="no transcripts"):
        read_transcript(tmp_path / "empty")


def test_empty_files_are_empty_transcripts(tmp_path: Path) -> None:
    for ending in (".json", ".stm", ".srt", ".vtt"):
        write_transcript(tmp_path / f"x{ending}", [])
        assert read_transcript(tmp_path / f"x{ending}") == []


def test_of_the_same_in_several_kinds_the_best_is_read_and_named(tmp_path: Path) -> None:
    """As ``pixit transcribe --format stm --format seglst`` leaves it."""
    told: list[str] = []
    for name in "ab":
        words = {".srt": "srt", ".stm": "stm", ".seglst.json": "seglst", ".vtt": "vtt"}
        for ending, word in words.items():
            write_transcript(tmp_path / name / f"{name}{ending}", [Utterance(name, "A", 0.0, 1.0, word)])
    assert [u.words for u in read_transcript(tmp_path, tell=told.append)] == ["seglst", "seglst"]
    assert told == [f"{tmp_path}: .seglst.json is read; the same is there as .stm, .vtt, .srt"]
    (tmp_path / "b" / "b.seglst.json").unlink()
    with pytest.raises(PixitError, match=r"b\.stm only as \.stm; expected all in one kind"):
        read_transcript(tmp_path)
    assert [u.words for u in read_transcript(tmp_path / "b" / "b.srt")] == ["srt"]


def test_a_folder_holds_one_kind(tmp_path: Path) -> None:
    utterance = Utterance("m", "A", 0.0, 1.0, "a")
    (tmp_path / "m").mkdir()
    write_transcript(tmp_path / "m" / "m.seglst.json", [utterance])
    write(tmp_path / "m", "m.json", '{"uri": "m"}')  # of a result of pixit
    write(tmp_path, ".hidden.stm", "")
    assert read_transcript(tmp_path) == [utterance]
    write_transcript(tmp_path / "m.srt", [utterance])
    with pytest.raises(PixitError, match=r"several kinds \(\.seglst\.json, \.srt\)"):
        read_transcript(tmp_path)


def test_a_format_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    one, other = Utterance("a", "Ann Lee", 0.0, 1.0, "a"), Utterance("b", "B", 0.0, 1.0, "b")
    with pytest.raises(PixitError, match="STM cannot hold the name 'Ann Lee'"):
        write_transcript(tmp_path / "x.stm", [other, one])
    with pytest.raises(PixitError, match="one recording, found a, b"):
        write_transcript(tmp_path / "x.srt", [one, other])
    with pytest.raises(PixitError, match="cannot write this kind"):
        write_transcript(tmp_path / "x.ctm", [other])
    with pytest.raises(PixitError, match="cannot be written"):
        write_transcript(Path(__file__) / "x.stm", [other])
    assert list(tmp_path.iterdir()) == []


def test_words_keep_to_their_line(tmp_path: Path) -> None:
    utterance = Utterance("m", "A", 0.0, 1.0, "so\n\nm 1 B 0 1 forged\t ")
    for ending in (".stm", ".srt", ".vtt"):
        write_transcript(tmp_path / f"m{ending}", [utterance])
        (again,) = read_transcript(tmp_path / f"m{ending}")
        assert again.words == "so m 1 B 0 1 forged"


@pytest.mark.real
def test_a_real_transcript_survives_every_format(shared_data: Path, tmp_path: Path) -> None:
    utterances = read_transcript(shared_data / "telephone" / "sample.stm")
    assert len(utterances) == 13
    assert {u.speaker for u in utterances} == {"Diane", "Sheila"}
    for ending in (".json", ".stm", ".srt", ".vtt"):
        write_transcript(tmp_path / f"sample{ending}", utterances)
        assert read_transcript(tmp_path / f"sample{ending}") == utterances


@pytest.mark.parametrize("piece", ["<", "<v ", "<v.a", " ", "<b", "{\\\\", "[", "[]:", "</u\t"])
@pytest.mark.parametrize("ending", [".srt", ".vtt"])
def test_text_that_begins_markup_again_and_again_is_read_at_once(
    tmp_path: Path, ending: str, piece: str
) -> None:
    """Every beginning looks for its end, but none beyond the next beginning."""
    head = "WEBVTT\n\n" if ending == ".vtt" else ""
    text = f"{head}00:00:01.000 --> 00:00:02.000\n<v {piece * 100_000}\n"
    started_s = time.process_time()
    (utterance,) = read_transcript(write(tmp_path, f"long{ending}", text))
    assert time.process_time() - started_s < 2
    assert utterance.speaker == "unknown"
