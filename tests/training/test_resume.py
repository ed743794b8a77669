"""What a resumed training keeps, what it refuses, and what becomes of a training that diverges."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor

from pixit.checkpoints import load_model, save_model
from pixit.cli import cli
from pixit.models.totatonet import ToTaToNet
from pixit.training.module import PixITModule
from pixit.training.train import TrainSettings, train
from pixit.types import PixitError

Settings = Callable[..., TrainSettings]


def message_of(*arguments: Any, **options: Any) -> str:
    with pytest.raises(PixitError) as caught:
        train(*arguments, progress=False, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def states_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}


def steps_of(folder: Path) -> int:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return int(state["global_step"])


def run_cli(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["train", "--quiet", *map(str, arguments)])


@pytest.fixture
def begun(settings: Settings, database: Path, tmp_path: Path) -> Path:
    """The folder of a training of one step."""
    train(settings(trainer={"max_steps": 1}), tmp_path / "run", database, progress=False)
    return tmp_path / "run"


# --- the same training, or none ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "key", "had", "found"),
    [
        ({"seed": 3}, "seed", "0", "3"),
        ({"data": {"batch_size": 1}}, "data.batch_size", "2", "1"),
        ({"model": {"n_sources": 2}}, "model.n_sources", "None", "2"),
        ({"objective": {"separation_weight": 0.1}}, "objective.separation_weight", "0.5", "0.1"),
        ({"optimizer": {"learning_rate": 1e-4}}, "optimizer.learning_rate", "0.001", "0.0001"),
        ({"wavlm_weights": "some/wavlm"}, "wavlm_weights", "None", "some/wavlm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_settings_are_refused(
    settings: Settings, begun: Path, change: dict[str, Any], key: str, had: str, found: str
) -> None:
    before = states_of(begun), (begun / "run.yaml").read_bytes()
    message = message_of(settings(trainer={"max_steps": 2}, **change), begun, resume=True)
    assert f"run.yaml: {key} is {had} in this training, found {found}; pass --resume alone" in message
    assert (states_of(begun), (begun / "run.yaml").read_bytes()) == before


def test_other_data_are_refused(
    settings: Settings, begun: Path, database: Path, new_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    chosen = settings(trainer={"max_steps": 2})
    other = new_corpus(tmp_path / "other").rename(tmp_path / "other" / "other.yml")
    assert f"database is {database}" in message_of(chosen, begun, other, resume=True)
    assert f"database is {database}" in message_of(chosen, begun, other, resume=True, moved=True)
    protocol = "Tiny.SpeakerDiarization.all"
    assert f"protocol is None in this training, found {protocol}" in message_of(
        chosen, begun, database, protocol, resume=True
    )
    assert "init is None" in message_of(chosen, begun, init="some/model", resume=True)


def test_data_that_were_moved_are_taken_where_that_is_said(
    settings: Settings, begun: Path, database: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(database.parent, tmp_path / "copy")) / "database.yml"
    chosen = settings(trainer={"max_steps": 2})
    assert "pass --moved if the same data lie there now" in message_of(chosen, begun, copy, resume=True)
    train(chosen, begun, copy, resume=True, progress=False, moved=True)
    assert steps_of(begun) == 2
    assert yaml.safe_load((begun / "run.yaml").read_text())["database"] == str(copy)
    train(settings(trainer={"max_steps": 3}), begun, resume=True, progress=False)
    assert steps_of(begun) == 3


def test_all_that_belongs_to_the_machine_may_differ(settings: Settings, begun: Path, database: Path) -> None:
    trainer = {"max_steps": 3, "ema_decay": 0.5, "accumulate": 2, "gradient_clip": 1.0, "threads": 1}
    chosen = settings(trainer=trainer, data={"num_workers": 1})
    train(chosen, begun, database, resume=True, progress=False)
    assert steps_of(begun) == 3
    kept = yaml.safe_load((begun / "run.yaml").read_text())["settings"]
    assert (kept["trainer"]["ema_decay"], kept["data"]["num_workers"]) == (0.5, 1)
    train(settings(trainer={"max_steps": 4}), begun, database, resume=True, progress=False)
    assert steps_of(begun) == 4


def test_a_training_that_began_with_another_architecture_is_resumed_without_it(
    settings: Settings, database: Path, tmp_path: Path
) -> None:
    given, run = tmp_path / "given", tmp_path / "run"
    save_model(ToTaToNet(**settings().model | {"n_sources": 2}), given, {})
    train(settings(trainer={"max_steps": 1}), run, database, init=str(given), progress=False)
    train(settings(trainer={"max_steps": 2}), run, init=str(given), resume=True, progress=False)
    shutil.rmtree(given)
    exported = train(settings(trainer={"max_steps": 3}), run, resume=True, progress=False)
    assert load_model(exported).num_speakers == 2
    assert steps_of(run) == 3
    assert json.loads((exported / "config.json").read_text())["provenance"]["init"] == "given"
    other = str(tmp_path / "other")
    assert f"init is {given}" in message_of(settings(), run, init=other, resume=True)


def test_resume_alone_takes_everything_from_the_run(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = os.path.relpath(begun)
    result = run_cli("-o", run, "--resume", "trainer.max_steps=3")
    assert result.exit_code == 0, result.output
    assert steps_of(begun) == 3
    result = run_cli("-o", run, "--resume", "data.batch_size=4")
    assert result.exit_code == 2
    assert "data.batch_size is 2 in this training, found 4" in result.stderr
    result = run_cli("-o", run, "--moved")
    assert (result.exit_code, "pass --resume too" in result.stderr) == (2, True)
    result = run_cli("-o", tmp_path / "none", "--resume")
    assert result.exit_code == 2
    assert "nothing to resume" in result.stderr


def test_a_home_folder_is_found(
    settings: Settings, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(database.parent))
    train(settings(trainer={"max_steps": 1}), tmp_path, Path("~/database.yml"), progress=False)
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["database"] == str(database)


def test_a_run_that_was_moved_keeps_its_best(
    settings: Settings, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(self: PixITModule, *_: Any) -> None:
        self.log("val/der", 0.5 + 0.1 * self.trainer.global_step)  # it never gets better

    monkeypatch.setattr(PixITModule, "on_validation_epoch_end", log)
    train(settings(trainer={"max_steps": 4}), tmp_path / "old", database, progress=False)
    (tmp_path / "old").rename(tmp_path / "new")
    best = (tmp_path / "new" / "checkpoints" / "best.ckpt").read_bytes()
    train(settings(trainer={"max_steps": 8}), tmp_path / "new", resume=True, progress=False)
    assert (tmp_path / "new" / "checkpoints" / "best.ckpt").read_bytes() == best
    assert not (tmp_path / "old").exists()


def test_a_damaged_run_is_refused(settings: Settings, begun: Path) -> None:
    run = begun / "run.yaml"
    tree = yaml.safe_load(run.read_text())
    tree["architecture"]["n_sources"] = 2
    run.write_text(yaml.safe_dump(tree))
    assert "run.yaml beside it is that of another training" in message_of(settings(), begun, resume=True)
    tree["architecture"] = {"n_sourcess": 2}
    run.write_text(yaml.safe_dump(tree))
    assert "run.yaml, section architecture: " in message_of(settings(), begun, resume=True)
    run.write_text("settings: [")
    assert "is not valid YAML" in message_of(settings(), begun, resume=True)


# --- checkpoints that are no checkpoints ------------------------------------------------------------------


class Payload:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["payload", "legacy", "script", "cut", "empty", "other", "tensor"])
def test_a_hostile_or_damaged_checkpoint_is_refused(
    settings: Settings, begun: Path, tmp_path: Path, kind: str
) -> None:
    last = begun / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    if kind in ("payload", "legacy"):
        state["callbacks"]["x"] = Payload(tmp_path / "hacked")
        torch.save(state, last, _use_new_zipfile_serialization=kind == "payload")
    elif kind == "script":
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), last)
    elif kind in ("cut", "empty"):
        last.write_bytes(last.read_bytes()[: 1000 if kind == "cut" else 0])
    else:
        torch.save({"state_dict": {}} if kind == "other" else torch.zeros(1), last)
    message = message_of(settings(trainer={"max_steps": 2}), begun, resume=True)
    assert message.startswith(f"{last}: ")
    assert not (tmp_path / "hacked").exists()


def test_a_hostile_best_checkpoint_is_not_exported(settings: Settings, begun: Path, tmp_path: Path) -> None:
    best = begun / "checkpoints" / "best.ckpt"
    torch.save({"state_dict": Payload(tmp_path / "hacked")}, best)
    assert message_of(settings(trainer={"max_steps": 1}), begun, resume=True).startswith(f"{best}: ")
    assert not (tmp_path / "hacked").exists()


# --- divergence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_loss_that_is_not_finite_ends_a_training(
    settings: Settings, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    step, run = PixITModule.training_step, tmp_path / "run"
    steps: list[int] = []

    def diverging(self: PixITModule, batch: dict[str, Tensor], index: int) -> Tensor:
        steps.append(self.trainer.global_step)
        loss = step(self, batch, index)
        return loss * value if self.trainer.global_step == 6 else loss

    monkeypatch.setattr(PixITModule, "training_step", diverging)
    config = tmp_path / "config.yaml"
    chosen = settings(trainer={"max_steps": 20, "checkpoint_every_steps": 3})
    config.write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
    result = run_cli("--config", config, "--database", database, "-o", run)
    assert result.exit_code == 2
    assert "the training diverged at step 6, where the loss is not a finite number" in result.stderr
    assert "Use it" not in result.output
    assert steps == list(range(7))
    assert not (run / "model").exists()
    for name, at in (("last", 6), ("best", 4)):
        state = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert state["global_step"] == at
        assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())
    monkeypatch.setattr(PixITModule, "training_step", step)
    assert run_cli("-o", run, "--resume", "trainer.max_steps=7", "trainer.gradient_clip=1").exit_code == 0


@pytest.mark.parametrize(("spoilt", "kept"), [(3, set()), (4, {"last.ckpt"})])
@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_weights_that_are_not_finite_are_never_saved(
    settings: Settings,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoilt: int,
    kept: set[str],
    ema_decay: float,
) -> None:
    """As after a finite loss with an infinite gradient."""

    def spoil(self: PixITModule, *_: Any) -> None:
        if self.trainer.global_step == spoilt - 1:
            with torch.no_grad():
                self.model.classifier.bias.fill_(float("nan"))

    monkeypatch.setattr(PixITModule, "on_before_optimizer_step", spoil)
    chosen = settings(trainer={"max_steps": 8, "checkpoint_every_steps": 3, "ema_decay": ema_decay})
    message = message_of(chosen, tmp_path, database)
    assert f"diverged at step {spoilt}, where model.classifier.bias is not a finite number" in message
    assert {path.name for path in (tmp_path / "checkpoints").glob("*")} == kept
    assert ("last.ckpt is from before" in message) == bool(kept)


# --- what is trained on -----------------------------------------------------------------------------------


def test_what_is_trained_on_is_said_and_kept(
    settings: Settings, new_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    database = new_corpus(tmp_path / "corpus")
    alone = tmp_path / "corpus" / "train1.rttm"
    alone.write_text("SPEAKER train1 1 0.000 9.000 <NA> <NA> A <NA> <NA>\n")
    lines: list[str] = []
    train(settings(trainer={"max_steps": 1}), tmp_path / "run", database, progress=False, say=lines.append)
    text = "\n".join(lines)
    assert "train: 1 of 2 recordings give pairs (0.00 h); without: train1 (any two chunks" in text
    assert "development: 2 of 2 recordings give pairs" in text
    model = load_model(tmp_path / "run" / "model")
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert f"{millions:.2f} million parameters" in text
    assert "pairs: 8 an epoch in batches of 2, 3 to validate on, of 1 s" in text
    log = tmp_path / "run" / "logs" / "train.log"
    assert text in log.read_text()
    train(settings(trainer={"max_steps": 2}), tmp_path / "run", resume=True, progress=False)
    assert log.read_text().count(text) == 2
    assert log.read_text().count(" resumed\n") == 1


# --- half precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["free", "stft"])
def test_a_training_goes_on_in_half_precision(
    settings: Settings, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = settings().model
    if kind == "stft":
        encoder = {"fb_name": "stft", "kernel_size": 512, "n_filters": 512, "stride": 256, "center": True}
        masker = {"name": "bandsplit"}
        model = {"encoder_decoder": encoder, "masker": masker, "diar": {"frames_per_second": 62.5}}

    def chosen(max_steps: int, precision: str) -> TrainSettings:
        return settings(trainer={"max_steps": max_steps, "precision": precision}).model_copy(
            update={"model": model}
        )

    run = tmp_path / "run"
    train(chosen(4, "32-true"), run, database, progress=False)
    kinds: set[torch.dtype] = set()
    step = PixITModule.training_step

    def layer(model: Any) -> torch.nn.Module:
        return next(part for part in model.masker.modules() if isinstance(part, torch.nn.Linear))

    def spied(self: PixITModule, batch: dict[str, Tensor], index: int) -> Tensor:
        hook = layer(self.model).register_forward_hook(lambda _m, _i, output: kinds.add(output.dtype))
        loss = step(self, batch, index)
        hook.remove()
        return loss

    monkeypatch.setattr(PixITModule, "training_step", spied)
    train(chosen(8, "bf16-mixed"), run, resume=True, progress=False)
    assert kinds == {torch.bfloat16}
    assert steps_of(run) == 8
    network = load_model(run / "model").eval()
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    output = network(torch.randn(1, 1, 16000))
    assert output.sources.isfinite().all()
    train(chosen(10, "32-true"), run, resume=True, progress=False)
    assert steps_of(run) == 10
