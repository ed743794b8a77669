"""Files appear whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.files import file_name, whole_file, whole_folder, write_text
from pixit.types import PixitError


@given(st.text(min_size=1))
def test_file_name_is_one_path_part_without_white_space(name: str) -> None:
    safe = file_name(name)
    assert safe
    assert safe not in (".", "..")
    assert not re.search(r'[\s/\\:*?"<>|\x00]', safe)
    assert file_name(safe) == safe


def test_whole_folder_is_hidden_until_it_is_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "x") as new:
        (new / "a").write_text("1")
        assert not (tmp_path / "x").exists()
        assert new.parent == tmp_path
        assert new.name.startswith(".")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_an_error_leaves_the_old_and_nothing_else(tmp_path: Path, whole) -> None:
    target = tmp_path / "x.txt"
    with whole(target) as new:
        (new if whole is whole_file else new / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(target) as new:  # noqa: PT012
        (new if whole is whole_file else new / "a").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert (target if whole is whole_file else target / "a").read_text() == "old"


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_place_that_cannot_be_is_named(tmp_path: Path, whole) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PixitError, match=r"file/x: cannot be written \(.*Not a directory|File exists"):  # noqa: SIM117
        with whole(tmp_path / "file" / "x"):
            pass


def test_text_makes_its_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "ä\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "ä\n".encode()
