from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation, Segment

from pixit.audio import MemoryAudio, Samples, Track
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.transcription.recognizers import Word
from pixit.transcription.stretches import Journal
from pixit.transcription.transcribe import Transcriber, TranscriptionSettings, break_up, check_words
from pixit.types import PixitError, Turn

RATE = 16000
EXACT = TranscriptionSettings(padding_s=0, merge_gap_s=0)


class Listener:
    """Hears a word where there is sound: its loudness in tenths; remembers what it was given."""

    def __init__(self, fail_after: int = 10**6) -> None:
        self.given: list[float] = []
        self.fail_after = fail_after

    def __call__(self, samples: Samples, sample_rate_hz: int) -> list[Word]:
        if len(self.given) >= self.fail_after:
            raise KeyboardInterrupt
        assert sample_rate_hz == RATE
        assert samples.dtype == np.float32
        self.given.append(len(samples) / RATE)
        edges = np.flatnonzero(np.diff(np.abs(samples) > 0.01, prepend=False, append=False))
        return [
            Word(f"w{round(10 * samples[a])}", a / RATE, b / RATE) for a, b in edges.reshape(-1, 2).tolist()
        ]


def levels(duration_s: float, *sounds: tuple[float, float, float]) -> Samples:
    samples = np.zeros(round(duration_s * RATE), np.float32)
    for start_s, end_s, level in sounds:
        samples[round(start_s * RATE) : round(end_s * RATE)] += level
    return samples


def make_result(folder: Path, name: str = "meeting", rate: int = RATE) -> Separation:
    """Two speakers of 10 s: A says w1 at 1-2 and w2 at 2.5-3 s, B says w5 at 1.5-2.5 and w3 at 8-9 s."""
    sounds = {
        "A": levels(10, (1, 2, 0.1), (2.5, 3, 0.2)),
        "B": levels(10, (1.5, 2.5, 0.5), (8, 9, 0.3)),
    }
    diarization = Annotation(uri=name)
    for speaker, start_s, end_s in [("A", 1, 2), ("A", 2.5, 3), ("B", 1.5, 2.5), ("B", 8, 9)]:
        diarization[Segment(start_s, end_s), speaker] = speaker
    tracks = {}
    folder.mkdir(exist_ok=True, parents=True)
    for speaker, samples in sounds.items():
        soundfile.write(folder / f"{speaker}.flac", samples, RATE)
        tracks[speaker] = Track.open(folder / f"{speaker}.flac")
    soundfile.write(folder / f"{name}.wav", sum(sounds.values()), RATE)
    settings = {"source": str(folder / f"{name}.wav"), "channel": "mean"}
    return Separation(name, diarization, tracks, RATE, 10 * RATE, settings)


def spoken(utterances: list[Utterance]) -> list[tuple[str, float, float, str]]:
    return [(u.speaker, round(u.start_s, 2), round(u.end_s, 2), u.words) for u in utterances]


# --- what is recognised ---------------------------------------------------------------------------------


def test_tracks_are_recognised_where_their_speakers_are_active(tmp_path: Path) -> None:
    listener = Listener()
    found = Transcriber(listener).separation(make_result(tmp_path))
    assert spoken(found) == [
        ("A", 1.0, 3.0, "w1 w2"),
        ("B", 1.5, 2.5, "w5"),
        ("B", 8.0, 9.0, "w3"),
    ]
    assert {u.session for u in found} == {"meeting"}
    assert listener.given == pytest.approx([2.4, 1.4, 1.4]), "turns with padding, A's merged over the gap"


def test_the_mixture_gives_both_what_is_heard_in_the_overlap(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    turns = [Turn(1, 2, "A"), Turn(2.5, 3, "A"), Turn(1.5, 2.5, "B"), Turn(8, 9, "B")]
    found = Transcriber(Listener(), EXACT).mixture(Path(result.settings["source"]), turns)
    assert spoken(found) == [
        ("A", 1.0, 2.0, "w1"),
        ("B", 1.5, 2.5, "w6"),
        ("A", 2.5, 3.0, "w2"),
        ("B", 8.0, 9.0, "w3"),
    ]


def test_a_recording_without_diarization_has_one_speaker_and_no_long_stretches() -> None:
    samples = levels(8, (0, 3, 0.2), (3.3, 8, 0.2))
    listener = Listener()
    settings = TranscriptionSettings(max_stretch_s=5)
    found = Transcriber(listener, settings).mixture(MemoryAudio(samples[None], RATE, uri="talk"))
    assert len(listener.given) == 2
    assert listener.given[0] == pytest.approx(3.15, abs=0.2), "cut in the pause"
    assert {(u.session, u.speaker) for u in found} == {("talk", "unknown")}


def test_stretches_outside_are_left_out(tmp_path: Path) -> None:
    found = Transcriber(Listener()).separation(make_result(tmp_path), within=[(0, 1.75)], session="x")
    assert spoken(found) == [("A", 1.0, 1.75, "w1"), ("B", 1.5, 1.75, "w5")]
    assert found[0].session == "x"
    assert Transcriber(Listener()).separation(make_result(tmp_path), within=[]) == []


def test_other_rates_and_formats_give_the_same_times(tmp_path: Path) -> None:
    samples = np.repeat(levels(10, (4, 5, 0.5)), 3)
    soundfile.write(tmp_path / "a.wav", samples, 3 * RATE)
    soundfile.write(tmp_path / "a.ogg", samples, 3 * RATE)  # has to be decoded from its beginning
    turns = [Turn(3, 4.5, "A"), Turn(4.5, 6, "A")]
    for path in (tmp_path / "a.wav", tmp_path / "a.ogg"):
        found = Transcriber(Listener(), EXACT).mixture(path, turns)
        assert found[0].start_s == pytest.approx(4, abs=0.02)
        assert found[-1].end_s == pytest.approx(5, abs=0.02)


def test_nobody_speaks(tmp_path: Path) -> None:
    empty = Separation("silence", Annotation(uri="silence"), {}, RATE, RATE)
    assert Transcriber(Listener()).separation(empty) == []
    audio = MemoryAudio(np.zeros((1, RATE), np.float32), RATE)
    assert Transcriber(Listener()).mixture(audio, []) == []
    assert Transcriber(Listener()).mixture(audio, [Turn(0.5, 0.5, "A")]) == []


def test_a_diarization_of_another_recording_is_told() -> None:
    audio = MemoryAudio(np.zeros((1, RATE), np.float32), RATE)
    with pytest.raises(PixitError, match=r"lasts 1\.000 s"):
        Transcriber(Listener()).mixture(audio, [Turn(2, 3, "A")])
    assert Transcriber(Listener()).mixture(audio, [Turn(1.2, 3, "A")]) == [], "rounded times are no mistake"


# --- what a recogniser may return -----------------------------------------------------------------------


def test_any_function_will_do(tmp_path: Path) -> None:
    def say(samples: Samples, sample_rate_hz: int) -> str:
        return "  hello\n there "

    found = Transcriber(say, EXACT).mixture(MemoryAudio(np.ones((1, RATE), np.float32), RATE))
    assert spoken(found) == [("unknown", 0.0, 1.0, "hello there")]
    assert "say" in Transcriber(say).description["recognizer"]
    assert Transcriber(lambda *_: "").mixture(MemoryAudio(np.ones((1, RATE), np.float32), RATE)) == []


def test_words_are_put_in_order_and_into_the_stretch() -> None:
    words = [Word("b", 0.9, 7.0), Word(" ", 0.5, 0.6), Word("a", -1.0, 0.5), Word("c", 3.0, 2.0)]
    assert check_words(words, 1.0) == [Word("a", 0.0, 0.5), Word("b", 0.9, 1.0), Word("c", 1.0, 1.0)]


@pytest.mark.parametrize("wrong", [None, {"text": "a"}, ["a"], [("a", 0, 1)], [Word("a", float("nan"), 1.0)]])
def test_what_is_neither_text_nor_words_is_told(wrong: Any) -> None:
    with pytest.raises(PixitError, match="recogniser returned"):
        check_words(wrong, 1.0)


def test_long_utterances_are_broken_where_a_sentence_or_a_gap_is() -> None:
    words = [Word("a", 0, 1), Word("b.", 1, 2), Word("c", 2, 3), Word("d", 3.3, 4), Word("e", 4, 5)]
    assert break_up(words, 5) == [words]
    assert break_up(words, 4) == [words[:2], words[2:]]
    assert break_up(words, 2.5) == [words[:2], words[2:3], words[3:]]
    assert break_up(words, 0.1) == [[word] for word in words]


# --- resuming -------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    result, path = make_result(tmp_path), tmp_path / "journal.jsonl"
    whole = Transcriber(Listener()).separation(result)
    with pytest.raises(KeyboardInterrupt):
        Transcriber(Listener(fail_after=2)).separation(result, journal=Journal(path, {}))
    with path.open("a") as file:
        file.write('{"speaker": "B", "start": 12')  # the write that was cut off
    listener = Listener()
    journal = Journal(path, {})
    assert Transcriber(listener).separation(result, journal=journal) == whole
    assert (len(listener.given), journal.num_added) == (1, 1)
    listener = Listener()
    assert Transcriber(listener).separation(result, journal=Journal(path, {})) == whole
    assert listener.given == []
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_other_requests_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, {"language": "en", "within": ((0, 1),)}).begin()
    Journal(path, {"language": "en", "within": ((0, 1),)})
    with pytest.raises(PixitError, match=r"something else \(language\)"):
        Journal(path, {"language": "de", "within": ((0, 1),)})


@pytest.mark.parametrize("content", ["", "{}\n", "nonsense\n", "[1]\n", '{"request": {}}\n{"speaker": 1}\n'])
def test_a_file_that_is_no_journal_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(content)
    with pytest.raises(PixitError, match="is not the journal"):
        Journal(path, {})


def test_progress_is_told(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    def hook(step: str, artifact: Any, file: Any = None, total: int = 0, completed: int = 0) -> None:
        steps.append((completed, total))

    Transcriber(Listener()).separation(make_result(tmp_path), hook=hook)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
