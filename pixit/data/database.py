"""Recordings of any ``pyannote.database`` protocol, as plain `Recording` objects.

Meetings with known sources (``pixit simulate`` writes them) carry one key more in their ``database.yml``::

    train:
      uri: train.lst
      annotation: train.rttm
      annotated: train.uem
      references: references.map

where each line of ``references.map`` is ``<uri> <folder>``, the folder relative to ``database.yml``, and
holds ``<speaker>.flac`` (or ``.wav``) for every speaker of the recording. ``.map`` is a format that
pyannote.database reads by itself, so that its other users can read the protocol too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixit.audio import open_audio
from pixit.data.registry import SUBSETS, bad_input, choose_protocol, list_files, open_registry, quiet
from pixit.types import PixitError, Recording, Turn

if TYPE_CHECKING:
    from pyannote.core import Annotation
    from pyannote.database import ProtocolFile
    from pyannote.database.registry import Registry

OVERRUN_S = 0.5
"""A turn may begin this much after the end of its audio (rounded times) before it counts as a mistake."""


def load_recordings(protocol: str | None, subset: str, database: Path | str | None = None) -> list[Recording]:
    """Read one subset of a protocol.

    Turns are cut to the annotated stretches (by pyannote.database), and both to the audio. Where a protocol
    says nothing of these stretches, the whole file counts as annotated. A recording of which the RTTM has no
    line has no turns.

    Parameters
    ----------
    protocol
        Full name, as in ``"AMI-SDM.SpeakerDiarization.only_words"``, or None where `database` has only one.
    subset
        ``"train"``, ``"development"`` or ``"test"``.
    database
        A ``database.yml``. None for those that pyannote.database finds by itself:
        ``~/.pyannote/database.yml``, ``./database.yml``, and the files that ``PYANNOTE_DATABASE_CONFIG``
        names.

    Raises
    ------
    PixitError
        If pyannote.database is not installed, the protocol or subset does not exist, a file is missing or
        unreadable, a turn begins after its audio has ended, or a reference source is missing.
    """
    if subset not in SUBSETS:
        raise PixitError(f"subset {subset!r}: expected one of {', '.join(SUBSETS)}")
    source = str(database) if database is not None else "pyannote.database's configuration"
    with quiet(), bad_input(source):
        registry = open_registry(database)
        name = choose_protocol(registry, protocol, source)
        with bad_input(f"{source}: {name}.{subset}"):
            files = [file for file in list_files(registry, name, subset, source) if file["uri"]]
        if not files:
            raise PixitError(f"{source}: {name}.{subset} lists no recording")
        return _with_unique_uris(files, [_recording(file, registry, source) for file in files])


def _recording(file: ProtocolFile, registry: Registry, source: str) -> Recording:
    where = f"{source}: {file['uri']}"
    audio = audio_path(file, registry, where)
    duration_s = open_audio(audio).duration_s  # from the header if it says
    with bad_input(where):
        annotation, annotated = file.get("annotation"), file.get("annotated")
        if annotation is None:
            raise PixitError(f"{where}: the protocol gives no 'annotation' (an RTTM file)")
        turns = _turns(annotation, duration_s, where, audio)
        stretches: list[tuple[float, float]] = [(0.0, duration_s)]
        if annotated is not None:  # merge what overlaps or touches, and cut at both ends of the audio
            cut = [(max(0.0, float(s.start)), min(float(s.end), duration_s)) for s in annotated.support()]
            stretches = [(start_s, end_s) for start_s, end_s in cut if end_s > start_s]
        references = find_references(file, registry, {turn.speaker for turn in turns}, where)
    return Recording(file["uri"], audio, turns, tuple(stretches), references)


def audio_path(file: ProtocolFile, registry: Registry, where: str) -> Path:
    """Find the audio by the templates of the ``Databases`` section."""
    from pyannote.database import FileFinder

    if "audio" in file:
        return Path(file["audio"])
    if file["database"] not in registry.sources:
        raise PixitError(
            f"{where}: no audio; add {file['database']!r} to the section Databases of database.yml"
        )
    try:
        return Path(FileFinder(registry=registry)(file))
    except FileNotFoundError as error:
        raise PixitError(f"{where}: audio: {' '.join(str(error).split())}") from None
    except (LookupError, ValueError) as error:  # of a template
        raise PixitError(
            f"{where}: the template of {file['database']!r} in the section Databases cannot be filled "
            f"({type(error).__name__}: {error}); expected one as in audio/{{uri}}.wav"
        ) from None


def _turns(annotation: Annotation, duration_s: float, where: str, audio: Path) -> tuple[Turn, ...]:
    spoken = annotation.itertracks(yield_label=True)
    turns = [Turn(float(s.start), min(float(s.end), duration_s), str(speaker)) for s, _, speaker in spoken]
    if late := [turn for turn in turns if turn.start_s > duration_s + OVERRUN_S]:
        first = min(late, key=lambda turn: turn.start_s)
        raise PixitError(
            f"{where}: the annotation outlasts the audio: a turn of {first.speaker} begins at "
            f"{first.start_s:.3f} s, expected before the end of {audio} at {duration_s:.3f} s; "
            "check that both belong together and that the audio is complete"
        )
    kept = (turn for turn in turns if turn.end_s > turn.start_s)
    return tuple(sorted(kept, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker)))


def find_references(
    file: ProtocolFile, registry: Registry, speakers: set[str], where: str
) -> dict[str, Path]:
    """Return the clean sources of a recording, by speaker; none where the protocol has none."""
    if "references" not in file:
        return {}
    value = str(file["references"])
    folders = [
        path.parent / value
        for path, config in reversed(registry.configs.items())
        if file["database"] in config.get("Protocols", {})
    ]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise PixitError(f"{where}: no folder of reference sources {value!r} beside database.yml")
    paths = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in (".wav", ".flac")}
    if missing := sorted(speakers - paths.keys()):
        raise PixitError(f"{where}: no reference source {folder / missing[0]}.flac, expected one a speaker")
    return {speaker: paths[speaker] for speaker in sorted(speakers)}


def _with_unique_uris(files: list[Any], recordings: list[Recording]) -> list[Recording]:
    """Put the database before a name that several databases of a meta-protocol share."""
    counts = Counter(recording.uri for recording in recordings)
    named = [
        replace(r, uri=f"{file['database']}/{r.uri}") if counts[r.uri] > 1 else r
        for file, r in zip(files, recordings, strict=True)
    ]
    [(uri, count)] = Counter(recording.uri for recording in named).most_common(1)
    if count > 1:
        raise PixitError(f"recording {uri!r} is listed more than once; expected one line a recording")
    return named
