"""What is made of results: ``pixit export`` and ``report``; and what people mend in them: ``rename``, ``correct``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixit.cli.console import PATH, examples, progress, quiet_option, say, warn

EXPORT_FORMATS = ["audacity", "textgrid", "elan", "csv", "srt", "vtt", "table", "rttm", "uem", "lab"]
WITH_WORDS = EXPORT_FORMATS[:6]

no_transcript_option = click.option("--no-transcript", is_flag=True, help="leave the words out")


def check_transcript(transcript: Path | None, no_transcript: bool) -> None:
    """Raise if a transcript is named, and is to be left out."""
    if transcript is not None and no_transcript:
        raise click.UsageError("give either --transcript or --no-transcript, not both")


@click.command(
    epilog=examples("pixit export separated --to textgrid", "pixit export words.stm --to srt -o words.srt")
)
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.option("--to", required=True, type=click.Choice(EXPORT_FORMATS), help="format to write")
@click.option(
    "-o",
    "--output",
    default="exported",
    show_default=True,
    type=PATH,
    help="folder, or file with the ending of the format",
)
@click.option(
    "--audio",
    type=PATH,
    help="recording, or folder of recordings: their length for textgrid, table and uem, the link for elan",
)
@click.option(
    "--transcript",
    type=PATH,
    metavar="FILE",
    help="who said what in results  [default: what pixit transcribe wrote beside them]",
)
@no_transcript_option
@click.option("--overwrite", is_flag=True, help="replace files that exist")
@quiet_option
def export(
    inputs: tuple[Path, ...],
    to: str,
    output: Path,
    audio: Path | None,
    transcript: Path | None,
    no_transcript: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write INPUTS in another format: all of them, or none where one fails.

    INPUTS are RTTM files, result folders of `pixit separate`, transcripts (SegLST, STM, CTM, SRT, VTT), or
    folders of these. Each recording gets a file OUTPUT/NAME.ENDING; csv, rttm and uem can take all recordings
    into one file. Where the format has words, results are exported with those of their transcript.

    \b
    audacity  label track, overlapping speakers in one
    textgrid  Praat, a tier each speaker            (needs pixit-audio[export])
    elan      .eaf, a tier each speaker             (needs pixit-audio[export])
    csv       recording, start_s, end_s, speaker, words
    srt, vtt  subtitles: speaker, and words of a transcript
    table     segment_001 0.00 2.57 SPEECH, where anyone speaks
    rttm      who spoke when
    uem       the whole recording, to be scored
    lab       start end speaker
    """  # noqa: D301 (\b keeps click from wrapping the table)
    from pixit.files import writable
    from pixit.formats.export import export as write
    from pixit.formats.export import is_file
    from pixit.formats.labelled import attach_audio, attach_words, read_labelled

    check_transcript(transcript, no_transcript)
    folder = output.parent if is_file(output, to) else output
    recordings = read_labelled(inputs, lambda note: warn([note]))
    if transcript is not None and (to not in WITH_WORDS or not any(one.result for one in recordings)):
        raise click.UsageError("--transcript goes with results, and with formats that have words")
    if to in WITH_WORDS and not no_transcript:
        recordings, notes = attach_words(recordings, transcript)
        warn(notes)
    if audio is not None:
        recordings, notes = attach_audio(recordings, audio)
        warn(notes)
    with writable(folder):
        files = write(recordings, to, output, overwrite)
    target = files[0] if len(files) == 1 else folder
    number = f"{len(recordings)} recording{'' if len(recordings) == 1 else 's'}"
    say(f"{number} as {to} → {target}", quiet)


@click.command(
    epilog=examples(
        "pixit report separated",
        "pixit report separated/meeting --reference meeting.rttm --transcript meeting.stm -o meeting.html",
    )
)
@click.argument("results", nargs=-1, required=True, metavar="DIR...", type=PATH)
@click.option("--reference", type=PATH, metavar="RTTM", help="who spoke when, by the reference")
@click.option(
    "--scores",
    multiple=True,
    type=PATH,
    metavar="JSON",
    help="a table that pixit evaluate wrote as .json; may be given again",
)
@click.option(
    "--transcript",
    type=PATH,
    metavar="FILE",
    help="who said what: SegLST (.json), .stm, .ctm, .srt or .vtt  [default: what pixit transcribe wrote "
    "beside the result]",
)
@no_transcript_option
@click.option(
    "--audio",
    type=PATH,
    help="the recording  [default: the separated file if it is still there, or the sum of the tracks]",
)
@click.option(
    "--sound",
    type=click.Choice(["auto", "flac", "opus", "none"]),
    default="auto",
    show_default=True,
    help="how sound is put into the page; auto: lossless up to 15 minutes, opus beyond",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="a file named .html for one result, or a folder  [default: NAME.html beside the result]",
)
@quiet_option
def report(
    results: tuple[Path, ...], output: Path | None, no_transcript: bool, quiet: bool, **content: Any
) -> None:
    """Write a page to look at, listen to and correct each result.

    DIR is the folder of a result of pixit separate, or a folder of such folders. A page is one HTML file with
    all in it, pictures and sound: it opens in any browser, without a network. What is corrected on it can be
    saved there, and be put into the result with pixit correct.
    """
    from pixit.report.page import write_reports

    check_transcript(content["transcript"], no_transcript)
    content["with_words"] = not no_transcript
    with progress(None, quiet) as bars:
        for result, page in write_reports(results, output, warn=warn, hook=bars, **content):
            bars.say(f"{result.uri}: {page.stat().st_size / 1e6:.1f} MB → {page}")


@click.command(epilog=examples("pixit rename separated/meeting SPEAKER_00=Ann SPEAKER_01=Bob"))
@click.argument("result", metavar="DIR", type=PATH)
@click.argument("names", nargs=-1, required=True, metavar="OLD=NEW...")
@quiet_option
def rename(result: Path, names: tuple[str, ...], quiet: bool) -> None:
    """Rename speakers of a result, everywhere in its folder and in the transcripts beside it, or nowhere.

    DIR is the folder of a result of pixit separate; OLD=NEW is as SPEAKER_00=Ann. A=B B=A swaps two names.
    """
    from pixit.corrections import rename_saved

    renamed = rename_saved(result, names)
    say(f"{renamed.uri}: {', '.join(renamed.speakers)} → {result}", quiet)


@click.command(epilog=examples("pixit correct separated/meeting meeting.corrections.json"))
@click.argument("result", metavar="DIR", type=PATH)
@click.argument("corrections", metavar="FILE", type=PATH)
@quiet_option
def correct(result: Path, corrections: Path, quiet: bool) -> None:
    """Give a result the names and turns that were corrected on its page.

    DIR is the folder of a result of pixit separate; FILE is what the page that pixit report has made of it saves
    as corrections. The transcripts beside the result follow. The tracks keep their sound.
    """
    from pixit.corrections import correct_saved

    corrected = correct_saved(result, corrections)
    turns = len(corrected.turns)
    say(f"{corrected.uri}: {turns} turns of {', '.join(corrected.speakers) or 'nobody'} → {result}", quiet)
