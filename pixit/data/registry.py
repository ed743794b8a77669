"""The registry of pyannote.database, which warns, prints and is global: all of that stays inside this module."""

from __future__ import annotations

import contextlib
import difflib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pixit.config import read_yaml
from pixit.files import real_path
from pixit.formats.rttm import read_rttm, read_uem
from pixit.types import PixitError, one_line

if TYPE_CHECKING:
    from pyannote.database import ProtocolFile
    from pyannote.database.registry import Registry
SUBSETS = ("train", "development", "test")
STRICT_READERS: dict[str, Callable[[Path], Any]] = {".rttm": read_rttm, ".uem": read_uem}
LONGEST_NAME = 1000


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
