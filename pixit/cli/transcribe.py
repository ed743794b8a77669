"""``pixit transcribe``: results of ``pixit separate`` or recordings in, who said what out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import (
    PATH,
    Bars,
    SettingsCommand,
    collect_overrides,
    device_option,
    examples,
    progress,
    quiet_option,
    say,
    set_option,
    warn,
)

if TYPE_CHECKING:
    from pixit.transcription.jobs import Outcome

ATTRIBUTIONS = ["separation", "diarization"]
FORMATS = ["seglst", "stm", "srt", "vtt"]
HINT = (
    "pocketsphinx is small and often wrong; --recognizer whisper:small.en is far better and downloads 0.5 GB"
)


@click.command(
    cls=SettingsCommand,
    settings="pixit.transcription.transcribe.TranscriptionSettings",
    epilog=examples(
        "pixit transcribe separated/meeting",
        "pixit transcribe separated --recognizer whisper:small.en --format srt --format seglst",
        "pixit transcribe meeting.wav --rttm meeting.rttm -o transcripts",
    ),
    fields={"padding_s": "--padding", "max_stretch_s": "--max-stretch"},
)
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, help="folder  [default: that of the result or recording]")
@click.option(
    "--recognizer",
    default="pocketsphinx",
    show_default=True,
    help="pocketsphinx, whisper[:MODEL] or faster-whisper[:MODEL]; MODEL is a name or a path",
)
@click.option("--language", help="code of the language, as en  [default: detected, if the model can]")
@device_option
@click.option(
    "--attribution",
    type=click.Choice(ATTRIBUTIONS),
    help="recognise the separated tracks, or the recording as the diarization cuts it up  "
    "[default: separation for results]",
)
@click.option("--audio", type=PATH, help="the recording of a result  [default: where it was]")
@click.option("--rttm", type=PATH, help="who spoke when in a recording")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="may be repeated  [default: seglst]",
)
@set_option
@click.option("--overwrite", is_flag=True, help="redo what is done or begun")
@quiet_option
def transcribe(
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
    meeting.transcription.jsonl, with which an interrupted run continues, and one that is done is not
    repeated.
    """
    from pixit.config import load_settings
    from pixit.transcription.jobs import transcribe_all
    from pixit.transcription.transcribe import TranscriptionSettings

    settings = load_settings(TranscriptionSettings, overrides=collect_overrides(overrides, **options))
    with progress(None, quiet) as bars:
        outcomes = transcribe_all(
            inputs,
            recognizer,
            output,
            attribution=attribution,
            audio=audio,
            rttm=rttm,
            formats=formats or FORMATS[:1],
            overwrite=overwrite,
            language=language,
            device=device,
            settings=settings,
            hook=bars,
        )
        for outcome in outcomes:
            show(outcome, bars)
    if recognizer == "pocketsphinx":
        say(HINT, quiet)


def show(outcome: Outcome, bars: Bars) -> None:
    """Say what became of a transcript."""
    where = ", ".join(map(str, outcome.files))
    if outcome.utterances is None:
        bars.complain(outcome.error or "failed")
    elif not outcome.is_new:
        bars.say(f"{outcome.job.path}: is done, see {where}")
    else:
        words = sum(len(utterance.words.split()) for utterance in outcome.utterances)
        speakers = len({utterance.speaker for utterance in outcome.utterances})
        number = f"{words} word{'' if words == 1 else 's'}, {speakers} speaker{'' if speakers == 1 else 's'}"
        bars.say(f"{outcome.job.path}: {number}, {outcome.elapsed_s:.1f} s → {where}")
    warn(outcome.notes)
