"""Recordings of any ``pyannote.database`` protocol, as plain `Recording` objects.

pyannote.database warns, prints and keeps a global registry; all of that stays inside this module.

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

import contextlib
import difflib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pixit.audio import open_audio
from pixit.config import read_yaml
from pixit.files import real_path
from pixit.formats.rttm import read_rttm, read_uem
from pixit.types import PixitError, Recording, Turn, one_line

if TYPE_CHECKING:
    from pyannote.core import Annotation
    from pyannote.database import ProtocolFile
    from pyannote.database.registry import Registry

SUBSETS = ("train", "development", "test")
STRICT_READERS: dict[str, Callable[[Path], Any]] = {".rttm": read_rttm, ".uem": read_uem}
LONGEST_NAME = 1000
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what pyannote.database warns of and prints to itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def bad_input(where: str) -> Iterator[None]:
    """Turn what pyannote.database and pandas raise on bad files into one line."""
    try:
        yield
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        yaml.YAMLError,
    ) as error:
        raise PixitError(f"{where}: {type(error).__name__}: {one_line(error, 500)}") from error


def open_registry(database: Path | str | None) -> Registry:
    """Load `database` into a registry of its own, or take the global one that pyannote.database filled."""
    try:
        with bad_input("~/.pyannote/database.yml, ./database.yml or PYANNOTE_DATABASE_CONFIG"):
            from pyannote.database import registry  # loads these files
            from pyannote.database.registry import Registry
    except ModuleNotFoundError as error:
        raise PixitError(
            f"reading a protocol needs pyannote.database ({error}); run: pip install 'pixit-audio[train]'"
        ) from None
    if database is None:
        return registry
    path = Path(database).expanduser()
    if not path.is_file():
        raise PixitError(f"{path}: no such file, expected a pyannote.database configuration (database.yml)")
    _check_yaml(path, set())
    own = Registry()
    own.load_database(path)
    return own


def _check_yaml(path: Path, read: set[Path]) -> None:
    """Read a database.yml, and those that it requires, by our rules: pyannote.database has none."""
    if real_path(path) in read:
        return
    read.add(real_path(path))
    tree = read_yaml(path)
    if not tree:
        raise PixitError(f"{path}: is empty, expected a pyannote.database configuration (database.yml)")
    required = tree.get("Requirements") or []
    for name in required if isinstance(required, list) else [required]:
        _check_yaml(path.parent / str(name), read)


def choose_protocol(registry: Registry, protocol: str | None, source: str) -> str:
    """Return the full name of the protocol asked for, or of the only one there is."""
    names = list(registry)
    if protocol is not None and protocol in names:
        return protocol
    if protocol is None and len(names) == 1:
        return names[0]
    if not names:
        raise PixitError(f"{source}: defines no protocol; name a database.yml that does")
    if protocol is None:
        raise PixitError(f"{source}: name one of its {len(names)} protocols: {', '.join(names)}")
    near = difflib.get_close_matches(protocol, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"found: {', '.join(names)}"
    raise PixitError(f"{source}: no protocol {protocol!r}; {hint}")


def defined_subsets(registry: Registry, name: str) -> list[str]:
    """Return the subsets that a protocol has."""
    from pyannote.database import Protocol

    found = type(registry.get_protocol(name))
    return [s for s in SUBSETS if getattr(found, f"{s}_iter") is not getattr(Protocol, f"{s}_iter")]


def list_files(
    registry: Registry, name: str, subset: str, source: str, raw: bool = False
) -> list[ProtocolFile]:
    """List the files of a subset, those of the parts of a meta-protocol (``X.…``) included.

    With `raw` the annotation is as it is written: ``Protocol.train()`` and the like cut it.
    """
    defined = defined_subsets(registry, name)
    if subset not in defined:
        raise PixitError(f"{source}: {name} has no subset {subset!r}; found: {', '.join(defined) or 'none'}")
    if not name.startswith("X."):
        found = registry.get_protocol(name)
        check = _text_check(registry, name, subset)
        check({})  # the texts that are of all recordings
        files = list(getattr(found, f"{subset}_iter")())
        for file in files:
            if len(file["uri"]) > LONGEST_NAME:
                raise PixitError(f"{source}: {name}.{subset}: lists a name of {len(file['uri'])} characters")
            for key in {"annotation", "annotated"} & set(getattr(file, "lazy", ())):
                file.lazy[key] = _after(check, file.lazy[key])
        return files if raw else [found.preprocess(file) for file in files]
    # pyannote.database looks the parts up in its global registry; ours may be another one.
    _, task, protocol = name.split(".")
    for config in reversed(registry.configs.values()):
        entries = config.get("Protocols", {}).get("X", {}).get(task, {}).get(protocol, {})
        if subset in entries:
            parts = [(part, s) for part, subsets in entries[subset].items() for s in subsets]
            return [file for part, s in parts for file in list_files(registry, part, s, source, raw)]
    return []


def _text_check(registry: Registry, name: str, subset: str) -> Callable[[Mapping[str, Any]], None]:
    """Return what reads the RTTM and UEM of a recording strictly, each once: a PixitError names file and line.

    pyannote.database drops turns that are not numbers, and takes a name with a space for that of another recording.
    """
    database, task, protocol = name.split(".")
    texts: dict[str, Path] = {}
    for place, config in reversed(registry.configs.items()):
        entries = (
            config.get("Protocols", {}).get(database, {}).get(task, {}).get(protocol, {}).get(subset, {})
        )
        if entries:
            texts = {str(entries[key]): place.parent for key in ("annotation", "annotated") if key in entries}
            break
    read: set[Path] = set()

    def check(file: Mapping[str, Any]) -> None:
        for template, folder in texts.items():
            try:
                path = Path(template.removeprefix("_").format(**file)).expanduser()
            except KeyError:  # of one recording, and none is given
                continue
            path = path if path.is_file() else folder / path
            if path.suffix in STRICT_READERS and path.is_file() and path not in read:
                STRICT_READERS[path.suffix](path)
                read.add(path)

    return check


def _after(check: Callable[[Mapping[str, Any]], None], load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def load_checked(file: ProtocolFile) -> Any:
        check(abs(file))
        return load(file)

    return load_checked


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
