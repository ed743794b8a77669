"""``pixit report``: a page to look at and listen to each result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixit.cli.console import PATH, examples, progress, quiet_option, warn


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
