"""Where results of ``pixit separate`` lie, and where the recordings lie that they were separated from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pixit.audio import AudioFile
from pixit.files import file_hash
from pixit.formats.names import AUDIO_ENDINGS, match_names, some
from pixit.results import Separation
from pixit.types import PixitError


def is_result(folder: Path) -> bool:
    """Return whether a folder NAME holds NAME.json and NAME.rttm, as `Separation.save` writes them."""
    name = folder.resolve().name
    return all((folder / f"{name}{ending}").is_file() for ending in (".json", ".rttm"))


def find_results(paths: Iterable[Path | str]) -> list[Path]:
    """Return the folders of results, each once.

    Parameters
    ----------
    paths
        Folders of results; folders that hold such folders, at any depth, hidden ones left out; and the JSON or
        RTTM file of a result, for its folder.

    Raises
    ------
    PixitError
        If there is no result at a path.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        folder = path.parent if path.is_file() and path.stem == path.resolve().parent.name else path
        inside = list(_results_below(folder)) if folder.is_dir() else []
        if not inside:
            state = "holds no result of pixit separate" if path.exists() else "does not exist"
            raise PixitError(f"{path}: {state}; expected a folder NAME with NAME.json and NAME.rttm")
        for result in inside:
            found.setdefault(result.resolve(), result)
    return list(found.values())


def _results_below(folder: Path) -> Iterable[Path]:
    if is_result(folder):
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _results_below(path)


def find_recording(result: Separation, audio: Path | str | None = None) -> AudioFile | None:
    """Find the recording that a result was separated from, and open it at the result's rate and channel.

    1. `audio`, if it is given: a file, or the file of the recording's name in a folder. It must be as long as
       the result, to a sample.
    2. The file that ``settings["source"]`` names, if its SHA-256 is still that of the result's request.
    3. The file of that name beside the result's folder, or beside the folder that holds it, with that SHA-256:
       so a folder with recordings and results may be moved.

    A result without SHA-256 (it was separated from memory, or made by hand) must agree in length instead.

    Parameters
    ----------
    result
        Separated by pixit.
    audio
        Recording, or folder that holds it, named by the user.

    Returns
    -------
    AudioFile or None
        None if there is no file of that name.

    Raises
    ------
    PixitError
        If `audio` is not there, cannot be read or is of another length, or if only files of the right name and
        another content are found.
    """
    if audio is not None:
        path = find_files(Path(audio), [result.uri])[0][result.uri]
        found = _open(path, result)
        if not _is_as_long(found, result):
            raise PixitError(
                f"{path}: lasts {found.duration_s:.3f} s, the result {result.uri} {result.duration_s:.3f} s; "
                "expected the recording that was separated"
            )
        return found
    present = [path for path in _places(result) if path.is_file()]
    for path in present:
        if _is_source(path, result):
            return _open(path, result)
    if present:
        raise PixitError(
            f"{present[0]}: is not the recording that {result.uri} was separated from, its content is another; "
            "put that one back, move this away, or name the recording with --audio"
        )
    return None


def _places(result: Separation) -> list[Path]:
    source = Path(str(result.settings.get("source", "")))
    if result.folder is None or not source.name:
        return [source]
    outer = result.folder.resolve().parent
    return [source, outer / source.name, outer.parent / source.name]


def _open(path: Path, result: Separation) -> AudioFile:
    channel = result.settings.get("channel")
    audio = AudioFile(path, result.sample_rate_hz)
    if isinstance(channel, int) and audio.num_channels > 1:  # a file of one channel may be that channel
        audio = AudioFile(path, result.sample_rate_hz, channel)
    return audio


def _is_source(path: Path, result: Separation) -> bool:
    request = result.settings.get("request")
    expected = request.get("source_sha256") if isinstance(request, dict) else None
    if expected is not None:
        return bool(file_hash(path) == expected)
    return _is_as_long(_open(path, result), result)


def _is_as_long(audio: AudioFile, result: Separation) -> bool:
    return abs(audio.num_samples - result.num_samples) <= 1


def find_files(place: Path, names: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Find the audio file of each recording.

    Parameters
    ----------
    place
        The file of a single recording, whatever its name; or a folder with a file of each one's name.
    names
        Of the recordings.

    Returns
    -------
    files
        Recording -> file.
    notes
        As of `match_names`.

    Raises
    ------
    PixitError
        If a recording has no file in the folder, or more than one; or `place` is one file for several.
    """
    names = list(names)
    if not place.is_dir():
        if len(names) > 1:
            raise PixitError(
                f"{place}: is one file for {len(names)} recordings; give the folder that holds them"
            )
        return dict.fromkeys(names, place), []
    files: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()):
        if path.suffix.lower() in AUDIO_ENDINGS and path.is_file() and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    found, notes = match_names(names, files, str(place))
    for name in names:
        if name not in found:
            held = some([path.name for paths in files.values() for path in paths]) or "no audio"
            raise PixitError(f"{place}: holds no recording {name!r}; expected {name}.wav, found {held}")
        if len(files[found[name]]) > 1:
            twins = some([path.name for path in files[found[name]]])
            raise PixitError(f"{place}: holds {twins}; expected one recording {name!r}")
    return {name: files[stem][0] for name, stem in found.items()}, notes
