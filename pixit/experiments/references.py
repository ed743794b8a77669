"""Recordings and who really speaks in them: from a protocol of pyannote.database, or from folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixit.audio import open_audio
from pixit.data.database import load_recordings
from pixit.formats.names import match_items, some
from pixit.formats.rttm import read_rttm, read_uem
from pixit.pipeline.batch import find_recordings
from pixit.types import PixitError, Recording


def find_references(
    recordings: Sequence[Path],
    references: Path | None = None,
    uem: Path | None = None,
    database: Path | None = None,
    protocol: str | None = None,
    subset: str = "development",
) -> tuple[list[Recording], list[str]]:
    """Return recordings with their turns, and notes.

    Parameters
    ----------
    recordings, references, uem
        Files and folders of recordings; RTTM, and UEM that says what of them is scored, by default all: a file or a
        folder each.
    database, protocol, subset
        As for `load_recordings`, instead of the others.

    Raises
    ------
    PixitError
        If neither or both ways are asked for, a file cannot be read, or a recording has no reference.
    """
    if bool(recordings) == bool(database or protocol):
        given = "both recordings and" if recordings else "neither recordings nor"
        raise PixitError(f"found {given} a database; expected --recordings with --references, or --database")
    if database or protocol:
        return load_recordings(protocol, subset, database), []
    if references is None:
        raise PixitError(
            f"{recordings[0]}: found no references, expected RTTM that says who speaks: --references"
        )
    named = find_recordings(recordings)
    turns, notes = match_items(list(named), read_rttm(references), str(references))
    if missing := [uri for uri in named if uri not in turns]:
        raise PixitError(f"{references}: has no turns of {some(missing)}; take them out, or add their RTTM")
    regions: dict[str, list[tuple[float, float]]] = {}
    if uem is not None:
        regions, more = match_items(list(named), read_uem(uem), str(uem))
        notes += more
        named = {uri: path for uri, path in named.items() if uri in regions}
    found = []
    for uri, path in named.items():
        whole = [(0.0, open_audio(path).duration_s)]
        found.append(Recording(uri, path, tuple(turns[uri]), tuple(regions.get(uri, whole))))
    return found, notes
