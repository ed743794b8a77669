"""A corpus of simulated meetings on disk, with the ``database.yml`` that pyannote.database and pixit read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pixit.audio import Samples, TrackWriter
from pixit.data.protocol import subset_entry, write_database
from pixit.data.registry import SUBSETS
from pixit.files import whole_folder
from pixit.formats.rttm import rttm_line
from pixit.simulation.pool import SpeakerPool
from pixit.simulation.simulate import Ingredients, MeetingSettings, SimulatedMeeting, simulate_meeting
from pixit.types import Hook, PixitError

DATABASE, PROTOCOL = "Simulated", "meetings"


@dataclass(frozen=True)
class Subset:
    """How many meetings, and of what."""

    ingredients: Ingredients
    num_meetings: int


def split_speakers(
    ingredients: Ingredients,
    num_meetings: Mapping[str, int],
    min_speakers: int,
    rng: np.random.Generator | int,
) -> dict[str, Subset]:
    """Share the speakers among subsets, so that none is in two of them.

    Each subset gets `min_speakers` (the most of one meeting), and of the others a share that grows with its
    number of meetings.

    Raises
    ------
    PixitError
        If there are too few speakers.
    """
    pool = ingredients.pool
    wanted = {name: number for name, number in num_meetings.items() if number > 0}
    if (free := len(pool) - min_speakers * len(wanted)) < 0:
        raise PixitError(
            f"found {len(pool)} speakers, expected {min_speakers} for each of {', '.join(wanted)}; "
            "add speakers, or ask for smaller meetings or fewer subsets"
        )
    voices = pool.draw(len(pool), np.random.default_rng(rng))
    bounds = np.cumsum([0, *wanted.values()]) / max(1, sum(wanted.values()))
    subsets = {}
    for index, (name, number) in enumerate(wanted.items()):
        start, end = (round(bounds[i] * free) + i * min_speakers for i in (index, index + 1))
        part = SpeakerPool(voices[start:end], pool.sample_rate_hz)
        subsets[name] = Subset(replace(ingredients, pool=part), number)
    return subsets


def write_corpus(
    folder: Path | str,
    subsets: Mapping[str, Subset],
    settings: MeetingSettings,
    seed: int = 0,
    hook: Hook | None = None,
) -> Path:
    """Simulate meetings, write them as a corpus, and return the path of its ``database.yml``.

    Into `folder` go, for each meeting, ``audio/<uri>.flac``, ``references/<uri>/<speaker>.flac``,
    ``rttm/<uri>.rttm`` and ``uem/<uri>.uem``; for each subset, ``lists/<subset>.lst``; and ``references.map``
    and ``database.yml`` with the protocol ``Simulated.SpeakerDiarization.meetings``. The folder appears
    whole, when all is written, or not at all. A meeting depends only on the seed, its subset and its number.

    Parameters
    ----------
    folder
        Where to write; must not exist yet.
    subsets
        ``"train"``, ``"development"``, ``"test"`` or some of them. Give them different speakers.
    settings, seed
        How the meetings are made, and the seed of all.
    hook
        Progress callback: ``hook("simulating", None, total=, completed=)``.

    Raises
    ------
    PixitError
        If `folder` exists or cannot be written, a subset has another name, no meeting is asked for, or one
        cannot be made (see `simulate_meeting`).
    """
    folder = Path(folder)
    if unknown := sorted(set(subsets) - set(SUBSETS)):
        raise PixitError(f"subset {unknown[0]!r}: expected one of {', '.join(SUBSETS)}")
    total = sum(subset.num_meetings for subset in subsets.values())
    if total == 0 or min(subset.num_meetings for subset in subsets.values()) < 0:
        raise PixitError(f"{folder}: no meetings to write; ask for one at least")
    if folder.exists():
        raise PixitError(f"{folder}: exists already; name another folder or remove this one")
    with whole_folder(folder) as corpus:
        _write_subsets(corpus, subsets, settings, seed, hook)
    return folder / "database.yml"


def _write_subsets(
    corpus: Path, subsets: Mapping[str, Subset], settings: MeetingSettings, seed: int, hook: Hook | None
) -> None:
    numbers = [(name, number) for name, subset in subsets.items() for number in range(subset.num_meetings)]
    meetings = [(name, number, f"{name}_{number:04d}") for name, number in numbers]
    for completed, (name, number, uri) in enumerate(meetings, start=1):
        rng = np.random.default_rng([seed, SUBSETS.index(name), number])
        _write_meeting(corpus, uri, simulate_meeting(subsets[name].ingredients, settings, rng))
        if hook is not None:
            hook("simulating", None, total=len(meetings), completed=completed)
    for name in subsets:
        _write_lines(corpus / "lists" / f"{name}.lst", (uri for of, _, uri in meetings if of == name))
    _write_lines(corpus / "references.map", sorted(f"{uri} references/{uri}" for *_, uri in meetings))
    more = {"references": "references.map"}
    entries = {name: subset_entry(name) | more for name in SUBSETS if name in subsets}
    protocols = {f"{DATABASE}.SpeakerDiarization.{PROTOCOL}": entries}
    write_database(corpus / "database.yml", {DATABASE: "audio/{uri}.flac"}, protocols, scope="database")


def _write_meeting(corpus: Path, uri: str, meeting: SimulatedMeeting) -> None:
    rate_hz = meeting.sample_rate_hz
    _write_flac(corpus / "audio" / f"{uri}.flac", meeting.mixture, rate_hz)
    for speaker, reference in zip(meeting.speakers, meeting.references, strict=True):
        _write_flac(corpus / "references" / uri / f"{speaker}.flac", reference, rate_hz)
    _write_lines(corpus / "rttm" / f"{uri}.rttm", (rttm_line(uri, turn) for turn in meeting.turns))
    duration_s = len(meeting.mixture) / rate_hz
    _write_lines(corpus / "uem" / f"{uri}.uem", [f"{uri} NA 0.000 {duration_s:.3f}"])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_flac(path: Path, signal: Samples, sample_rate_hz: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TrackWriter(path, sample_rate_hz, format="flac") as writer:
        writer.write(signal)
