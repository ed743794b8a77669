from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from pixit.data.pairs import Chunk, PairSampler
from pixit.types import PixitError, Recording, Turn

CELL_S = 0.01  # the oracle's resolution; all times of its recordings are multiples of it


def recording(
    turns: list[tuple[float, float, str]], annotated: list[tuple[float, float]], uri: str = "meeting"
) -> Recording:
    return Recording(uri, Path(f"{uri}.wav"), tuple(Turn(*turn) for turn in sorted(turns)), tuple(annotated))


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Random turns and annotated stretches within 8 s, both on the oracle's grid."""
    times = st.integers(0, 800)
    turns = []
    for _ in range(draw(st.integers(0, 12))):
        start, length = draw(times), draw(st.integers(1, 300))
        turns.append((start * CELL_S, (start + length) * CELL_S, draw(st.sampled_from("ABCDE"))))
    edges = sorted(draw(st.sets(times, min_size=2, max_size=6)))
    annotated = [(a * CELL_S, b * CELL_S) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    return recording(turns, annotated)


def timeline(meeting: Recording) -> dict[str, np.ndarray]:
    cells = {turn.speaker: np.zeros(2000, dtype=bool) for turn in meeting.turns}
    for turn in meeting.turns:
        cells[turn.speaker][round(turn.start_s / CELL_S) : round(turn.end_s / CELL_S)] = True
    return cells


def speakers_on_timeline(cells: dict[str, np.ndarray], start_s: float, duration_s: float) -> tuple[str, ...]:
    first = int(np.floor(start_s / CELL_S + 1e-9))
    last = int(np.ceil((start_s + duration_s) / CELL_S - 1e-9))
    return tuple(sorted(speaker for speaker, on in cells.items() if on[first:last].any()))


def starts_by_brute_force(meeting: Recording, duration_s: float) -> Counter[tuple[str, ...]]:
    """How many cells of starts give each set of speakers; one where only a single start is possible."""
    cells, counts = timeline(meeting), Counter[tuple[str, ...]]()
    for region_start_s, region_end_s in meeting.annotated:
        first, last = round(region_start_s / CELL_S), round((region_end_s - duration_s) / CELL_S)
        starts = [first] if first == last else [i + 0.5 for i in range(first, last)]
        counts.update(speakers_on_timeline(cells, start * CELL_S, duration_s) for start in starts)
    return counts


def valid_pairs(
    counts: Counter[tuple[str, ...]], max_speakers: int
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], int]:
    return {
        (a, b): counts[a] * counts[b]
        for a, b in itertools.product(counts, repeat=2)
        if not set(a) & set(b) and 0 < len(a) + len(b) <= max_speakers
    }


def check_chunk(chunk: Chunk, duration_s: float) -> None:
    end_s = chunk.start_s + duration_s
    inside = [a - 1e-6 <= chunk.start_s and end_s <= b + 1e-6 for a, b in chunk.recording.annotated]
    assert any(inside)


@settings(max_examples=150, deadline=None)
@given(recordings(), st.integers(20, 300), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_pairs_agree_with_a_boolean_timeline(
    meeting: Recording, duration_cells: int, max_speakers: int, seed: int
) -> None:
    duration_s = duration_cells * CELL_S
    valid = valid_pairs(starts_by_brute_force(meeting, duration_s), max_speakers)
    if not valid:
        with pytest.raises(PixitError, match="meeting"):
            PairSampler([meeting], duration_s, max_speakers)
        return
    sampler, rng = PairSampler([meeting], duration_s, max_speakers), np.random.default_rng(seed)
    cells = timeline(meeting)
    for _ in range(50):
        pair = sampler.sample(rng)
        assert (pair.first.speakers, pair.second.speakers) in valid
        for chunk in (pair.first, pair.second):
            check_chunk(chunk, duration_s)
            assert chunk.speakers == speakers_on_timeline(cells, chunk.start_s, duration_s)


@settings(max_examples=15, deadline=None)
@given(recordings(), st.integers(20, 200), st.integers(2, 4))
def test_all_pairs_are_drawn_as_often_as_they_should(
    meeting: Recording, duration_cells: int, max_speakers: int
) -> None:
    duration_s, draws = duration_cells * CELL_S, 3000
    meeting = recording([(t.start_s, t.end_s, t.speaker) for t in meeting.turns], [(0.0, 8.0)])
    valid = valid_pairs(starts_by_brute_force(meeting, duration_s), max_speakers)
    assume(valid)
    found = Counter(
        (pair.first.speakers, pair.second.speakers)
        for pair in PairSampler([meeting], duration_s, max_speakers).fixed(draws, seed=0)
    )
    total = sum(valid.values())
    for sets, count in valid.items():
        expected = draws * count / total
        assert abs(found[sets] - expected) < 6 * np.sqrt(expected) + 6, sets


def test_starts_are_uniform() -> None:
    meeting = recording([(0, 10, "A"), (10, 20, "B")], [(0, 20)])
    pairs = PairSampler([meeting], duration_s=4, max_speakers=2).fixed(3000, seed=1)
    starts = defaultdict(list)
    for chunk in itertools.chain.from_iterable((pair.first, pair.second) for pair in pairs):
        starts[chunk.speakers].append(chunk.start_s)
    assert set(starts) == {("A",), ("B",)}  # (6, 10) holds both
    assert kstest(starts["A",], "uniform", args=(0, 6)).pvalue > 0.01
    assert kstest(starts["B",], "uniform", args=(10, 6)).pvalue > 0.01
    first = [pair.first.start_s for pair in pairs if pair.first.speakers == ("A",)]
    second = [pair.second.start_s for pair in pairs if pair.first.speakers == ("A",)]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_both_ends_of_a_stretch_are_reached() -> None:
    meeting = recording([(2, 2.01, "first"), (9.99, 10, "last")], [(2, 10)])
    pairs = PairSampler([meeting], duration_s=3, max_speakers=2, empty_weight=0).fixed(20, seed=0)
    starts = {c.speakers[0]: c.start_s for pair in pairs for c in (pair.first, pair.second)}
    assert 2 <= starts["first"] < 2.01
    assert 6.99 < starts["last"] <= 7


def test_a_stretch_as_long_as_a_chunk_is_used_for_its_length() -> None:
    # 5.1 - 0.1 < 5 in floating point
    meeting = recording([(1, 2, "A"), (8, 9, "B")], [(0.1, 5.1), (7.3, 12.3), (20, 30)])
    pairs = PairSampler([meeting], duration_s=5, max_speakers=2).fixed(2000, seed=0)
    first = Counter(pair.first.start_s for pair in pairs if pair.first.speakers)
    assert set(first) == {0.1, 7.3}
    # Weights are the lengths 5, 5 and, without speakers, 10: AB, BA 25 each; A0, 0A, B0, 0B 50 each.
    assert sum(first.values()) == pytest.approx(2000 * 150 / 250, rel=0.1)


def test_stretches_shorter_than_a_chunk_are_left_out() -> None:
    meeting = recording([(0, 3, "A"), (10, 15, "B"), (15, 20, "C")], [(0, 3), (10, 20)])
    pairs = PairSampler([meeting], duration_s=4, max_speakers=3).fixed(100, seed=0)
    assert all(10 <= chunk.start_s <= 16 for pair in pairs for chunk in (pair.first, pair.second))


def test_recordings_without_pairs_are_named() -> None:
    good = recording([(0, 5, "A"), (5, 10, "B")], [(0, 10)], uri="good")
    short = recording([(0, 1, "A")], [(0, 1.5)], uri="short")
    alone = recording([(0, 10, "A")], [(0, 10)], uri="alone")
    crowd = recording([(0, 10, speaker) for speaker in "ABC"], [(0, 10)], uri="crowd")
    silent = recording([], [(0, 10)], uri="silent")
    unmarked = recording([(0, 1, "A")], [], uri="unmarked")
    bad = [short, alone, crowd, silent, unmarked]
    sampler = PairSampler([*bad, good], duration_s=2, max_speakers=2)
    assert list(sampler.unusable) == [r.uri for r in bad]
    assert "1 of 6 recordings" in sampler.describe()
    assert all(r.uri in sampler.describe() for r in bad)
    with pytest.raises(PixitError, match=r"0 of 5 recordings.*short.*alone.*crowd.*silent.*unmarked"):
        PairSampler(bad, duration_s=2, max_speakers=2)
    with pytest.raises(PixitError, match="0 of 0"):
        PairSampler([], duration_s=2, max_speakers=2)


def test_one_speaker_and_pauses_make_pairs_unless_empty_chunks_are_excluded() -> None:
    meeting = recording([(0, 10, "A")], [(0, 20)])
    for pair in PairSampler([meeting], duration_s=2, max_speakers=1).fixed(50, seed=0):
        assert {pair.first.speakers, pair.second.speakers} == {(), ("A",)}
    with pytest.raises(PixitError, match="meeting"):
        PairSampler([meeting], duration_s=2, max_speakers=1, empty_weight=0)


def test_empty_weight_scales_the_share_of_empty_chunks() -> None:
    meeting = recording([(0, 4, "A"), (4, 8, "B")], [(0, 12)])
    shares = {}
    for empty_weight in (1.0, 0.25, 0.0):
        pairs = PairSampler([meeting], 2, 2, empty_weight=empty_weight).fixed(4000, seed=0)
        shares[empty_weight] = np.mean([not (p.first.speakers and p.second.speakers) for p in pairs])
    # Lengths of starts: A 2, AB 2, B 2, B at the end 2, none 2; both speakers beside none count, too.
    lengths = {"A": 2, "AB": 2, "B": 4, "": 2}
    beside_empty = lengths[""] * (lengths["A"] + lengths["AB"] + lengths["B"])
    without = lengths["A"] * lengths["B"]
    for empty_weight, share in shares.items():
        expected = empty_weight * beside_empty / (empty_weight * beside_empty + without)
        assert share == pytest.approx(expected, abs=0.04)


def test_recordings_are_drawn_by_usable_time_or_balanced() -> None:
    turns = [(0, 10, "A"), (10, 20, "B")]
    simulated = recording([*turns, (20, 90, "B")], [(0, 90)], uri="simulated")
    real = recording(turns, [(0, 20), (30, 31)], uri="real")
    for balance, share in ((None, 20 / 110), (lambda r: r.uri == "real", 0.5), (lambda r: 0, 20 / 110)):
        pairs = PairSampler([simulated, real], 4, 2, balance=balance).fixed(2000, seed=0)
        assert np.mean([p.first.recording is real for p in pairs]) == pytest.approx(share, abs=0.05)


def test_the_generator_decides() -> None:
    meeting = recording([(0, 10, "A"), (10, 20, "B")], [(0, 20)])
    sampler = PairSampler([meeting], duration_s=4, max_speakers=2)
    assert sampler.fixed(20, seed=3) == sampler.fixed(20, seed=3)
    assert sampler.fixed(20, seed=3) != sampler.fixed(20, seed=4)
    rng = np.random.default_rng(3)
    assert [sampler.sample(rng) for _ in range(20)] == sampler.fixed(20, seed=3)


@pytest.mark.parametrize(
    ("duration_s", "max_speakers", "empty_weight"), [(0, 3, 1), (float("nan"), 3, 1), (5, 0, 1), (5, 3, -1)]
)
def test_parameters_out_of_range(duration_s: float, max_speakers: int, empty_weight: float) -> None:
    meeting = recording([(0, 10, "A"), (10, 20, "B")], [(0, 20)])
    with pytest.raises(PixitError, match="expected"):
        PairSampler([meeting], duration_s, max_speakers, empty_weight=empty_weight)


@pytest.mark.real
def test_real_meetings(shared_data: Path) -> None:
    folder = shared_data / "ami" / "annotations"
    meetings = [
        _read_ami(
            folder / "only_words" / "rttms" / "dev" / f"{uri}.rttm", folder / "uems" / "dev" / f"{uri}.uem"
        )
        for uri in ("ES2011a", "IB4001", "IS1008d")
    ]
    sampler = PairSampler(meetings, duration_s=5, max_speakers=3)
    assert not sampler.unusable
    for pair in sampler.fixed(500, seed=0):
        assert not set(pair.first.speakers) & set(pair.second.speakers)
        assert 0 < len(pair.first.speakers) + len(pair.second.speakers) <= 3
        assert pair.first.recording is pair.second.recording
        for chunk in (pair.first, pair.second):
            check_chunk(chunk, 5)
            end_s = chunk.start_s + 5
            turns = chunk.recording.turns
            assert set(chunk.speakers) == {
                t.speaker for t in turns if t.start_s < end_s and t.end_s > chunk.start_s
            }


def _read_ami(rttm: Path, uem: Path) -> Recording:
    turns = []
    for line in rttm.read_text().splitlines():
        fields = line.split()
        turns.append((float(fields[3]), float(fields[3]) + float(fields[4]), fields[7]))
    annotated = [tuple(map(float, line.split()[2:])) for line in uem.read_text().splitlines()]
    return recording(turns, annotated, uri=rttm.stem)
