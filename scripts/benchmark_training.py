"""Compare the speed of a training step with that of pyannote.audio's PixIT task, on the same batches and weights.

pyannote.audio runs in an environment of its own (see CONTRIBUTING.md); say which::

    python scripts/benchmark_training.py --peer-python peers/bin/python
        --database ami/database.yml --protocol AMI-clips.SpeakerDiarization.only_words

Pairs of chunks are drawn once, as `pixit train` draws them. Then both, in turns and each in a process of its own,
train a ToTaToNet of the same sizes and first weights, without WavLM, on these batches: forward, loss, backward,
clipping of the gradients and Adam, under a Lightning trainer. Drawing and decoding audio is not measured. The
first losses, printed too, should agree: both do the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

SECONDS_EACH = 5.0
LEARNING_RATE = 1e-3  # what pyannote.audio's models take unless told otherwise


def main() -> None:
    """Draw the batches, let both train in turns, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", type=Path)
    parser.add_argument("--protocol")
    parser.add_argument("--peer-python", help="the Python of an environment with pyannote.audio")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of chunks in a batch: two chunks each")
    parser.add_argument("--precision", default="32-true", help="as in Lightning")
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed in each round")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n-repeats", type=int, default=6, help="blocks of the dual-path RNN")
    parser.add_argument("--bn-chan", type=int, default=128)
    parser.add_argument("--hid-size", type=int, default=128)
    parser.add_argument("--run", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        torch.set_num_threads(asked.threads)
        print(json.dumps(SIDES[asked.run](asked)))
        return
    with tempfile.TemporaryDirectory() as work:
        draw(asked, Path(work))
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(asked.rounds):
            for side, rounds in runs.items():
                rounds.append(run(asked, side, work))
    show(asked, runs)


def draw(asked: argparse.Namespace, folder: Path) -> None:
    """Write the first weights, and as many batches as there are steps."""
    from pixit.training.loaders import DataSettings, PairData

    torch.manual_seed(0)
    model = make_model(asked)
    torch.save(model.state_dict(), folder / "weights.pt")
    count = asked.pairs * (asked.warmup + asked.steps)
    settings = DataSettings(duration_s=SECONDS_EACH, batch_size=asked.pairs, pairs_per_epoch=count)
    data = PairData(model, settings.model_copy(update={"num_workers": 0}), asked.database, asked.protocol, 0)
    batches = list(data.train_dataloader())
    torch.save(batches, folder / "batches.pt")


def make_model(asked: argparse.Namespace) -> Any:
    """Return our network of the sizes that were asked for."""
    from pixit.models.totatonet import ToTaToNet

    return ToTaToNet(masker={"name": "dprnn"} | masker(asked), window_s=SECONDS_EACH)


def masker(asked: argparse.Namespace) -> dict[str, int]:
    """Return the sizes of the dual-path RNN; all else is as in the paper."""
    return {"n_repeats": asked.n_repeats, "bn_chan": asked.bn_chan, "hid_size": asked.hid_size}


def run(asked: argparse.Namespace, side: str, work: str) -> dict[str, Any]:
    """Let one side train in a process of its own."""
    python = sys.executable if side == "pixit" else asked.peer_python
    names = (
        "pairs",
        "precision",
        "accelerator",
        "threads",
        "steps",
        "warmup",
        "n_repeats",
        "bn_chan",
        "hid_size",
    )
    options = [f"--{name.replace('_', '-')}={getattr(asked, name)}" for name in names]
    done = subprocess.run(
        [python, str(Path(__file__).resolve()), "--run", side, "--work", work, *options],
        env=os.environ | {"OMP_NUM_THREADS": str(asked.threads), "PYANNOTE_METRICS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def train_pixit(asked: argparse.Namespace) -> dict[str, Any]:
    """Train as `pixit train` does, on the batches in the folder."""
    import pytorch_lightning as pl

    from pixit.memory import keep_memory
    from pixit.training.module import OptimizerSettings, PixITModule
    from pixit.training.objective import ObjectiveSettings

    if asked.accelerator == "cpu":
        keep_memory()
    model = make_model(asked)
    model.load_state_dict(torch.load(asked.work / "weights.pt", weights_only=True))
    optimizer = OptimizerSettings(learning_rate=LEARNING_RATE)
    module = PixITModule(model, ObjectiveSettings(), optimizer, asked.warmup + asked.steps)
    batches = torch.load(asked.work / "batches.pt", weights_only=True)
    return fit(pl, module, batches, asked, gradient_clip_val=5.0)


def train_pyannote(asked: argparse.Namespace) -> dict[str, Any]:
    """Train with pyannote.audio's task, which gets the same pairs as alternate chunks."""
    import lightning.pytorch as pl
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.separation.ToTaToNet import ToTaToNet
    from pyannote.audio.tasks.separation.PixIT import PixIT
    from pyannote.database.protocol import SpeakerDiarizationProtocol

    weights = torch.load(asked.work / "weights.pt", weights_only=True)
    batches = []
    for batch in torch.load(asked.work / "batches.pt", weights_only=True):
        chunks, activities = batch["mixtures"].flatten(0, 1), batch["activities"].flatten(0, 1)
        batches.append({"X": chunks.unsqueeze(1), "y": activities.mT.contiguous(), "meta": {}})

    class Given(PixIT):
        """The task, but for where its batches come from."""

        def prepare_data(self) -> None:
            pass

        def setup(self, stage: str | None = None) -> None:
            classes = [f"speaker#{i + 1}" for i in range(3)]
            common = {"duration": SECONDS_EACH, "resolution": Resolution.FRAME, "classes": classes}
            diarization = Specifications(
                problem=Problem.MULTI_LABEL_CLASSIFICATION, permutation_invariant=True, **common
            )
            self.specifications = (
                diarization,
                Specifications(problem=Problem.MONO_LABEL_CLASSIFICATION, **common),
            )

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(batches, batch_size=None)

        def val_dataloader(self) -> None:
            return None

        def setup_validation_metric(self) -> None:
            pass

    class Nowhere(SpeakerDiarizationProtocol):
        """A protocol of which nothing is read: the batches are given."""

        name = "Given.SpeakerDiarization.nowhere"

        def train(self) -> Any:
            yield {"uri": "nobody", "audio": "nowhere.wav", "annotated": [], "scope": "file"}

        development = train

    task = Given(
        Nowhere(), duration=SECONDS_EACH, max_speakers_per_chunk=3, batch_size=2 * asked.pairs, num_workers=0
    )
    model = ToTaToNet(task=task, use_wavlm=False, dprnn=masker(asked))
    build = model.build

    def build_and_load() -> None:
        build()
        model.load_state_dict(weights)

    model.build = build_and_load
    return fit(pl, model, None, asked)


def fit(pl: Any, module: Any, batches: Any, asked: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """Train under a trainer of the given Lightning; returns the seconds of each step, and the first loss."""
    seconds: list[float] = []
    losses: list[float] = []

    def now() -> float:
        if asked.accelerator != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    class Watch(pl.Callback):  # type: ignore[misc]
        def on_train_batch_start(self, *_: Any) -> None:
            seconds.append(now())

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            seconds[-1] = now() - seconds[-1]
            losses.append(float(outputs["loss"]))

    trainer = pl.Trainer(
        max_steps=asked.warmup + asked.steps,
        accelerator=asked.accelerator,
        devices=1,
        precision=asked.precision,
        callbacks=[Watch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **more,
    )
    loader = None if batches is None else torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.fit(module, loader)
    return {"seconds": seconds[asked.warmup :], "loss": losses[0], "torch": torch.__version__}


SIDES = {"pixit": train_pixit, "pyannote.audio": train_pyannote}


def show(asked: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print what was measured where, and a table."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}, {machine(asked)}, {asked.threads} threads; "
        f"batches of {asked.pairs} pairs of {SECONDS_EACH:g} s, {asked.precision}, {asked.rounds} rounds of "
        f"{asked.steps} steps in turns; dual-path RNN {masker(asked)}\n"
    )
    print("| system | torch | steps/s, median round | best round | first loss | times as fast |")
    print("|---|---|---|---|---|---|")
    medians = {
        side: [1 / statistics.median(one["seconds"]) for one in rounds] for side, rounds in runs.items()
    }
    base = statistics.median(medians["pyannote.audio"])
    for side, rounds in runs.items():
        speed = statistics.median(medians[side])
        first = rounds[0]
        print(
            f"| {side} | {first['torch']} | {speed:.3f} | {max(medians[side]):.3f} | {first['loss']:.4f} "
            f"| {speed / base:.2f} |"
        )


def machine(asked: argparse.Namespace) -> str:
    """Name what was computed on."""
    if asked.accelerator != "cpu":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
