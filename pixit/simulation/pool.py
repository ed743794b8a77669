"""The voices that are drawn from: found in folders and lists, read once, and kept decoded between runs."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.audio import Samples, open_audio
from pixit.files import ARRAY_ERRORS, check_file, read_text, real_path, whole_folder
from pixit.simulation.voices import Voice
from pixit.types import PixitError, one_line

SUFFIXES = {".flac", ".wav", ".opus", ".ogg", ".mp3"}
"""Endings of the recordings that are taken from a folder."""

Recordings = dict[str, list[Path]]
"""Speaker -> recordings."""


class SpeakerPool:
    """Voices, one a speaker, held in memory (115 MB an hour at 16 kHz), or on disk with a cache.

    Each is drawn as often as its weight says, relative to the others; by default all alike. The length of a pool is
    the number of voices that can be drawn: those of weight above 0.

    Raises
    ------
    PixitError
        If there are none.
    """

    def __init__(
        self, voices: Sequence[Voice], sample_rate_hz: int, weights: Sequence[float] | None = None
    ) -> None:
        if not voices:
            raise PixitError("found no speech in the utterances of any speaker; expected recorded speech")
        if weights is not None and not np.any(weights):
            raise PixitError(
                f"all {len(voices)} voices have weight 0; expected one above 0: an unlabelled_share of 0 needs "
                "speech with names, and one of 1 speech without"
            )
        self.voices = list(voices)
        self.sample_rate_hz = sample_rate_hz
        self._shares = None if weights is None else np.asarray(weights) / np.sum(weights)

    @classmethod
    def from_utterances(cls, speech: Mapping[str, Sequence[Samples]], sample_rate_hz: int) -> SpeakerPool:
        """Take speaker -> mono utterances (T,); speakers whose utterances hold no speech are left out."""
        found = (Voice.from_utterances(name, speech[name], sample_rate_hz) for name in sorted(speech))
        return cls([voice for voice in found if voice is not None], sample_rate_hz)

    @classmethod
    def from_folders(
        cls,
        folders: Sequence[Path | str],
        sample_rate_hz: int,
        unlabelled: Sequence[Path | str] = (),
        cache: Path | None = None,
        unlabelled_share: float | None = None,
        balance: float = 0.0,
    ) -> SpeakerPool:
        """Read ``<folder>/<speaker>/**`` of all folders; each recording of `unlabelled` is one speaker more.

        In a folder's place a CSV file may stand, with columns ``speaker`` and ``path`` (seen from the file). With
        several of them a speaker's name begins with that of the folder or file, and of the folders that it is in
        as far as two voices would have one name.

        Parameters
        ----------
        cache
            Folder that keeps the decoded speech from one run to the next, as a memory map that processes share.
        unlabelled_share
            How often one of `unlabelled` is drawn; by default as often as any other.
        balance
            0: all voices are drawn alike; 1: all folders are; between them, a compromise.

        Raises
        ------
        PixitError
            If a folder holds no recordings or is given twice, a recording cannot be read, or there is no speech in
            any.
        """
        places = [Path(folder) for folder in (*folders, *unlabelled)]
        found = [find_speakers(place) for place in places[: len(folders)]]
        found += [_find_unlabelled(place) for place in places[len(folders) :]]
        is_alone = len(places) == 1 and not unlabelled
        sources = found if is_alone else _name_by_place(places, found)
        speakers = {name: paths for source in sources for name, paths in source.items()}
        voices = _read_voices(speakers, sample_rate_hz, cache)
        if unlabelled_share is None and balance == 0:
            return cls(voices, sample_rate_hz)
        parts: list[tuple[list[Recordings], float]] = [(sources, 1.0)]
        if unlabelled_share is not None:
            known = len(folders)
            parts = [(sources[:known], 1 - unlabelled_share), (sources[known:], unlabelled_share)]
        weights: dict[str, float] = {}
        for part, share in parts:
            own = {name: len(source) ** -balance for source in part for name in source}
            weights |= {name: share * weight / sum(own.values()) for name, weight in own.items()}
        return cls(voices, sample_rate_hz, [weights[voice.speaker] for voice in voices])

    def __len__(self) -> int:
        return len(self.voices) if self._shares is None else int(np.count_nonzero(self._shares))

    def draw(self, num_speakers: int, rng: np.random.Generator) -> list[Voice]:
        """Draw `num_speakers` different voices."""
        return [self.voices[place] for place in self.draw_places(num_speakers, rng)]

    def draw_places(self, num_speakers: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the places of `num_speakers` different voices among all."""
        if num_speakers > len(self):
            raise PixitError(f"{num_speakers} speakers asked for, but the pool has {len(self)}; add speakers")
        return rng.choice(len(self.voices), num_speakers, False, self._shares)


def find_audio(place: Path) -> list[Path]:
    """Return the recordings of a folder at any depth, in order; a file stands for itself."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)


def find_speakers(folder: Path | str) -> Recordings:
    """Return speaker -> recordings of a folder of one folder a speaker, or of a CSV file that lists them.

    Raises
    ------
    PixitError
        If there are none, or a speaker's name has spaces.
    """
    place = Path(folder)
    if place.is_dir():
        folders = [
            path for path in sorted(place.glob("*")) if path.is_dir() and not path.name.startswith(".")
        ]
        found = {path.name: paths for path in folders if (paths := find_audio(path))}
        if not found:
            raise PixitError(
                f"{place}: found no utterances; expected <speaker>/*.flac or <speaker>/*.wav in it"
            )
    else:
        found = _read_list(place)
    for name in found:
        if len(name.split()) != 1:
            raise PixitError(
                f"{place}: the name {name!r} has spaces and does not fit in RTTM; rename the speaker"
            )
    return found


def check_apart(training: Iterable[Path | str], validation: Iterable[Path | str]) -> None:
    """Raise PixitError if a recording of a speaker, wherever links lead, is in folders or lists of both kinds."""
    heard = {
        real_path(path): f"{place}, {name}"
        for place in training
        for name, paths in find_speakers(place).items()
        for path in paths
    }
    for place in validation:
        for name, paths in find_speakers(place).items():
            for path in paths:
                if (other := heard.get(real_path(path))) is not None:
                    raise PixitError(
                        f"{place}: its speaker {name} is trained on too, in {other}; expected other speakers for "
                        "validation: take this one out of either"
                    )


def _read_list(path: Path) -> Recordings:
    """Read a CSV file with columns ``speaker`` and ``path``."""
    found: Recordings = {}
    check_file(path, "a list of utterances")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["speaker"] or "", []).append(path.parent / (row["path"] or ""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PixitError(f"{path}: cannot be read as a list of utterances ({error})") from None
    except KeyError as error:
        raise PixitError(
            f"{path}: has no column {error}; expected a CSV file with speaker and path"
        ) from None
    missing = [place for places in found.values() for place in places if not place.is_file()]
    if missing or not found:
        what = f"lists {missing[0]}, which is not a file" if missing else "lists no utterances"
        raise PixitError(f"{path}: {what}; expected paths of recordings, seen from the folder of the list")
    return dict(sorted(found.items()))


def _find_unlabelled(folder: Path) -> Recordings:
    """Return each recording of a folder as one of a speaker of its own, by number."""
    if not (files := find_audio(folder)):
        raise PixitError(f"{folder}: found no recordings in it; expected .flac, .wav or .opus files")
    return {str(number): [path] for number, path in enumerate(files)}


def _name_by_place(places: Sequence[Path], found: Sequence[Recordings]) -> list[Recordings]:
    """Put the names of folders before those of speakers: one, and more where two would be the same.

    Raises
    ------
    PixitError
        If there are too few folders for that.
    """
    folders = [
        [
            place.stem if place.is_file() else place.name,
            *(above.name for above in place.absolute().parents if above.name),
        ]
        for place in places
    ]
    depths = [1] * len(places)
    while True:
        prefixes = ["-".join(reversed(names[:depth])) for names, depth in zip(folders, depths, strict=True)]
        named = [
            {f"{prefix}-{name}": paths for name, paths in speakers.items()}
            for prefix, speakers in zip(prefixes, found, strict=True)
        ]
        counts = Counter(name for speakers in named for name in speakers)
        alike = [place for place, own in enumerate(named) if any(counts[name] > 1 for name in own)]
        longer = [place for place in alike if depths[place] < len(folders[place])]
        if not longer:
            break
        for place in longer:
            depths[place] += 1
    if alike:
        name = next(name for name in named[alike[0]] if counts[name] > 1)
        first, second = [str(places[place]) for place in alike if name in named[place]][:2]
        raise PixitError(
            f"{second}: the voice {name} is one of {first} too; expected other names: give each folder once"
        )
    return named


def _read_voices(speakers: Recordings, sample_rate_hz: int, cache: Path | None) -> list[Voice]:
    """Decode the voices, or take them from the cache; speakers whose utterances hold no speech are left out."""
    place = cache / f"speech-{_key(speakers, sample_rate_hz)}" if cache is not None else None
    if place is not None and place.exists():
        return _read_cache(place)
    found = []
    for name, paths in speakers.items():
        utterances = [open_audio(path, sample_rate_hz).read() for path in paths]
        found.append(Voice.from_utterances(name, utterances, sample_rate_hz))
    voices = [voice for voice in found if voice is not None]
    if place is None or not voices:
        return voices
    _write_cache(place, voices)
    return _read_cache(place)


def _key(speakers: Recordings, sample_rate_hz: int) -> str:
    """Return what tells one collection of recordings from another, by names, sizes and times of change."""
    files = {
        name: [(str(real_path(p)), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
        for name, paths in speakers.items()
    }
    return hashlib.sha256(json.dumps([sample_rate_hz, files]).encode()).hexdigest()[:16]


def _write_cache(place: Path, voices: Sequence[Voice]) -> None:
    with whole_folder(place) as new:
        np.save(new / "samples.npy", np.concatenate([voice.samples for voice in voices]))
        index = [
            {"speaker": v.speaker, "num_samples": len(v.samples)}
            | {"speech": v.speech.tolist(), "onsets": v.onsets.tolist()}
            for v in voices
        ]
        (new / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _read_cache(place: Path) -> list[Voice]:
    check_file(place / "samples.npy", "a cache of speech")
    try:
        samples = np.load(place / "samples.npy", mmap_mode="r")
        voices, start = [], 0
        for entry in json.loads(read_text(place / "index.json", "a cache of speech")):
            end = start + entry["num_samples"]
            speech, onsets = (np.array(entry[name], dtype=np.int64) for name in ("speech", "onsets"))
            voices.append(Voice(entry["speaker"], samples[start:end], speech, onsets))
            start = end
    except ARRAY_ERRORS as error:
        raise PixitError(f"{place}: is not a cache of speech ({one_line(error)}); delete it") from None
    return voices
