"""Which recording of one side is which of the other, where both name their files differently."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TypeVar

from pixit.files import file_name
from pixit.types import PixitError

AUDIO_ENDINGS = (
    *(
        ".aac",
        ".aif",
        ".aifc",
        ".aiff",
        ".amr",
        ".ape",
        ".au",
        ".avi",
        ".caf",
        ".flac",
        ".m4a",
        ".m4v",
        ".mka",
    ),
    *(
        ".mkv",
        ".mov",
        ".mp3",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".oga",
        ".ogg",
        ".opus",
        ".rf64",
        ".snd",
        ".sph",
        ".w64",
    ),
    *(".wav", ".webm", ".wma", ".wv", ".3gp"),
)
"""Endings of the files that are taken from a folder as recordings."""


Item = TypeVar("Item")


def match_names(
    wanted: Collection[str], given: Collection[str], place: str
) -> tuple[dict[str, str], list[str]]:
    """Find the name in `given` of each recording in `wanted`, one to one.

    Equal names come first; then those that differ in folder, ending of the audio file or white space; then those
    of which one continues after a dot, as ``EN2002a`` and AMI's audio file ``EN2002a.Mix-Headset``.

    Parameters
    ----------
    wanted, given
        Names of recordings.
    place
        Where `given` come from, for messages.

    Returns
    -------
    names
        Recording -> its name in `given`, in the order of `wanted`; without those that were not found.
    notes
        A line that says where both differ, if they do.

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
        rivals = Counter(other for others in claims.values() for other in others)
        for name, others in claims.items():
            if len(others) > 1:
                raise PixitError(f"{name} could be {some(others)} of {place}; keep one of them")
            if others and rivals[others[0]] > 1:
                twins = [twin for twin in claims if claims[twin] == others]
                raise PixitError(
                    f"{others[0]} of {place} could be {some(twins)}; give both sides equal names"
                )
            if others:
                found[name] = others[0]
    renamed = [f"{name} = {found[name]}" for name in wanted if found.get(name, name) != name]
    notes = [f"taken for the same recording, by the names in {place}: {some(renamed)}"] if renamed else []
    return {name: found[name] for name in wanted if name in found}, notes


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
