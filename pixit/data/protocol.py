"""Write protocols that pyannote.database, and so pixit, can read: lists, RTTM, UEM and ``database.yml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pixit.audio import open_audio
from pixit.files import write_text
from pixit.formats.rttm import read_rttm, rttm_line
from pixit.types import PixitError, Recording, Turn

Entries = Mapping[str, Mapping[str, str]]
"""Subset -> key (``uri``, ``annotation``, ``annotated``) -> file, relative to ``database.yml``."""

SHORTEST_S = 0.001
"""RTTM and UEM are written in milliseconds."""


def write_database(
    path: Path, audio: Mapping[str, str | Sequence[str]], protocols: Mapping[str, Entries], scope: str
) -> None:
    """Write a ``database.yml`` to `path`.

    Parameters
    ----------
    audio
        Database -> template of its audio files, or several, as ``"audio/{uri}.wav"``.
    protocols
        Full name, as ``"AMI.SpeakerDiarization.only_words"`` -> its subsets.
    scope
        Where a speaker keeps the name: ``"file"``, ``"database"`` or ``"global"``.

    Raises
    ------
    PixitError
        If the file cannot be written.
    """
    tree: dict[str, Any] = {}
    for name, entries in protocols.items():
        database, task, protocol = name.split(".")
        subsets = {subset: dict(keys) for subset, keys in entries.items()}
        tree.setdefault(database, {}).setdefault(task, {})[protocol] = {"scope": scope, **subsets}
    templates = {name: found if isinstance(found, str) else list(found) for name, found in audio.items()}
    text = yaml.safe_dump({"Databases": templates, "Protocols": tree}, sort_keys=False)
    write_lines(path, text.splitlines())


def read_recording(
    audio: Path, rttm: Path, annotated: Iterable[tuple[float, float]] | None = None
) -> tuple[Recording, float]:
    """Read one recording from its audio and its RTTM, which have the same name but for the ending.

    `annotated` are the stretches ``(start_s, end_s)`` where the RTTM is complete; None for the whole.

    Returns
    -------
    recording
        With turns and stretches cut at the end of the audio; what is shorter than 1 ms is left out.
    surplus_s
        Seconds of speech that were cut off.

    Raises
    ------
    PixitError
        If a file cannot be read, or the RTTM is of another recording.
    """
    uri = audio.stem
    found = read_rttm(rttm)
    if others := sorted(set(found) - {uri}):
        raise PixitError(f"{rttm}: holds turns of {others[0]!r}, expected {uri!r} as in its name")
    duration_s = open_audio(audio).duration_s
    spoken = sorted(found.get(uri, []), key=lambda turn: (turn.start_s, turn.end_s, turn.speaker))
    clipped = (Turn(turn.start_s, min(turn.end_s, duration_s), turn.speaker) for turn in spoken)
    turns = tuple(turn for turn in clipped if turn.end_s - turn.start_s >= SHORTEST_S)
    whole = [(0.0, duration_s)] if annotated is None else sorted(annotated)
    cut = [(max(0.0, start_s), min(end_s, duration_s)) for start_s, end_s in whole]
    stretches = tuple((start_s, end_s) for start_s, end_s in cut if end_s - start_s >= SHORTEST_S)
    surplus_s = sum(turn.end_s - max(turn.start_s, duration_s) for turn in spoken if turn.end_s > duration_s)
    return Recording(uri, audio, turns, stretches), surplus_s


def write_subset(root: Path, subset: str, recordings: Sequence[Recording], part: str = ".") -> dict[str, str]:
    """Write ``lists/<subset>.lst``, ``rttm/<uri>.rttm`` and ``uem/<uri>.uem`` of a subset.

    Into the folder `part` of the folder `root` of the ``database.yml``.

    Returns
    -------
    dict
        The entry of the subset for `write_database`.

    Raises
    ------
    PixitError
        If a name holds white space, which RTTM cannot hold, or a file cannot be written.
    """
    for recording in recordings:
        for name in (recording.uri, *(turn.speaker for turn in recording.turns)):
            if len(name.split()) != 1:
                raise PixitError(f"{recording.audio}: the name {name!r} holds white space; rename it")
    folder = root / part
    for recording in recordings:
        uri = recording.uri
        write_lines(folder / "rttm" / f"{uri}.rttm", (rttm_line(uri, turn) for turn in recording.turns))
        uem = (f"{uri} 1 {start_s:.3f} {end_s:.3f}" for start_s, end_s in recording.annotated)
        write_lines(folder / "uem" / f"{uri}.uem", uem)
    write_lines(folder / "lists" / f"{subset}.lst", (recording.uri for recording in recordings))
    return subset_entry(subset, part)


def subset_entry(subset: str, part: str = ".") -> dict[str, str]:
    """Return what `write_database` has to know of files that lie as `write_subset` writes them."""
    files = {"uri": f"lists/{subset}.lst", "annotation": "rttm/{uri}.rttm", "annotated": "uem/{uri}.uem"}
    return {key: Path(part, file).as_posix() for key, file in files.items()}


def split_development(
    subsets: Mapping[str, Sequence[Recording]], train_share: float
) -> dict[str, list[Recording]]:
    """Make a training set of the first `train_share` of the recordings of a development set.

    Subsets without a recording, given or left, are left out.
    """
    both = list(subsets.get("development", []))
    num_train = round(train_share * len(both))
    found = {
        "train": both[:num_train],
        "development": both[num_train:],
        "test": list(subsets.get("test", [])),
    }
    return {name: recordings for name, recordings in found.items() if recordings}


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines as `write_text` writes text."""
    write_text(path, "".join(f"{line}\n" for line in lines))
