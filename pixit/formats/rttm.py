"""Who spoke when, as the field's text files have it: RTTM and UEM.

RTTM (NIST, The Rich Transcription Spring 2006 Evaluation Plan, appendix A) and UEM separate their fields by
white space, so no name in them can hold any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pixit.files import check_file, list_files, read_text, real_path
from pixit.types import PixitError, Turn

NOT_SPEAKER = {
    *("SPKR-INFO", "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH"),
    *("FILLER", "EDIT", "IP", "SU", "CB", "A/P"),
}
"""First fields of other lines that an RTTM file may have."""

Item = TypeVar("Item")
Region = tuple[float, float]
Paths = Path | str | Iterable[Path | str]


def read_rttm(paths: Paths) -> dict[str, list[Turn]]:
    """Read RTTM: recording -> turns, in the order of the file; lines but of SPEAKER are skipped.

    The paths are a file; a folder, of which all ``*.rttm`` at any depth are read but for hidden ones; or
    several of these. A file may hold several recordings. RTTM has no line for silence: a file without turns
    stands for the recording of its name, without speech.

    Raises
    ------
    PixitError
        If a file cannot be read, a line is no RTTM, a folder holds none, or two files hold the same recording.
    """
    return _read_files(paths, ".rttm", lambda path: _read_turns(path) or {path.stem: []})


def read_uem(paths: Paths) -> dict[str, list[Region]]:
    """Read UEM: recording -> regions (start_s, end_s) to score, in the order of the file.

    Paths and errors are as of `read_rttm`, with ``*.uem``.
    """
    return _read_files(paths, ".uem", _read_regions)


def rttm_line(uri: str, turn: Turn) -> str:
    """Return the RTTM line of a turn, without line break; times are rounded to milliseconds."""
    duration_s = turn.end_s - turn.start_s
    return f"SPEAKER {uri} 1 {turn.start_s:.3f} {duration_s:.3f} <NA> <NA> {turn.speaker} <NA> <NA>"


def _read_turns(path: Path) -> dict[str, list[Turn]]:
    recordings: dict[str, list[Turn]] = {}
    for number, line in _read_lines(path, "an RTTM file"):
        fields = line.split()
        if fields[0] in NOT_SPEAKER:
            continue
        try:
            uri, start_s, duration_s, speaker = fields[1], float(fields[3]), float(fields[4]), fields[7]
            is_turn = fields[0] == "SPEAKER" and len(fields) <= 10  # a name with a space makes 11
            if not (is_turn and math.isfinite(start_s) and 0 <= duration_s < math.inf):
                raise ValueError
        except (IndexError, ValueError):
            raise PixitError(
                f"{path}:{number}: expected 'SPEAKER uri 1 start duration <NA> <NA> speaker <NA> <NA>' "
                f"without spaces in names, found {_short(line)}"
            ) from None
        recordings.setdefault(uri, []).append(Turn(start_s, start_s + duration_s, speaker))
    return recordings


def _read_regions(path: Path) -> dict[str, list[Region]]:
    recordings: dict[str, list[Region]] = {}
    for number, line in _read_lines(path, "a UEM file"):
        fields = line.split()
        try:
            uri, _, start, end = fields
            start_s, end_s = float(start), float(end)
            if not (math.isfinite(start_s) and start_s <= end_s < math.inf):
                raise ValueError
        except ValueError:
            raise PixitError(
                f"{path}:{number}: expected 'uri 1 start end' without spaces in names, found {_short(line)}"
            ) from None
        recordings.setdefault(uri, []).append((start_s, end_s))
    return recordings


def _read_files(
    paths: Paths, ending: str, read: Callable[[Path], dict[str, list[Item]]]
) -> dict[str, list[Item]]:
    files: dict[Path, Path] = {}  # each once
    for path in map(Path, [paths] if isinstance(paths, Path | str) else paths):
        check_file(path, f"a {ending} file or a folder of them")
        inside = list_files(path, [ending]) if path.is_dir() else [path]
        if not inside:
            raise PixitError(f"{path}: holds no {ending} files; give a file, or a folder of them")
        for file in inside:
            files.setdefault(real_path(file), file)
    recordings: dict[str, list[Item]] = {}
    origin: dict[str, Path] = {}
    for file in files.values():
        for uri, items in read(file).items():
            if uri in origin:
                raise PixitError(
                    f"{origin[uri]} and {file}: both hold {uri!r}; expected one file a recording"
                )
            recordings[uri], origin[uri] = items, file
    return recordings


def _read_lines(path: Path, kind: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that hold something; comments begin with ``;`` or ``#``."""
    for number, line in enumerate(read_text(path, kind).splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith((";", "#")):
            yield number, line


def _short(line: str) -> str:
    return repr(line if len(line) <= 120 else f"{line[:120]}…")
