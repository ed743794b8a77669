"""A training of an embedder from folders of speech to a model that `pixit separate --embedder` takes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner

from pixit.checkpoints import load_model
from pixit.cli import cli
from pixit.models.embedders import EcapaTdnn, SpeakerEncoder
from pixit.training import train_speaker as module
from pixit.training.train_speaker import SpeakerRun, _Log, train_speaker
from pixit.types import Embedder, PixitError

RATE_HZ = 16000
BUNDLED = Path(module.__file__).parents[1] / "bundled"
TINY = {
    "encoder": {"embedding_size": 8, "num_mels": 16, "base_channels": 4, "blocks_per_stage": 1},
    "crops": {"batch_size": 8, "length_s": [0.4, 0.5], "speeds": [1.0], "reverberation_probability": 0},
    "steps": 4,
    "report_every_steps": 2,
    "sub_centres": 2,
    "plda_crops": 32,
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Buzzes of other pitch, three recordings of each: four to train on, two to validate on."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for index, pitch_hz in enumerate((90, 120, 160, 210, 250, 300)):
        place = folder / ("train" if index < 4 else "dev") / f"s{index}"
        place.mkdir(parents=True)
        for number in range(3):
            time_s = np.arange(round(3.2 * RATE_HZ)) / RATE_HZ
            harmonics = (np.sin(2 * np.pi * k * pitch_hz * time_s) / k for k in range(1, 15))
            buzz = 0.05 * sum(harmonics) + 0.001 * rng.standard_normal(len(time_s))
            soundfile.write(place / f"{number}.wav", buzz, RATE_HZ)
    return folder


def run_of(speech: Path, **training: Any) -> SpeakerRun:
    return SpeakerRun.model_validate(
        {
            "speech": [speech / "train"],
            "validation": [speech / "dev"],
            "training": TINY | training,
        }
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_training_leaves_a_model_and_its_validations(speech: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    exported = train_speaker(run_of(speech), tmp_path / "out", lines.append)
    model = load_model(exported)
    assert isinstance(model, Embedder)
    assert [row["step"] for row in rows(tmp_path / "out")] == ["2", "4"]
    assert {"eer 1.5 s", "eer 3.0 s separated", "purity 1.5 s"} <= set(rows(tmp_path / "out")[0])
    assert lines[0] == "4 speakers, 4 classes; validation on 2 other speakers"
    assert len(lines) == 4
    assert isinstance(model, SpeakerEncoder)
    assert model.plda is not None
    assert "(best)" in lines[1]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "metrics.csv",
        "model",
        "run.yaml",
        "state.pt",
    ]

    # again: nothing is left to do, and another training is not mixed with it
    train_speaker(run_of(speech), tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 2
    with pytest.raises(
        PixitError, match=r"run\.yaml: is of a training with another training; choose another"
    ):
        train_speaker(run_of(speech, steps=6), tmp_path / "out")


def test_the_best_and_not_the_last_is_kept(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([0.3] * 4 + [0.1] * 4 + [0.2] * 4)
    monkeypatch.setattr(module, "score", lambda encoder, crops: {"eer": next(rates), "purity": 0.5})
    saved: list[int] = []

    def save(encoder: SpeakerEncoder, place: Path, origin: dict[str, Any]) -> None:
        place.mkdir(exist_ok=True)
        saved.append(origin["step"])

    monkeypatch.setattr(module, "save_model", save)
    train_speaker(run_of(speech, steps=6, plda_crops=0), tmp_path / "out")
    assert saved == [2, 4]


def test_a_resumption_replaces_rows_and_remembers_the_best(tmp_path: Path) -> None:
    scores = {"1.5 s": {"eer": 0.2, "purity": 0.9}}
    log = _Log(tmp_path / "metrics.csv")
    for step, eer, expected in ((2, 0.2, True), (4, 0.1, True), (6, 0.3, False)):
        assert log.is_best(step, eer) == expected
        log.add(step, 1.0, eer, scores)
    again = _Log(tmp_path / "metrics.csv")
    assert (again.has(6), again.has(8)) == (True, False)
    assert not again.is_best(6, 0.15)
    again.add(6, 1.0, 0.15, scores)
    assert [row["step"] for row in rows(tmp_path)] == ["2", "4", "6"]
    assert again.is_best(8, 0.05)


@pytest.mark.parametrize("lost", ["the validation", "the model"])
def test_a_training_that_was_killed_in_its_last_validation_is_finished(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Before it, and between the row and the model; also where a state says that all steps are made."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    run = run_of(speech, report_every_steps=4)
    expected = load_model(train_speaker(run, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "score" if lost == "the validation" else "save_model", kill)
        with pytest.raises(KeyboardInterrupt):
            train_speaker(run, tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.csv").exists()
    (tmp_path / "old").mkdir()
    for name in ("run.yaml", "state.pt"):  # as pixit left them that saved a state before its validation
        shutil.copy(tmp_path / "whole" / name, tmp_path / "old")
    for name in ("out", "old"):
        found = load_model(train_speaker(run, tmp_path / name))
        assert isinstance(found, SpeakerEncoder)
        assert found.plda is not None
        for key, value in expected.state_dict().items():
            torch.testing.assert_close(found.state_dict()[key], value, atol=1e-5, rtol=1e-4)
        assert [row["step"] for row in rows(tmp_path / name)] == ["4"]


def test_what_cannot_be_read_keeps_no_folder(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does another way to write the same paths."""
    run, out = run_of(speech, plda_crops=0, steps=2), tmp_path / "out"
    typo = run.model_copy(update={"validation": (speech / "dve",)})
    with pytest.raises(PixitError, match="dve"):
        train_speaker(typo, out)
    assert not out.exists()
    monkeypatch.chdir(speech)
    relative = {"speech": (Path("train"),), "validation": (Path("dev"),)}
    train_speaker(run.model_copy(update=relative), out)
    kept = yaml.safe_load((out / "run.yaml").read_text())
    assert (kept["speech"], kept["validation"]) == ([str(speech / "train")], [str(speech / "dev")])
    monkeypatch.chdir(tmp_path)
    train_speaker(run, out)
    with pytest.raises(PixitError, match="is of a training with another speech; choose"):
        train_speaker(run.model_copy(update={"speech": (speech,)}), out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": ["nowhere"]}, "nowhere"),
        ({"validation": ["TRAIN"]}, "train: its speaker s0 is trained on too"),
        ({"separator": "EMBEDDER"}, "expected a model that separates"),
        ({"init": "EMBEDDER"}, "give init or training.encoder, not both"),
        ({"init": "MODEL", "training": {}}, "is a ToTaToNet, expected an embedder"),
    ],
)
def test_bad_input_is_told(speech: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bundled = {name.upper(): str(BUNDLED / name) for name in ("embedder", "model")}
    if changes.get("validation") == ["TRAIN"]:
        changes = {"validation": [speech / "train"]}
    changes = {
        key: bundled.get(value, value) if isinstance(value, str) else value for key, value in changes.items()
    }
    run = SpeakerRun.model_validate(run_of(speech).model_dump() | changes)
    with pytest.raises(PixitError, match=message):
        train_speaker(run, tmp_path / "out")


def test_a_training_goes_on_from_an_embedder(speech: Path, tmp_path: Path) -> None:
    """With next to no steps it is still the one that it began with."""
    first = load_model(BUNDLED / "embedder")
    run = run_of(speech, encoder={}, steps=2, learning_rate=1e-9, precision="bf16-mixed")
    run = run.model_copy(update={"init": str(BUNDLED / "embedder")})
    found = load_model(train_speaker(run, tmp_path / "out"))
    assert isinstance(found, SpeakerEncoder)
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight, first.get_parameter(name), atol=1e-6, rtol=1e-6)


def test_only_our_embedder_is_trained_on(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", lambda _: EcapaTdnn())
    run = run_of(speech, encoder={}).model_copy(update={"init": "somebody/ecapa"})
    with pytest.raises(
        PixitError, match=r"^somebody/ecapa: found EcapaTdnn for 16000 Hz, expected a Speaker"
    ):
        train_speaker(run, tmp_path / "out")


def test_the_command_collects_its_options(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[SpeakerRun, Path]] = []

    def fake(run: SpeakerRun, output: Path, tell: Any) -> Path:
        asked.append((run, output))
        tell("a line")
        return output / "model"

    monkeypatch.setattr(module, "train_speaker", fake)
    words = ["--data", "a b", "--data", "c.csv", "--validation", str(speech / "dev"), "--separator", "x/y"]
    words += ["--init", "mine/voices"]
    result = CliRunner().invoke(
        cli, ["train-speaker", *words, "-o", str(tmp_path / "out"), "training.steps=7"]
    )
    assert result.exit_code == 0, result.output
    run, output = asked[0]
    assert run.speech == (Path("a b"), Path("c.csv"))
    assert (run.separator, run.init, run.training.steps) == ("x/y", "mine/voices", 7)
    assert output == tmp_path / "out"
    assert "a line" in result.output
    assert "pixit separate --embedder" in result.output
