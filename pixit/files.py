"""Files and folders that appear whole or not at all, names that every file system takes, and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import secrets
import stat
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

from pixit.ownership import cannot_be_written, own_prefix, remove_leftovers, remove_temporary
from pixit.types import PixitError, one_line

NAME_BYTES = 200
"""Longest name of a file without ending: file systems take 255 bytes."""
TEXT_BYTES = 1 << 28
"""Longest text that is read: hundreds of meetings of many hours."""


def file_name(name: str) -> str:
    """Make a name fit for files and RTTM: white space and what file systems refuse become underscores.

    One that is too long for them is cut, and ends with a hash of the whole.
    """
    safe = re.sub(r'[\s<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]', "_", name)
    safe = re.sub(r"^\.+", "_", safe) or "_"
    if len(encoded := safe.encode()) > NAME_BYTES:
        digest = hashlib.sha256(encoded).hexdigest()[:8]
        safe = f"{encoded[: NAME_BYTES - 9].decode(errors='ignore')}-{digest}"
    return safe


def real_path(path: Path) -> Path:
    """Return where a path leads; other than `Path.resolve` it takes links that lead in a circle."""
    return Path(os.path.realpath(path))


def csv_cell(value: Any) -> Any:
    """Return a value as a cell of a CSV file: text that a spreadsheet would compute gets an apostrophe before it.

    That is any text that begins as a formula does (OWASP, "CSV injection"); numbers stay numbers. A carriage return,
    which not every version of Python quotes, becomes a space: it would begin a row.
    """
    if not isinstance(value, str):
        return value
    apostrophe = "'" if value.startswith(_FORMULA) else ""
    return apostrophe + value.replace("\r", " ")


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def list_files(folder: Path, endings: Collection[str]) -> list[Path]:
    """Return the files of a folder, at any depth, with one of the endings; what is hidden is passed by."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.name.lower().endswith(tuple(endings))
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def check_file(path: Path, kind: str) -> None:
    """Raise a PixitError if there is a pipe or a device at `path`, which might never end, or no file can be there."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PixitError(f"{path}: is too long for the name of a file, expected {kind}") from None
        return  # is told, better, by who opens it
    except ValueError:  # a NUL
        raise PixitError(f"{str(path)!a}: is no name of a file, expected {kind}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise PixitError(f"{path}: is {what}, expected {kind}; save it to a file first")


def read_text(path: Path, kind: str, most_bytes: int = TEXT_BYTES) -> str:
    """Read UTF-8 text, with or without byte order mark; a PixitError names the `kind` that was expected."""
    check_file(path, kind)
    try:
        if (size := path.stat().st_size) > most_bytes:
            raise PixitError(
                f"{path}: has {size_text(size)}, expected {kind} of at most {size_text(most_bytes)}"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PixitError(f"{path}: cannot be read as {kind} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise PixitError(f"{path}: is not UTF-8 text, expected {kind}") from None


def read_json(path: Path, kind: str) -> Any:
    """Read JSON; a PixitError names the `kind` that was expected."""
    return parse_json(read_text(path, kind), str(path), kind)


def parse_json(text: str, source: str, kind: str) -> Any:
    """Parse JSON from `source`; a PixitError if it is none, or nested too deeply. Half a character becomes U+FFFD."""
    try:
        tree = json.loads(text)
        if "\\u" in text:  # of a pair of surrogates, one may stand alone
            units = json.dumps(tree, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
            tree = json.loads(units.decode("utf-16-le", "replace"))
    except json.JSONDecodeError as error:
        raise PixitError(f"{source}:{error.lineno}: is not JSON ({error.msg}), expected {kind}") from None
    except RecursionError:
        raise PixitError(f"{source}: is not JSON of a sensible depth, expected {kind}") from None
    except ValueError as error:  # a number of thousands of digits
        raise PixitError(f"{source}: is not JSON ({one_line(error)}), expected {kind}") from None
    return tree


def size_text(num_bytes: int) -> str:
    """Return a size for people: ``"1.2 GB"``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes} bytes"


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write all of `data` to an unbuffered file; an OSError if it cannot be, as on a full disk.

    A write that is not buffered may be of a part alone, and raises nothing.
    """
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) or 0 :]


def check_writable(path: Path) -> None:
    """Raise a `PixitError`, before any work, if no file can be at `path`."""
    if path.is_dir():
        raise PixitError(f"{path}: is a folder; expected the name of a file")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; its folder is made. A PixitError if it cannot be written."""
    with whole_file(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a hidden file to write, which takes the place of `target` at the end, or vanishes on an error.

    What the system refuses becomes a PixitError.
    """
    new = target.with_name(f"{own_prefix()}{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield new
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_be_written(target, error) from None


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a hidden folder to fill, which takes the place of `target` at the end, or vanishes on an error.

    What the system refuses becomes a PixitError.
    """
    mark = own_prefix() + secrets.token_hex(4)
    new, old = (target.with_name(f"{mark}-{age}") for age in ("new", "old"))
    try:
        new.mkdir(parents=True)
        remove_leftovers(target.parent)
        yield new
        if target.exists():
            old.mkdir()
            target.rename(old / target.name)
        new.rename(target)
    except OSError as error:
        raise cannot_be_written(target, error) from None
    finally:
        remove_temporary(new)
        remove_temporary(old)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make a folder and try to write into it (else a PixitError); if it is new and stays empty, remove it."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=own_prefix(), dir=folder).cleanup()
    except OSError as error:
        raise PixitError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder for the output"
        ) from None
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def temporary_folder(place: str | Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """Make a hidden folder in `place`, by default where Python puts temporary files; leftovers there are removed.

    A PixitError if it cannot be made.
    """
    try:
        remove_leftovers(Path(place or tempfile.gettempdir()))
        return tempfile.TemporaryDirectory(prefix=own_prefix(), dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        remedy = "set TMPDIR to" if place is None else "choose"
        raise PixitError(
            f"{place or 'temporary folder'}: cannot be made or written ({error.strerror}); "
            f"{remedy} one that can be written"
        ) from None


def read_pickle(path: Path, expected: str, allow: Collection[Any] = (), **options: Any) -> dict[str, Any]:
    """Read a mapping that `torch.save` wrote, without running anything that its pickle asks for.

    It may hold the classes of `allow` beside tensors, numbers, texts, lists and mappings; `options` are those
    of `torch.load`. A PixitError, that something else was `expected`, if it is missing, damaged, or holds
    more.
    """
    import torch

    check_file(path, expected)
    _check_stored(path, expected)
    earlier = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([*allow])
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, **options)
    except OSError as error:
        raise PixitError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from None
    except _PICKLE_ERRORS as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {asked[1]}, which is refused" if asked else f"{type(error).__name__}, damaged?"
        raise PixitError(f"{path}: cannot be loaded ({reason}); expected {expected}") from None
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(earlier)
    if not isinstance(content, dict):
        raise PixitError(f"{path}: holds a {type(content).__name__}; expected {expected}")
    return content


def _check_stored(path: Path, expected: str) -> None:
    """Raise a PixitError if a file's parts are compressed, as `torch.save` never writes them: they may be endless."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # is told by who opens it; older files are no archives
    if not is_stored:
        raise PixitError(f"{path}: is compressed, which torch.save never does; expected {expected}")


# What reading a damaged pickle or archive ends in.
_PICKLE_ERRORS = (
    *(pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError),
    *(AttributeError, EOFError, ArithmeticError, AssertionError),
)


ARRAY_ERRORS = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError),
)
"""What reading damaged files of NumPy's ends in."""


def file_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(network: Any) -> str | None:
    """Return the SHA-256 of a network's weights, wherever they lie; None if it is no `torch.nn.Module`."""
    import torch

    if not isinstance(network, torch.nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        # as bytes, since NumPy does not know every type of number
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
