"""Who spoke when, as the field's text files have it: RTTM and UEM."""

from __future__ import annotations

import math
from pathlib import Path

from pixit.types import PixitError, Turn


def read_rttm(path: Path | str) -> dict[str, list[Turn]]:
    """Read an RTTM file: recording -> turns, in the order of the file; lines but of SPEAKER are skipped.

    Raises
    ------
    PixitError
        If the file cannot be read, or a line is no RTTM.
    """
    recordings: dict[str, list[Turn]] = {}
    for number, line in enumerate(_read_lines(path, "an RTTM file"), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            uri, start_s, duration_s, speaker = fields[1], float(fields[3]), float(fields[4]), fields[7]
            if not (math.isfinite(start_s) and math.isfinite(duration_s) and duration_s >= 0):
                raise ValueError
        except (IndexError, ValueError):
            raise PixitError(
                f"{path}:{number}: expected 'SPEAKER uri 1 start duration <NA> <NA> speaker <NA> <NA>', "
                f"found {line!r}"
            ) from None
        recordings.setdefault(uri, []).append(Turn(start_s, start_s + duration_s, speaker))
    return recordings


def rttm_line(uri: str, turn: Turn) -> str:
    """Return the RTTM line of a turn, without line break; times are rounded to milliseconds."""
    duration_s = turn.end_s - turn.start_s
    return f"SPEAKER {uri} 1 {turn.start_s:.3f} {duration_s:.3f} <NA> <NA> {turn.speaker} <NA> <NA>"


def read_uem(path: Path | str) -> dict[str, list[tuple[float, float]]]:
    """Read a UEM file: recording -> regions (start_s, end_s) to score, in the order of the file.

    Raises
    ------
    PixitError
        If the file cannot be read, or a line is no UEM.
    """
    recordings: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(_read_lines(path, "a UEM file"), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";"):
            continue
        try:
            uri, start_s, end_s = fields[0], float(fields[2]), float(fields[3])
            if not (math.isfinite(start_s) and start_s <= end_s < math.inf):
                raise ValueError
        except (IndexError, ValueError):
            raise PixitError(f"{path}:{number}: expected 'uri 1 start end', found {line!r}") from None
        recordings.setdefault(uri, []).append((start_s, end_s))
    return recordings


def _read_lines(path: Path | str, kind: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise PixitError(f"{path}: cannot be read as {kind} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise PixitError(f"{path}: is not text, expected {kind}") from None
