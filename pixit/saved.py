"""The folder of a saved result: its description, what lies beside it, and how it is changed, all or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pixit.files import check_file, file_name, read_text, real_path
from pixit.ownership import claim
from pixit.types import PixitError

TIMELINE = "timeline.png"
BESIDE = "beside"
CHANGE, UNFINISHED = ".pixit-change", ".pixit-change-new"
"""Folders in a result's: a change that is decided and carried out, and one that is still written."""

TRANSCRIPTS = (".seglst.json", ".stm", ".srt", ".vtt")
JOURNAL = ".transcription.jsonl"
"""Endings of what ``pixit transcribe`` writes beside the folder NAME, after NAME; the best transcript first."""


def noted_transcripts(journal: Path) -> list[str]:
    """Return the names of the transcripts that the journal of a transcription lists, as far as it can be read."""
    names: list[object] = []
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        for line in journal.read_bytes().split(b"\n")[:-1]:
            names.append(json.loads(line).get("transcript"))
    return [
        name for name in names if isinstance(name, str) and name.endswith(TRANSCRIPTS) and "/" not in name
    ]


class _Entry(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class TurnEntry(_Entry):
    """A turn, in seconds."""

    speaker: str
    start: float = Field(ge=0)
    end: float


class TrackEntry(_Entry):
    """The track of a speaker."""

    file: str = Field(pattern=r"^[^./\\:\x00][^/\\:\x00]*$")  # beside the description, and nowhere else
    peak: float
    clipped_samples: int


class Description(_Entry):
    """The JSON file of a result; its names are those of the field, times in seconds. No `tracks`: diarized only."""

    uri: str
    duration: float
    sample_rate: int = Field(ge=1)
    num_samples: int = Field(ge=0)
    tracks: dict[str, TrackEntry] | None
    settings: dict[str, Any]
    diarization: list[TurnEntry]

    @model_validator(mode="after")
    def _agree(self) -> Description:
        """Check that turns end after they start, and that settings which are read again are of their kinds."""
        for turn in self.diarization:
            if turn.end < turn.start:
                raise ValueError(f"a turn of {turn.speaker!r} ends before it starts")
        for name, kind in {"request": dict, "source": str, "warnings": list}.items():
            if not isinstance(self.settings.get(name, kind()), kind):
                raise ValueError(f"settings.{name} is a {type(self.settings[name]).__name__}")
        return self

    def files(self, name: str) -> set[str]:
        """Return the names of all files of the result in the folder `name`."""
        tracks = {entry.file for entry in (self.tracks or {}).values()}
        return tracks | {TIMELINE, f"{name}.json", f"{name}.rttm"}


def read_description(folder: Path) -> Description:
    """Read the description of a saved result; a change that was interrupted is finished first.

    Raises
    ------
    PixitError
        If the folder does not hold a result, or one whose turns and tracks have other speakers.
    """
    check_file(folder, "the folder of a result")
    _finish_change(folder)
    path = folder / f"{real_path(folder).name}.json"
    description = _parse(path)
    if description.tracks is None:
        return description
    if lost := {turn.speaker for turn in description.diarization} - set(description.tracks):
        raise PixitError(
            f"{path}: has turns of {min(lost)!r}, who has no track; expected turns of "
            f"{', '.join(description.tracks) or 'nobody'}: put the same names into both"
        )
    return description


@contextmanager
def claim_result(folder: Path) -> Iterator[None]:
    """Claim a saved result, from when it is read until it is changed; who separates it anew claims it, too."""
    with claim(real_path(folder), wait=True):
        yield


def has_tracks(folder: Path) -> bool:
    """Return whether a saved result was separated, and not diarized only; a PixitError as of `read_description`."""
    return read_description(folder).tracks is not None


def check_free(target: Path, overwrite: bool) -> None:
    """Raise if a result must not go to `target`: what pixit did not write is never deleted."""
    if not target.exists():
        return
    if not overwrite:
        raise PixitError(f"{target}: exists already; overwrite it, or choose another folder")
    _finish_change(target)
    own = _parse(target / f"{real_path(target).name}.json").files(target.name) | {UNFINISHED}
    foreign = sorted(path.name for path in target.iterdir() if path.name not in own)
    if foreign:
        raise PixitError(f"{target}: holds {foreign[0]}, which is not part of the result; move it elsewhere")


def check_file_names(place: Path, names: dict[str, str]) -> None:
    """Raise if two speakers need the same file, for file systems that know no capitals too; `names` of files."""
    if len({name.casefold() for name in names.values()}) < len(names):
        speakers = ", ".join(map(repr, names))
        raise PixitError(f"{place}: two speakers have the same file name; rename one of {speakers}")


def check_speaker(place: Path | str, name: str) -> None:
    """Raise if a speaker must not be given a name: files, RTTM or text cannot hold it."""
    fit = file_name(name)
    if fit != name:
        shown = name if len(name) <= len(fit) else f"{name[:40]}…"
        raise PixitError(
            f"{place}: {shown!r} cannot be the name of a speaker, for RTTM and names of files hold neither "
            rf'spaces nor any of <>:"/\|?*, and only so many letters; call the speaker {fit!r}'
        )


def files_beside(folder: Path, endings: tuple[str, ...] = (*TRANSCRIPTS, JOURNAL)) -> list[Path]:
    """Return those of the files NAME.ENDING beside the folder NAME that exist, in the order of the endings."""
    folder = real_path(folder)
    paths = [folder.parent / f"{folder.name}{ending}" for ending in endings]
    return [path for path in paths if path.is_file()]


@contextmanager
def changed_folder(folder: Path) -> Iterator[Path]:
    """Give a hidden folder to fill with a result's new files, which at the end take the place of the old ones.

    What is put into its folder `BESIDE` replaces files beside the result; an empty file removes them. Whatever
    happens, the result that was is left or the new one: from one renaming on the change is decided, and what a
    killed run has not done of it is done by the next that reads the description. Tracks that the new description
    lacks are removed. To be used within `claim_result`.

    Raises
    ------
    PixitError
        If the system refuses something; the result is as it was.
    """
    new = folder / UNFINISHED
    try:
        shutil.rmtree(new, ignore_errors=True)
        (new / BESIDE).mkdir(parents=True)
        yield new
        new.rename(folder / CHANGE)
    except OSError as error:
        raise _cannot_be_changed(folder, error) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _finish_change(folder)


def _finish_change(folder: Path) -> None:
    """Carry out the change that lies in a result's folder, from where it was interrupted, if there is one."""
    if not (folder / CHANGE).is_dir():
        return  # nothing is written by whoever only reads
    with claim_result(folder):  # whoever was about to carry it out has done so by then
        if (folder / CHANGE).is_dir():
            _carry_out(folder)


def _carry_out(folder: Path) -> None:
    change, name = folder / CHANGE, real_path(folder).name
    try:
        description = change / f"{name}.json"
        if description.is_file():  # it is the last to be moved
            new, old = _parse(description).files(name), _parse(folder / f"{name}.json").files(name)
            for path in sorted(change.iterdir()):
                if path.name in new and path != description:
                    path.replace(folder / path.name)
            for path in files_beside(folder):
                replaced = change / BESIDE / path.name
                if replaced.is_file():
                    replaced.replace(path) if replaced.stat().st_size else path.unlink()
            kept = {file.casefold(): file for file in new}
            if all(
                (folder / file).exists() for file in new
            ):  # or else an old one may be all there is of a track
                listed = {path.name for path in folder.iterdir()}
                for file in old - new:
                    # "ann.wav" is "Ann.wav" to some file systems, which list one of them alone
                    if file in listed and kept.get(file.casefold(), file) in listed:
                        (folder / file).unlink()
            description.replace(folder / description.name)
        shutil.rmtree(change)
    except OSError as error:
        raise _cannot_be_changed(folder, error) from None


def _cannot_be_changed(folder: Path, error: OSError) -> PixitError:
    return PixitError(f"{folder}: cannot be changed ({error.strerror or error}); check space and rights")


def _parse(path: Path) -> Description:
    if not path.exists():
        raise PixitError(f"{path}: cannot be read (no such file); expected the folder of a result")
    try:
        return Description.model_validate_json(read_text(path, "the description of a result"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        reason = f"{where}: {first['msg'].lower()}"
        raise PixitError(f"{path}: is not the description of a result ({reason})") from None
