"""``pixit export``: who spoke when, for Audacity, Praat, ELAN, players and spreadsheets."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import PATH, examples, quiet_option, say, warn

FORMATS = ["audacity", "textgrid", "elan", "csv", "srt", "vtt", "table", "rttm", "uem", "lab"]


@click.command(
    epilog=examples("pixit export separated --to textgrid", "pixit export words.stm --to srt -o words.srt")
)
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.option("--to", required=True, type=click.Choice(FORMATS), help="format to write")
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
    recordings = read_labelled(inputs, lambda note: warn([note]))
    if audio is not None:
        recordings, notes = attach_audio(recordings, audio)
        warn(notes)
    with writable(folder):
        files = write(recordings, to, output, overwrite)
    target = files[0] if len(files) == 1 else folder
    number = f"{len(recordings)} recording{'' if len(recordings) == 1 else 's'}"
    say(f"{number} as {to} → {target}", quiet)
