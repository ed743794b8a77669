"""A page for each of several results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pixit.formats.names import find_results, match_items
from pixit.formats.rttm import read_rttm
from pixit.formats.transcripts import match_sessions
from pixit.report.page import write_report
from pixit.results import Separation
from pixit.types import Hook, PixitError


def write_reports(
    results: Iterable[Path | str],
    output: Path | None = None,
    *,
    reference: Path | None = None,
    transcript: Path | None = None,
    audio: Path | None = None,
    scores: Sequence[Path] = (),
    sound: str = "auto",
    warn: Callable[[list[str]], Any] | None = None,
    hook: Hook | None = None,
) -> Iterator[tuple[Separation, Path]]:
    """Write a page for each result, and yield the result and its page when that is written.

    Parameters
    ----------
    results
        As of `find_results`.
    output
        A file named .html for one result, or a folder; by default NAME.html beside the folder of the result.
    reference, transcript
        Who really spoke when, as `read_rttm` reads it, and who said what, as `read_transcript` does.
    audio
        The recording of a single result.
    scores, sound
        As of `write_report`.
    warn
        Given what the user should know: names that differ and are taken for the same recording.
    hook
        As of `write_report`; ``file`` is the name of the recording.

    Raises
    ------
    PixitError
        Before any page is written, if a file cannot be read, or is of none of the recordings, or two pages would
        be the same file; later, as `write_report`.
    """
    folders = find_results(results)
    pages = _name_pages(folders, output)
    if audio is not None and len(folders) > 1:
        raise PixitError(f"{audio}: is one recording, found {len(folders)} results; report each alone")
    loaded = [Separation.load(folder) for folder in folders]
    uris = [result.uri for result in loaded]
    turns, notes = ({}, []) if reference is None else match_items(uris, read_rttm(reference), str(reference))
    words, more = ({}, []) if transcript is None else match_sessions(uris, transcript)
    if warn is not None:
        warn([*notes, *more])
    for result, page in zip(loaded, pages, strict=True):
        write_report(
            result,
            page,
            audio=audio,
            reference=None if reference is None else turns.get(result.uri, ()),
            scores=scores,
            transcript=words.get(result.uri, ()),
            sound=sound,
            hook=None if hook is None else partial(hook, file=result.uri),
        )
        yield result, page


def _name_pages(folders: Sequence[Path], output: Path | None) -> list[Path]:
    """Return the file of each page; its folder is made when it is written."""
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
    return pages
