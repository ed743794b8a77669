"""RTTM and UEM: what is read, what is refused, and that a line is read back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixit.formats.rttm import read_rttm, read_uem, rttm_line
from pixit.types import PixitError, Turn

LINE = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_line_is_read_back_to_the_millisecond(
    tmp_path_factory: pytest.TempPathFactory, start_ms: int, length_ms: int
) -> None:
    turn = Turn(start_ms / 1000, (start_ms + length_ms) / 1000, "Zoë")
    path = written(tmp_path_factory.mktemp("rttm") / "x.rttm", rttm_line("m.1", turn) + "\n")
    ((found,),) = read_rttm(path).values()
    assert found.speaker == "Zoë"
    assert found.start_s == pytest.approx(turn.start_s, abs=1e-6)
    assert found.end_s == pytest.approx(turn.end_s, abs=1e-6)


def test_other_lines_comments_byte_order_mark_and_windows_line_breaks_are_read_over(tmp_path: Path) -> None:
    text = "\ufeff;; by hand\r\n# too\r\n\r\nSPKR-INFO m 1 <NA> <NA> <NA> unknown A <NA> <NA>\r\n"
    text += "SPEAKER\tm\t1\t0.5\t1.25\t<NA>\t<NA>\tA\t<NA>\r\n" + LINE.format("n", 2, 0, "B")
    found = read_rttm(written(tmp_path / "x.rttm", text))
    assert found == {"m": [Turn(0.5, 1.75, "A")], "n": [Turn(2, 2, "B")]}


@pytest.mark.parametrize(
    "line",
    [
        "m 1 0 5",  # a UEM
        "recording,der\n",
        "speaker m 1 0 1 <NA> <NA> A <NA> <NA>",
        LINE.format("my meeting", 0, 1, "A"),
        LINE.format("m", 0, 1, "John Smith"),
        LINE.format("m", "nan", 1, "A"),
        LINE.format("m", 0, "inf", "A"),
        LINE.format("m", 0, -1, "A"),
        LINE.format("m", "<NA>", "<NA>", "A"),
        "SPEAKER m 1 0 1",
    ],
)
def test_what_is_no_rttm_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "x.rttm", LINE.format("m", 0, 1, "A") + line)
    with pytest.raises(PixitError, match=r"x\.rttm:2: expected 'SPEAKER uri 1 start duration") as caught:
        read_rttm(path)
    assert "\n" not in str(caught.value)


def test_a_long_line_is_told_in_short(tmp_path: Path) -> None:
    with pytest.raises(PixitError) as caught:
        read_rttm(written(tmp_path / "x.rttm", "x" * 10_000))
    assert len(str(caught.value)) < 500


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.rttm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PixitError, match=r"x\.rttm: is not UTF-8 text, expected an RTTM file"):
        read_rttm(tmp_path / "x.rttm")
    with pytest.raises(PixitError, match=r"no\.uem: cannot be read as a UEM file \(No such file"):
        read_uem(tmp_path / "no.uem")
    with pytest.raises(PixitError, match=r"missing: cannot be read as an RTTM file"):
        read_rttm(tmp_path / "missing")


def test_folders_are_read_at_any_depth_but_for_what_is_hidden(tmp_path: Path) -> None:
    written(tmp_path / "a" / "a.rttm", LINE.format("a", 0, 1, "A"))
    written(tmp_path / "deep" / "er" / "b b.RTTM", LINE.format("b", 0, 1, "A"))
    written(tmp_path / ".pixit-1234-new" / "c.rttm", LINE.format("c", 0, 1, "A"))
    written(tmp_path / "notes.txt", "no RTTM")
    written(tmp_path / "silent" / "silent.rttm", "")
    assert read_rttm(tmp_path) == {"a": [Turn(0, 1, "A")], "b": [Turn(0, 1, "A")], "silent": []}
    assert read_rttm(tmp_path / "silent" / "silent.rttm") == {"silent": []}
    assert read_rttm([tmp_path / "a", tmp_path / "a" / "a.rttm", tmp_path / "silent"]).keys() == {
        "a",
        "silent",
    }
    hidden_above = written(tmp_path / ".cache" / "set" / "d.rttm", LINE.format("d", 0, 1, "A")).parent
    assert read_rttm(hidden_above) == {"d": [Turn(0, 1, "A")]}


def test_one_recording_in_two_files_is_an_error(tmp_path: Path) -> None:
    written(tmp_path / "one.rttm", LINE.format("m", 0, 1, "A"))
    written(tmp_path / "two.rttm", LINE.format("m", 5, 1, "B"))
    with pytest.raises(PixitError, match=r"one\.rttm and .*two\.rttm: both hold 'm'"):
        read_rttm(tmp_path)
    with pytest.raises(PixitError, match=r"holds no \.uem files"):
        read_uem(tmp_path)


def test_uem_files_and_folders(tmp_path: Path) -> None:
    written(tmp_path / "x" / "a.uem", ";; c\nm 1 0 1.5\nm 1 2 3\n\n")
    written(tmp_path / "y" / "b.uem", "n 1 0 0\n")
    assert read_uem(tmp_path / "x" / "a.uem") == {"m": [(0, 1.5), (2, 3)]}
    assert read_uem(tmp_path) == {"m": [(0, 1.5), (2, 3)], "n": [(0, 0)]}


@pytest.mark.parametrize(
    "line", ["m 1 2 1", "m 1 0", "my meeting 1 0 5", "m 1 nan 5", "m 1 0 inf", "m 0 5 x"]
)
def test_what_is_no_uem_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(PixitError, match=r"x\.uem:1: expected 'uri 1 start end'"):
        read_uem(written(tmp_path / "x.uem", line))


@pytest.mark.real
def test_real_annotations_are_read(shared_data: Path) -> None:
    folder = shared_data / "ami" / "annotations"
    turns, regions = read_rttm(folder / "only_words"), read_uem(folder / "uems")
    assert len(turns) == 154
    assert set(turns) <= set(regions)
    assert all(turns.values())
