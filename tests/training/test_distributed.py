"""Two machines at one training, and weights that no loss reaches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from pixit.training.loaders import PairData
from pixit.training.train import TrainSettings, build_model, fit
from pixit.types import PixitError

NODE_SCRIPT = """
import sys
from pathlib import Path
from pixit.config import load_settings
from pixit.training.module import PixITModule
from pixit.training.train import TrainSettings, train

step = PixITModule.training_step

def note(self, batch, *rest):
    with open("heard", "a") as file:
        file.writelines(f"{mixture.double().abs().sum().item():.6f}\\n" for mixture in batch["mixtures"])
    return step(self, batch, *rest)

PixITModule.training_step = note

if __name__ == "__main__":
    train(load_settings(TrainSettings, sys.argv[1]), Path("out"), Path(sys.argv[2]), progress=False)
"""


@pytest.mark.slow
def test_two_machines_train_one_model(
    settings: Callable[..., TrainSettings], database: Path, tmp_path: Path
) -> None:
    """Each hears other pairs, together all of them; only the first one writes."""
    trainer = {"max_steps": 2, "num_nodes": 2, "strategy": "ddp", "accelerator": "cpu"}
    chosen = settings(data={"pairs_per_epoch": 8, "batch_size": 2, "validation_pairs": 2}, trainer=trainer)
    (tmp_path / "script.py").write_text(NODE_SCRIPT)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nodes = []
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank)}
        nodes.append(
            subprocess.Popen(
                [sys.executable, "../script.py", "../config.yaml", str(database)],
                cwd=tmp_path / str(rank),  # and so the output of each is its own
                env=os.environ | {"OMP_NUM_THREADS": "1"} | place,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    errors = [node.communicate(timeout=180)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    heard = [(tmp_path / str(rank) / "heard").read_text().splitlines() for rank in range(2)]
    data = PairData(build_model(chosen, None), chosen.data, database, None, chosen.seed)
    all_pairs = [f"{data.training_set[i]['mixtures'].double().abs().sum().item():.6f}" for i in range(8)]
    assert len(set(all_pairs)) == 8
    assert [len(pairs) for pairs in heard] == [4, 4]
    assert sorted(heard[0] + heard[1]) == sorted(all_pairs)
    written = [
        {path.name for path in (tmp_path / str(rank) / "out").rglob("*") if path.is_file()}
        for rank in range(2)
    ]
    assert {"run.yaml", "last.ckpt", "metrics.csv", "model.safetensors"} <= written[0]
    assert written[1] == set()


def fake_trainer(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return SimpleNamespace(fit=fail, interrupted=False)


def test_weights_that_no_loss_reaches_are_told_with_the_remedy() -> None:
    error = RuntimeError("It looks like your LightningModule has parameters that were not used in producing")
    with pytest.raises(PixitError, match=r"trainer\.strategy=ddp_find_unused_parameters_true") as caught:
        fit(fake_trainer(error), cast(Any, None), cast(Any, None), None)
    assert "\n" not in str(caught.value)


def test_other_errors_of_a_training_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(fake_trainer(RuntimeError("out of memory")), cast(Any, None), cast(Any, None), None)
