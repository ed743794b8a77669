"""Tables of scores: the same rows for people, spreadsheets, programs and papers."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixit.files import csv_cell, write_text
from pixit.types import PixitError

FORMATS = {".txt": "text", ".csv": "csv", ".json": "json", ".md": "markdown"}
"""Ending of a file -> format of the table in it."""


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in the rows, its heading, and the decimals that people are shown.

    One that is `detail` is only in ``csv`` and ``json``.
    """

    key: str
    heading: str
    decimals: int = 2
    detail: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of scores, a mapping each; a missing value, None, NaN or infinity is shown as a dash.

    People (``text``, ``markdown``) see rounded numbers; ``csv`` and ``json`` have all digits. With `has_total`
    the last row, the total, stands under a line of its own.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    has_total: bool = False

    def render(self, format: str = "text") -> str:
        """Return the table as ``text``, ``csv``, ``json`` or ``markdown``, with a line break at its end."""
        writers = {"text": _text, "csv": _csv, "json": _json, "markdown": _markdown}
        return writers[format](self).rstrip("\n") + "\n"

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all, in the format that the ending of `path` says.

        Raises
        ------
        PixitError
            If the ending is none of `FORMATS`, or the file cannot be written.
        """
        check_path(path)
        write_text(path, self.render(FORMATS[path.suffix.lower()]))

    def cells(self) -> list[list[str]]:
        """Return what people see, row by row, below the headings."""
        shown = [column for column in self.columns if not column.detail]
        rows = ([_cell(row.get(column.key), column) for column in shown] for row in self.rows)
        return [[column.heading for column in shown], *rows]

    def values(self) -> list[dict[str, Any]]:
        """Return what programs get, row by row: plain numbers and texts, None for what is missing."""
        return [{column.key: _plain(row.get(column.key)) for column in self.columns} for row in self.rows]


def check_path(path: Path) -> None:
    """Raise a `PixitError`, before any work, if no table can be written to `path`."""
    if path.suffix.lower() not in FORMATS:
        raise PixitError(f"{path}: unknown kind of table; expected a file named {', '.join(FORMATS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise PixitError(f"{path}: cannot be written; expected a file in an existing folder")


def _plain(value: Any) -> Any:
    """Make NumPy's scalars plain, and what is not a number None: JSON has no NaN and no infinity."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any, column: Column) -> str:
    value = _plain(value)
    if value is None:
        return "–"
    return f"{value:.{column.decimals}f}" if isinstance(value, float) else " ".join(str(value).split())


def _text(table: Table) -> str:
    """Align names to the left and numbers to the right."""
    lines = table.cells()
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    written = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    total = [rule, written.pop()] if table.has_total and table.rows else []
    return "\n".join([table.title, rule, written[0], rule, *written[1:], *total])


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [column.key for column in table.columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in table.values())
    return stream.getvalue()


def _json(table: Table) -> str:
    tree = {"title": table.title, "rows": table.values()}
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False)


def _markdown(table: Table) -> str:
    headings, *rows = [[cell.replace("|", "\\|") for cell in line] for line in table.cells()]
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = ["| " + " | ".join(line) + " |" for line in (headings, rule, *rows)]
    return "\n".join([table.title, "", *lines])
