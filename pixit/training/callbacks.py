"""Beside the steps of a training: metrics and states are saved, examples drawn, and divergence ends it."""

from __future__ import annotations

import csv
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from pixit.files import whole_file
from pixit.training.objective import PairBatch, mixtures_of_mixtures, three_mixtures
from pixit.types import LocalOutput, PixitError


class MetricsFile(Logger):
    """Lightning's metrics as a CSV file: a row each time something is logged, on the disk at once.

    The number of rows belongs to the state of the training (`LastCheckpoint` saves it): a resumed training
    drops the rows that came after, since it will make them again; and a validation that it repeats gives no
    second row. What the file holds is replaced at the first row, unless `keep` was called.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.num_rows = path, 0
        self.trainer: pl.Trainer | None = (
            None  # whose steps count: those of logs are off by one after resuming
        )
        self._columns: list[str] = []
        self._last: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Leave out what run.yaml keeps."""

    @rank_zero_only
    def keep(self, num_rows: int) -> None:
        """Keep the first `num_rows` rows of the file, and go on behind them."""
        rows, self._columns = self._read()
        self._write(rows[:num_rows])
        last = rows[num_rows - 1] if rows[:num_rows] else {}
        self._last = {name: float(value) for name, value in last.items() if value}  # as it was logged

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row; a name that is new gets a column."""
        row = {"step": step if self.trainer is None else self.trainer.global_step} | metrics
        if row == self._last:
            return
        self._last = row
        if set(row) <= set(self._columns):
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
            self.num_rows += 1
        else:
            rows = self._read()[0][: self.num_rows]
            self._columns += [name for name in row if name not in self._columns]
            self._write([*rows, row])

    def _read(self) -> tuple[list[dict[str, Any]], list[str]]:
        if not self.path.exists():
            return [], []
        with self.path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            return list(table), list(table.fieldnames or [])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with whole_file(self.path) as new, new.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, self._columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        self.num_rows = len(rows)


class LastCheckpoint(pl.Callback):
    """Save the whole state of a training (``last.ckpt``) every few steps, at any end, and on Ctrl-C or SIGTERM.

    Ctrl-C (or SIGTERM) lets the running step end, saves, and then raises KeyboardInterrupt; a second one raises it
    at once. A state at the end of an epoch is saved after the validation that belongs to it, so that a training
    killed in between repeats this validation. The file is replaced in one move, so that there is always a
    whole one. This callback must stand behind those that change weights.
    """

    def __init__(self, path: Path, every_n_steps: int, metrics: MetricsFile) -> None:
        self.path, self.every_n_steps, self.metrics = path, every_n_steps, metrics
        self._step, self._saved, self._due, self._stop_asked = 0, 0, False, False

    def state_dict(self) -> dict[str, Any]:
        """Return the length of the table of metrics."""
        return {"metrics": self.metrics.num_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Drop the metrics of steps that are to be made again."""
        self.metrics.keep(state_dict["metrics"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals; Lightning itself puts the old handlers back when it ends."""
        self._step = self._saved = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask_to_stop)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put right by what Lightning numbers its logs: resuming where an epoch ends counts one step twice."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_asked:
            raise KeyboardInterrupt
        self._stop_asked = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after a step of the optimizer, unless the epoch ends here."""
        if trainer.global_step == self._step:  # gradients are being accumulated
            return
        self._step = trainer.global_step
        finished = self._step >= trainer.max_steps
        if finished:
            trainer.should_stop = True  # makes Lightning validate the last weights, wherever in an epoch
        self._due = finished or self._step % self.every_n_steps == 0
        if not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what fell due at the last batch of the epoch, and where time or patience end the training."""
        self._due = self._due or (trainer.should_stop and self._saved < trainer.global_step)
        self._save_if_due(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        # The processes of a distributed training do not receive a signal at the same step, or at all.
        stop = trainer.strategy.reduce_boolean_decision(self._stop_asked, all=False)
        if stop or self._due:
            self._due = False
            check_weights(trainer)
            new = self.path.with_name(f"{self.path.name}.new")
            trainer.save_checkpoint(new)
            if trainer.is_global_zero:
                new.replace(self.path)
            self._saved = trainer.global_step
        if stop:
            raise KeyboardInterrupt


class BestCheckpoint(ModelCheckpoint):
    """Save the best state (``best.ckpt``); the folder may be moved between two runs, Lightning's may not."""

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score, if its file is there still."""
        path, score = str(Path(self.dirpath or "") / "best.ckpt"), state_dict["best"]
        if score is not None and Path(path).exists():
            self.best_model_path = self.kth_best_model_path = path
            self.best_model_score = self.kth_value = score
            self.best_k_models = {path: score}


class Progress(RichProgressBar):
    """Lightning's bar, which takes the number of epochs, -1 where it is not limited, for their last one."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}".ljust(len(self.validation_description))


class StopWhereDiverged(pl.Callback):
    """End a training at the first loss that is not a finite number, and let no such weights into a checkpoint."""

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Look at the loss of each batch; one process that has diverged ends all."""
        is_bad = not bool(torch.isfinite(loss))
        if trainer.strategy.reduce_boolean_decision(is_bad, all=False):
            raise diverged(trainer, "the loss")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the weights that the validation may call the best."""
        if not trainer.sanity_checking:
            check_weights(trainer)


def check_weights(trainer: pl.Trainer) -> None:
    """Raise PixitError if a weight is not a finite number, as after a step by an infinite gradient."""
    for name, tensor in trainer.lightning_module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise diverged(trainer, name)


def diverged(trainer: pl.Trainer, what: str) -> PixitError:
    """Say where a training diverged, and what can be done."""
    place, step = Path(str(trainer.default_root_dir)), trainer.global_step
    remedy = "train in another folder with a lower optimizer.learning_rate"
    if (place / "checkpoints" / "last.ckpt").exists():
        remedy = (
            "last.ckpt is from before: resume with a smaller trainer.gradient_clip or trainer.precision=32-true, "
            f"or {remedy}"
        )
    reason = f"the training diverged at step {step}, where {what} is not a finite number"
    return PixitError(f"{place}: {reason}; {remedy}")


class ExamplePictures(pl.Callback):
    """Draw the mixtures of mixtures of the first `count` validation pairs, into `folder` and TensorBoard."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.folder, self.count = folder, count

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, if this is the first batch."""
        if batch_idx > 0 or not trainer.is_global_zero or trainer.sanity_checking:
            return
        pairs = PairBatch(**{name: value[: self.count] for name, value in batch.items()})
        mixtures, first_of_both = three_mixtures(pairs), 2 * len(pairs.mixtures)
        with torch.no_grad():
            output = pl_module.model(mixtures)
        expected, _ = mixtures_of_mixtures(pairs.activities, pairs.references)
        self.folder.mkdir(parents=True, exist_ok=True)
        for i, row in enumerate(range(first_of_both, len(mixtures))):
            of_both = LocalOutput(output.activity_logits[row], output.sources[row])
            figure = draw_example(mixtures[row, 0], of_both, expected[row])
            figure.savefig(self.folder / f"step-{trainer.global_step:07d}-{i}.png", dpi=70)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"example-{i}", figure, trainer.global_step)


def draw_example(mixture: Tensor, output: LocalOutput, expected: Tensor) -> Figure:
    """Draw a mixture (T,) and its sources (K, T) as spectrograms, with activities (K, F) beneath."""
    signals = [mixture, *output.sources]
    figure = Figure(figsize=(8, 1.7 * len(signals) + 1.6), layout="constrained")
    rows = figure.subplots(len(signals) + 1, 1)
    for row, samples in zip(rows, signals, strict=False):
        row.imshow(_spectrogram_db(samples), origin="lower", aspect="auto", vmin=-60, vmax=20, cmap="magma")
        row.set(xticks=[], yticks=[])
    rows[0].set_title("mixture, sources; then expected (grey) and estimated activity", fontsize=9)
    for k, (probability, truth) in enumerate(zip(output.activities, expected, strict=True)):
        offset = len(expected) - k
        rows[-1].fill_between(np.arange(len(truth)), offset, offset + 0.8 * truth.cpu().numpy(), color="0.8")
        rows[-1].plot(offset + 0.8 * probability.float().cpu().numpy(), linewidth=0.8)
    rows[-1].set(xlim=(0, expected.shape[1] - 1), yticks=[])
    return figure


def _spectrogram_db(signal: Tensor) -> NDArray[np.float32]:
    window = torch.hann_window(512, device=signal.device)
    spectrum = torch.stft(signal.float(), 512, 256, window=window, return_complex=True)
    return (20 * torch.log10(spectrum.abs() + 1e-4)).cpu().numpy()
