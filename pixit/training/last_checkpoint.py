"""What a stopped training goes on from: ``last.ckpt``, written regularly and when somebody stops it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class LastCheckpoint(pl.Callback):
    """Save the whole state of a training every few steps, at its end, and on Ctrl-C or SIGTERM.

    Ctrl-C (or SIGTERM) lets the running step end, saves, and then raises KeyboardInterrupt; a second one raises it
    at once. A state at the end of an epoch is saved after the validation that belongs to it, so that a training
    killed in between repeats this validation. This callback must stand behind those that change weights.

    Parameters
    ----------
    path
        The file; it is replaced in one move, so that there is always a whole one.
    every_n_steps
        Steps of the optimizer between two savings.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        self.path, self.every_n_steps = path, every_n_steps
        self._step = 0
        self._due = False
        self._stop_asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals; Lightning itself puts the old handlers back when it ends."""
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask_to_stop)

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
        """Save what fell due at the last batch of the epoch."""
        self._save_if_due(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        # The processes of a distributed training are not told of a signal at the same step, or at all.
        stop = trainer.strategy.reduce_boolean_decision(self._stop_asked, all=False)
        if stop or self._due:
            self._due = False
            self._save(trainer)
        if stop:
            raise KeyboardInterrupt

    def _save(self, trainer: pl.Trainer) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            new.replace(self.path)
