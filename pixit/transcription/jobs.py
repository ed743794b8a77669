"""Transcripts of many results or recordings: each goes on where it was, and none is stopped by another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pixit.audio import AudioFile
from pixit.diarized import Diarization
from pixit.files import check_file, file_hash, file_name, real_path, writable
from pixit.formats.names import find_recording, find_results, match_items
from pixit.formats.rttm import read_rttm, rttm_line
from pixit.formats.transcripts import write_transcript
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.saved import noted_transcripts
from pixit.transcription import recognizers
from pixit.transcription.recognizers import Recognizer
from pixit.transcription.stretches import Journal
from pixit.transcription.transcribe import Intervals, Transcriber, TranscriptionSettings
from pixit.types import Hook, PixitError

ATTRIBUTIONS = ("separation", "diarization")
"""The separated tracks are recognised, or the recording as the diarization cuts it up."""

FORMATS = ("seglst", "stm", "srt", "vtt")
ENDINGS = {"seglst": ".seglst.json"}  # of the others, their names


@dataclass(frozen=True)
class Job:
    """One transcript to make, of a result of ``pixit separate`` or a recording."""

    path: Path
    """Folder of the result, or the recording."""
    output: Path
    """Folder of the transcript."""
    attribution: str | None
    """One of `ATTRIBUTIONS`; None for a recording of which nothing is known."""
    audio: Path | None = None
    """Recording of a result, or folder that holds it; None for the one that the result names."""
    rttm: Path | None = None
    """Diarization of a recording, a file or a folder."""
    within: Intervals | None = None
    """Stretches ``(start_s, end_s)`` to transcribe; None for all."""
    session: str | None = None
    """Name of the recording in the utterances; None for `name`."""

    @property
    def name(self) -> str:
        """Name of the recording, fit for files and all formats."""
        return real_path(self.path).name if self.path.is_dir() else file_name(self.path.stem)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its transcripts, one each format, and what was said; or the error it failed with.

    `is_new` says whether anything was recognised or written, rather than there already; `notes`, what the
    user should know.
    """

    job: Job
    files: tuple[Path, ...]
    utterances: tuple[Utterance, ...] | None = None
    is_new: bool = False
    notes: tuple[str, ...] = ()
    error: PixitError | None = None
    elapsed_s: float = 0.0


def transcribe_all(
    inputs: Iterable[str | Path],
    recognizer: str | Recognizer = "pocketsphinx",
    output: str | Path | None = None,
    *,
    attribution: str | None = None,
    audio: str | Path | None = None,
    rttm: str | Path | None = None,
    formats: Sequence[str] = FORMATS[:1],
    overwrite: bool = False,
    language: str | None = None,
    device: str = "auto",
    settings: TranscriptionSettings | None = None,
    hook: Hook | None = None,
) -> Iterator[Outcome]:
    """Transcribe results of separations, or recordings, one after the other; finished ones are skipped.

    Beside the transcripts lies ``NAME.transcription.jsonl``, with which a run that was interrupted goes on. A
    transcript that is there already is not touched, unless `overwrite` is given.

    Parameters
    ----------
    inputs
        Folders that ``pixit separate`` wrote, folders of them, or recordings.
    recognizer, language, device
        A function as `Transcriber` takes it, or a name, with which all three go to `load_recognizer`.
    output
        Folder of the transcripts; that of the result's folder or of the recording by default.
    attribution, audio, rttm
        As of `Job`; of a result the separated tracks are recognised by default, a recording without `rttm`
        has one unknown speaker.
    formats, overwrite
        Some of `FORMATS`, and whether to do again what is done or begun.
    settings, hook
        As for `Transcriber`; the hook's ``file`` is the name of the recording.

    Yields
    ------
    Outcome
        Of each transcript, as soon as it is known.

    Raises
    ------
    PixitError
        At once, if an input holds nothing to transcribe, an option does not fit it, two transcripts would
        have the same name, or the recogniser cannot be loaded.
    """
    places = [None if place is None else Path(place) for place in (output, audio, rttm)]
    jobs = find_jobs(inputs, places[0], attribution, *places[1:])
    if unknown := [name for name in formats if name not in FORMATS]:
        raise PixitError(f"unknown format {unknown[0]!r}; expected some of {', '.join(FORMATS)}")
    if isinstance(recognizer, str):
        recognizer = recognizers.load_recognizer(recognizer, language, device)
    transcriber = Transcriber(recognizer, settings)
    return (transcribe_one(transcriber, job, formats, overwrite, hook) for job in jobs)


def find_jobs(
    inputs: Iterable[str | Path],
    output: Path | None = None,
    attribution: str | None = None,
    audio: Path | None = None,
    rttm: Path | None = None,
) -> list[Job]:
    """Return what there is to do, each once; parameters and errors as of `transcribe_all`."""
    jobs: dict[Path, Job] = {}
    for given in map(Path, inputs):
        check_file(given, "the folder of a result, or a recording")
        is_folder = given.is_dir()
        if is_folder and rttm is not None:
            raise PixitError(
                f"{given}: is a folder of results, which has a diarization; --rttm is for recordings"
            )
        if not is_folder and (audio is not None or (attribution is not None and rttm is None)):
            option = "--audio" if audio is not None else f"--attribution {attribution}"
            raise PixitError(
                f"{given}: is not the folder of a result, as {option} needs; name one, or give --rttm"
            )
        if not is_folder and attribution == "separation":
            raise PixitError(f"{given}: has no separated tracks; name the folder that pixit separate wrote")
        for path in find_results([given]) if is_folder else [given]:
            own = attribution or ("separation" if is_folder else "diarization" if rttm else None)
            if own == "separation" and audio is not None:
                raise PixitError(
                    f"{path}: its tracks are transcribed; --audio goes with --attribution diarization"
                )
            job = Job(path, output or real_path(path).parent, own, audio, rttm)
            target = job.output / job.name
            if target in jobs and real_path(jobs[target].path) != real_path(path):
                raise PixitError(
                    f"{jobs[target].path} and {path}: both transcripts would be {target}; rename one"
                )
            jobs.setdefault(target, job)
    if audio is not None and audio.is_file() and len(jobs) > 1:
        raise PixitError(f"{audio}: is one recording for {len(jobs)} results; give a folder of recordings")
    return list(jobs.values())


def transcribe_one(
    transcriber: Transcriber,
    job: Job,
    formats: Sequence[str] = FORMATS[:1],
    overwrite: bool = False,
    hook: Hook | None = None,
) -> Outcome:
    """Make one transcript in all formats, unless that is done; bad input is an outcome, not raised."""
    started_s = time.perf_counter()
    files = tuple(job.output / f"{job.name}{ENDINGS.get(format, f'.{format}')}" for format in formats)
    journal_path = job.output / f"{job.name}.transcription.jsonl"
    existing = [file for file in files if file.exists()]
    try:
        with writable(job.output):
            if not overwrite and existing and not journal_path.exists():
                raise PixitError(
                    f"{existing[0]}: exists, and {journal_path.name} does not; pass --overwrite, or choose "
                    "another folder for the output"
                )
            request, recognize, notes = prepare(transcriber, job)
            if overwrite:  # transcripts in other formats, too: they would be read in place of the new one
                remove_transcripts(journal_path)
            journal = Journal(journal_path, request)
            found = recognize(session=job.session or job.name, within=job.within, journal=journal, hook=hook)
            due = files if overwrite or journal.num_added else [f for f in files if f not in existing]
            for file in due:
                write_transcript(file, found)
                journal.note(file)
    except PixitError as error:
        return Outcome(job, files, error=error)
    return Outcome(job, files, tuple(found), bool(due), notes, elapsed_s=time.perf_counter() - started_s)


def remove_transcripts(journal: Path) -> None:
    """Remove a journal, and the transcripts that it lists."""
    for name in noted_transcripts(journal):
        (journal.parent / name).unlink(missing_ok=True)
    journal.unlink(missing_ok=True)


def prepare(
    transcriber: Transcriber, job: Job
) -> tuple[dict[str, Any], Callable[..., list[Utterance]], tuple[str, ...]]:
    """Return what determines the words of a job, the function that finds them, and what should be known."""
    request = transcriber.description | {"attribution": job.attribution}
    if job.within is not None:
        request["within"] = job.within
    if not job.path.is_dir():
        request["source_sha256"] = file_hash(AudioFile(job.path).info.path)
        if job.rttm is None:
            return request, partial(transcriber.mixture, job.path), ()
        found, notes = match_items([job.path.stem], read_rttm(job.rttm), str(job.rttm))
        turns = found.get(job.path.stem, [])
        lines = "".join(rttm_line(job.name, turn) for turn in turns)
        request["turns_sha256"] = sha256(lines.encode()).hexdigest()
        return request, partial(transcriber.mixture, job.path, turns), tuple(notes)
    result = Diarization.load(job.path)
    request["result_sha256"] = file_hash(job.path / f"{job.name}.json")
    if job.attribution == "separation":
        if not isinstance(result, Separation):
            raise PixitError(
                f"{job.path}: was diarized only, it has no tracks; pass --attribution diarization, which takes the "
                "recording"
            )
        return request, partial(transcriber.separation, result), ()
    audio = find_recording(result, job.audio)
    if audio is None:
        source = result.settings.get("source", "its recording")
        raise PixitError(f"{source}: no such file, the recording of {job.path}; name it with --audio")
    request["source_sha256"] = file_hash(audio.info.path)
    return request, partial(transcriber.mixture, audio, result.turns), ()
