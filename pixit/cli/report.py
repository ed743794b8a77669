"""``pixit report``: a page to look at and listen to each result."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import progress, say, warn


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="RTTM", help="who spoke when, by the reference"
)
@click.option(
    "--scores",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="a table that pixit evaluate wrote as .json; may be given again",
)
@click.option(
    "--transcript",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="who said what: SegLST (.json), .stm, .ctm, .srt or .vtt",
)
@click.option(
    "--audio",
    type=click.Path(path_type=Path),
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
    type=click.Path(path_type=Path),
    help="a file named .html for one result, or a folder  [default: NAME.html beside the result]",
)
@click.option("--quiet", is_flag=True, help="print errors only")
def report(
    results: tuple[Path, ...],
    reference: Path | None,
    scores: tuple[Path, ...],
    transcript: Path | None,
    audio: Path | None,
    sound: str,
    output: Path | None,
    quiet: bool,
) -> None:
    """Write a page to look at and listen to each result.

    DIR is the folder of a result of pixit separate, or a folder of such folders. A page is one HTML file with
    all in it, pictures and sound: it opens in any browser, without a network.
    """
    from pixit.report.many import write_reports

    with progress(None, quiet) as bars:
        for result, page in write_reports(
            results,
            output,
            reference=reference,
            transcript=transcript,
            audio=audio,
            scores=scores,
            sound=sound,
            warn=warn,
            hook=bars,
        ):
            bars.clear()
            say(f"{result.uri}: {page.stat().st_size / 1e6:.1f} MB → {page}", quiet)
