"""The page itself: sound and pictures into a file, one lane after the other, and all else around them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pixit.audio import OPUS_RATES_HZ, Samples, encode_clip, open_audio
from pixit.files import whole_file
from pixit.formats.transcripts import Utterance
from pixit.report import media
from pixit.report.content import Content, Lane, gather_content
from pixit.report.markup import MARK, fill_template
from pixit.results import Separation
from pixit.types import Hook, PixitError, Turn

SOUNDS = ("auto", "flac", "opus", "none")
FLAC_LIMIT_S = 900  # up to here a page of lossless sound stays below some 30 MB


def write_report(
    result: Separation,
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
        Progress callback: a step for each lane, after each clip.

    Raises
    ------
    PixitError
        If `sound` is unknown; the file exists and is not a report, or cannot be written; or as `find_recording`.
    """
    path, kind = Path(path), _choose_sound(sound, result.duration_s)
    _check_replaceable(path)
    sound_hz = next((rate for rate in OPUS_RATES_HZ if rate >= result.sample_rate_hz), OPUS_RATES_HZ[-1])
    mixture = media.find_mixture(result, sound_hz, audio)
    content = gather_content(result, mixture, kind, reference, scores, transcript)
    with whole_file(path) as new, new.open("w", encoding="utf-8", newline="\n") as file:
        _write_page(file, content, mixture, sound_hz, hook)
    return path


def _choose_sound(sound: str, duration_s: float) -> str:
    if sound not in SOUNDS:
        raise PixitError(f"unknown kind of sound {sound!r}; expected one of {', '.join(SOUNDS)}")
    if sound == "auto":
        return "flac" if duration_s <= FLAC_LIMIT_S else "opus"
    return sound


def _write_page(
    file: TextIO, content: Content, mixture: media.Mixture, sound_hz: int, hook: Hook | None
) -> None:
    grid = media.Grid(sound_hz, round(content.result.duration_s * sound_hz))
    head, foot = fill_template(content)
    file.write(head)
    writer = LaneWriter(file, grid, content.sound, hook)
    # in the order of the lanes that have sound; decoded when they are written
    tracks = [open_audio(track.path, sound_hz).blocks() for track in content.result.tracks.values()]
    streams = [mixture.blocks(), *tracks] if mixture.parts else []
    with_sound = content.lanes[: len(streams)]
    pictures = [writer.write(lane, blocks) for lane, blocks in zip(with_sound, streams, strict=True)]
    file.write(_script(_data(content, grid, pictures), "application/json", "data"))
    file.write(foot)


@dataclass
class LaneWriter:
    """Writes the sound of lanes into a page, and gathers their pictures.

    Parameters
    ----------
    file
        The page.
    grid
        How signals are divided.
    sound
        ``"flac"``, ``"opus"`` or ``"none"``.
    hook
        Progress callback.
    """

    file: TextIO
    grid: media.Grid
    sound: str
    hook: Hook | None = None
    scale: media.Scale | None = None
    num_lanes: int = 0

    def write(self, lane: Lane, blocks: Iterable[Samples]) -> dict[str, Any]:
        """Write the clips of a lane as lines of base64, an empty one for silence; return its pictures."""
        peaks, levels = [], []
        num_clips = -(-self.grid.num_samples // self.grid.clip_samples)
        self.file.write(f'<script type="text/plain" id="sound-{self.num_lanes}">')
        for number, clip in enumerate(media.cut_clips(blocks, self.grid), start=1):
            peaks.append(media.peaks_of(clip, self.grid))
            levels.append(media.levels_of(clip, self.grid))
            if self.sound != "none" and np.abs(peaks[-1]).max() > media.SILENCE:
                encoded = encode_clip(clip, self.grid.sample_rate_hz, self.sound)
                self.file.write(base64.b64encode(encoded).decode("ascii"))
            self.file.write("\n")
            if self.hook is not None:
                self.hook(lane.name, None, total=num_clips, completed=number)
        self.file.write("</script>\n")
        self.num_lanes += 1
        all_peaks, all_levels = np.concatenate(peaks), np.concatenate(levels)
        self.scale = self.scale or media.Scale.of(all_peaks, all_levels)  # the mixture comes first
        whole, tiles = media.pack_levels(all_levels, self.scale)
        return {"peaks": media.pack_peaks(all_peaks, self.scale), "whole": whole, "tiles": tiles}


def _data(content: Content, grid: media.Grid, pictures: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the page's script needs to know, fit for JSON."""
    lanes = []
    for index, lane in enumerate(content.lanes):
        entry = {"name": lane.name, "kind": lane.kind, "turns": lane.turns, "reference": lane.reference}
        lanes.append(entry | (pictures[index] if index < len(pictures) else {}))
    return {
        "duration": content.result.duration_s,
        "sampleRate": grid.sample_rate_hz,
        "sound": content.sound,
        "clip": media.CLIP_S,
        "margin": grid.margin_samples / grid.sample_rate_hz,
        "pointsPerSecond": grid.sample_rate_hz / grid.point_samples,
        "columnsPerSecond": grid.sample_rate_hz / grid.column_samples,
        "tileColumns": media.TILE_COLUMNS,
        "lanes": lanes,
        "words": [[u.start_s, u.end_s, u.words, content.lane_of(u.speaker)] for u in content.words],
    }


def _script(data: dict[str, Any], kind: str, name: str) -> str:
    # a "<" would let a speaker's name close the element
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="{kind}" id="{name}">{text}</script>\n'


def _check_replaceable(path: Path) -> None:
    """Raise if `path` is something other than an older report: what pixit did not write is never replaced."""
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PixitError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
    if MARK.encode() not in start:
        raise PixitError(f"{path}: exists and is not a report of pixit; choose another file")
