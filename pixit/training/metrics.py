"""The table of a training's metrics: one file, however often the training is resumed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from pixit.files import whole_file


class MetricsFile(Logger):
    """Lightning's metrics as a CSV file: a row each time something is logged, on the disk at once.

    The number of rows belongs to the state of the training (`LastCheckpoint` saves it): a resumed training drops
    the rows that came after, since it will make them again; and a validation that it repeats gives no second row.

    Parameters
    ----------
    path
        The file. What it holds is replaced at the first row, unless `keep` was called.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.num_rows = 0
        self.trainer: pl.Trainer | None = (
            None  # whose steps count; Lightning's own are off by one after resuming
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
        self._last = _values(rows[num_rows - 1]) if rows[:num_rows] else {}

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
            return
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


def _values(row: dict[str, str]) -> dict[str, float]:
    """Return a row that was read as it was logged."""
    return {name: float(value) for name, value in row.items() if value}
