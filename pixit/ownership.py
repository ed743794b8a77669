"""Whose what is: temporary files, by the process that made them, and what one of many processes is making.

What is temporary is hidden, and its name says which process made it: so what a killed one left behind is removed by
a later one, and nothing else is. What is being made is claimed by a lock, which ends with its process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixit.types import PixitError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


OWN = ".pixit-"
"""How the names of all temporary files begin."""


def own_prefix() -> str:
    """Return how the names of this process's temporary files begin: with what proves, later, that it is over."""
    started = _started(os.getpid())
    return OWN if started is None else f"{OWN}{_machine()}-{os.getpid()}-{started}-"


def _machine() -> str:
    """Name this machine since it was started, and the namespace in which it counts processes (Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = (
            Path("/proc/self/ns/pid").stat().st_ino
        )  # a container's processes have numbers of their own
    except OSError:
        return ""
    return hashlib.sha256(f"{boot.strip()} {namespace}".encode()).hexdigest()[:12]


def _started(pid: int) -> str | None:
    """Return when a process began, in the clock of the machine (Linux): "" if it is over, None if it is not seen."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return "" if fields[0] in "XZ" else fields[19]  # a zombie does nothing any more


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in a folder: temporary files and folders, and locks that nobody holds.

    Only what a process made of which it is proven that it ran on this machine, since it was last started, and that
    it is over: folders may be shared by several machines. What was to be replaced when it was killed is put back.
    """
    machine = _machine()
    for path in sorted(folder.glob(f"{OWN}*")):
        if not _is_ours(path):  # in a folder that is everybody's, it might be a trap
            continue
        owner = re.match(r"\.pixit-([0-9a-f]{12})-(\d{1,9})-(\d+)-", path.name)
        if owner is not None and owner[1] == machine and _is_over(int(owner[2]), owner[3]):
            remove_temporary(path)
        elif path.suffix == ".lock":
            with suppress(PixitError), _lock(path, wait=False):
                pass  # it is removed with the lock


def _is_ours(path: Path) -> bool:
    """Tell whether this user made a file or folder, and it is no link."""
    try:
        return not path.is_symlink() and path.stat().st_uid == getattr(os, "getuid", int)()
    except OSError:
        return False


def _is_over(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return _started(pid) not in (started, None)


def remove_temporary(path: Path) -> None:
    """Remove a temporary file or folder; what it was to replace goes back where nothing took its place."""
    if path.name.endswith("-old") and path.is_dir():
        for replaced in path.iterdir():
            with suppress(OSError):
                if not (path.parent / replaced.name).exists():
                    replaced.rename(path.parent / replaced.name)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


class _Held(threading.local):
    """What this thread has claimed."""

    def __init__(self) -> None:
        self.paths: set[str] = set()


_held = _Held()


@contextmanager
def claim(target: Path, wait: bool = False) -> Iterator[bool]:
    """Claim the making of `target` among all processes that do so, of other machines too where locks reach them.

    False if another one has it; with `wait` it is waited for, unless it is this thread that has it: that would never
    end. A claim ends with its process at the latest. Where there are no locks (Windows, some network folders), all
    claims are granted. A PixitError if `target` cannot be written.
    """
    name = hashlib.sha256(target.name.encode()).hexdigest()[:16]
    path = target.with_name(f"{OWN}{name}.lock")
    key = os.path.realpath(path)
    if wait and key in _held.paths:
        yield True
        return
    with _lock(path, wait) as is_held:
        if not is_held:
            yield False
            return
        _held.paths.add(key)
        try:
            yield True
        finally:
            _held.paths.discard(key)


@contextmanager
def _lock(path: Path, wait: bool) -> Iterator[bool]:
    if fcntl is None:
        yield True
        return
    while True:
        try:
            file = path.open("ab")
        except OSError as error:
            raise cannot_be_written(path.parent, error) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                # any other error: there are no locks here
                yield error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
                return
            try:
                is_current = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except OSError:
                is_current = False
            if is_current:  # and not a file that its last holder removed meanwhile
                try:
                    yield True
                finally:
                    path.unlink(missing_ok=True)
                return


def cannot_be_written(target: Path, error: OSError) -> PixitError:
    """Return what to say where the system refuses to write."""
    return PixitError(
        f"{target}: cannot be written ({error.strerror or error}); free space or choose another place"
    )
