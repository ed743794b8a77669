"""Excerpts of real turn-taking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixit.simulation.turntaking import TurnTaking, read_rttm
from pixit.types import PixitError, Turn


def _random_turns(seed: int, duration_s: float = 600, num_speakers: int = 4) -> list[Turn]:
    rng = np.random.default_rng(seed)
    turns = []
    for speaker in range(num_speakers):
        time_s = rng.uniform(0, 10)
        while time_s < duration_s:
            end_s = time_s + rng.uniform(0.3, 6)
            turns.append(Turn(float(time_s), float(end_s), f"S{speaker}"))
            time_s = end_s + rng.uniform(0.2, 12)
    return turns


def _active(excerpt: list[np.ndarray], duration_s: float) -> np.ndarray:
    """Speaker activity every 10 ms, (N, duration)."""
    times_s = np.arange(0, duration_s, 0.01)
    return np.array([((t[:, :1] <= times_s) & (times_s < t[:, 1:])).any(axis=0) for t in excerpt])


@pytest.fixture(scope="module")
def turn_taking() -> TurnTaking:
    return TurnTaking({"a": _random_turns(0), "b": _random_turns(1)})


def test_an_excerpt_is_the_meeting_itself() -> None:
    turns = _random_turns(0)
    excerpt = TurnTaking({"a": turns})
    meeting = excerpt.meetings[0]
    found = meeting.excerpt(100.0, 30.0)
    for rows in found:  # each is some speaker's turns in [100, 130)
        matches = []
        for speaker in {turn.speaker for turn in turns}:
            inside = [
                (max(t.start_s, 100) - 100, min(t.end_s, 130) - 100)
                for t in turns
                if t.speaker == speaker and t.end_s > 100 and t.start_s < 130
            ]
            matches.append(len(inside) == len(rows) and np.allclose(inside, rows))
        assert sum(matches) == 1
    totals = [(rows[:, 1] - rows[:, 0]).sum() for rows in found]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize(("num_speakers", "duration_s"), [(1, 5), (2, 5), (3, 5), (4, 60)])
def test_excerpts_have_the_speakers_asked_for(
    turn_taking: TurnTaking, num_speakers: int, duration_s: float
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        excerpt = turn_taking.excerpt(num_speakers, duration_s, rng, min_talk_s=0.3)
        assert len(excerpt) == num_speakers
        for turns in excerpt:
            assert (turns[:, 0] >= 0).all()
            assert (turns[:, 1] <= duration_s + 1e-9).all()
            assert (turns[1:, 0] >= turns[:-1, 1]).all()
            assert (turns[:, 1] - turns[:, 0]).sum() >= 0.3


def test_overlap_and_silence_are_as_in_the_source() -> None:
    turns = _random_turns(3, duration_s=3000)
    names = sorted({turn.speaker for turn in turns})
    source = [np.array([(t.start_s, t.end_s) for t in turns if t.speaker == name]) for name in names]
    expected = np.bincount(_active(source, 3000).sum(axis=0), minlength=5) / 300000
    rng = np.random.default_rng(0)
    drawn = [
        _active(TurnTaking({"a": turns}).excerpt(4, 60, rng, min_talk_s=0.01), 60).sum(axis=0)
        for _ in range(150)
    ]
    found = np.bincount(np.concatenate(drawn), minlength=5) / (150 * 6000)
    np.testing.assert_allclose(found, expected, atol=0.025)


def test_missing_speakers_come_from_other_meetings(turn_taking: TurnTaking) -> None:
    assert len(turn_taking.excerpt(7, 60, np.random.default_rng(0))) == 7


def test_no_speakers_no_turns(turn_taking: TurnTaking) -> None:
    assert turn_taking.excerpt(0, 5, np.random.default_rng(0)) == []


def test_impossible_wishes_are_told(turn_taking: TurnTaking) -> None:
    with pytest.raises(PixitError, match="recordings of at most 6"):
        turn_taking.excerpt(2, 10000, np.random.default_rng(0))
    with pytest.raises(PixitError, match="no turns"):
        TurnTaking({"a": []})


def test_rttm_files_and_folders_are_read(tmp_path: Path) -> None:
    line = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"
    text = ";; comment\nSPKR-INFO m 1 <NA> <NA> <NA> unknown A <NA> <NA>\n"
    text += line.format("m", 0.5, 1.25, "A") + line.format("n", 1, 2, "B")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.rttm").write_text(text)
    assert read_rttm(tmp_path / "deep" / "x.rttm") == {"m": [Turn(0.5, 1.75, "A")], "n": [Turn(1, 3, "B")]}
    assert len(TurnTaking.from_rttms([tmp_path]).meetings) == 2
    assert len(TurnTaking.from_rttms([tmp_path / "deep" / "x.rttm"]).meetings) == 2


@pytest.mark.parametrize("text", ["SPEAKER m 1 zero 1 <NA> <NA> A", "SPEAKER m 1 0.5"])
def test_bad_lines_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.rttm"
    path.write_text(text)
    with pytest.raises(PixitError, match=r"x\.rttm:1: expected 'SPEAKER"):
        read_rttm(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="cannot be read"):
        TurnTaking.from_rttms([tmp_path / "missing.rttm"])
    with pytest.raises(PixitError, match=r"holds no \.rttm"):
        TurnTaking.from_rttms([tmp_path])


@pytest.mark.real
def test_real_meetings_give_excerpts(shared_data: Path) -> None:
    folder = shared_data / "ami" / "annotations" / "only_words" / "rttms" / "dev"
    turn_taking = TurnTaking.from_rttms([folder])
    rng = np.random.default_rng(0)
    overlap = [_active(turn_taking.excerpt(4, 60, rng), 60).sum(axis=0) for _ in range(60)]
    counts = np.concatenate(overlap)
    assert (
        0.08 < (counts >= 2).sum() / (counts >= 1).sum() < 0.35
    )  # AMI overlaps in some 15-20 % of its speech
