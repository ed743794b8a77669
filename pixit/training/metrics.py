"""The table of a training's metrics: one file, however often the training is resumed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from pixit.files import whole_file


class MetricsFile(Logger):
    """Lightning's metrics as a CSV file: a row each time something is logged, on the disk at once.

    The number of rows belongs to the state of the training (`LastCheckpoint` saves it): a resumed training drops
    the rows that came after, since it will make them again.

    Parameters
    ----------
    path
        The file. What it holds is replaced at the first row, unless `keep` was called.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.num_rows = 0
        self._columns: list[str] = []

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

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row; a name that is new gets a column."""
        row = {"step": step} | metrics
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
