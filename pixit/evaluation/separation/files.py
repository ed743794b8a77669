"""Folders of separated tracks and of clean sources, from any system, and which belongs to which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixit.formats.names import match_names, some
from pixit.types import PixitError

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
    """Bring references and estimates together by the names of recordings, as `match_names`.

    Two folders of single recordings are a pair whatever their names.

    Returns
    -------
    pairs
        One for each reference recording (for the one that is estimated, if `estimates` is single), without
        tracks where there is no estimate.
    notes
        Other names, estimates without reference, and recordings without tracks.

    Raises
    ------
    PixitError
        If no recording is on both sides, or a name could mean two.
    """
    if references.is_single and estimates.is_single:
        (name,), (tracks,) = references.recordings, estimates.recordings.values()
        pairs = [Pair(name, references.recordings[name], tracks)]
        notes: list[str] = []
    else:
        found, notes = match_names(references.recordings, estimates.recordings, str(estimates.path))
        if not found:
            raise PixitError(
                f"{references.path} and {estimates.path} have no recording in common: references of "
                f"{some(references.recordings)}, estimates of {some(estimates.recordings)}"
            )
        pairs = [
            Pair(name, sources, estimates.recordings[found[name]] if name in found else {})
            for name, sources in references.recordings.items()
            if name in found or not estimates.is_single
        ]
        if surplus := set(estimates.recordings) - set(found.values()):
            notes.append(f"no reference in {references.path}, left out: {some(sorted(surplus))}")
    if silent := [pair.recording for pair in pairs if not pair.tracks]:
        notes.append(f"no tracks in {estimates.path}, every speaker is missing: {some(silent)}")
    return pairs, notes
