"""``pixit export`` and ``pixit report``: what is made of results, for other programs and for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixit.cli.console import PATH, progress, quiet_option, say, warn

EXPORT_FORMATS = ["audacity", "textgrid", "elan", "csv", "srt", "vtt", "table", "rttm", "uem", "lab"]


@click.command()
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
@click.option("--overwrite", is_flag=True, help="replace files that exist")
@quiet_option
def export(
    inputs: tuple[Path, ...], to: str, output: Path, audio: Path | None, overwrite: bool, quiet: bool
) -> None:
    """Write INPUTS in another format: all of them, or none where one fails.

    INPUTS are RTTM files, result folders of `pixit separate`, transcripts (SegLST, STM, CTM, SRT, VTT), or
    folders of these. Each recording gets a file OUTPUT/NAME.ENDING; csv, rttm and uem can take all recordings
    into one file.

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
    from pixit.formats.labelled import attach_audio, read_labelled

    folder = output.parent if is_file(output, to) else output
    recordings = read_labelled(inputs)
    if audio is not None:
        recordings, notes = attach_audio(recordings, audio)
        warn(notes)
    with writable(folder):
        files = write(recordings, to, output, overwrite)
    target = files[0] if len(files) == 1 else folder
    number = f"{len(recordings)} recording{'' if len(recordings) == 1 else 's'}"
    say(f"{number} as {to} → {target}", quiet)


@click.command()
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
    help="who said what: SegLST (.json), .stm, .ctm, .srt or .vtt",
)
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
def report(results: tuple[Path, ...], output: Path | None, quiet: bool, **content: Any) -> None:
    """Write a page to look at and listen to each result.

    DIR is the folder of a result of pixit separate, or a folder of such folders. A page is one HTML file with
    all in it, pictures and sound: it opens in any browser, without a network.
    """
    from pixit.report.page import write_reports

    with progress(None, quiet) as bars:
        for result, page in write_reports(results, output, warn=warn, hook=bars, **content):
            bars.say(f"{result.uri}: {page.stat().st_size / 1e6:.1f} MB → {page}")
