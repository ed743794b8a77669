"""``pixit transcribe``: results of ``pixit separate`` or recordings in, who said what out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import complain, progress, say, warn
from pixit.cli.options import SettingsCommand, collect_overrides, set_option
from pixit.files import file_hash, writable
from pixit.types import PixitError, Turn

if TYPE_CHECKING:
    from pixit.audio import AudioFile
    from pixit.formats.transcripts import Utterance
    from pixit.results import Separation
    from pixit.transcription.transcribe import Transcriber

ATTRIBUTIONS = ("separation", "diarization")
FORMATS = ("seglst", "stm", "srt", "vtt")
ENDINGS = {"seglst": ".seglst.json"}  # of the others, their names
HINT = (
    "pocketsphinx is small and often wrong; --recognizer whisper:small.en is far better and downloads 0.5 GB"
)


@click.command(
    cls=SettingsCommand,
    settings="pixit.transcription.transcribe.TranscriptionSettings",
    fields={"padding_s": "--padding", "max_stretch_s": "--max-stretch"},
)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="folder  [default: that of the result or recording]",
)
@click.option(
    "--recognizer",
    default="pocketsphinx",
    show_default=True,
    help="pocketsphinx, whisper[:MODEL] or faster-whisper[:MODEL]; MODEL is a name or lies on disk",
)
@click.option("--language", help="code of the language, as en  [default: found out, if the model can]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, …")
@click.option(
    "--attribution",
    type=click.Choice(ATTRIBUTIONS),
    help="recognise the separated tracks, or the recording as the diarization cuts it up  "
    "[default: separation for results]",
)
@click.option(
    "--audio", type=click.Path(path_type=Path), help="the recording of a result  [default: where it was]"
)
@click.option("--rttm", type=click.Path(path_type=Path), help="who spoke when in a recording")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="may be repeated  [default: seglst]",
)
@set_option
@click.option("--overwrite", is_flag=True, help="do again what is done or begun")
@click.option("--quiet", is_flag=True, help="say nothing but errors")
@click.pass_context
def transcribe(
    ctx: click.Context,
    inputs: tuple[Path, ...],
    output: Path | None,
    recognizer: str,
    language: str | None,
    device: str,
    attribution: str | None,
    audio: Path | None,
    rttm: Path | None,
    formats: tuple[str, ...],
    overrides: tuple[str, ...],
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Transcribe INPUTS: folders that `pixit separate` wrote (or folders of them), or recordings.

    Only where someone speaks is recognised: on the separated tracks, or on the recording itself
    (--attribution diarization, or --rttm). A recording without diarization has one unknown speaker.

    For the folder separated/meeting, meeting.seglst.json (or .stm, .srt, .vtt) is written beside it, and
    meeting.transcription.jsonl, with which a run that was interrupted goes on, and one that is done is not
    repeated.
    """
    from pixit.config import load_settings
    from pixit.transcription.recognizers import load_recognizer
    from pixit.transcription.transcribe import Transcriber, TranscriptionSettings

    jobs = find_jobs(inputs, output, attribution, audio, rttm)
    settings = load_settings(TranscriptionSettings, overrides=collect_overrides(overrides, **options))
    transcriber = Transcriber(load_recognizer(recognizer, language, device), settings)
    failed = False
    for job in jobs:
        try:
            with writable(job.output):
                transcribe_one(transcriber, job, formats or FORMATS[:1], overwrite, quiet)
        except PixitError as error:
            failed = True
            complain(error)
    if failed:
        ctx.exit(2)
    if recognizer == "pocketsphinx":
        say(HINT, quiet)


@dataclass(frozen=True)
class Job:
    """One transcript to make: of a result of ``pixit separate`` or a recording at `path`.

    Parameters
    ----------
    path
        Folder of a result, or recording.
    output
        Where the transcript goes.
    attribution
        One of `ATTRIBUTIONS`; None for a recording of which nothing is known.
    audio
        Recording of a result, or folder that holds it; None for the one that the result names.
    rttm
        Diarization of a recording.
    """

    path: Path
    output: Path
    attribution: str | None
    audio: Path | None = None
    rttm: Path | None = None

    @property
    def name(self) -> str:
        """Name of the recording, fit for files and all formats."""
        from pixit.files import file_name

        return self.path.resolve().name if self.path.is_dir() else file_name(self.path.stem)


def find_jobs(
    inputs: tuple[Path, ...],
    output: Path | None,
    attribution: str | None,
    audio: Path | None,
    rttm: Path | None,
) -> list[Job]:
    """Return what there is to do, each once; a `PixitError` if an option does not fit an input."""
    from pixit.formats.results_folder import find_results

    jobs: dict[Path, Job] = {}
    for given in inputs:
        is_folder = given.is_dir()
        if is_folder and rttm is not None:
            raise PixitError(
                f"{given}: is a folder of results, which has a diarization; --rttm is for recordings"
            )
        if not is_folder and (audio is not None or (attribution is not None and rttm is None)):
            option = "--audio" if audio is not None else f"--attribution {attribution}"
            raise PixitError(
                f"{given}: is no folder of a result, as {option} needs; name one, or give --rttm"
            )
        if not is_folder and attribution == "separation":
            raise PixitError(f"{given}: has no separated tracks; name the folder that pixit separate wrote")
        for path in find_results([given]) if is_folder else [given]:
            own = attribution or ("separation" if is_folder else "diarization" if rttm else None)
            job = Job(path, output or path.resolve().parent, own, audio, rttm)
            target = job.output / job.name
            if target in jobs and jobs[target].path.resolve() != path.resolve():
                raise PixitError(
                    f"{jobs[target].path} and {path}: both transcripts would be {target}; rename one"
                )
            jobs.setdefault(target, job)
    if audio is not None and audio.is_file() and len(jobs) > 1:
        raise PixitError(f"{audio}: is one recording for {len(jobs)} results; give a folder of recordings")
    return list(jobs.values())


def transcribe_one(
    transcriber: Transcriber, job: Job, formats: tuple[str, ...], overwrite: bool, quiet: bool
) -> None:
    """Transcribe one recording, unless that is done, and write it in all formats."""
    from pixit.formats.transcripts import write_transcript
    from pixit.transcription.journal import Journal

    started_s = time.perf_counter()
    targets = [job.output / f"{job.name}{ENDINGS.get(format, f'.{format}')}" for format in formats]
    path = job.output / f"{job.name}.transcription.jsonl"
    existing = [target for target in targets if target.exists()]
    if overwrite:
        path.unlink(missing_ok=True)
    elif existing and not path.exists():
        raise PixitError(
            f"{existing[0]}: exists, and {path.name} does not; pass --overwrite or another --output"
        )
    with progress(job.name, quiet) as hook:
        request, recognize = prepare(transcriber, job)
        journal = Journal(path, request)
        utterances = recognize(session=job.name, journal=journal, hook=hook)
    due = targets if overwrite or journal.num_added else [t for t in targets if t not in existing]
    for target in due:
        write_transcript(target, utterances)
    where = ", ".join(map(str, targets))
    if not due:
        say(f"{job.path}: is done, see {where}", quiet)
        return
    say(f"{job.path}: {describe(utterances)}, {time.perf_counter() - started_s:.1f} s → {where}", quiet)


def prepare(transcriber: Transcriber, job: Job) -> tuple[dict[str, Any], Callable[..., list[Utterance]]]:
    """Return all that decides about the words of a job, and the function that finds them."""
    from pixit.audio import AudioFile
    from pixit.results import Separation

    request = transcriber.description | {"attribution": job.attribution}
    if not job.path.is_dir():
        request["source_sha256"] = file_hash(AudioFile(job.path).info.path)
        request["rttm_sha256"] = file_hash(job.rttm) if job.rttm else None
        return request, partial(transcriber.mixture, job.path, read_turns(job))
    result = Separation.load(job.path)
    request["result_sha256"] = file_hash(job.path / f"{job.name}.json")
    if job.attribution == "separation":
        return request, partial(transcriber.separation, result)
    audio = find_audio(job, result)
    request["source_sha256"] = file_hash(audio.info.path)
    return request, partial(transcriber.mixture, audio, result.turns)


def read_turns(job: Job) -> list[Turn] | None:
    """Return the turns of a recording in the RTTM file of a job, or None if there is no such file."""
    from pixit.formats.names import match_items
    from pixit.formats.rttm import read_rttm

    if job.rttm is None:
        return None
    turns, notes = match_items([job.path.stem], read_rttm(job.rttm), str(job.rttm))
    warn(notes)
    if job.path.stem not in turns:
        raise PixitError(f"{job.rttm}: has no turns of {job.path.stem}; does it belong to {job.path}?")
    return turns[job.path.stem]


def find_audio(job: Job, result: Separation) -> AudioFile:
    """Open the recording that a result was made of.

    Raises
    ------
    PixitError
        If it is not there, or not the one that was separated.
    """
    from pixit.formats.results_folder import find_recording

    audio = find_recording(result, job.audio)
    if audio is None:
        source = result.settings.get("source", "its recording")
        raise PixitError(f"{source}: no such file, the recording of {job.path}; name it with --audio")
    return audio


def describe(utterances: list[Utterance]) -> str:
    """Say how much was recognised."""
    words = sum(len(u.words.split()) for u in utterances)
    speakers = len({utterance.speaker for utterance in utterances})
    return f"{words} word{'' if words == 1 else 's'}, {speakers} speaker{'' if speakers == 1 else 's'}"
