"""What is costly to make of a recording, kept in a folder that processes share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from pixit.audio import Audio
from pixit.files import file_name
from pixit.ownership import claim
from pixit.types import Hook


class Keepable(Protocol):
    """What is written into a file and read from it."""

    def save(self, path: Path) -> None:
        """Write this, whole or not at all."""
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        ...


Kept = TypeVar("Kept", bound=Keepable)


def digest(tree: Any) -> str:
    """Return a hash of a tree of plain values."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def hear_each(
    recordings: Sequence[Audio],
    identities: Sequence[Any],
    folder: Path,
    kind: type[Kept],
    run: Callable[..., Kept],
    hook: Hook | None = None,
) -> dict[str, Kept]:
    """Return what was heard of each recording: read from a folder, or made and then kept there.

    ``run(recording, progress=…)`` makes it; `identities` say what determines it. What another process with the same
    folder is hearing is left to that one.
    """
    found: dict[str, Kept] = {}
    waiting = list(zip(recordings, identities, strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    for wait in (False, True):
        left = []
        for audio, identity in waiting:
            path = folder / f"{file_name(audio.uri)}-{digest(identity)[:16]}.npz"
            with claim(path, wait) as is_ours:
                if not path.exists() and not is_ours:
                    left.append((audio, identity))
                    continue
                if not path.exists():
                    run(audio, progress=partial(_report, hook, audio)).save(path)
                found[audio.uri] = kind.load(path)
        waiting = left
    return found


def _report(hook: Hook | None, audio: Audio, done: int, total: int) -> None:
    if hook is not None:
        hook("hearing", None, file=audio, total=total, completed=done)
