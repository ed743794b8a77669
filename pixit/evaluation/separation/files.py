"""Where the signals and turns lie that separation is scored from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixit.files import file_name
from pixit.formats.results_folder import find_by_name
from pixit.formats.rttm import read_rttm
from pixit.types import PixitError, Turn

ENDINGS = (".wav", ".flac")


@dataclass(frozen=True)
class SourceFolder:
    """A folder of sources.

    Parameters
    ----------
    path
        The folder.
    recordings
        Recording -> speaker (or track) -> file.
    is_single
        Whether `path` is the folder of one recording, rather than a folder of such folders.
    """

    path: Path
    recordings: dict[str, dict[str, Path]]
    is_single: bool


def find_sources(folder: Path) -> SourceFolder:
    """Find ``<recording>/<speaker>.wav`` or ``.flac`` in a folder, or ``<speaker>.wav`` of one recording.

    Raises
    ------
    PixitError
        If the folder cannot be read, holds no such files, or two files of one speaker.
    """
    files = _audio_files(folder)
    if files or any(folder.glob("*.rttm")):  # a result without speakers is a result
        return SourceFolder(folder, {folder.resolve().name: files}, is_single=True)
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    recordings = {path.name: _audio_files(path) for path in inside}
    if not recordings:
        raise PixitError(
            f"{folder}: holds no sources; expected <recording>/<speaker>.wav (or .flac), "
            "or <speaker>.wav of a single recording"
        )
    return SourceFolder(folder, recordings, is_single=False)


def _audio_files(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise PixitError(f"{folder}: cannot be read as a folder of sources ({error.strerror})") from None
    files: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() not in ENDINGS or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in files:
            raise PixitError(f"{path}: {files[path.stem].name} is beside it; expected one file each speaker")
        files[path.stem] = path
    return files


@dataclass(frozen=True)
class Pair:
    """The reference sources of a recording, and the tracks that a system made of it."""

    recording: str
    references: dict[str, Path]
    tracks: dict[str, Path]


def pair_recordings(references: SourceFolder, estimates: SourceFolder) -> tuple[list[Pair], list[str]]:
    """Bring references and estimates together by the names of recordings.

    Names are compared as in `same_name`. Two folders of single recordings are a pair whatever their names.

    Returns
    -------
    tuple
        A pair for each reference recording (of the one that is estimated, if `estimates` is single), without
        tracks where there is no estimate; and the estimates that have no reference.

    Raises
    ------
    PixitError
        If no recording is on both sides.
    """
    if references.is_single and estimates.is_single:
        (name, sources), *_ = references.recordings.items()
        (tracks,) = estimates.recordings.values()
        return [Pair(name, sources, tracks)], []
    pairs, used = [], set()
    for name, sources in references.recordings.items():
        found = same_name(name, estimates.recordings)
        if found is not None:
            used.add(found)
        elif estimates.is_single:
            continue
        pairs.append(Pair(name, sources, estimates.recordings[found] if found is not None else {}))
    if not used:
        raise PixitError(
            f"{references.path} and {estimates.path} have no recording in common: references of "
            f"{_some(references.recordings)}, estimates of {_some(estimates.recordings)}"
        )
    return pairs, [name for name in estimates.recordings if name not in used]


def same_name(name: str, names: Iterable[str]) -> str | None:
    """Return which of `names` is `name`: the same, or the same as a file's name (without white space …)."""
    listed = list(names)
    if name in listed:
        return name
    return next((other for other in listed if file_name(other) == file_name(name)), None)


def _some(names: Iterable[str]) -> str:
    """Return the first names."""
    listed = [repr(name) for name in names]
    return ", ".join(listed[:3]) + (" …" if len(listed) > 3 else "")


def find_mixtures(path: Path, recordings: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the mixture of each recording: `path` itself if it is a file, or those in the folder `path`.

    Raises
    ------
    PixitError
        If `path` is one file for more than one recording, or as `find_by_name`.
    """
    if path.is_dir():
        return find_by_name(path, recordings)
    names = list(recordings)
    if len(names) > 1:
        raise PixitError(f"{path}: is one mixture, but there are more recordings; expected a folder of them")
    return dict.fromkeys(names, path), []


def read_turns(path: Path) -> dict[str, list[Turn]]:
    """Read an RTTM file, or all of a folder: recording -> turns."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.rttm"))
        if not files:
            raise PixitError(f"{path}: holds no RTTM files; expected <recording>.rttm")
    recordings: dict[str, list[Turn]] = {}
    for file in files:
        for uri, turns in read_rttm(file).items():
            recordings.setdefault(uri, []).extend(turns)
    return recordings


def turns_of(recordings: Mapping[str, list[Turn]], path: Path, recording: str, is_only: bool) -> list[Turn]:
    """Return the turns of a recording; if it is the only one, of the only one in the file."""
    name = same_name(recording, recordings)
    if name is not None:
        return recordings[name]
    if is_only and len(recordings) == 1:
        return next(iter(recordings.values()))
    raise PixitError(f"{path}: has no turns of {recording!r}; found {_some(recordings) or 'none at all'}")
