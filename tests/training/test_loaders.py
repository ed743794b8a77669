"""From settings to batches, and back to any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from pixit.models.totatonet import ToTaToNet
from pixit.training.loaders import MixedPairs, PairData, ResumableSampler, SimulationSettings
from pixit.training.train import TrainSettings
from pixit.types import PixitError

Settings = Callable[..., TrainSettings]


class Numbers(Dataset[Any]):
    """Items that know their index."""

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length, self.epoch = name, length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[str, int, int]:
        return (self.name, self.epoch, index)


def pair_data(settings: TrainSettings, database: Path | None, protocol: str | None = None) -> PairData:
    return PairData(ToTaToNet(**settings.model), settings.data, database, protocol, settings.seed)  # type: ignore[arg-type]


def in_process(data: PairData, rank: int, world_size: int, batches_used: int = 0) -> PairData:
    loop = SimpleNamespace(total_batch_idx=batches_used - 1)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, fit_loop=loop)  # type: ignore[assignment]
    return data


def fingerprints(batches: Any) -> list[float]:
    """One number for each item."""
    return [round(x.double().abs().sum().item(), 9) for batch in batches for x in batch["mixtures"]]


# --- which items ----------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5), st.integers(0, 40))
def test_resuming_at_any_batch_goes_on_with_the_next(length: int, batch: int, world: int, used: int) -> None:
    for rank in range(world):
        dataset = Numbers("a", length)
        counter = {"batches": 0}
        sampler = ResumableSampler(dataset, batch, lambda c=counter: c["batches"], rank, world)
        per_epoch = len(sampler) // batch
        if per_epoch == 0:
            assert length < batch * world
            return
        straight: list[tuple[str, int, int]] = []
        for _ in range(used // per_epoch + 2):
            straight += [dataset[i] for i in sampler]
            counter["batches"] += per_epoch
        counter["batches"] = used
        resumed = [dataset[i] for i in sampler]
        assert resumed == straight[used * batch : (used // per_epoch + 1) * per_epoch * batch]
        assert len(resumed) % batch == 0


@given(st.integers(12, 60), st.integers(1, 3), st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data())
def test_resuming_on_other_numbers_of_processes_repeats_and_skips_nothing(
    length: int, batch: int, worlds: list[int], data: st.DataObject
) -> None:
    """Of an epoch only what does not fill a batch of all processes is left out."""
    since, counter = (0, 0), {"batches": 0}
    used: list[tuple[str, int, int]] = []
    for world in worlds:
        own = [Numbers("a", length) for _ in range(world)]
        samplers = [
            ResumableSampler(each, batch, lambda: counter["batches"], rank, world, since)
            for rank, each in enumerate(own)
        ]
        for _ in range(data.draw(st.integers(0, 3))):  # passes, of which the last one may be cut short
            shares = [[each[i] for i in sampler] for each, sampler in zip(own, samplers, strict=True)]
            assert len({len(share) for share in shares}) == 1
            whole = len(shares[0]) // batch
            taken = data.draw(st.integers(0, whole))
            used += [item for share in shares for item in share[: taken * batch]]
            counter["batches"] += taken
            if taken < whole:
                break
        epoch, first = samplers[0].position()
        assert sorted(item for item in used if item[1] == epoch) == [("a", epoch, i) for i in range(first)]
        since = epoch * length + first, counter["batches"]
    assert len(set(used)) == len(used)
    for epoch in range(since[0] // length):
        found = [item[2] for item in used if item[1] == epoch]
        assert sorted(found) == list(range(len(found)))
        assert length - len(found) < batch * max(worlds)


@given(st.integers(1, 50), st.integers(1, 4), st.integers(1, 4))
def test_processes_share_the_items_of_an_epoch(length: int, batch: int, world: int) -> None:
    length += batch * world  # PairData.check_size sees to it
    shares = [
        list(ResumableSampler(Numbers("a", length), batch, lambda: 0, rank, world)) for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    together = sorted(index for share in shares for index in share)
    assert together == list(range(length // (batch * world) * batch * world))


def test_mixed_pairs_take_each_part_by_its_weight() -> None:
    mixed = MixedPairs([Numbers("real", 4000), Numbers("simulated", 4000)], [0.2, 0.8], seed=3)
    mixed.set_epoch(5)
    items = [mixed[i] for i in range(4000)]
    assert items == [mixed[i] for i in range(4000)]
    assert all(item[1:] == (5, i) for i, item in enumerate(items))
    assert 0.17 < np.mean([name == "real" for name, *_ in items]) < 0.23
    mixed.set_epoch(6)
    assert [mixed[i][0] for i in range(100)] != [name for name, *_ in items[:100]]


def test_the_choice_of_a_part_says_nothing_of_what_the_part_draws() -> None:
    """If both drew from the same seed, the real pairs of a mixed training would come from some recordings only."""

    class Draws(Numbers):
        def __getitem__(self, index: int) -> Any:
            return float(np.random.default_rng([3, self.epoch, index]).random())

    class Nothing(Numbers):
        def __getitem__(self, index: int) -> Any:
            return None

    mixed = MixedPairs([Draws("real", 2000), Nothing("simulated", 2000)], [0.5, 0.5], seed=3)
    draws = np.array([item for item in (mixed[i] for i in range(2000)) if item is not None])
    assert len(draws) > 800
    assert abs(draws.mean() - 0.5) < 0.05
    assert draws.max() > 0.95


# --- real meetings --------------------------------------------------------------------------------------


def test_batches_of_real_meetings(settings: Settings, database: Path) -> None:
    data = pair_data(settings(), database)
    batches = list(data.train_dataloader())
    assert len(batches) == 4
    for batch in batches:
        assert batch["mixtures"].shape == (2, 2, 16000)
        assert batch["activities"].shape[:3] == (2, 2, 3)
        assert not batch["has_references"].any()
    assert len(set(fingerprints(batches))) == 8
    assert data.reports[0].startswith("train: 2 of 2 recordings give pairs")
    assert data.reports[1].startswith("development: 2 of 2")


def test_meetings_with_sources_give_references(settings: Settings, database_with_references: Path) -> None:
    batch = next(iter(pair_data(settings(), database_with_references).train_dataloader()))
    assert batch["has_references"].all()
    difference = batch["references"].sum(2) - batch["mixtures"]
    assert difference.square().mean() < 1e-5  # the noise of the recording


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_differ_and_validation_does_not(settings: Settings, database: Path, num_workers: int) -> None:
    data = pair_data(settings(data={"num_workers": num_workers}), database)
    train, validation = in_process(data, 0, 1).train_dataloader(), data.val_dataloader()
    first, first_validation = fingerprints(train), fingerprints(validation)
    in_process(data, 0, 1, batches_used=4)
    assert not set(fingerprints(train)) & set(first)
    assert fingerprints(validation) == first_validation
    assert len(first_validation) == 3  # the last batch is not full
    in_process(data, 0, 1, batches_used=1)
    assert fingerprints(data.train_dataloader()) == first[2:]


def test_processes_share_the_validation_pairs(settings: Settings, database: Path) -> None:
    data = pair_data(settings(data={"validation_pairs": 5}), database)
    alone = fingerprints(data.val_dataloader())
    shares = [fingerprints(in_process(data, rank, 2).val_dataloader()) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(alone)
    assert [len(share) for share in shares] == [3, 2]


def test_seeds_differ(settings: Settings, database: Path) -> None:
    loaded = [fingerprints(pair_data(settings(seed=seed), database).train_dataloader()) for seed in (0, 0, 1)]
    assert loaded[0] == loaded[1]
    assert not set(loaded[0]) & set(loaded[2])


# --- simulated meetings ---------------------------------------------------------------------------------


def write_utterances(folder: Path, prefix: str, num_speakers: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for number in range(num_speakers):
        time_s = np.arange(3 * 16000) / 16000
        signal = sum(np.sin(2 * np.pi * (90 + 31 * number) * h * time_s) / h for h in range(1, 12))
        signal[20000:30000] = 0
        signal = 0.1 * signal + 1e-5 * rng.standard_normal(len(time_s))
        (folder / f"{prefix}{number}").mkdir(parents=True)
        soundfile.write(folder / f"{prefix}{number}" / "1.flac", signal, 16000)
    return folder


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory, database: Path) -> dict[str, Any]:
    """Settings of a simulation of a few voices that take turns as in the tiny corpus."""
    folder = tmp_path_factory.mktemp("speech")
    return {
        "speech": [write_utterances(folder / "train", "t")],
        "validation_speech": [write_utterances(folder / "dev", "d")],
        "turn_taking": [database.parent / "train0.rttm"],
        "validation_turn_taking": [database.parent / "train1.rttm"],
        "num_rooms": 2,
        "pairs": {"reverb_probability": 0.0},
    }


def test_simulated_pairs_alone(settings: Settings, simulation: dict[str, Any]) -> None:
    data = pair_data(settings(data={"simulation": simulation}), None)
    batches = [*data.train_dataloader(), *data.val_dataloader()]
    assert all(batch["has_references"].all() for batch in batches)
    assert len(set(fingerprints(batches))) == 11


def test_real_and_simulated_pairs_in_one_batch(
    settings: Settings, simulation: dict[str, Any], database: Path
) -> None:
    values = {"simulation": simulation, "real_share": 0.5, "pairs_per_epoch": 40, "validation_pairs": 20}
    data = pair_data(settings(data=values), database)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        kinds = torch.cat([batch["has_references"] for batch in loader]).float()
        assert 0.2 < kinds.mean() < 0.8


@pytest.mark.parametrize(("share", "expected"), [(0.0, True), (1.0, False)])
def test_shares_of_all_and_nothing(
    settings: Settings, simulation: dict[str, Any], database: Path, share: float, expected: bool
) -> None:
    data = pair_data(settings(data={"simulation": simulation, "real_share": share}), database)
    assert all((batch["has_references"] == expected).all() for batch in data.train_dataloader())


def test_simulation_names_what_it_needs() -> None:
    assert {name for name, field in SimulationSettings.model_fields.items() if field.is_required()} == {
        "speech",
        "validation_speech",
        "turn_taking",
        "validation_turn_taking",
    }


def test_a_training_on_voices_without_names_alone(
    settings: Settings, simulation: dict[str, Any], tmp_path: Path
) -> None:
    """Validation has only voices with names, whatever their share in training; too few voices are told at once."""
    (voice,) = write_utterances(tmp_path / "unknown", "u", 1).rglob("*.flac")
    values = simulation | {"unlabelled_speech": [tmp_path / "unknown"], "unlabelled_share": 1.0}
    with pytest.raises(PixitError, match="speakers asked for, but there is speech of 1"):
        pair_data(settings(data={"simulation": values}), None)
    for number in range(2, 4):
        (voice.parent / f"{number}.flac").write_bytes(voice.read_bytes())
    data = pair_data(settings(data={"simulation": values}), None)
    batches = [*data.train_dataloader(), *data.val_dataloader()]
    assert all(batch["has_references"].all() for batch in batches)


@pytest.mark.parametrize(("beside", "kinds"), [(0.0, 2), (0.5, 3), (1.0, 2)])
def test_real_chunks_beside_simulated_ones(
    settings: Settings, simulation: dict[str, Any], database: Path, beside: float, kinds: int
) -> None:
    values = {"simulation": simulation, "real_share": 0.5, "beside_simulated": beside}
    data = pair_data(settings(data=values), database)
    names = [type(part).__name__ for part in data.training_set.parts]
    assert ("BesideSimulated" in names, "PairDataset" in names) == (beside > 0, beside < 1)
    assert len(names) == kinds
    np.testing.assert_allclose(data.training_set.weights[names.index("SimulatedPairs")], 0.5)
    validation = [type(part).__name__ for part in data.validation_set.parts]
    assert validation == ["PairDataset", "SimulatedPairs"]  # the same, whatever the training hears
    batch = next(iter(data.train_dataloader()))
    assert batch["mixtures"].shape == (2, 2, 16000)


def test_validation_shares_nothing_with_the_training(
    settings: Settings, simulation: dict[str, Any], tmp_path: Path
) -> None:
    """Voices, turns, noises and rooms: the figures would be too good."""
    for name, tone_hz in (("hum", 50), ("hiss", 3000)):
        signal = 0.1 * np.sin(2 * np.pi * tone_hz * np.arange(16000) / 16000)
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "noise.wav", signal, 16000)
    (tmp_path / "other.rttm").write_text("SPEAKER x 1 0.5 2.5 <NA> <NA> A <NA> <NA>\n")
    values = simulation | {
        "validation_turn_taking": [tmp_path / "other.rttm"],
        "noise": [tmp_path / "hum"],
        "validation_noise": [tmp_path / "hiss"],
        "cache": tmp_path / "cache",
        "pairs": {"reverb_probability": 1.0},
    }
    data = pair_data(settings(data={"simulation": values}), None)
    training, validation = (part.parts[0].ingredients for part in (data.training_set, data.validation_set))
    assert {v.speaker[0] for v in training.pool.voices} == {"t"}
    assert {v.speaker[0] for v in validation.pool.voices} == {"d"}
    assert len(training.turn_taking.meetings[0].turns_s) == 5
    assert len(validation.turn_taking.meetings[0].turns_s) == 1
    spectra = [np.abs(np.fft.rfft(part.noises.noises[0])).argmax() for part in (training, validation)]
    assert spectra == [50, 3000]
    rooms = [part.rooms.prepare() for part in (training, validation)]
    for one in rooms[0]:
        for other in rooms[1]:
            assert not np.array_equal(one[0].response, other[0].response)
    generated = [part.noises.noises[1] for part in (training, validation)]
    assert not np.array_equal(*generated)
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir())
    assert kept == ["rooms", "rooms", "speech", "speech"]


def test_nobody_is_trained_and_validated_on(
    settings: Settings, simulation: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "d0").symlink_to(simulation["validation_speech"][0] / "d0")
    values = simulation | {"speech": [*simulation["speech"], tmp_path]}
    with pytest.raises(PixitError, match=r"dev: its speaker d0 is trained on too, in .*, d0; expected other"):
        pair_data(settings(data={"simulation": values}), None)


# --- what does not fit ----------------------------------------------------------------------------------


def test_without_any_data(settings: Settings) -> None:
    with pytest.raises(PixitError, match="no training data: give --database"):
        pair_data(settings(), None)


@pytest.mark.parametrize(
    ("values", "world_size", "message"),
    [
        ({"pairs_per_epoch": 1}, 1, "pairs_per_epoch=1: expected 2 or more"),
        ({"pairs_per_epoch": 7}, 4, "pairs_per_epoch=7: expected 8 or more for 4 processes"),
        ({"validation_pairs": 1}, 2, "validation_pairs=1: expected 2 or more"),
    ],
)
def test_too_few_pairs(
    settings: Settings, database: Path, values: dict[str, int], world_size: int, message: str
) -> None:
    with pytest.raises(PixitError, match=message):
        pair_data(settings(data=values), database).check_size(world_size)
