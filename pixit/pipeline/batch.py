"""Many recordings: each whole or not at all, none twice, and none stopped by another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixit.audio import Channel, check_local, open_audio
from pixit.diarized import Diarization
from pixit.files import file_name, list_files, real_path, writable
from pixit.formats.names import AUDIO_ENDINGS, is_result
from pixit.ownership import claim
from pixit.pipeline.enrolment import Known
from pixit.pipeline.provenance import make_request
from pixit.pipeline.separate import Separator
from pixit.results import Separation
from pixit.types import Hook, PixitError, Recording, one_line


@dataclass(frozen=True)
class Outcome:
    """The outcome of one recording.

    Parameters
    ----------
    uri, path
        Name of the recording, and its file.
    folder
        Where its result is, or would be.
    result, error
        The result as it lies in `folder`, a `Separation` unless it was diarized only, or why there is none; the other
        is None. Of a recording that is cut off or damaged there is a result of what is left, and
        ``result.settings["loss"]`` says what is missing.
    elapsed_s
        How long the separation took; None if the result existed already.
    """

    uri: str
    path: Path
    folder: Path
    result: Diarization | None = None
    error: PixitError | None = None
    elapsed_s: float | None = None


@dataclass(frozen=True)
class Job:
    """What is asked of recordings, the same of all of them: the parameters of `separate_all`."""

    output: Path
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    channel: Channel | None = None
    format: str | None = "wav"
    overwrite: bool = False
    stream: int | None = None
    channels_are_speakers: bool = False
    reference: str | Path | None = None
    known_speakers: Known | None = None


def separate_all(
    separator: Separator,
    recordings: Iterable[str | Path | Recording],
    output: str | Path,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    channel: Channel | None = None,
    format: str | None = "wav",
    overwrite: bool = False,
    hook: Hook | None = None,
    *,
    stream: int | None = None,
    channels_are_speakers: bool = False,
    reference: str | Path | None = None,
    known_speakers: Known | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Separate recordings into ``output/NAME``, one after the other; finished ones are skipped.

    A result is done if it was made from the same file, by the same weights and with the same settings; one with
    tracks serves as a diarization too. One that was made otherwise is an error, unless `overwrite` is given. A
    recording that fails does not stop the others.
    Several processes with the same `output` share the work: a recording that another one is separating is left to it.

    Parameters
    ----------
    recordings
        Audio or video files, folders of them, or `Recording` objects; named by the stem of the file, or the uri.
    output
        Folder of the results; made if need be, and removed again if nothing came of it.
    num_speakers, min_speakers, max_speakers, channel, stream, channels_are_speakers, known_speakers
        As for `Separator`, the same for all.
    reference
        RTTM file or folder that holds who really spoke when, for ``clustering.method="oracle"``.
    format, overwrite
        Of the tracks, ``"wav"`` or ``"flac"``, or None for none, so that recordings are diarized only; redo what is
        done, and replace what was made otherwise.
    hook
        Progress callback, as in pyannote.audio; its ``file`` is the `pixit.audio.Audio` at work.
    say
        Called with a line for each recording that another process is separating.

    Yields
    ------
    Outcome
        One each recording, in their order, as soon as it is known; those left to other processes come last, when
        these are done with them. Nothing is separated before it is asked for.

    Raises
    ------
    PixitError
        At once, if a folder holds no recordings, two results would have the same name, or `output` cannot be
        written.

    Examples
    --------
    >>> separator = Separator.from_pretrained()                                     # doctest: +SKIP
    >>> for done in separate_all(separator, ["monday.wav", "friday.mp3"], "out"):   # doctest: +SKIP
    ...     print(done.uri, done.error or done.result.speakers)
    """
    job = Job(
        *(Path(output), num_speakers, min_speakers, max_speakers, channel, format, overwrite),
        stream=stream,
        channels_are_speakers=channels_are_speakers,
        reference=reference,
        known_speakers=known_speakers,
    )
    return separate_each(separator, recordings, job, hook, say)


def separate_each(
    separator: Separator,
    recordings: Iterable[str | Path | Recording],
    job: Job,
    hook: Hook | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Do what `separate_all` does; what is asked is a `Job`."""
    named = find_recordings(recordings)
    with writable(job.output):
        pass
    return _run(separator, named, job, hook, say)


def _run(
    separator: Separator,
    named: Mapping[str, Path],
    job: Job,
    hook: Hook | None,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    elsewhere = {}
    if job.known_speakers is not None:  # heard once, and not again for each recording
        job = replace(job, known_speakers=separator.enrol(job.known_speakers))
    with writable(job.output):
        for uri, path in named.items():
            outcome = separate_unclaimed(separator, uri, path, job, hook)
            if outcome is None:
                say(ELSEWHERE.format(path=path))
                elsewhere[uri] = path
            else:
                yield outcome
        for uri, path in elsewhere.items():
            if (outcome := separate_unclaimed(separator, uri, path, job, hook, wait=True)) is not None:
                yield outcome


ELSEWHERE = "{path}: another process is separating it; left to that one"


def separate_unclaimed(
    separator: Separator, uri: str, path: Path, job: Job, hook: Hook | None, wait: bool = False
) -> Outcome | None:
    """Separate a recording, save its result and return the outcome; None if another process is at it.

    With `wait` that one is waited for, and what it has made is not made again, though ``job.overwrite`` asks for it.
    """
    with claim(job.output / file_name(uri), wait) as is_ours:
        return _separate_one(separator, uri, path, job, hook, was_elsewhere=wait) if is_ours else None


def _separate_one(
    separator: Separator, uri: str, path: Path, job: Job, hook: Hook | None, was_elsewhere: bool
) -> Outcome:
    """Separate a recording and save the result, unless that is done; bad input is an outcome, not raised."""
    started_s, folder = time.perf_counter(), job.output / file_name(uri)
    numbers = job.num_speakers, job.min_speakers, job.max_speakers
    given = {name: getattr(job, name) for name in ("channels_are_speakers", "reference", "known_speakers")}
    more: dict[str, Any] = {name: value for name, value in given.items() if value not in (None, False)}
    try:
        audio = open_audio({"audio": path, "uri": uri}, channel=job.channel, stream=job.stream, partial=True)
        if folder.exists() and (was_elsewhere or not job.overwrite):
            is_plain = job.format is None
            fingerprint = separator.fingerprint_of_diarization if is_plain else separator.fingerprint
            request = make_request(fingerprint, audio, separator.ask(uri, *numbers, **more))
            try:
                return Outcome(uri, path, folder, _load_done(folder, request, job.format))
            except PixitError:
                if not job.overwrite:
                    raise
        more |= {"hook": hook, "channel": job.channel}
        if job.format is None:
            separator.diarize(audio, *numbers, **more).save(job.output, overwrite=job.overwrite)
        else:
            found = separator(audio, *numbers, work_folder=job.output, **more)
            found.save(job.output, job.format, job.overwrite)
            del found
        result = Diarization.load(folder)  # what a separation was saved from has vanished with it
        return Outcome(uri, path, folder, result, elapsed_s=time.perf_counter() - started_s)
    except PixitError as error:
        # without the trace, which would hold on to the temporary files of a result that could not be saved
        return Outcome(uri, path, folder, error=PixitError(str(error)))


def find_recordings(recordings: Iterable[str | Path | Recording], recursive: bool = False) -> dict[str, Path]:
    """Return uri -> file of recordings and of those in folders, each once; with `recursive` at any depth.

    A PixitError if a folder holds none, or the results of two recordings would have the same name.
    """
    named: dict[str, Path] = {}
    first: dict[str, Path] = {}
    for recording in recordings:
        if isinstance(recording, Recording):
            files = {recording.audio: recording.uri}
        else:
            files = {file: file.stem for file in _audio_files(recording, recursive)}
        for file, uri in files.items():
            name = file_name(uri)
            if name in first and (uri not in named or real_path(first[name]) != real_path(file)):
                raise PixitError(
                    f"{first[name]} and {file}: the results of both would be named {name}; rename one, "
                    "or choose another folder for its output"
                )
            first.setdefault(name, file)
            named.setdefault(uri, file)
    return named


def _audio_files(name: str | Path, recursive: bool) -> list[Path]:
    """Return a file, or the recordings in a folder; hidden ones, and the tracks of results, are passed by."""
    check_local(name)
    if not (path := Path(name)).is_dir():
        return [path]
    files = list_files(path, AUDIO_ENDINGS) if recursive else sorted(path.iterdir())
    files = [
        file
        for file in files
        if file.suffix.lower() in AUDIO_ENDINGS and not file.name.startswith(".") and file.is_file()
    ]
    if recursive:
        results = {folder for folder in {file.parent for file in files} if is_result(folder)}
        files = [file for file in files if file.parent not in results]
    if not files:
        more = "" if recursive else "; for those in folders of it pass --recursive"
        raise PixitError(f"{path}: holds no recordings; expected files as {' '.join(AUDIO_ENDINGS)}{more}")
    return files


def _load_done(folder: Path, request: Mapping[str, Any], format: str | None) -> Diarization:
    """Load a result; a PixitError if it is not whole, or not of this request (`make_request`) and format."""
    result = Diarization.load(folder)
    made = result.settings.get("request", {})
    # what is unusual stands in a call only where it was asked for; of one that is not asked now, that counts as well
    unasked = dict.fromkeys(made["call"]) if isinstance(made.get("call"), dict) else {}
    changed = _differences(made, {**request, "call": unasked | request["call"]})
    if format is None:
        pass
    elif not isinstance(result, Separation):
        raise PixitError(
            f"{folder}: exists, was diarized only and has no tracks; pass --overwrite to replace it, or choose "
            "another folder for the output"
        )
    elif any(track.path.suffix != f".{format}" for track in result.tracks.values()):
        changed.append("format")
    if changed:
        raise PixitError(
            f"{folder}: exists, made from another file or with other settings ({', '.join(changed)}); "
            "pass --overwrite to replace it, or choose another folder for the output"
        )
    return result


def _differences(found: Any, asked: Mapping[str, Any]) -> list[str]:
    """Return where two requests differ, in words: ``num_speakers: 2, asked for 3``."""
    changed = []
    for key, value in asked.items():
        other = found.get(key) if isinstance(found, Mapping) else None
        if other == value:
            continue
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            changed += _differences(other, value)
        elif key.endswith("_sha256"):
            changed.append(
                f"another {'recording' if key == 'source_sha256' else key.removesuffix('_sha256')}"
            )
        else:
            changed.append(f"{key}: {one_line(other, 40)}, asked for {one_line(value, 40)}")
    return changed
