"""Speakers who are known by name, by recordings of their voices; `pixit.pipeline.known` finds them again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pixit.audio import Audio, MemoryAudio, check_local, open_audio
from pixit.files import file_name, list_files
from pixit.formats.names import AUDIO_ENDINGS, is_result
from pixit.pipeline.cluster import unit
from pixit.pipeline.compute import Compute
from pixit.pipeline.diarize import Floats
from pixit.pipeline.local import embed_speakers, hear_windows
from pixit.pipeline.local_turns import make_spool
from pixit.pipeline.settings import HearingSettings
from pixit.pipeline.spool import lay_windows
from pixit.results import Separation
from pixit.saved import check_file_names, check_speaker
from pixit.types import Embedder, LocalDiarizer, PixitError

Voice: TypeAlias = "str | Path | Mapping[str, Any] | Audio"
"""A recording of one person, as `pixit.audio.open_audio` takes it."""
Voices: TypeAlias = "str | Path | Mapping[str, Voice | Sequence[Voice]]"
"""A folder as `find_voices` describes it; or name -> recordings of that person."""

UNKNOWN = re.compile(r"SPEAKER_\d+")
"""What those are called who are not known."""
LONGEST_S, LEAST_S = 120.0, 3.0
"""So much of a recording is heard; and so much speech of a person is needed."""


@dataclass(frozen=True, eq=False)
class KnownSpeakers:
    """Voices that are known by name.

    Parameters
    ----------
    names
        Of the N speakers.
    vectors
        Means of their embeddings of length 1, (N, D): the more these differ, the shorter the mean.
    seconds
        Of speech behind each, (N,).
    sha256, embedder_sha256
        Of names and recordings; and of the embedder's weights, None if it is no `torch.nn.Module`.
    """

    names: tuple[str, ...]
    vectors: Floats
    seconds: Floats
    sha256: str
    embedder_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return this as it is written into the state of a stream."""
        arrays = {"vectors": self.vectors.tolist(), "seconds": self.seconds.tolist()}
        hashes = {"sha256": self.sha256, "embedder_sha256": self.embedder_sha256}
        return {"names": list(self.names), **hashes, **arrays}

    @classmethod
    def from_json(cls, told: Mapping[str, Any], embedding_size: int) -> KnownSpeakers:
        """Return what `to_json` told; a KeyError, TypeError or ValueError if it is something else."""
        names = tuple(map(str, told["names"]))
        vectors, seconds = (np.array(told[key], np.float32) for key in ("vectors", "seconds"))
        is_whole = vectors.shape == (len(names), embedding_size) and seconds.shape == (len(names),)
        if not (is_whole and np.isfinite(vectors).all() and np.isfinite(seconds).all()):
            raise ValueError("known speakers are damaged")
        return cls(names, vectors, seconds, str(told["sha256"]), told["embedder_sha256"])


Known: TypeAlias = "Voices | KnownSpeakers"


def find_voices(speakers: Voices) -> dict[str, list[Voice]]:
    """Return name -> recordings of known speakers.

    Of a folder, a file ``Ann.wav`` is of Ann, and so are all files in a folder ``Ann``. If it is that of a
    separation, those of its speakers are known whom somebody has given a name (``pixit rename``) and who talk alone
    for long enough, by what their tracks hold there.

    Raises
    ------
    PixitError
        If there are none, a name is none that files and RTTM can hold, or one as those have who are not known.
    """
    if not isinstance(speakers, (str, Path, Mapping)):
        kind = type(speakers).__name__
        raise PixitError(
            f"known speakers: found a {kind}, expected a folder, or recordings by the names of speakers"
        )
    place = "known speakers" if isinstance(speakers, Mapping) else str(speakers)
    voices: dict[str, list[Voice]]
    if isinstance(speakers, Mapping):
        voices = {str(name): _recordings_of(name, given) for name, given in speakers.items()}
    elif is_result(Path(speakers)):
        voices = _voices_of_result(Path(speakers))
    else:
        voices = _voices_of_folder(Path(speakers))
    for name, recordings in voices.items():
        check_speaker(place, name)
        if UNKNOWN.fullmatch(name):
            raise PixitError(f"{place}: {name} is what somebody unknown is called; give the speaker a name")
        if not recordings:
            raise PixitError(f"{place}: there is no recording of {name}; expected at least one")
    if not voices:
        raise PixitError(f"{place}: names nobody; expected at least one speaker")
    check_file_names(Path(place), {name: name for name in voices})
    return voices


def _recordings_of(name: object, given: object) -> list[Voice]:
    recordings: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    for one in recordings:
        if not isinstance(one, (str, Path, Mapping, Audio)):
            kind = type(one).__name__
            raise PixitError(
                f"known speakers: found a {kind} for {name}, expected a recording, or a list of them"
            )
    return recordings


def _voices_of_folder(folder: Path) -> dict[str, list[Voice]]:
    check_local(folder)
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise PixitError(f"{folder}: {state}; expected a folder with a recording of each speaker, as Ann.wav")
    voices: dict[str, list[Voice]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if is_result(path):
                raise PixitError(
                    f"{path}: is a result, not a speaker; give this folder itself, or move it elsewhere"
                )
            voices.setdefault(file_name(path.name), []).extend(list_files(path, AUDIO_ENDINGS))
        elif path.suffix.lower() in AUDIO_ENDINGS:
            voices.setdefault(file_name(path.stem), []).append(path)
    if not voices:
        raise PixitError(f"{folder}: holds no recordings; expected one of each speaker, as Ann.wav")
    return voices


def _voices_of_result(folder: Path) -> dict[str, list[Voice]]:
    result = Separation.load(folder)
    overlap = result.diarization.get_overlap()
    voices: dict[str, list[Voice]] = {}
    for name, track in result.tracks.items():
        if UNKNOWN.fullmatch(name):
            continue
        pieces, left = [np.zeros(0, np.float32)], round(LONGEST_S * track.sample_rate_hz)
        for alone in result.diarization.label_timeline(name).extrude(overlap):
            start, end = (round(time_s * track.sample_rate_hz) for time_s in alone)
            pieces.append(track.read(start, min(end, start + left, track.num_samples)))
            left -= len(pieces[-1])
        samples, rate_hz = np.concatenate(pieces)[None], track.sample_rate_hz
        if samples.shape[1] >= LEAST_S * rate_hz:
            voices[name] = [{"waveform": samples, "sample_rate": rate_hz, "uri": f"{folder}: {name}"}]
    if not voices:
        raise PixitError(
            f"{folder}: nobody in it has a name and talks alone for {LEAST_S:.0f} s; give speakers names, as by "
            f"pixit rename {folder} SPEAKER_00=Ann"
        )
    return voices


def state_of(folder: Path) -> object:
    """Return what changes when the recordings in a folder do."""
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return folder.resolve(), [(path, status.st_size, status.st_mtime_ns) for path, status in files]


def enrol(
    model: LocalDiarizer,
    embedder: Embedder,
    settings: HearingSettings,
    threshold: float,
    compute: Compute,
    speakers: Known,
    embedder_sha256: str | None,
) -> KnownSpeakers:
    """Get to know speakers by their voices, heard as those in a recording are.

    Parameters
    ----------
    model, embedder, settings, compute
        The networks and how they are used.
    threshold
        Mean cosine distance up to which embeddings are of one speaker: of who talks most in the recordings of
        somebody, the voice is taken.
    speakers
        Who, as `find_voices` takes it; or who is known already: it is checked that they are by this embedder.
    embedder_sha256
        Of the embedder's weights, None if it is no `torch.nn.Module`.

    Raises
    ------
    PixitError
        As of `find_voices`; if a recording cannot be read, or there is too little speech of somebody, which only in a
        result does not matter; or if speakers are known by another embedder.
    """
    if isinstance(speakers, KnownSpeakers):
        is_same = speakers.vectors.shape[1] == embedder.embedding_size
        if not is_same or speakers.embedder_sha256 != embedder_sha256:
            raise PixitError("known speakers: were enrolled with another embedder; enrol them with this one")
        return speakers
    is_lenient = isinstance(speakers, (str, Path)) and is_result(Path(speakers))
    digest, means, totals = hashlib.sha256(), dict[str, Floats](), []
    for name, recordings in find_voices(speakers).items():
        found = []
        for voice in recordings:
            recording = open_audio(voice, model.sample_rate_hz, partial=True)
            recording = recording.at(channel="best") if recording.asked_channel is None else recording
            samples = _first_samples(recording, round(LONGEST_S * recording.sample_rate_hz))
            digest.update(f"{name}\n{len(samples)}\n".encode() + samples.tobytes())
            if samples.any():
                heard = MemoryAudio(samples[None], recording.sample_rate_hz, uri=recording.uri)
                found.append(_hear(model, embedder, settings, compute, heard))
        mean, total = _mean_of_one(found, threshold)
        if total >= LEAST_S:
            means[name] = mean
            totals.append(total)
        elif not is_lenient:
            raise PixitError(
                f"{_place(recordings)}: holds {total:.1f} s of speech of {name}, expected at least {LEAST_S:.0f} s; "
                "give a longer recording, or several in a folder of that name"
            )
    if not means:
        raise PixitError(f"{speakers}: holds less than {LEAST_S:.0f} s of speech of anybody with a name")
    heard_s = np.array(totals, np.float32)
    return KnownSpeakers(
        tuple(means), np.stack(list(means.values())), heard_s, digest.hexdigest(), embedder_sha256
    )


def _place(recordings: Sequence[Voice]) -> str:
    first = recordings[0]
    name = (
        first.uri
        if isinstance(first, Audio)
        else first.get("uri", "waveform")
        if isinstance(first, Mapping)
        else first
    )
    return str(name) if len(recordings) == 1 else f"{name} and {len(recordings) - 1} more"


def _first_samples(recording: Audio, most: int) -> Floats:
    parts, count = [np.zeros(0, np.float32)], 0
    for block in recording.blocks():
        parts.append(block[: most - count])
        count += len(parts[-1])
        if count == most:
            break
    return np.concatenate(parts)


def _hear(
    model: LocalDiarizer, embedder: Embedder, settings: HearingSettings, compute: Compute, recording: Audio
) -> tuple[Floats, Floats]:
    """Return the embeddings (n, D) of all that is said in a recording, and the seconds that each stands on, (n,)."""
    activity, embedding = settings.activity, settings.embedding
    # regular: one window after the other, so that nothing is heard twice
    window_s = model.window_samples / model.sample_rate_hz
    geometry = lay_windows(model, recording.num_samples, window_s, regular=True)
    with make_spool(activity, settings.turns, geometry, model.num_speakers) as local:
        heard = hear_windows(model, geometry.cut(recording), local, activity, compute, _tell_nobody)
        vectors, seconds = embed_speakers(embedder, local, heard, embedding, activity, compute, _tell_nobody)
    is_heard = np.isfinite(vectors).all(axis=-1)
    return vectors[is_heard], seconds[is_heard]


def _tell_nobody(completed: int, total: int) -> None:
    """Show no progress."""


def _mean_of_one(found: Sequence[tuple[Floats, Floats]], threshold: float) -> tuple[Floats, float]:
    """Return the mean of the embeddings, of those of several recordings, that most of the seconds are of.

    And these seconds; 0 if nothing was heard.
    """
    if not sum(len(seconds) for _, seconds in found):
        return np.zeros(0, np.float32), 0.0
    vectors, seconds = (np.concatenate(parts) for parts in zip(*found, strict=True))
    own = unit(vectors)
    within = 1 - own @ own.T <= threshold
    weights = np.where(within[int((within @ seconds).argmax())], seconds, 0)
    return (weights @ own / max(weights.sum(), 1e-9)).astype(np.float32), float(weights.sum())
