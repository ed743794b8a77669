"""Who spoke when, for the programs that people look at it with: Audacity, Praat, ELAN, players, spreadsheets.

`read_labelled` reads RTTM, results of ``pixit separate`` and transcripts, `export` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pixit.files import file_name, whole_file
from pixit.formats.labelled import Labelled
from pixit.formats.writers import FORMATS
from pixit.types import PixitError


def export(
    recordings: Sequence[Labelled], to: str, output: Path | str, overwrite: bool = False
) -> list[Path]:
    """Write recordings in a format, all of them or none.

    Times are rounded to milliseconds (``table``: to hundredths of a second).

    Parameters
    ----------
    recordings
        As `read_labelled` gives them.
    to
        Name of the format, one of `FORMATS`.
    output
        A file with the ending of the format, or a folder for a file each: NAME and the ending, where NAME is
        `file_name` of the recording's uri. One file holds several recordings only as RTTM, UEM or CSV.
    overwrite
        Replace files that exist.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    PixitError
        If a file exists and `overwrite` is not given or cannot be written, two recordings need the same name,
        or the format cannot hold them; then no file is new or changed.
    """
    if to not in FORMATS:
        raise PixitError(f"{to!r}: unknown format; expected {', '.join(FORMATS)}")
    files = _plan(recordings, to, Path(output))
    for path in files:
        if path.exists() and (not overwrite or path.is_dir()):
            raise PixitError(f"{path}: exists already; overwrite it, or choose another output")
    with ExitStack() as stack:  # all of them appear at its end, or none
        for path, group in files.items():
            FORMATS[to].write(group, stack.enter_context(whole_file(path)))
    return list(files)


def is_file(output: Path, to: str) -> bool:
    """Return whether `output` is one file of the format `to`, or a folder.

    Raises
    ------
    PixitError
        If it has the ending of another format.
    """
    if output.is_dir():
        return False
    suffix = output.suffix.lower()
    if suffix == FORMATS[to].suffix.lower():
        return True
    if suffix in {format.suffix.lower() for format in FORMATS.values()}:
        raise PixitError(f"{output}: expected a file named {FORMATS[to].suffix} for {to}, or a folder")
    return False


def _plan(recordings: Sequence[Labelled], to: str, output: Path) -> dict[Path, list[Labelled]]:
    """Return which recordings go into which file."""
    if is_file(output, to):
        if len(recordings) > 1 and not FORMATS[to].holds_several:
            raise PixitError(
                f"{output}: {to} holds one recording a file, found {len(recordings)}; give a folder instead"
            )
        return {output: list(recordings)}
    files: dict[Path, list[Labelled]] = {}
    for recording in recordings:
        path = output / f"{file_name(recording.uri)}{FORMATS[to].ending}"
        if path in files:
            raise PixitError(
                f"{path}: both {files[path][0].uri!r} and {recording.uri!r} would be written here; rename one"
            )
        files[path] = [recording]
    return files
