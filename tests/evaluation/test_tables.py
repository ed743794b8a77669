"""The same rows in four formats: rounded for people, whole for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.evaluation.tables import FORMATS, Column, Table, check_path
from pixit.types import PixitError

COLUMNS = (
    Column("name", "recording"),
    Column("der", "DER|%"),
    Column("words", "words"),
    Column("seconds", "s", detail=True),
)
ROWS = (
    {"name": "a|b, c", "der": 12.3456789, "words": 7, "seconds": 1.5, "unused": object()},
    {"name": "ü", "der": None},
    {"name": "TOTAL", "der": math.nan, "words": np.int64(8), "seconds": np.float32(0.5)},
)
TABLE = Table("Title", COLUMNS, ROWS, has_total=True)


def test_people_see_rounded_numbers_and_the_total_under_a_line() -> None:
    rule = "─" * 23
    lines = [
        *("Title", rule, "recording  DER|%  words", rule),
        *("a|b, c     12.35      7", "ü              –      –", rule, "TOTAL          –      8"),
    ]
    assert TABLE.render() == "\n".join(lines) + "\n"
    plain = Table("Title", COLUMNS, ROWS).render()
    assert plain.count(rule) == 2


def test_markdown_has_the_title_and_escapes_bars() -> None:
    assert TABLE.render("markdown").splitlines() == [
        *("Title", "", "| recording | DER\\|% | words |", "| --- | ---: | ---: |"),
        *("| a\\|b, c | 12.35 | 7 |", "| ü | – | – |", "| TOTAL | – | 8 |"),
    ]


def test_programs_get_all_digits_and_details() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.render("csv"))))
    assert rows[0] == {"name": "a|b, c", "der": "12.3456789", "words": "7", "seconds": "1.5"}
    assert rows[1] == {"name": "ü", "der": "", "words": "", "seconds": ""}
    tree = json.loads(TABLE.render("json"))
    assert tree["title"] == "Title"
    assert tree["rows"][1:] == [
        {"name": "ü", "der": None, "words": None, "seconds": None},
        {"name": "TOTAL", "der": None, "words": 8, "seconds": 0.5},
    ]


@given(st.lists(st.floats() | st.integers() | st.none() | st.text(), max_size=5))
def test_json_is_json_whatever_the_values(values: list[object]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    table = Table("t", [Column("x", "x")], [{"x": value} for value in values])
    found = [row["x"] for row in json.loads(table.render("json"), parse_constant=refuse)["rows"]]
    expected = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    assert found == expected


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "@SUM(A1)", "+1", "-1", "\t=1", "\r=1", "＝1"])
def test_a_spreadsheet_computes_no_names(name: str) -> None:
    """OWASP: an apostrophe before what a formula begins with; numbers stay numbers."""
    table = Table("", [Column("name", "name"), Column("x", "x")], [{"name": name, "x": -1.5}])
    (row,) = csv.DictReader(io.StringIO(table.render("csv"), newline=""))
    assert row == {"name": "'" + name.replace("\r", " "), "x": "-1.5"}
    assert json.loads(table.render("json"))["rows"][0]["name"] == name


def test_line_breaks_in_a_value_do_not_break_the_table() -> None:
    table = Table("t", [Column("x", "x")], [{"x": "two\nlines"}])
    assert table.render().splitlines()[-1] == "two lines"
    assert table.render("markdown").splitlines()[-1] == "| two lines |"


@pytest.mark.parametrize("format", FORMATS.values())
def test_a_table_without_rows_is_a_table(format: str) -> None:
    assert Table("t", COLUMNS, [], has_total=True).render(format).endswith("\n")


@pytest.mark.parametrize("ending", FORMATS)
def test_files_have_what_is_printed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"my scores{ending.upper()}"
    path.write_text("older")
    TABLE.save(path)
    assert path.read_bytes().decode() == TABLE.render(FORMATS[ending])
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match=r"scores\.xlsx: unknown kind of table; expected .*\.txt, \.csv"):
        check_path(tmp_path / "scores.xlsx")
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "no" / "scores.csv", tmp_path / "folder.csv"):
        with pytest.raises(PixitError, match="expected a file in an existing folder"):
            TABLE.save(path)
    check_path(Path("scores.csv"))
