"""Pairs made on the fly obey the contract of training items."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from pixit.data.chunks import ChunkSampler
from pixit.data.pairs import ChunkShape
from pixit.simulation.pairs import BesideSimulated, PairSettings, SimulatedPairs
from pixit.simulation.simulate import Ingredients
from pixit.types import FrameGrid, PixitError, Recording, Turn

SHAPE = ChunkShape(8000, 24000, FrameGrid(80, 160), 299, 3)
DRY = {
    "reverb_probability": 0,
    "noise_probability": 0,
    "channel_probability": 0,
    "full_overlap_probability": 0,
}


def _pairs(ingredients: Ingredients, count: int = 40, seed: int = 0, **settings) -> SimulatedPairs:
    return SimulatedPairs(ingredients, PairSettings(**settings), SHAPE, count, seed)


def test_items_are_as_promised(ingredients: Ingredients) -> None:
    for item in (_pairs(ingredients)[i] for i in range(40)):
        assert item["mixtures"].shape == (2, 24000)
        assert item["activities"].shape == (2, 3, 299)
        assert item["references"].shape == (2, 3, 24000)
        assert item["mixtures"].dtype == item["activities"].dtype == item["references"].dtype == torch.float32
        assert item["has_references"].item() is True
        assert set(item["activities"].unique().tolist()) <= {0.0, 1.0}
        present = item["references"].abs().amax(-1) > 0
        assert 1 <= present.sum() <= 3
        assert (present == (item["activities"].amax(-1) > 0)).all()
        assert (present.int().diff(dim=1) <= 0).all()  # speakers first, then zeros


def test_noiseless_mixtures_are_the_sum_of_their_references(ingredients: Ingredients) -> None:
    pairs = _pairs(ingredients, noise_probability=0, reverb_probability=1, channel_probability=1)
    for i in range(20):
        torch.testing.assert_close(pairs[i]["references"].sum(1), pairs[i]["mixtures"], atol=1e-6, rtol=0)


def test_both_chunks_have_noise_of_one_level(ingredients: Ingredients) -> None:
    pairs = _pairs(ingredients, noise_probability=1, channel_probability=0)
    for i in range(20):
        noise = pairs[i]["mixtures"] - pairs[i]["references"].sum(1)
        level_db = 10 * noise.square().mean(-1).log10()
        assert abs(level_db[0] - level_db[1]) < 3


def test_peak_of_the_mixture_of_mixtures_is_in_range(ingredients: Ingredients) -> None:
    pairs = _pairs(ingredients, peak_dbfs=(-12, -6))
    peaks_db = [20 * np.log10(pairs[i]["mixtures"].sum(0).abs().max().item()) for i in range(30)]
    assert min(peaks_db) > -12.01
    assert max(peaks_db) < -5.99
    assert np.std(peaks_db) > 1


def test_chunks_of_a_pair_share_no_speaker(ingredients: Ingredients, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixit.simulation import pairs as module

    heard = []
    perform = module.perform

    def spy(voice, *args):
        heard.append(voice.speaker)
        return perform(voice, *args)

    monkeypatch.setattr(module, "perform", spy)
    pairs = _pairs(ingredients, count=100)
    seen = set()
    for i in range(100):
        heard.clear()
        _ = pairs[i]
        assert len(heard) == len(set(heard)) <= 3
        seen.update(heard)
    assert len(seen) == 6


def test_activities_follow_the_sound(ingredients: Ingredients) -> None:
    pairs = _pairs(ingredients, **DRY)
    for i in range(20):
        item = pairs[i]
        for reference, activity in zip(
            item["references"].flatten(0, 1), item["activities"].flatten(0, 1), strict=True
        ):
            if not activity.any():
                continue
            power = reference.unfold(0, 160, 80).square().mean(-1)
            assert power[activity == 0].sum() < 0.02 * power.sum()


def test_speaker_counts_come_as_often_as_asked(ingredients: Ingredients) -> None:
    pairs = _pairs(ingredients, count=200, speaker_counts=((1, 1, 1), (2, 0, 3), (1, 2, 0)), **DRY)
    present = torch.stack([pairs[i]["activities"].amax(-1).sum(-1) for i in range(200)])
    assert (present.sum(1) == 2).all()
    assert (present[:, 0] == 1).float().mean() == pytest.approx(0.25, abs=0.1)
    assert (present[:, 0] == 2).float().mean() == pytest.approx(0.375, abs=0.1)  # either chunk comes first


def test_nobody_talks_in_some_pairs(ingredients: Ingredients) -> None:
    counts = ((0, 0, 1.0), (1, 0, 1.0))
    pairs = _pairs(ingredients, count=40, speaker_counts=counts, noise_probability=1.0)
    silent = [item for item in map(pairs.__getitem__, range(40)) if not item["activities"].any()]
    assert 10 < len(silent) < 30
    for item in silent:
        assert not item["references"].any()
        assert (item["mixtures"].abs().amax(-1) > 0).all()  # its noise goes on


def test_full_overlap_lets_all_talk_all_the_time(ingredients: Ingredients) -> None:
    counts = ((2, 0, 1.0),)
    always = _pairs(ingredients, speaker_counts=counts, **{**DRY, "full_overlap_probability": 1})
    never = _pairs(ingredients, speaker_counts=counts, **DRY)
    overlap = [
        np.mean([(p[i]["activities"].sum(1) == 2).float().mean() for i in range(30)]) for p in (always, never)
    ]
    assert overlap[0] > 2 * overlap[1] > 0


def test_items_depend_on_seed_epoch_and_index_only(ingredients: Ingredients) -> None:
    one, same, other = _pairs(ingredients), _pairs(ingredients), _pairs(ingredients, seed=1)
    _ = same[0]
    assert torch.equal(one[5]["mixtures"], same[5]["mixtures"])
    assert not torch.equal(one[5]["mixtures"], other[5]["mixtures"])
    assert not torch.equal(one[5]["mixtures"], one[6]["mixtures"])
    before = one[5]["mixtures"]
    one.set_epoch(1)
    assert not torch.equal(one[5]["mixtures"], before)
    one.set_epoch(0)
    assert torch.equal(one[5]["mixtures"], before)
    assert torch.equal(pickle.loads(pickle.dumps(one))[5]["mixtures"], before)


def test_workers_see_the_epoch(ingredients: Ingredients) -> None:
    pairs = _pairs(ingredients, count=4)
    loader = DataLoader(pairs, batch_size=2, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        pairs.set_epoch(epoch)
        batches = list(loader)
        assert batches[0]["mixtures"].shape == (2, 2, 24000)
        assert batches[0]["has_references"].tolist() == [True, True]
        assert torch.equal(batches[1]["references"][1], pairs[3]["references"])


def test_settings_that_cannot_work_are_told(ingredients: Ingredients) -> None:
    for counts in (((2, 2, 1.0),), ((0, 0, 1.0),), ((1, 1, -1.0),), ((1, 1, 0.0),)):
        with pytest.raises(PixitError, match="speaker_counts"):
            _pairs(ingredients, speaker_counts=counts)
    with pytest.raises(PixitError, match="found speech at 8000 Hz, expected 16000 Hz"):
        SimulatedPairs(
            ingredients, PairSettings(), ChunkShape(16000, 80000, FrameGrid(80, 160), 999, 3), 1, 0
        )
    with pytest.raises(IndexError):
        _ = _pairs(ingredients)[40]


@pytest.mark.real
def test_real_speech_gives_pairs(shared_data: Path) -> None:
    ingredients = Ingredients.from_folders(
        [shared_data / "librispeech" / "dev"],
        [shared_data / "ami" / "annotations" / "only_words" / "rttms" / "dev"],
        [shared_data / "noise" / "kitchen.wav"],
        num_rooms=2,
    )
    pairs = SimulatedPairs(
        ingredients, PairSettings(), ChunkShape(16000, 80000, FrameGrid(128, 256), 624, 3), 20, 0
    )
    for i in range(20):
        assert torch.isfinite(pairs[i]["mixtures"]).all()
        assert pairs[i]["activities"].any()


def level_of(samples: np.ndarray, activities: torch.Tensor) -> float:
    """The root mean square where anybody talks; frames of 160 samples every 80 stand for the 80 in their middle."""
    talking = np.repeat(activities.amax(0).numpy() > 0, 80)
    return float(np.sqrt(np.mean(np.square(samples[40 : 40 + len(talking)][talking]))))


def test_a_real_chunk_beside_a_simulated_one(ingredients: Ingredients, tmp_path: Path) -> None:
    time_s = np.arange(10 * 8000) / 8000
    soundfile.write(tmp_path / "meeting.wav", 0.01 * np.sin(2 * np.pi * 100 * time_s), 8000)
    turns = [Turn(0.0, 4.0, "A"), Turn(3.5, 6.0, "B"), Turn(6.0, 10.0, "C"), Turn(6.0, 10.0, "D")]
    meeting = Recording("meeting", tmp_path / "meeting.wav", tuple(turns), ((0.0, 10.0),))
    simulated = _pairs(ingredients, count=60, noise_probability=0, reverb_probability=0, level_spread_db=0)
    pairs = BesideSimulated(ChunkSampler([meeting], 3.0, 2), simulated, 60, 0)
    real_counts, other_counts = set(), set()
    for i in range(60):
        item = pairs[i]
        assert {name: value.shape for name, value in item.items()} == {
            name: value.shape for name, value in simulated[i].items()
        }
        assert not item["has_references"]
        assert not item["references"].any()
        real, other = item["mixtures"].numpy()
        spectrum = np.abs(np.fft.rfft(real))
        assert spectrum.argmax() == 300  # the tone of the recording
        count, others = (int((rows.amax(-1) > 0).sum()) for rows in item["activities"])
        real_counts.add(count)
        other_counts.add((count, others))
        level = level_of(other, item["activities"][1])
        np.testing.assert_allclose(level, np.std(real), rtol=0.01)
        assert item["mixtures"].sum(0).abs().max() <= 1
    assert real_counts == {1, 2}
    assert other_counts == {(1, 1), (1, 2), (2, 1)}


def test_speech_beside_a_silent_real_chunk_is_as_much_louder_as_noise_is_softer(
    ingredients: Ingredients, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, 10 * 8000)
    soundfile.write(tmp_path / "quiet.wav", noise, 8000, "FLOAT")
    quiet = Recording("quiet", tmp_path / "quiet.wav", (), ((0.0, 10.0),))
    simulated = _pairs(ingredients, count=20, noise_probability=0, reverb_probability=0, snr_db=(20.0, 20.0))
    pairs = BesideSimulated(ChunkSampler([quiet], 3.0, 2), simulated, 20, 0)
    for i in range(20):
        real, other = pairs[i]["mixtures"].numpy()
        level = level_of(other, pairs[i]["activities"][1])
        assert 20 * np.log10(level / np.std(real)) == pytest.approx(20, abs=0.3)


def test_talk_at_the_very_end_of_a_real_chunk_alone(ingredients: Ingredients, tmp_path: Path) -> None:
    """Where a model pads, the middle of its last frame lies beyond the chunk."""
    soundfile.write(tmp_path / "meeting.wav", 0.01 * np.ones(3 * 8000), 8000)
    meeting = Recording("meeting", tmp_path / "meeting.wav", (Turn(2.998, 3.2, "A"),), ((0.0, 3.0),))
    shape = ChunkShape(8000, 24000, FrameGrid(80, 160, -80), 302, 3)
    simulated = SimulatedPairs(ingredients, PairSettings(), shape, 5, 0)
    pairs = BesideSimulated(ChunkSampler([meeting], 3.0, 2), simulated, 5, 0)
    for i in range(5):
        assert pairs[i]["activities"][0].any(0).nonzero().flatten().tolist() == [300, 301]
        assert pairs[i]["mixtures"].isfinite().all()
