"""``pixit report``: a page to look at and listen to each result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pixit.cli.console import progress, say, warn
from pixit.types import PixitError

if TYPE_CHECKING:
    from pixit.formats.transcripts import Utterance
    from pixit.types import Turn


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option("--reference", type=click.Path(path_type=Path), metavar="RTTM", help="who really spoke when")
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
@click.option("--quiet", is_flag=True, help="say nothing but errors")
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
    from pixit.formats.names import match_items
    from pixit.formats.results_folder import find_results
    from pixit.formats.rttm import read_rttm
    from pixit.formats.transcripts import match_sessions
    from pixit.report.page import write_report
    from pixit.results import Separation

    folders = find_results(results)
    pages = name_pages(folders, output)
    if audio is not None and len(folders) > 1:
        raise PixitError(
            f"--audio {audio}: is one recording, found {len(folders)} results; report each alone"
        )
    loaded = [Separation.load(folder) for folder in folders]
    uris = [result.uri for result in loaded]
    notes: list[str] = []
    turns: dict[str, list[Turn]] | None = None
    words: dict[str, list[Utterance]] = {}
    if reference is not None:
        turns, notes = match_items(uris, read_rttm(reference), str(reference))
    if transcript is not None:
        words, more = match_sessions(uris, transcript)
        notes += more
    warn(notes)
    for result, page in zip(loaded, pages, strict=True):
        with progress(result.uri, quiet) as hook:
            write_report(
                result,
                page,
                audio=audio,
                reference=None if turns is None else turns.get(result.uri, ()),
                scores=scores,
                transcript=words.get(result.uri, ()),
                sound=sound,
                hook=hook,
            )
        say(f"{result.uri}: {page.stat().st_size / 1e6:.1f} MB → {page}", quiet)


def name_pages(folders: list[Path], output: Path | None) -> list[Path]:
    """Return the file of each page; its folder exists."""
    names = [f"{folder.resolve().name}.html" for folder in folders]
    if output is None:
        pages = [folder.resolve().parent / name for folder, name in zip(folders, names, strict=True)]
    elif output.suffix.lower() not in (".html", ".htm"):
        pages = [output / name for name in names]
    elif len(folders) == 1:
        pages = [output]
    else:
        raise PixitError(f"{output}: is one page, found {len(folders)} results; give a folder as --output")
    double = next((page for page in pages if pages.count(page) > 1), None)
    if double is not None:
        raise PixitError(f"{double}: would be the page of two results; report them into different --output")
    for folder in {page.parent for page in pages}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PixitError(
                f"{folder}: cannot be made ({error.strerror}); choose another --output"
            ) from None
    return pages
