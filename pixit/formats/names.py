"""Which file is of which recording: names that differ on two sides, results, and what they came from."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pixit.audio import AudioFile
from pixit.diarized import Diarization
from pixit.files import check_file, file_hash, file_name, real_path
from pixit.types import PixitError

AUDIO_ENDINGS = (
    *(".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".m4a", ".m4v"),
    *(".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".oga", ".ogg", ".opus", ".rf64", ".snd"),
    *(".sph", ".w64", ".wav", ".webm", ".wma", ".wv", ".3gp"),
)
"""Endings of the files that are taken from a folder as recordings."""

Item = TypeVar("Item")


def match_names(
    wanted: Collection[str], given: Collection[str], place: str
) -> tuple[dict[str, str], list[str]]:
    """Find the name in `given` of each recording in `wanted`, one to one.

    Equal names come first; then those that differ in folder, ending of the audio file or white space; then
    those of which one continues after a dot, as ``EN2002a`` and AMI's audio file ``EN2002a.Mix-Headset``.

    Parameters
    ----------
    wanted, given
        Names of recordings.
    place
        Where `given` come from, for messages.

    Returns
    -------
    names, notes
        Recording -> its name in `given`, in the order of `wanted`, without those that were not found; and a
        line that says where both differ, if they do.

    Raises
    ------
    PixitError
        If a name could mean two recordings.
    """
    known = set(given)
    found = {name: name for name in wanted if name in known}
    bare = {name: _bare(name) for name in (*wanted, *given)}
    for is_same in (operator.eq, _goes_on):
        rest = known - set(found.values())
        claims = {
            name: sorted(other for other in rest if is_same(bare[name], bare[other]))
            for name in wanted
            if name not in found
        }
        for name, others in claims.items():
            if len(others) > 1:
                raise PixitError(f"{name} could be {some(others)} of {place}; keep one of them")
            for other in others:
                if len(twins := [twin for twin in claims if other in claims[twin]]) > 1:
                    raise PixitError(
                        f"{other} of {place} could be {some(twins)}; give both sides equal names"
                    )
                found[name] = other
    renamed = [f"{name} = {found[name]}" for name in wanted if found.get(name, name) != name]
    notes = [f"taken for the same recording, by the names in {place}: {some(renamed)}"] if renamed else []
    return {name: found[name] for name in wanted if name in found}, notes


def match_sides(
    references: Collection[str], hypotheses: Mapping[str, object], kind: str, loss: str, hint: str = ""
) -> tuple[dict[str, str], list[str]]:
    """Find the hypothesis of each reference that has one, by `match_names`; its notes tell of the others, too.

    Messages call what is scored a `kind`, and what a missing hypothesis costs a `loss`; `hint` follows the remedy.

    Raises
    ------
    PixitError
        As `match_names`, and if the hypothesis holds something, but nothing that is in the reference.
    """
    found, notes = match_names(references, hypotheses, "the hypothesis")
    if not found and any(map(bool, hypotheses.values())):
        raise PixitError(
            f"no {kind} in common: the reference has {some(references)}, the hypothesis {some(hypotheses)}; "
            f"give both the same names{hint}"
        )
    if missing := [name for name in references if name not in found]:
        notes.append(f"not in the hypothesis, {loss}: {some(missing)}")
    if surplus := sorted(name for name in set(hypotheses) - set(found.values()) if hypotheses[name]):
        notes.append(f"not in the reference, left out: {some(surplus)}")
    return found, notes


def match_items(
    wanted: Collection[str], items: Mapping[str, Item], place: str
) -> tuple[dict[str, Item], list[str]]:
    """Return what a file holds of each recording, by `match_names`, and its notes.

    Raises
    ------
    PixitError
        As `match_names`, and if `items` holds something, but nothing of any recording.
    """
    found, notes = match_names(wanted, items, place)
    if not found and any(map(bool, items.values())):
        raise PixitError(
            f"{place}: has nothing of {some(wanted)}; it is of {some(items)}, expected the same names"
        )
    return {name: items[other] for name, other in found.items()}, notes


def some(names: Collection[str], limit: int = 5) -> str:
    """List the first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _bare(name: str) -> str:
    """Return a name without folder and ending of audio, fit for RTTM."""
    stem, dot, ending = re.split(r"[/\\]", name)[-1].rpartition(".")
    is_file = f"{dot}{ending}".lower() in (*AUDIO_ENDINGS, ".rttm")
    return file_name(stem if is_file else f"{stem}{dot}{ending}")


def _goes_on(name: str, other: str) -> bool:
    return name.startswith(f"{other}.") or other.startswith(f"{name}.")


def is_result(folder: Path) -> bool:
    """Return whether a folder NAME holds NAME.json and NAME.rttm, as `Separation.save` writes them."""
    name = real_path(folder).name
    return all((folder / f"{name}{ending}").is_file() for ending in (".json", ".rttm"))


def find_results(paths: Iterable[Path | str]) -> list[Path]:
    """Return the folders of results, each once.

    The paths are folders of results; folders that hold such folders, at any depth, hidden ones left out; and
    the JSON or RTTM file of a result, for its folder.

    Raises
    ------
    PixitError
        If there is no result at a path.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        check_file(path, "the folder of a result")
        folder = path.parent if path.is_file() and path.stem == real_path(path).parent.name else path
        inside = list(_results_below(folder)) if folder.is_dir() else []
        if not inside:
            state = "holds no result of pixit separate" if path.exists() else "does not exist"
            raise PixitError(f"{path}: {state}; expected a folder NAME with NAME.json and NAME.rttm")
        for result in inside:
            found.setdefault(real_path(result), result)
    return list(found.values())


def _results_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the results in a folder, at any depth; links that lead back to a folder they are in are passed by."""
    here = real_path(folder)
    if is_result(folder):
        yield folder
    elif here not in above:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _results_below(path, (*above, here))


def find_recording(result: Diarization, audio: Path | str | None = None) -> AudioFile | None:
    """Find the recording that a result was separated from, opened at the result's rate and channel, or None.

    1. `audio`, if the user names it: a file, or the file of the recording's name in a folder. It must be as
       long as the result, to a sample.
    2. The file that ``settings["source"]`` names, if its SHA-256 is still that of the result's request.
    3. The file of that name beside the result's folder, or beside the folder that holds it, with that
       SHA-256: so a folder with recordings and results may be moved.

    A result without SHA-256 (it was separated from memory, or made by hand) must agree in length instead.

    Raises
    ------
    PixitError
        If `audio` is not there, cannot be read or is of another length, or if only files of the right name
        and another content are found.
    """
    if audio is not None:
        path = find_files(Path(audio), [result.uri])[0][result.uri]
        found = open_as_heard(path, result)
        if not _is_as_long(found, result):
            raise PixitError(
                f"{path}: lasts {found.duration_s:.3f} s, the result {result.uri} {result.duration_s:.3f} s; "
                "expected the recording that was separated"
            )
        return found
    source = Path(str(result.settings.get("source", "")))
    places = [source]
    if result.folder is not None and source.name:
        outer = real_path(result.folder).parent
        places += [outer / source.name, outer.parent / source.name]
    present = [path for path in places if path.is_file()]
    for path in present:
        if _is_source(path, result):
            return open_as_heard(path, result)
    if present:
        raise PixitError(
            f"{present[0]}: is not the recording that {result.uri} was separated from, its content is "
            "another; put that one back, move this away, or name the recording with --audio"
        )
    return None


def open_as_heard(path: Path, result: Diarization) -> AudioFile:
    """Open the recording of a result at its rate, and of the channel and the stream that were taken."""
    channel, stream = result.settings.get("channel"), result.settings.get("stream")
    audio = AudioFile(path, result.sample_rate_hz, partial=True)
    if (
        stream and audio.num_streams > 1
    ):  # a file of one stream, or one channel, may be the one that was taken
        audio = AudioFile(path, result.sample_rate_hz, stream=stream, partial=True)
    if isinstance(channel, int) and audio.num_channels > 1:
        audio = AudioFile(path, result.sample_rate_hz, channel, stream=audio.asked_stream, partial=True)
    return audio


def _is_source(path: Path, result: Diarization) -> bool:
    request = result.settings.get("request")
    expected = request.get("source_sha256") if isinstance(request, dict) else None
    return (
        _is_as_long(open_as_heard(path, result), result) if expected is None else file_hash(path) == expected
    )


def _is_as_long(audio: AudioFile, result: Diarization) -> bool:
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
    files, notes
        Recording -> file, and the notes of `match_names`.

    Raises
    ------
    PixitError
        If a recording has no file in the folder, or more than one; or `place` is one file for several.
    """
    names = list(names)
    check_file(place, "a recording or a folder of recordings")
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
