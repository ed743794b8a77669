from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch.utils.data import DataLoader

from pixit.data.chunks import Chunk, ChunkSampler
from pixit.data.pairs import ChunkShape, Item, Pair, PairDataset, PairSampler, activities, load_pair
from pixit.types import FrameGrid, PixitError, Recording, Turn

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


def drawn(sampler: PairSampler, count: int, seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    return [sampler.sample(rng) for _ in range(count)]


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
        for pair in drawn(PairSampler([meeting], duration_s, max_speakers), draws)
    )
    total = sum(valid.values())
    for sets, count in valid.items():
        expected = draws * count / total
        assert abs(found[sets] - expected) < 6 * np.sqrt(expected) + 6, sets


def test_starts_are_uniform() -> None:
    meeting = recording([(0, 10, "A"), (10, 20, "B")], [(0, 20)])
    pairs = drawn(PairSampler([meeting], duration_s=4, max_speakers=2), 3000, seed=1)
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
    pairs = drawn(PairSampler([meeting], duration_s=3, max_speakers=2), 2000)
    starts = {c.speakers[0]: c.start_s for pair in pairs for c in (pair.first, pair.second) if c.speakers}
    assert 2 <= starts["first"] < 2.01
    assert 6.99 < starts["last"] <= 7


def test_a_stretch_as_long_as_a_chunk_is_used_for_its_length() -> None:
    # 5.1 - 0.1 < 5 in floating point
    meeting = recording([(1, 2, "A"), (8, 9, "B")], [(0.1, 5.1), (7.3, 12.3), (20, 30)])
    pairs = drawn(PairSampler([meeting], duration_s=5, max_speakers=2), 2000)
    first = Counter(pair.first.start_s for pair in pairs if pair.first.speakers)
    assert set(first) == {0.1, 7.3}
    # Weights are the lengths 5, 5 and, without speakers, 10: AB, BA 25 each; A0, 0A, B0, 0B 50 each.
    assert sum(first.values()) == pytest.approx(2000 * 150 / 250, rel=0.1)


def test_stretches_shorter_than_a_chunk_are_left_out() -> None:
    meeting = recording([(0, 3, "A"), (10, 15, "B"), (15, 20, "C")], [(0, 3), (10, 20)])
    pairs = drawn(PairSampler([meeting], duration_s=4, max_speakers=3), 100)
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


def test_one_speaker_and_pauses_make_pairs() -> None:
    meeting = recording([(0, 10, "A")], [(0, 20)])
    for pair in drawn(PairSampler([meeting], duration_s=2, max_speakers=1), 50):
        assert {pair.first.speakers, pair.second.speakers} == {(), ("A",)}


def test_empty_chunks_are_as_frequent_as_in_the_recording() -> None:
    meeting = recording([(0, 4, "A"), (4, 8, "B")], [(0, 12)])
    pairs = drawn(PairSampler([meeting], 2, 2), 4000)
    # Lengths of starts: A 2, AB 2, B 2, B at the end 2, none 2; both speakers beside none count, too.
    lengths = {"A": 2, "AB": 2, "B": 4, "": 2}
    beside_empty = lengths[""] * (lengths["A"] + lengths["AB"] + lengths["B"])
    expected = beside_empty / (beside_empty + lengths["A"] * lengths["B"])
    share = np.mean([not (p.first.speakers and p.second.speakers) for p in pairs])
    assert share == pytest.approx(expected, abs=0.04)


def test_recordings_are_drawn_by_usable_time() -> None:
    turns = [(0, 10, "A"), (10, 20, "B")]
    simulated = recording([*turns, (20, 90, "B")], [(0, 90)], uri="simulated")
    real = recording(turns, [(0, 20), (30, 31)], uri="real")
    pairs = drawn(PairSampler([simulated, real], 4, 2), 2000)
    assert np.mean([p.first.recording is real for p in pairs]) == pytest.approx(20 / 110, abs=0.05)


def test_the_generator_decides() -> None:
    meeting = recording([(0, 10, "A"), (10, 20, "B")], [(0, 20)])
    sampler = PairSampler([meeting], duration_s=4, max_speakers=2)
    assert drawn(sampler, 20, seed=3) == drawn(sampler, 20, seed=3)
    assert drawn(sampler, 20, seed=3) != drawn(sampler, 20, seed=4)


@pytest.mark.parametrize(("duration_s", "max_speakers"), [(0, 3), (float("nan"), 3), (5, 0)])
def test_parameters_out_of_range(duration_s: float, max_speakers: int) -> None:
    meeting = recording([(0, 10, "A"), (10, 20, "B")], [(0, 20)])
    with pytest.raises(PixitError, match="expected"):
        PairSampler([meeting], duration_s, max_speakers)


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
    for pair in drawn(sampler, 500):
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


RATE_HZ = 8000
SHAPE = ChunkShape(RATE_HZ, 2 * RATE_HZ, FrameGrid(step_samples=80, size_samples=200), 198, max_speakers=3)
TURNS = (Turn(0.2, 2.1, "a"), Turn(1.5, 4.0, "b"), Turn(5.0, 7.5, "a"), Turn(7.0, 9.95, "c"))


@pytest.fixture
def meeting(tmp_path: Path) -> Recording:
    """10 s, whose sources are noise within the turns and nothing elsewhere."""
    rng = np.random.default_rng(0)
    sources = {speaker: np.zeros(10 * RATE_HZ, dtype=np.float32) for speaker in "abc"}
    for turn in TURNS:
        start, end = round(turn.start_s * RATE_HZ), round(turn.end_s * RATE_HZ)
        sources[turn.speaker][start:end] = 0.2 * rng.uniform(-1, 1, end - start)
    references = {speaker: tmp_path / f"{speaker}.wav" for speaker in sources}
    for speaker, source in sources.items():
        soundfile.write(references[speaker], source, RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "mixture.wav", sum(sources.values()), RATE_HZ, subtype="FLOAT")
    return Recording("meeting", tmp_path / "mixture.wav", TURNS, ((0.0, 10.0),), references)


@pytest.fixture
def dataset(meeting: Recording) -> PairDataset:
    return PairDataset(PairSampler([meeting], 2.0, 3), SHAPE, items_per_epoch=12, seed=5)


def without_references(meeting: Recording) -> Recording:
    return Recording(meeting.uri, meeting.audio, meeting.turns, meeting.annotated)


def all_equal(one: Item, other: Item) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_activities_say_whether_the_centre_of_a_frame_is_in_a_turn(meeting: Recording) -> None:
    chunk = Chunk(meeting, 1.00003, ("a", "b"))
    found = activities(chunk, replace(SHAPE, max_speakers=4))
    assert found.shape == (4, SHAPE.num_frames)
    for frame in range(SHAPE.num_frames):
        centre_s = 1.0 + (frame * 80 + 100) / RATE_HZ
        for row, speaker in enumerate("ab"):
            assert found[row, frame] == any(
                t.start_s <= centre_s < t.end_s for t in TURNS if t.speaker == speaker
            )
    assert not found[2:].any()


def test_items_are_the_audio_of_their_pair(meeting: Recording) -> None:
    pair = Pair(Chunk(meeting, 1.0, ("a", "b")), Chunk(meeting, 8.0, ("c",)))
    item = load_pair(pair, SHAPE)
    shapes = {key: tuple(value.shape) for key, value in item.items()}
    frames, samples = SHAPE.num_frames, SHAPE.num_samples
    assert shapes == {
        "mixtures": (2, samples),
        "activities": (2, 3, frames),
        "references": (2, 3, samples),
        "has_references": (),
    }
    assert item["has_references"]
    signal, _ = soundfile.read(meeting.audio, dtype="float32")
    assert torch.equal(item["mixtures"][0], torch.from_numpy(signal[RATE_HZ : 3 * RATE_HZ]))
    assert torch.equal(item["mixtures"][1], torch.from_numpy(signal[8 * RATE_HZ :]))
    assert torch.allclose(item["references"].sum(1), item["mixtures"])
    source, _ = soundfile.read(meeting.references["b"], dtype="float32")
    assert torch.equal(item["references"][0, 1], torch.from_numpy(source[RATE_HZ : 3 * RATE_HZ]))
    assert not item["references"][0, 2].any()
    assert not item["references"][1, 1:].any()


def test_sound_and_activity_agree(dataset: PairDataset) -> None:
    for index in range(len(dataset)):
        item = dataset[index]
        loud = item["references"].unfold(-1, 80, 80).abs().amax(-1) > 0  # (2, K, 200)
        centres = loud[..., 1 : SHAPE.num_frames + 1]  # the centre of a frame is 100 samples after its start
        assert (centres == item["activities"].bool()).float().mean() > 0.98


def test_recordings_without_references(meeting: Recording) -> None:
    item = PairDataset(PairSampler([without_references(meeting)], 2.0, 3), SHAPE, 3, seed=0)[0]
    assert not item["has_references"]
    assert item["has_references"].dtype == torch.bool
    assert item["references"].shape == (2, 3, SHAPE.num_samples)
    assert not item["references"].any()


def test_the_last_sample_of_a_resampled_file_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"  # 5.00009 s, which are 40000.7 samples at 8 kHz
    soundfile.write(path, np.full(220504, 0.5), 44100, subtype="FLOAT")
    end_s = 220504 / 44100
    odd = Recording("odd", path, (Turn(0, 1, "a"),), ((0.0, end_s),))
    item = load_pair(Pair(Chunk(odd, end_s - 2, ()), Chunk(odd, 0.0, ("a",))), SHAPE)
    assert item["mixtures"].shape == (2, SHAPE.num_samples)
    assert (item["mixtures"][0, 100:-100] > 0.49).all()


def test_items_depend_on_seed_epoch_and_index_only(meeting: Recording, dataset: PairDataset) -> None:
    first = [dataset[i] for i in range(4)]
    assert all_equal(dataset[2], first[2])  # not on what was read before
    assert not all_equal(first[0], first[1])
    dataset.set_epoch(1)
    assert not all_equal(dataset[2], first[2])
    dataset.set_epoch(0)
    assert all_equal(dataset[2], first[2])
    other = PairDataset(PairSampler([meeting], 2.0, 3), SHAPE, items_per_epoch=99, seed=6)
    assert not all_equal(other[2], first[2])


def test_workers_give_the_same_items(dataset: PairDataset) -> None:
    alone = DataLoader(dataset, batch_size=4)
    workers = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        expected, found = list(alone), list(workers)
        assert len(expected) == len(found) == 3
        assert all(all_equal(one, other) for one, other in zip(expected, found, strict=True))
        assert expected[0]["mixtures"].shape == (4, 2, SHAPE.num_samples)
        assert expected[0]["has_references"].shape == (4,)
    dataset.set_epoch(0)
    assert not all_equal(next(iter(alone)), expected[0])


def test_recordings_with_and_without_references_stand_in_one_batch(meeting: Recording) -> None:
    sampler = PairSampler([meeting, without_references(meeting)], 2.0, 3)
    batch = next(iter(DataLoader(PairDataset(sampler, SHAPE, 16, seed=0), batch_size=16)))
    assert 0 < batch["has_references"].sum() < 16


def test_length_and_bounds(dataset: PairDataset) -> None:
    assert len(dataset) == 12
    assert len(list(dataset)) == 12
    with pytest.raises(IndexError):
        dataset[12]


@pytest.mark.parametrize(("duration_s", "max_speakers"), [(2.5, 3), (2.0, 4)])
def test_a_sampler_that_does_not_fit(meeting: Recording, duration_s: float, max_speakers: int) -> None:
    with pytest.raises(PixitError, match="expected 16000 samples and at most 3 speakers"):
        PairDataset(PairSampler([meeting], duration_s, max_speakers), SHAPE, 10, seed=0)


# --- single chunks ------------------------------------------------------------------------------------


def test_single_chunks_come_as_often_as_there_are_starts() -> None:
    """Also from where no pair can be drawn: everybody talks at the end, and A in every chunk."""
    meeting = recording(
        [(0, 8, "A"), (3, 4, "B"), (7, 8, "B"), (7, 8, "C"), (7, 8, "D")], [(0, 8), (20, 21.5)]
    )
    with pytest.raises(PixitError, match="no pair of chunks"):
        PairSampler([replace(meeting, annotated=((0, 8),))], 1.0, 3)
    sampler, rng = (
        ChunkSampler([meeting, recording([], [(0, 0.5)], "short")], 1.0, 3),
        np.random.default_rng(0),
    )
    drawn = [sampler.sample(rng) for _ in range(4000)]
    counts = starts_by_brute_force(meeting, 1.0)
    counts = Counter({speakers: n for speakers, n in counts.items() if len(speakers) <= 3})
    assert set(counts) == {("A",), ("A", "B"), ()}
    for chunk in drawn:
        assert chunk.speakers == speakers_on_timeline(timeline(meeting), chunk.start_s, 1.0)
    # a region of d seconds has d, and not d less a chunk, as its weight
    shares = Counter(chunk.speakers for chunk in drawn)
    assert abs(shares[()] / 4000 - 1.5 / (1.5 + 8 * (counts[("A",)] + counts[("A", "B")]) / 700)) < 0.03


def test_no_chunk_is_told() -> None:
    crowd = recording([(0, 5, name) for name in "ABCD"], [(0, 5)])
    with pytest.raises(PixitError, match=r"meeting \(over 3 speakers in every chunk\)"):
        ChunkSampler([crowd], 1.0, 3)
    with pytest.raises(PixitError, match="there are no recordings"):
        ChunkSampler([], 1.0, 3)
