from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from pixit.data.dataset import ChunkShape, Item, PairDataset, activities, load_pair
from pixit.data.pairs import Chunk, Pair, PairSampler
from pixit.types import FrameGrid, PixitError, Recording, Turn

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
    found = activities(chunk, SHAPE.frame_grid, SHAPE.num_frames, RATE_HZ, max_speakers=4)
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


def test_augmentation_draws_from_the_item_s_generator(meeting: Recording, dataset: PairDataset) -> None:
    def louder(item: Item, rng: np.random.Generator) -> Item:
        return {**item, "mixtures": item["mixtures"] * rng.uniform(2, 3)}

    changed = PairDataset(dataset.sampler, SHAPE, 12, seed=5, augment=louder)
    assert all_equal(changed[3], changed[3])
    gain = (changed[3]["mixtures"].norm() / dataset[3]["mixtures"].norm()).item()
    assert 2 < gain < 3
    assert torch.equal(changed[3]["activities"], dataset[3]["activities"])


def test_length_and_bounds(dataset: PairDataset) -> None:
    assert len(dataset) == 12
    assert len(list(dataset)) == 12
    with pytest.raises(IndexError):
        dataset[12]


@pytest.mark.parametrize(("duration_s", "max_speakers"), [(2.5, 3), (2.0, 4)])
def test_a_sampler_that_does_not_fit(meeting: Recording, duration_s: float, max_speakers: int) -> None:
    with pytest.raises(PixitError, match="expected 16000 samples and at most 3 speakers"):
        PairDataset(PairSampler([meeting], duration_s, max_speakers), SHAPE, 10, seed=0)
