"""Trainings of some steps from end to end: exported, logged, killed, resumed, interrupted, distributed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from pydantic import ValidationError
from pytorch_lightning.callbacks import Timer
from torch import Tensor

from pixit.checkpoints import load_model, save_model
from pixit.models.totatonet import ToTaToNet
from pixit.training.loaders import PairData
from pixit.training.module import PixITModule
from pixit.training.run import Run
from pixit.training.speaker import SpeakerTrainingSettings
from pixit.training.train import TrainSettings, build_model, provenance_of, train
from pixit.types import PixitError

Settings = Callable[..., TrainSettings]


class Killed(Exception):
    """Stands for a loss of power."""


def last_of(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def weights_of(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(last_of(folder), weights_only=True)["state_dict"]
    return state


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Record what each batch holds; ``watch(kill=5)`` ends a training in its sixth step."""
    step, validation = PixITModule.training_step, PixITModule.validation_step

    def start(
        kill: int | None = None, kill_in_validation: bool = False, at: Callable[[int], None] | None = None
    ):
        seen: list[float] = []

        def spied_step(self: PixITModule, batch: dict[str, Tensor], index: int) -> Tensor:
            if at is not None:
                at(self.trainer.global_step)
            if kill is not None and self.trainer.global_step == kill:
                raise Killed
            seen.append(batch["mixtures"].double().abs().sum().item())
            return step(self, batch, index)

        def spied_validation(self: PixITModule, batch: dict[str, Tensor], index: int) -> None:
            if kill_in_validation:
                raise Killed
            validation(self, batch, index)

        monkeypatch.setattr(PixITModule, "training_step", spied_step)
        monkeypatch.setattr(PixITModule, "validation_step", spied_validation)
        return seen

    return start


# --- from end to end ------------------------------------------------------------------------------------


def test_a_training_exports_a_model_and_tells_what_it_did(
    settings: Settings, database: Path, tmp_path: Path
) -> None:
    chosen = settings(trainer={"max_steps": 12, "pictures": 2})
    folder = tmp_path / "new" / "run"
    exported = train(chosen, folder, database, progress=False)
    assert exported == folder / "model"
    model = load_model(exported)
    assert isinstance(model, ToTaToNet)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert all(torch.equal(best["state_dict"][f"model.{k}"], v) for k, v in model.state_dict().items())

    rows = rows_of(folder)
    logged = {key for row in rows for key, value in row.items() if value}
    assert logged >= {"train/loss", "train/separation", "val/der", "val/loss", "val/missed", "val/confusion"}
    assert any(key.startswith("lr-") for key in logged)
    ders = [float(row["val/der"]) for row in rows if row["val/der"]]
    assert len(ders) == 3  # one for each epoch of four steps
    assert all(0 <= der < 10 for der in ders)
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        f"step-{step:07d}-{i}.png" for step in (4, 8, 12) for i in (0, 1)
    }
    assert (folder / "pictures" / "step-0000004-0.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "logs" / "tensorboard").glob("events.out.tfevents.*"))

    provenance = json.loads((exported / "config.json").read_text())["provenance"]
    assert provenance["steps"] == best["global_step"]
    assert provenance["database"] == "database.yml"
    assert provenance["settings"]["trainer"]["max_steps"] == 12
    assert "val/der" in provenance["metrics_at_the_end"]
    kept = yaml.safe_load((folder / "run.yaml").read_text())
    assert TrainSettings.model_validate(kept["settings"]) == chosen
    assert kept["database"] == str(database)
    assert kept["architecture"] == json.loads(json.dumps(model.config))


def test_a_training_that_ends_amid_an_epoch_is_validated(
    settings: Settings, database: Path, tmp_path: Path
) -> None:
    train(settings(trainer={"max_steps": 2}), tmp_path, database, progress=False)
    assert sum(bool(row["val/der"]) for row in rows_of(tmp_path)) == 1
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_supervised_training_reports_the_gain_of_separation(
    settings: Settings, database_with_references: Path, tmp_path: Path
) -> None:
    train(settings(trainer={"max_steps": 2}), tmp_path, database_with_references, progress=False)
    assert {"val/si_sdr_gain_db", "val/si_sdr_overlap_db"} <= set(rows_of(tmp_path)[0])


def test_training_learns(settings: Settings, database: Path, tmp_path: Path) -> None:
    chosen = settings(
        data={"pairs_per_epoch": 80, "validation_pairs": 16},
        objective={"separation_weight": 0.0},
        optimizer={"learning_rate": 1e-2},
        trainer={"max_steps": 40, "checkpoint_every_steps": 100},
    )
    train(chosen, tmp_path, database, progress=False)
    (after,) = [row for row in rows_of(tmp_path) if row["val/loss"]]
    assert float(after["val/loss"]) < 0.5  # 0.69 before
    assert float(after["val/der"]) < 0.6  # who says nothing has 1


def test_the_same_seed_gives_the_same_model(settings: Settings, database: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(settings(seed=seed, trainer={"max_steps": 2}), tmp_path / name, database, progress=False)
    states = {name: weights_of(tmp_path / name) for name in "abc"}
    assert all(torch.equal(value, states["b"][key]) for key, value in states["a"].items())
    assert not all(torch.equal(value, states["c"][key]) for key, value in states["a"].items())


def test_a_training_begins_with_a_given_model(settings: Settings, database: Path, tmp_path: Path) -> None:
    given = ToTaToNet(**settings().model | {"n_sources": 2})
    save_model(given, tmp_path / "given", {})
    chosen = settings(trainer={"max_steps": 1}, optimizer={"learning_rate": 1e-9})
    exported = load_model(
        train(chosen, tmp_path / "run", database, init=str(tmp_path / "given"), progress=False)
    )
    assert exported.num_speakers == 2
    for name, value in given.state_dict().items():
        torch.testing.assert_close(exported.state_dict()[name], value, atol=1e-6, rtol=0)


def test_early_stopping(settings: Settings, database: Path, tmp_path: Path) -> None:
    chosen = settings(
        trainer={"max_steps": 400, "patience": 2, "monitor": "val/loss", "checkpoint_every_steps": 500},
        optimizer={"learning_rate": 1e-12},
    )
    train(chosen, tmp_path, database, progress=False)
    validated = [int(row["step"]) for row in rows_of(tmp_path) if row["val/loss"]]
    assert validated[-1] <= 40
    assert torch.load(last_of(tmp_path), weights_only=True)["global_step"] == validated[-1]


def test_gradients_are_clipped(
    settings: Settings, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []

    def record(self: PixITModule, *_: Any) -> None:
        gradients = [p.grad.flatten() for p in self.parameters() if p.grad is not None]
        norms.append(torch.cat([torch.zeros(1), *gradients]).norm().item())

    monkeypatch.setattr(PixITModule, "on_before_zero_grad", record)
    train(settings(trainer={"max_steps": 3, "gradient_clip": 1e-3}), tmp_path, database, progress=False)
    clipped = [norm for norm in norms if norm > 0]
    assert clipped
    assert max(clipped) < 1.01e-3


def test_screen_and_warnings_are_left_clean(
    settings: Settings, database: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(settings(trainer={"max_steps": 5}), tmp_path, database, progress=False)
        train(settings(trainer={"max_steps": 7}), tmp_path, database, resume=True, progress=False)
    assert [str(w.message)[:200] for w in caught if "torch/jit" not in w.filename] == []
    assert capfd.readouterr() == ("", "")


# --- killed and resumed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "kill", "resumes_at"),
    [(3, 5, 3), (4, 6, 4), (5, 7, 5), (8, 9, 8)],
    ids=["amid the first epoch", "at its end", "amid the second", "at its end too"],
)
@pytest.mark.parametrize(("num_workers", "ema_decay"), [(0, 0.0), (2, 0.5)])
def test_killed_and_resumed_is_as_if_nothing_had_happened(
    settings: Settings,
    database: Path,
    tmp_path: Path,
    watch: Any,
    every: int,
    kill: int,
    resumes_at: int,
    num_workers: int,
    ema_decay: float,
) -> None:
    trainer = {"max_steps": 10, "checkpoint_every_steps": every, "ema_decay": ema_decay}
    chosen = settings(data={"num_workers": num_workers}, trainer=trainer)
    straight = watch()
    train(chosen, tmp_path / "straight", database, progress=False)
    watch(kill=kill)
    with pytest.raises(Killed):
        train(chosen, tmp_path / "killed", database, progress=False)
    resumed = watch()
    train(chosen, tmp_path / "killed", database, resume=True, progress=False)
    assert resumed == straight[resumes_at:]
    expected, found = weights_of(tmp_path / "straight"), weights_of(tmp_path / "killed")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    models = [load_model(tmp_path / name / "model").state_dict() for name in ("straight", "killed")]
    assert all(torch.equal(models[1][name], value) for name, value in models[0].items())
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "straight")


def test_a_checkpoint_without_the_number_of_items_is_resumed_at_the_same_batch(
    settings: Settings, database: Path, tmp_path: Path, watch: Any
) -> None:
    """As those of pixit before that number was kept: on one device, the same step and the same data."""
    chosen = settings(trainer={"max_steps": 10, "checkpoint_every_steps": 5})
    straight = watch()
    train(chosen, tmp_path / "straight", database, progress=False)
    watch(kill=7)
    with pytest.raises(Killed):
        train(chosen, tmp_path / "killed", database, progress=False)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    assert state.pop("PairData") == {"items": 10, "batches": 5}
    torch.save(state, last)
    resumed = watch()
    train(chosen, tmp_path / "killed", database, resume=True, progress=False)
    assert resumed == straight[5:]
    expected, found = weights_of(tmp_path / "straight"), weights_of(tmp_path / "killed")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "straight")


@pytest.mark.parametrize(
    ("before", "now", "stop", "items", "validated"),
    [
        (2, 1, 3, [(1, 4), (1, 6), (2, 0), (2, 2), (2, 4), (2, 6)], [2, 5, 9]),
        (1, 2, 5, [(1, 2), (2, 0), (2, 4), (3, 0)], [4, 6, 8]),
        (1, 2, 7, [(2, 0), (2, 4), (3, 0)], [4, 9]),
        (1, 2, 4, [(1, 0), (1, 4), (2, 0)], [4, 6]),
    ],
    ids=["fewer", "more", "more, and too few items are left", "more, at the end of an epoch"],
)
def test_another_number_of_processes_goes_on_behind_the_items_that_were_used(
    settings: Settings,
    database: Path,
    tmp_path: Path,
    watch: Any,
    monkeypatch: pytest.MonkeyPatch,
    before: int,
    now: int,
    stop: int,
    items: list[tuple[int, int]],
    validated: list[int],
) -> None:
    """The first of the processes hears two items of a batch, each the first of as many as there are processes."""

    def run(max_steps: int, world_size: int, **more: bool) -> None:
        monkeypatch.setattr(PairData, "_processes", lambda _: (0, world_size))
        chosen = settings(trainer={"max_steps": max_steps, "checkpoint_every_steps": stop})
        train(chosen, tmp_path, None if more else database, progress=False, **more)

    watch(kill=stop)
    with pytest.raises(Killed):
        run(100, before)
    resumed = watch()
    run(stop + len(items), now, resume=True)
    data = PairData(build_model(settings(), None), settings().data, database, None, 0)  # type: ignore[arg-type]
    expected = []
    for epoch, first in items:
        data.training_set.set_epoch(epoch)
        pairs = [data.training_set[first + place]["mixtures"].double() for place in (0, now)]
        expected.append(sum(pair.abs().sum().item() for pair in pairs))
    assert resumed == pytest.approx(expected, rel=1e-9)
    found = [int(row["step"]) for row in rows_of(tmp_path) if row["val/loss"]]
    assert found == sorted({*validated, stop + len(items)})


def test_a_validation_that_was_killed_is_repeated(
    settings: Settings, database: Path, tmp_path: Path, watch: Any
) -> None:
    chosen = settings(trainer={"max_steps": 8, "checkpoint_every_steps": 2})
    straight = watch()
    train(chosen, tmp_path / "straight", database, progress=False)
    watch(kill_in_validation=True)
    with pytest.raises(Killed):
        train(chosen, tmp_path / "killed", database, progress=False)
    resumed = watch()
    train(chosen, tmp_path / "killed", database, resume=True, progress=False)
    assert resumed == straight[2:]
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "straight")


def test_resuming_with_accumulated_gradients(
    settings: Settings, database: Path, tmp_path: Path, watch: Any
) -> None:
    """Five batches an epoch, two to a step: the last step of an epoch has one."""
    chosen = settings(
        data={"pairs_per_epoch": 10}, trainer={"max_steps": 8, "checkpoint_every_steps": 4, "accumulate": 2}
    )
    straight = watch()
    train(chosen, tmp_path / "straight", database, progress=False)
    watch(kill=6)
    with pytest.raises(Killed):
        train(chosen, tmp_path / "killed", database, progress=False)
    resumed = watch()
    train(chosen, tmp_path / "killed", database, resume=True, progress=False)
    assert resumed == straight[7:]
    expected, found = weights_of(tmp_path / "straight"), weights_of(tmp_path / "killed")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_finished_training_can_be_exported_again_and_prolonged(
    settings: Settings, database: Path, tmp_path: Path, watch: Any
) -> None:
    train(settings(trainer={"max_steps": 3}), tmp_path, database, progress=False)
    seen = watch()
    train(settings(trainer={"max_steps": 3}), tmp_path, database, resume=True, progress=False)
    assert seen == []
    train(settings(trainer={"max_steps": 6}), tmp_path, database, resume=True, progress=False)
    straight = watch()
    train(settings(trainer={"max_steps": 6}), tmp_path / "straight", database, progress=False)
    assert seen == straight[3:]


@pytest.mark.parametrize("stopped_at", [2, 4, 6], ids=["amid an epoch", "at its end", "amid the second"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_whose_time_is_over_is_saved_and_can_be_prolonged(
    settings: Settings,
    database: Path,
    tmp_path: Path,
    watch: Any,
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: int,
    accumulate: int,
) -> None:
    def chosen(**more: Any) -> TrainSettings:
        trainer = {"max_steps": 12 // accumulate, "checkpoint_every_steps": 100, "accumulate": accumulate}
        return settings(trainer=trainer | more)

    straight = watch()
    train(chosen(), tmp_path / "straight", database, progress=False)
    seen = watch()
    monkeypatch.setattr(Timer, "time_elapsed", lambda *_: 3600 * (len(seen) >= stopped_at))
    train(chosen(max_time="00:00:30:00"), tmp_path / "run", database, progress=False)
    assert len(seen) == stopped_at
    assert torch.load(last_of(tmp_path / "run"), weights_only=True)["global_step"] == stopped_at // accumulate
    assert (tmp_path / "run" / "model").exists()
    assert sum(bool(row["val/loss"]) for row in rows_of(tmp_path / "run")) == -(-stopped_at // 4)
    monkeypatch.undo()
    resumed = watch()
    train(chosen(), tmp_path / "run", resume=True, progress=False)
    assert seen + resumed == straight
    expected, found = weights_of(tmp_path / "straight"), weights_of(tmp_path / "run")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 3], ids=["amid an epoch", "at its last batch"])
def test_interrupted_and_resumed(
    settings: Settings, database: Path, tmp_path: Path, watch: Any, number: signal.Signals, step: int
) -> None:
    chosen = settings(trainer={"max_steps": 6, "checkpoint_every_steps": 100})
    straight = watch()
    train(chosen, tmp_path / "straight", database, progress=False)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    watch(at=lambda now: os.kill(os.getpid(), number) if now == step else None)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "stopped", database, progress=False)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not (tmp_path / "stopped" / "model").exists()
    assert [p.name for p in (tmp_path / "stopped" / "checkpoints").iterdir() if p.name.endswith(".new")] == []
    resumed = watch()
    train(chosen, tmp_path / "stopped", database, resume=True, progress=False)
    assert resumed == straight[step + 1 :]
    expected, found = weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_signal_to_all_processes_is_left_to_the_trainer(
    settings: Settings, database: Path, tmp_path: Path, watch: Any
) -> None:
    """As of a cluster that ends a job: its workers are not to die before the trainer has saved."""
    chosen = settings(data={"num_workers": 2}, trainer={"max_steps": 50, "checkpoint_every_steps": 100})

    before, workers = set(psutil.Process().children()), set[psutil.Process]()

    def end(now: int) -> None:
        if now == 2:
            workers.update(set(psutil.Process().children()) - before)
            for process in (*workers, psutil.Process()):
                process.terminate()

    watch(at=end)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path, database, progress=False)
    assert torch.load(last_of(tmp_path), weights_only=True)["global_step"] == 3
    assert len(workers) >= 2
    assert not any(worker.is_running() for worker in workers)


def test_training_runs_outside_the_main_thread(settings: Settings, database: Path, tmp_path: Path) -> None:
    """Where no signal can be listened to."""
    chosen = settings(trainer={"max_steps": 1})
    thread = threading.Thread(target=lambda: train(chosen, tmp_path, database, progress=False))
    thread.start()
    thread.join()
    assert (tmp_path / "model" / "config.json").exists()


# --- several processes ----------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from pixit.config import load_settings
from pixit.training.train import TrainSettings, train

if __name__ == "__main__":
    settings = load_settings(TrainSettings, sys.argv[1])
    train(settings, Path(sys.argv[2]), Path(sys.argv[3]), resume="resume" in sys.argv, progress=False)
"""


TINY_WAVLM: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*many workers")
def test_two_processes_train_one_model(settings: Settings, database: Path, tmp_path: Path) -> None:
    """Validated on all pairs, as one process validates the same weights; and resumed.

    Every weight of a WavLM that a loss can reach learns, and DDP waits for no other.
    """
    pytest.importorskip("transformers")
    model = {"wavlm": TINY_WAVLM, "encoder_decoder": {"n_filters": 8, "kernel_size": 32, "stride": 16}}
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(name: str, max_steps: int, processes: int, *more: str) -> None:
        trainer = {
            "max_steps": max_steps,
            "devices": processes,
            "strategy": "ddp" if processes > 1 else "auto",
        }
        chosen = settings(
            model=model,
            optimizer={"wavlm_learning_rate": 1e-3},
            data={"validation_pairs": 5},
            trainer=trainer,
        )
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
        command = [sys.executable, "script.py", str(config), str(tmp_path / name), str(database), *more]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "sync_dist" not in done.stderr

    run("two", 2, 2)  # 8 pairs an epoch: two batches of two for each process
    log = rows_of(tmp_path / "two")
    ders = [float(row["val/der"]) for row in log if row["val/der"]]
    assert len(ders) == 1
    saved = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    from_one = validate(
        settings(model=model, data={"validation_pairs": 5}),
        database,
        tmp_path / "two" / "model",
        tmp_path / "v",
    )
    assert ders[0] == pytest.approx(from_one, abs=1e-6)

    run("two", 4, 2, "resume")
    saved = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    chosen = settings(model=model)
    torch.manual_seed(chosen.seed)
    wavlm = build_model(chosen, None).wavlm
    assert wavlm is not None
    prefix = "model.wavlm."
    trained = {k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
    still = {name for name, weight in wavlm.state_dict().items() if torch.equal(weight, trained[name])}
    assert "masked_spec_embed" in still
    assert not still - {"masked_spec_embed"} - {name for name in still if name.endswith("k_proj.bias")}


def validate(chosen: TrainSettings, database: Path, model: Path, folder: Path) -> float:
    """Return the error rate of `model` on all validation pairs, in one process."""
    import pytorch_lightning as pl

    from pixit.training.loaders import PairData

    network = load_model(model)
    data = PairData(network, chosen.data, database, None, chosen.seed)  # type: ignore[arg-type]
    module = PixITModule(network, chosen.objective, chosen.optimizer, 1)
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    return trainer.validate(module, data, verbose=False)[0]["val/der"]


# --- the recipe of the bundled model --------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("bash") is None, reason="the recipe is a script of bash")
def test_the_recipe_shares_each_speaker_out_once(tmp_path: Path) -> None:
    """Every twelfth in the order of names is held out; later ones change nothing for those before."""
    script = Path(__file__).parents[2] / "recipes" / "bundled" / "train.sh"
    function = script.read_text().partition("share_out() {")[2].partition("\n}\n")[0]
    corpus = tmp_path / "corpus"

    def share_out(*new: str) -> dict[str, list[str]]:
        for name in new:
            (corpus / name).mkdir(parents=True)
        command = f'set -eu; train=() validation=()\nshare_out() {{{function}\n}}\nshare_out x "$1"'
        environment = os.environ | {"out": str(tmp_path / "out")}
        subprocess.run(["bash", "-c", command, "bash", str(corpus)], check=True, env=environment)
        voices = tmp_path / "out" / "voices"
        return {
            kind: sorted(p.name for p in (voices / kind / "x").iterdir()) for kind in ("train", "validation")
        }

    names = [f"s{number:02}" for number in range(26)]
    first = share_out(*names)
    assert first["validation"] == ["s11", "s23"]
    assert first["train"] == [name for name in names if name not in first["validation"]]
    (tmp_path / "out" / "voices" / "train" / "x" / "s11").symlink_to(corpus / "s11")  # of a recipe before
    assert share_out() == first
    later = share_out("a", "s10b")  # which moves all who come behind them
    assert later["validation"] == first["validation"]
    assert later["train"] == sorted([*first["train"], "a", "s10b"])
    assert (tmp_path / "out" / "voices" / "validation" / "x" / "s11").readlink() == corpus / "s11"


# --- what does not fit ----------------------------------------------------------------------------------


def message_of(*arguments: Any, **options: Any) -> str:
    with pytest.raises(PixitError) as caught:
        train(*arguments, progress=False, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_holds_one_training(settings: Settings, database: Path, tmp_path: Path) -> None:
    chosen = settings(trainer={"max_steps": 1})
    assert "nothing to resume" in message_of(chosen, tmp_path, database, resume=True)
    train(chosen, tmp_path, database, progress=False)
    assert "pass --resume" in message_of(chosen, tmp_path, database)


def test_unfit_data(
    settings: Settings, database: Path, tmp_path: Path, new_corpus: Callable[..., Path]
) -> None:
    assert "no training data" in message_of(settings(), tmp_path / "run")
    assert "no such file" in message_of(settings(), tmp_path / "run", tmp_path / "none.yml")
    assert "no protocol" in message_of(settings(), tmp_path / "run", database, "Tiny.SpeakerDiarization.none")
    one_subset = new_corpus(tmp_path / "corpus", subsets=("train",))
    assert "no subset 'development'" in message_of(settings(), tmp_path / "run", one_subset)
    long = settings(data={"duration_s": 60})
    assert "no pair of chunks can be drawn" in message_of(long, tmp_path / "run", database)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "value", "part"),
    [
        ("model", {"masker": {"name": "none"}}, "section model"),
        ("model", {"maskers": {}}, "section model"),
        ("model", {"masker": {"name": "dprnn", "n_reps": 2}}, "section model"),
        ("model", {"diar": {"frames_per_second": 33}}, "frames_per_second=33"),
        ("trainer", {"accelerator": "abacus"}, "section trainer"),
        ("trainer", {"strategy": "hope"}, "section trainer"),
        ("trainer", {"max_time": "tomorrow"}, "section trainer"),
    ],
)
def test_unfit_settings(
    settings: Settings, database: Path, tmp_path: Path, section: str, value: dict[str, Any], part: str
) -> None:
    assert part in message_of(settings(**{section: value}), tmp_path, database)


@pytest.mark.parametrize(
    ("section", "value", "part"),
    [
        ("seed", -1, "seed"),
        ("seed", 2**32, "seed"),
        ("trainer", {"precision": "7-bit"}, "trainer.precision"),
        ("trainer", {"precision": "bf16-true"}, "trainer.precision"),
    ],
)
def test_settings_out_of_range(settings: Settings, section: str, value: Any, part: str) -> None:
    with pytest.raises(PixitError, match=f"^test: {part}"):
        settings(**{section: value})
    with pytest.raises(ValidationError):
        SpeakerTrainingSettings(seed=-1)


def test_an_unwritable_folder(settings: Settings, database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in message_of(settings(), tmp_path / "file" / "run", database)


@pytest.mark.parametrize("place", ["folder", "pyannote", "hub", "snapshot"])
def test_all_that_a_training_may_begin_with(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    from pixit.checkpoints.convert import convert

    masker = {"name": "dprnn", "n_repeats": 1, "bn_chan": 6, "hid_size": 4}
    model = ToTaToNet(2, masker=masker)
    folder = save_model(model, tmp_path / "given", {})
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--me--meetings"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    written, _ = convert(folder, snapshot / "pytorch_model.bin")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    names = {"folder": folder, "pyannote": written, "snapshot": snapshot, "hub": "me/meetings@v1"}
    begun = build_model(TrainSettings(), str(names[place]))
    assert begun.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(begun.state_dict()[name], tensor)


def test_a_model_of_another_kind_is_no_beginning(settings: Settings, database: Path, tmp_path: Path) -> None:
    from pixit.models.embedders import SpeakerEncoder

    save_model(SpeakerEncoder(), tmp_path / "speaker", {})
    message = message_of(settings(), tmp_path / "run", database, init=str(tmp_path / "speaker"))
    assert "expected a ToTaToNet" in message


def test_provenance_tells_no_folder_of_its_maker(tmp_path: Path) -> None:
    turns = [tmp_path / "a.rttm"]
    simulation = {
        "speech": [tmp_path / "s"],
        "validation_speech": ["~/v"],
        "turn_taking": turns,
        "validation_turn_taking": turns,
    }
    chosen = TrainSettings.model_validate(
        {"data": {"simulation": simulation}, "wavlm_weights": str(tmp_path / "w")}
    )
    found = provenance_of(
        Run.of(chosen, tmp_path / "database.yml", "X.SpeakerDiarization.Y", str(tmp_path / "init"))
    )
    assert str(tmp_path) not in json.dumps(found)
    assert "~" not in json.dumps(found)
    assert found["settings"]["data"]["simulation"]["turn_taking"] == ["a.rttm"]
    assert found["protocol"] == "X.SpeakerDiarization.Y"
    assert found["init"] == "init"


def test_metrics_outlive_a_kill_amid_a_row_and_go_on_behind_it(tmp_path: Path) -> None:
    from pixit.training.callbacks import MetricsFile, Progress

    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step in range(3):
        metrics.log_metrics({"loss": float(step)}, step)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4, "each row is on the disk at once"
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,3.")
    moved = (tmp_path / "metrics.csv").rename(tmp_path / "moved.csv")
    resumed = MetricsFile(moved)
    resumed.keep(3)
    resumed.log_metrics({"loss": 3.0, "other": 1.0}, 3)
    assert moved.read_text() == "step,loss,other\n0,0.0,\n1,1.0,\n2,2.0,\n3,3.0,1.0\n"
    assert Progress()._get_train_description(1).strip() == "Epoch 1"
