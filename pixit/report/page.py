"""The page of each result: sound and pictures, one lane after the other, and all else around them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pixit.audio import OPUS_RATES_HZ, Samples, encode_clip, open_audio
from pixit.corrections import identity
from pixit.diarized import Diarization
from pixit.files import check_file, file_name, real_path, whole_file
from pixit.formats.names import find_results, match_items
from pixit.formats.rttm import read_rttm
from pixit.formats.transcripts import find_words
from pixit.formats.utterances import Utterance
from pixit.report import media
from pixit.report.content import Content, list_lanes, read_scores
from pixit.report.markup import MARK, fill_template
from pixit.results import Separation
from pixit.types import Hook, PixitError, Turn

SOUNDS = ("auto", "flac", "opus", "none")
FLAC_LIMIT_S = 900  # up to here a page of lossless sound stays below some 30 MB


def write_report(
    result: Diarization,
    path: Path | str,
    *,
    audio: Path | None = None,
    reference: Iterable[Turn] | None = None,
    scores: Iterable[Path] = (),
    transcript: Iterable[Utterance] | None = None,
    sound: str = "auto",
    hook: Hook | None = None,
) -> Path:
    """Write a page that shows and plays a result: one HTML file, which loads nothing; return its path.

    Memory does not grow with the recording, but for pictures of a bounded size.

    Parameters
    ----------
    result
        The separated recording.
    path
        The file; an older report is replaced.
    audio
        The recording; by default as `find_recording` finds it, or the sum of the tracks if it is not at hand.
    reference
        Who spoke when, by the reference. Speakers are paired as for the diarization error rate.
    scores
        JSON files as `read_scores` reads them.
    transcript
        Who said what in this recording; speakers are named as in the result or in the reference.
    sound
        ``"flac"`` (lossless), ``"opus"`` (about 24 kbit/s a track), ``"none"`` (pictures only), or ``"auto"``:
        flac up to a quarter of an hour, opus beyond.
    hook
        Progress callback: a step for each lane, after each clip; its ``file`` is the name of the recording.

    Raises
    ------
    PixitError
        If `sound` is unknown; the file exists and is not a report, or cannot be written; or as `find_recording`.
    """
    path = Path(path)
    if sound not in SOUNDS:
        raise PixitError(f"unknown kind of sound {sound!r}; expected one of {', '.join(SOUNDS)}")
    if sound == "auto":
        sound = "flac" if result.duration_s <= FLAC_LIMIT_S else "opus"
    _check_replaceable(path)
    sound_hz = next((rate for rate in OPUS_RATES_HZ if rate >= result.sample_rate_hz), OPUS_RATES_HZ[-1])
    mixture = media.find_mixture(result, sound_hz, audio)
    if not mixture.parts:
        sound = "none"
    lanes = list_lanes(result, reference, with_mixture=bool(mixture.parts))
    tables = [table for file in scores if (table := read_scores(Path(file), result.uri)) is not None]
    words = [u for u in transcript or () if u.words.strip() and not math.isnan(u.start_s)]
    words.sort(key=lambda utterance: (utterance.start_s, utterance.end_s))
    content = Content(result, lanes, mixture.origin, sound, tables, words, reference is not None)
    with whole_file(path) as new, new.open("w", encoding="utf-8", newline="\n") as file:
        _write_page(file, content, mixture, sound_hz, hook)
    return path


def write_reports(
    results: Iterable[Path | str],
    output: Path | None = None,
    *,
    reference: Path | None = None,
    transcript: Path | None = None,
    with_words: bool = True,
    audio: Path | None = None,
    scores: Sequence[Path] = (),
    sound: str = "auto",
    warn: Callable[[list[str]], Any] | None = None,
    hook: Hook | None = None,
) -> Iterator[tuple[Diarization, Path]]:
    """Write a page for each result, and yield the result and its page when that is written.

    Parameters
    ----------
    results
        As of `find_results`.
    output
        A file named .html for one result, or a folder; by default NAME.html beside the folder of the result.
    reference, transcript
        Who really spoke when, as `read_rttm` reads it, and who said what, as `find_words` finds it.
    with_words
        Whether the pages show who said what.
    audio
        The recording of a single result.
    scores, sound, hook
        As of `write_report`.
    warn
        Given what the user should know: names that differ and are taken for the same recording.

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
    loaded = [Diarization.load(folder) for folder in folders]
    uris = [result.uri for result in loaded]
    turns, notes = ({}, []) if reference is None else match_items(uris, read_rttm(reference), str(reference))
    words, more = find_words(loaded, transcript) if with_words else ({}, [])
    if warn is not None:
        warn([*notes, *more])
    for result, page in zip(loaded, pages, strict=True):
        own = None if reference is None else turns.get(result.uri, ())
        said = words.get(result.uri, ())
        write_report(
            result, page, audio=audio, reference=own, scores=scores, transcript=said, sound=sound, hook=hook
        )
        yield result, page


def _name_pages(folders: Sequence[Path], output: Path | None) -> list[Path]:
    """Return the file of each page; its folder is made when it is written."""
    names = [f"{real_path(folder).name}.html" for folder in folders]
    if output is None:
        pages = [real_path(folder).parent / name for folder, name in zip(folders, names, strict=True)]
    elif output.suffix.lower() not in (".html", ".htm"):
        pages = [output / name for name in names]
    elif len(folders) == 1:
        pages = [output]
    else:
        raise PixitError(f"{output}: is one page, found {len(folders)} results; give a folder as --output")
    if double := next((page for page in pages if pages.count(page) > 1), None):
        raise PixitError(f"{double}: would be the page of two results; report them into different --output")
    return pages


def _write_page(
    file: TextIO, content: Content, mixture: media.Mixture, sound_hz: int, hook: Hook | None
) -> None:
    grid = media.Grid(sound_hz, round(content.result.duration_s * sound_hz))
    head, foot = fill_template(content)
    file.write(head)
    # in the order of the lanes that have sound; decoded when they are written
    result = content.result
    own = result.tracks.values() if isinstance(result, Separation) else ()
    tracks = [open_audio(track.path, sound_hz).blocks() for track in own]
    streams = [mixture.blocks(), *tracks] if mixture.parts else []
    pictures: list[dict[str, Any]] = []
    scale = None
    for number, (lane, blocks) in enumerate(zip(content.lanes, streams, strict=False)):
        file.write(f'<script type="text/plain" id="sound-{number}">')
        step = None if hook is None else partial(hook, lane.name, None, file=content.result.uri)
        peaks, levels = _write_clips(file, blocks, grid, content.sound, step)
        file.write("</script>\n")
        scale = scale or media.Scale.of(peaks, levels)  # the mixture comes first
        whole, tiles = media.pack_levels(levels, scale)
        pictures.append({"peaks": media.pack_peaks(peaks, scale), "whole": whole, "tiles": tiles})
    data = json.dumps(_data(content, grid, pictures), ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # a "<" would let a speaker's name close the element
    file.write(f'<script type="application/json" id="data">{data}</script>\n{foot}')


def _write_clips(
    file: TextIO, blocks: Iterable[Samples], grid: media.Grid, sound: str, hook: Hook | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Write a signal's clips as lines of base64, an empty one for silence; return its peaks and levels."""
    peaks, levels = [], []
    num_clips = -(-grid.num_samples // grid.clip_samples)
    for number, clip in enumerate(media.cut_clips(blocks, grid), start=1):
        peaks.append(media.peaks_of(clip, grid))
        levels.append(media.levels_of(clip, grid))
        if sound != "none" and np.abs(peaks[-1]).max() > media.SILENCE:
            encoded = encode_clip(clip, grid.sample_rate_hz, sound)
            file.write(base64.b64encode(encoded).decode("ascii"))
        file.write("\n")
        if hook is not None:
            hook(total=num_clips, completed=number)
    return np.concatenate(peaks), np.concatenate(levels)


def _data(content: Content, grid: media.Grid, pictures: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the page's script needs to know, fit for JSON."""
    lanes = []
    for index, lane in enumerate(content.lanes):
        entry = {"name": lane.name, "kind": lane.kind, "turns": lane.turns, "reference": lane.reference}
        lanes.append(entry | (pictures[index] if index < len(pictures) else {}))
    return {
        "uri": content.result.uri,
        "name": file_name(content.result.uri),
        "made": identity(content.result),
        "duration": content.result.duration_s,
        "sampleRate": grid.sample_rate_hz,
        "sound": content.sound,
        "clip": media.CLIP_S,
        "margin": grid.margin_samples / grid.sample_rate_hz,
        "pointsPerSecond": grid.sample_rate_hz / grid.point_samples,
        "columnsPerSecond": grid.sample_rate_hz / grid.column_samples,
        "tileColumns": media.TILE_COLUMNS,
        "lanes": lanes,
        "words": [
            [u.start_s, u.end_s, u.words, content.lane_of(u.speaker), u.speaker] for u in content.words
        ],
    }


def _check_replaceable(path: Path) -> None:
    """Raise if `path` is something other than an older report: what pixit did not write is never replaced."""
    check_file(path, "a place for a report")
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PixitError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
    if MARK.encode() not in start:
        raise PixitError(f"{path}: exists and is not a report of pixit; choose another file")
