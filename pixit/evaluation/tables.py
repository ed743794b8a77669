"""Tables of scores: the same rows for people, spreadsheets, programs and papers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixit.types import PixitError

FORMATS = {".txt": "text", ".csv": "csv", ".json": "json", ".md": "markdown"}
"""Ending of a file -> format of the table in it."""


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in the rows, its heading, and the decimals that people are shown."""

    key: str
    heading: str
    decimals: int = 2


@dataclass(frozen=True)
class Table:
    """Rows of scores, a mapping each; a missing value or None is shown as a dash.

    People (``text``, ``markdown``) see rounded numbers; ``csv`` and ``json`` have all digits.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    def render(self, format: str = "text") -> str:
        """Return the table as ``text``, ``csv``, ``json`` or ``markdown``, with a line break at its end."""
        writers = {"text": _text, "csv": _csv, "json": _json, "markdown": _markdown}
        return writers[format](self).rstrip("\n") + "\n"

    def save(self, path: Path) -> None:
        """Write the table in the format that the ending of `path` says.

        Raises
        ------
        PixitError
            If the ending is none of `FORMATS`, or the file cannot be written.
        """
        if path.suffix.lower() not in FORMATS:
            raise PixitError(f"{path}: unknown kind of table; expected a file named {', '.join(FORMATS)}")
        try:
            path.write_text(self.render(FORMATS[path.suffix.lower()]), encoding="utf-8")
        except OSError as error:
            raise PixitError(f"{path}: cannot be written ({error.strerror}); choose another file") from None

    def cells(self) -> list[list[str]]:
        """Return what people see, row by row."""
        return [[_cell(row.get(column.key), column) for column in self.columns] for row in self.rows]


def _cell(value: Any, column: Column) -> str:
    if value is None:
        return "–"
    return f"{value:.{column.decimals}f}" if isinstance(value, float) else str(value)


def _text(table: Table) -> str:
    """Align names to the left and numbers to the right, the last row (the total) under a line."""
    lines = [[column.heading for column in table.columns], *table.cells()]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    written = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([table.title, rule, written[0], rule, *written[1:]])


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    writer.writerows([row.get(column.key) for column in table.columns] for row in table.rows)
    return stream.getvalue()


def _json(table: Table) -> str:
    keys = [column.key for column in table.columns]
    rows = [{key: row.get(key) for key in keys} for row in table.rows]
    return json.dumps({"title": table.title, "rows": rows}, indent=2, ensure_ascii=False)


def _markdown(table: Table) -> str:
    headings = [column.heading for column in table.columns]
    rule = ["---", *["---:"] * (len(headings) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in table.cells()]
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rule, *escaped))
