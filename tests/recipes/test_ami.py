from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import (
    TextRules,
    Token,
    find_turns,
    find_utterances,
    read_meeting,
    read_speakers,
    read_tokens,
    rttm_line,
    uem_line,
)
from pixit.formats.transcripts import read_transcript, write_transcript
from pixit.types import PixitError, Turn

NAN = math.nan
MEETINGS_XML = """<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>
<nite:root nite:id="meet.00" xmlns:nite="http://nite.sourceforge.net/">
  <meeting nite:id="m" observation="ES1a">
    <speaker nxt_agent="B" global_name="MEE002"/> <!-- a comment -->
    <speaker nxt_agent="A" global_name="FEE001"/>
  </meeting>
</nite:root>
"""
WORDS_XML = """<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>
<nite:root nite:id="w" xmlns:nite="http://nite.sourceforge.net/">
  <!-- a comment -->
  <w nite:id="0" starttime="1.0" endtime="1.5">Here&#39;s</w>
  <w nite:id="1" starttime="1.5" endtime="2.0">T_V_</w>
  <w nite:id="2" starttime="2.0" endtime="2.0" punc="true">,</w>
  <vocalsound nite:id="3" starttime="2.0" endtime="2.6" type="laugh"/>
  <disfmarker nite:id="4" starttime="2.6" endtime="2.6"/>
  <w nite:id="5" starttime="2.7" endtime="2.9" trunc="true">th</w>
  <w nite:id="6">caf\xe9</w>
  <w nite:id="7" starttime="9.0" endtime="2.1" punc="true">.</w>
  <gap nite:id="8" starttime="3.0"/>
  <nonvocalsound nite:id="9" starttime="3.0" endtime="3.5"/>
  <w nite:id="10" starttime="4.0" endtime="5.0">end</w>
  <w nite:id="11" starttime="5.0" endtime="5.0" punc="true">?</w>
</nite:root>
"""


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    for name, text in {
        "corpusResources/meetings.xml": MEETINGS_XML,
        "words/ES1a.A.words.xml": WORDS_XML,
        "words/ES1a.B.words.xml": '<r><w starttime="1.0" endtime="1.5">Yes</w></r>',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    return tmp_path


def test_speakers_are_ordered_by_channel(manual: Path) -> None:
    assert list(read_speakers(manual)["ES1a"].items()) == [("A", "FEE001"), ("B", "MEE002")]


def test_turns_with_and_without_vocal_sounds(manual: Path) -> None:
    tokens = read_meeting(manual, "ES1a", read_speakers(manual))
    # equal times: by end; words that touch are merged, the sound and the pause of 0.1 s divide
    expected = [
        Turn(1.0, 1.5, "MEE002"),
        Turn(1.0, 2.0, "FEE001"),
        Turn(2.7, 2.9, "FEE001"),
        Turn(4.0, 5.0, "FEE001"),
    ]
    assert find_turns(tokens) == expected
    with_sounds = find_turns(tokens, vocal_sounds=True)
    assert with_sounds == [expected[0], Turn(1.0, 2.6, "FEE001"), *expected[2:]]


def test_text_by_default_rules(manual: Path) -> None:
    tokens = read_tokens(manual / "words" / "ES1a.A.words.xml")
    utterances = [
        (u.start_s, u.end_s, u.words)
        for u in find_utterances("ES1a", "FEE001", tokens, TextRules(pause_s=0.8))
    ]
    assert utterances == [(1.0, 2.9, "Here's TV, th café."), (4.0, 5.0, "end?")]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (TextRules(punctuation=False), "Here's TV th café end"),
        (TextRules(truncated=False), "Here's TV, café. end?"),
        (TextRules(join_letters=False), "Here's T_V_, th café. end?"),
    ],
)
def test_text_by_other_rules(manual: Path, rules: TextRules, text: str) -> None:
    tokens = read_tokens(manual / "words" / "ES1a.A.words.xml")
    assert " ".join(u.words for u in find_utterances("ES1a", "FEE001", tokens, rules)) == text


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("D_V_D_", "DVD"),
        ("T_V_s", "TVs"),
        ("T_V_'s", "TV's"),
        ("I_M_two", "IM two"),
        ("I_", "I"),
        ("on-off", "on-off"),
    ],
)
def test_spelled_letters_become_a_word(said: str, written: str) -> None:
    (utterance,) = find_utterances("m", "s", [Token("w", 0.0, 1.0, said)])
    assert utterance.words == written


def test_words_without_times_stay_in_the_text() -> None:
    words = [
        Token("w", NAN, NAN, "so"),
        Token("w", 3.0, NAN, "we"),
        Token("w", NAN, NAN, "go"),
        Token("w", 9, 8, "on"),
    ]
    utterances = find_utterances("m", "s", words)
    assert [(u.start_s, u.end_s, u.words) for u in utterances] == [(3.0, 3.0, "so we go"), (9.0, 9.0, "on")]
    assert [u.start_s for u in find_utterances("m", "s", words[:1])] == [0.0]
    assert find_turns({"s": words}) == []


def test_words_that_go_back_in_time_keep_their_order() -> None:
    words = [Token("w", 5.0, 5.5, "uh"), Token("w", 4.8, 5.2, "yeah")]
    (utterance,) = find_utterances("m", "s", words)
    assert (utterance.start_s, utterance.end_s, utterance.words) == (4.8, 5.5, "uh yeah")
    far = find_utterances("m", "s", [*words, Token("w", 1.0, 2.0, "what"), Token("w", 6.0, 6.5, "now")])
    assert [u.words for u in far] == ["uh yeah", "what", "now"]


def test_who_says_nothing_has_nothing() -> None:
    laugh = [Token("vocalsound", 0.0, 1.0), Token("w", 1.0, 1.0, ".", is_punctuation=True)]
    assert find_utterances("m", "s", laugh) == []
    assert find_turns({"s": laugh, "t": []}) == []


def test_lines() -> None:
    assert rttm_line("m", Turn(65.0, 68.0, "s")) == "SPEAKER m 1 65.0 3 <NA> <NA> s <NA> <NA>"
    assert rttm_line("m", Turn(0.1, 0.3, "s")) == "SPEAKER m 1 0.1 0.2 <NA> <NA> s <NA> <NA>"
    assert rttm_line("m", Turn(1780.0, 1880.0, "s")) == "SPEAKER m 1 1780.0 100 <NA> <NA> s <NA> <NA>"
    assert uem_line("m", 1113.845375) == "m 1 0.000 1113.845375"


tokens_st = st.lists(
    st.builds(
        lambda start, length, kind, mark: Token(
            kind, start / 10, (start + length) / 10, "w", is_punctuation=mark
        ),
        st.integers(0, 60),
        st.integers(-2, 8),
        st.sampled_from(["w", "w", "w", "vocalsound", "gap"]),
        st.booleans(),
    ),
    max_size=12,
)


@given(tokens_st, st.booleans())
def test_turns_cover_what_is_spoken_and_nothing_else(spoken: list[Token], vocal_sounds: bool) -> None:
    kinds = {"w", "vocalsound"} if vocal_sounds else {"w"}
    talks = [False] * 80  # of 0.1 s each
    for token in spoken:
        if token.kind in kinds and not token.is_punctuation:
            for step in range(round(token.start_s * 10), round(token.end_s * 10)):
                talks[step] = True
    turns = find_turns({"s": spoken}, vocal_sounds)
    covered = [any(t.start_s * 10 - 1e-6 <= step < t.end_s * 10 - 1e-6 for t in turns) for step in range(80)]
    assert covered == talks
    assert all(a.end_s < b.start_s for a, b in pairwise(turns))  # touching ones are one


@given(tokens_st, st.floats(0, 2))
def test_utterances_hold_every_word_once_and_are_divided_by_pauses(
    spoken: list[Token], pause_s: float
) -> None:
    rules = TextRules(pause_s=pause_s, punctuation=False)
    utterances = find_utterances("m", "s", spoken, rules)
    assert sum(len(u.words.split()) for u in utterances) == sum(
        t.kind == "w" and not t.is_punctuation for t in spoken
    )
    assert all(u.start_s <= u.end_s for u in utterances)
    in_order = find_utterances("m", "s", sorted(spoken, key=lambda token: token.start_s), rules)
    assert all(b.start_s - a.end_s > pause_s for a, b in pairwise(in_order))


# --- wrong input ----------------------------------------------------------------------------------------


def test_a_folder_without_annotations(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match=r"meetings\.xml: cannot be read.*ami_public_manual"):
        read_speakers(tmp_path)


def test_a_speaker_without_name(manual: Path) -> None:
    path = manual / "corpusResources" / "meetings.xml"
    path.write_text(MEETINGS_XML.replace(' global_name="FEE001"', ""))
    with pytest.raises(PixitError, match="'ES1a' has a speaker without"):
        read_speakers(manual)


def test_unknown_meeting_missing_file_and_foreign_file(manual: Path) -> None:
    speakers = read_speakers(manual)
    with pytest.raises(PixitError, match="knows no meeting 'ES9z'"):
        read_meeting(manual, "ES9z", speakers)
    (manual / "words" / "ES1a.C.words.xml").write_text("<r/>")
    with pytest.raises(PixitError, match=r"ES1a\.C\.words\.xml: meetings\.xml names no speaker"):
        read_meeting(manual, "ES1a", speakers)
    (manual / "words" / "ES1a.C.words.xml").unlink()
    (manual / "words" / "ES1a.B.words.xml").unlink()
    with pytest.raises(PixitError, match=r"ES1a\.B\.words\.xml: cannot be read"):
        read_meeting(manual, "ES1a", speakers)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("<r><w>", "is damaged"), ("", "is damaged"), ('<r><w starttime="x"/></r>', "'x', expected")],
)
def test_damaged_words(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "words.xml"
    path.write_text(text)
    with pytest.raises(PixitError, match=problem):
        read_tokens(path)


# --- the corpus -----------------------------------------------------------------------------------------


def meetings_of(folder: Path) -> list[str]:
    names = (folder / "annotations" / "lists" / "dev.meetings.txt").read_text().split()
    assert len(names) == 18
    return names


@pytest.mark.real
def test_rttm_of_all_development_meetings_is_the_official_one(shared_data: Path) -> None:
    folder = shared_data / "ami"
    manual = folder / "ami_public_manual_1.6.2"
    speakers = read_speakers(manual)
    for meeting in meetings_of(folder):
        official = (folder / "annotations" / "only_words" / "rttms" / "dev" / f"{meeting}.rttm").read_text()
        turns = find_turns(read_meeting(manual, meeting, speakers))
        assert [rttm_line(meeting, turn) for turn in turns] == official.splitlines()


@pytest.mark.real
def test_vocal_sounds_only_add_speech(shared_data: Path) -> None:
    manual = shared_data / "ami" / "ami_public_manual_1.6.2"
    tokens = read_meeting(manual, "IB4010", read_speakers(manual))
    words, more = find_turns(tokens), find_turns(tokens, vocal_sounds=True)
    assert sum(t.end_s - t.start_s for t in more) > sum(t.end_s - t.start_s for t in words)
    for word in words:
        assert any(
            t.speaker == word.speaker and t.start_s <= word.start_s and word.end_s <= t.end_s for t in more
        )


@pytest.mark.real
def test_speakers_of_all_meetings_are_those_of_the_official_rttm(shared_data: Path) -> None:
    speakers = read_speakers(shared_data / "ami" / "ami_public_manual_1.6.2")
    paths = sorted((shared_data / "ami" / "annotations" / "only_words" / "rttms").glob("*/*.rttm"))
    assert len(paths) == 154
    for path in paths:
        found = {line.split()[7] for line in path.read_text().splitlines()}
        assert found == set(speakers[path.stem].values())


@pytest.mark.real
def test_uem_is_written_as_the_official_one(shared_data: Path) -> None:
    for path in (shared_data / "ami" / "annotations" / "uems").glob("*/*.uem"):
        line = path.read_text().strip()
        num_samples = round(float(line.split()[3]) * 16000)
        assert uem_line(path.stem, num_samples / 16000) == line


@pytest.mark.real
def test_text_is_that_of_the_papers_references(shared_data: Path) -> None:
    """Oracle: every <w> of the file, in its order, marks attached to the word before them."""
    manual = shared_data / "ami" / "ami_public_manual_1.6.2"
    speakers = read_speakers(manual)
    for meeting in meetings_of(shared_data / "ami"):
        for channel, speaker in speakers[meeting].items():
            path = manual / "words" / f"{meeting}.{channel}.words.xml"
            expected = ""
            for word in ElementTree.parse(path).getroot().iter("w"):
                expected += ("" if word.get("punc") == "true" or not expected else " ") + (word.text or "")
            utterances = find_utterances(meeting, speaker, read_tokens(path), TextRules(join_letters=False))
            assert " ".join(utterance.words for utterance in utterances) == expected


@pytest.mark.real
def test_references_are_read_back_by_us_and_by_meeteval(shared_data: Path, tmp_path: Path) -> None:
    io = pytest.importorskip("meeteval.io")
    manual = shared_data / "ami" / "ami_public_manual_1.6.2"
    tokens = read_meeting(manual, "IS1008a", read_speakers(manual))
    utterances = [
        u for speaker, spoken in tokens.items() for u in find_utterances("IS1008a", speaker, spoken)
    ]
    for name in ("r.stm", "r.seglst.json"):
        write_transcript(tmp_path / name, utterances)
        assert read_transcript(tmp_path / name) == utterances
        theirs = io.load(tmp_path / name).to_seglst()
        assert [(s["speaker"], s["words"]) for s in theirs] == [(u.speaker, u.words) for u in utterances]
