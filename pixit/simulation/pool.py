"""The voices that meetings are made of, read once and kept decoded between runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pixit.audio import open_audio
from pixit.files import whole_folder
from pixit.simulation.voices import Signal, Voice
from pixit.types import PixitError

SUFFIXES = {".flac", ".wav", ".opus", ".ogg", ".mp3"}
"""Endings of the recordings that are taken from a folder."""


class SpeakerPool:
    """The voices that meetings are made of, held in memory (115 MB an hour at 16 kHz), or on disk with a cache.

    Parameters
    ----------
    voices
        One a speaker.
    sample_rate_hz
        Their rate.

    Raises
    ------
    PixitError
        If there are none.
    """

    def __init__(self, voices: Sequence[Voice], sample_rate_hz: int) -> None:
        if not voices:
            raise PixitError("found no speech in the utterances of any speaker; expected recorded speech")
        self.voices = list(voices)
        self.sample_rate_hz = sample_rate_hz

    @classmethod
    def from_utterances(cls, speech: Mapping[str, Sequence[Signal]], sample_rate_hz: int) -> SpeakerPool:
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
    ) -> SpeakerPool:
        """Read ``<folder>/<speaker>/**`` of all folders, and each recording of `unlabelled` as a speaker of its own.

        With several folders a speaker's name begins with that of the folder. In the folder `cache` the decoded speech
        is kept from one run to the next, as a memory map that processes share, and made anew if a recording changes.

        Raises
        ------
        PixitError
            If a folder holds no recordings, one cannot be read, or there is no speech in any.
        """
        speakers = find_speakers(folders, unlabelled)
        if cache is None:
            return cls(_read_voices(speakers, sample_rate_hz), sample_rate_hz)
        place = cache / f"speech-{_key(speakers, sample_rate_hz)}"
        if not place.exists():
            _write_cache(place, cls(_read_voices(speakers, sample_rate_hz), sample_rate_hz).voices)
        return cls(_read_cache(place), sample_rate_hz)

    def __len__(self) -> int:
        return len(self.voices)

    def draw(self, num_speakers: int, rng: np.random.Generator) -> list[Voice]:
        """Draw `num_speakers` different voices."""
        if num_speakers > len(self):
            raise PixitError(f"{num_speakers} speakers asked for, but the pool has {len(self)}; add speakers")
        return [self.voices[i] for i in rng.choice(len(self), num_speakers, replace=False)]


def find_audio(place: Path) -> list[Path]:
    """Return the recordings of a folder at any depth, in order; a file stands for itself."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)


def find_speakers(folders: Sequence[Path | str], unlabelled: Sequence[Path | str]) -> dict[str, list[Path]]:
    """Return speaker -> recordings; see `SpeakerPool.from_folders`."""
    speakers: dict[str, list[Path]] = {}
    several = len(folders) + len(unlabelled) > 1
    for folder in map(Path, folders):
        prefix = f"{folder.name}-" if several else ""
        found = {prefix + p.name: find_audio(p) for p in sorted(folder.glob("*")) if p.is_dir()}
        if not any(found.values()):
            raise PixitError(
                f"{folder}: found no utterances; expected <speaker>/*.flac or <speaker>/*.wav in it"
            )
        speakers |= found
    for folder in map(Path, unlabelled):
        files = find_audio(folder)
        if not files:
            raise PixitError(f"{folder}: found no recordings in it; expected .flac, .wav or .opus files")
        speakers |= {f"{folder.name}-{number}": [path] for number, path in enumerate(files)}
    for name in speakers:
        if len(name.split()) != 1:
            raise PixitError(f"{name}: a speaker's name with spaces does not fit in RTTM; rename the folder")
    return speakers


def _read_voices(speakers: Mapping[str, Sequence[Path]], sample_rate_hz: int) -> list[Voice]:
    found = (
        Voice.from_utterances(
            name, [open_audio(path, sample_rate_hz).read() for path in paths], sample_rate_hz
        )
        for name, paths in speakers.items()
    )
    return [voice for voice in found if voice is not None]


def _key(speakers: Mapping[str, Sequence[Path]], sample_rate_hz: int) -> str:
    """Return what tells one collection of recordings from another, by names, sizes and times of change."""
    files = {
        name: [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
        for name, paths in speakers.items()
    }
    return hashlib.sha256(json.dumps([sample_rate_hz, files]).encode()).hexdigest()[:16]


def _write_cache(place: Path, voices: Sequence[Voice]) -> None:
    with whole_folder(place) as new:
        np.save(new / "samples.npy", np.concatenate([voice.samples for voice in voices]))
        index = [
            {
                "speaker": voice.speaker,
                "num_samples": len(voice.samples),
                "speech": voice.speech.tolist(),
                "onsets": voice.onsets.tolist(),
            }
            for voice in voices
        ]
        (new / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _read_cache(place: Path) -> list[Voice]:
    try:
        samples = np.load(place / "samples.npy", mmap_mode="r")
        voices, start = [], 0
        for entry in json.loads((place / "index.json").read_text(encoding="utf-8")):
            end = start + entry["num_samples"]
            speech, onsets = (np.array(entry[name], dtype=np.int64) for name in ("speech", "onsets"))
            voices.append(Voice(entry["speaker"], samples[start:end], speech, onsets))
            start = end
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise PixitError(f"{place}: is not a cache of speech ({error}); delete it") from None
    return voices
