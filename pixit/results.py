"""What a separation gives: who spoke when, one track per speaker, and the folder that holds both.

Tracks stay on disk: nothing here but `Separation.sources` and ``np.asarray(track)`` loads one whole.
"""

from __future__ import annotations

import base64
import html
import io
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pyannote.core import Annotation, Segment, SlidingWindow, SlidingWindowFeature
from pydantic import BaseModel, ValidationError

from pixit.audio import BLOCK_SAMPLES, AudioFile, Samples, TrackWriter
from pixit.types import PixitError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIMELINE = "timeline.png"
ENVELOPE_POINTS = 2000
PLAYER_LIMIT_S = 900  # a notebook holds its players' sound: beyond this it becomes too heavy to open
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito, colour-blind safe
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass
class Track:
    """One mono track in a file; ``np.asarray(track)`` loads all of it, float32 (num_samples,).

    Parameters
    ----------
    path
        The audio file.
    sample_rate_hz, num_samples
        Of the file.
    temporary
        Folder of the file, if that is to vanish with the last track that needs it.
    """

    path: Path
    sample_rate_hz: int
    num_samples: int
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str) -> Track:
        """Open a mono file; a `PixitError` if it is missing or damaged."""
        audio = AudioFile(path)
        return cls(Path(path), audio.sample_rate_hz, audio.num_samples)

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read the samples [start, stop), float32 (stop - start,)."""
        return AudioFile(self.path).read(start, stop)

    def blocks(self, block_samples: int = BLOCK_SAMPLES) -> Iterator[Samples]:
        """Stream the track as blocks (n,)."""
        return AudioFile(self.path).blocks(block_samples)

    def envelope(self, num_points: int = ENVELOPE_POINTS) -> NDArray[np.float32]:
        """Return lowest and highest sample, and zero, of each of `num_points` stretches: (2, num_points).

        A track of fewer samples has one point for each.
        """
        edges = np.linspace(0, self.num_samples, min(num_points, self.num_samples) + 1).astype(np.int64)
        low, high = np.zeros((2, len(edges) - 1), np.float32)
        position = 0
        for block in self.blocks():
            first = np.searchsorted(edges, position, side="right") - 1
            last = np.searchsorted(edges, position + len(block), side="left")
            starts = np.maximum(edges[first:last] - position, 0)
            low[first:last] = np.minimum(low[first:last], np.minimum.reduceat(block, starts))
            high[first:last] = np.maximum(high[first:last], np.maximum.reduceat(block, starts))
            position += len(block)
        return np.stack([low, high])

    def __len__(self) -> int:
        return self.num_samples

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read().astype(dtype or np.float32, copy=False)


class _TurnEntry(BaseModel):
    speaker: str
    start: float
    end: float


class _TrackEntry(BaseModel):
    file: str
    peak: float
    clipped_samples: int


class _Description(BaseModel):
    """The JSON file of a result; its names are those of the field, times in seconds."""

    uri: str
    duration: float
    sample_rate: int
    num_samples: int
    tracks: dict[str, _TrackEntry]
    settings: dict[str, Any]
    diarization: list[_TurnEntry]


@dataclass(eq=False)
class Separation:
    """A separated recording; ``diarization, sources = separation`` unpacks it as pyannote.audio's pipeline.

    Parameters
    ----------
    uri
        Name of the recording.
    diarization
        Who spoke when.
    tracks
        Speaker -> track; each as long as the recording and aligned to it.
    sample_rate_hz, num_samples
        Of every track.
    settings
        How this was made, all of it fit for JSON.
    temporary
        Folder of the tracks, if it is to vanish with the last of them.
    """

    uri: str
    diarization: Annotation
    tracks: dict[str, Track]
    sample_rate_hz: int
    num_samples: int
    settings: dict[str, Any] = field(default_factory=dict)
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.temporary is not None:
            for track in self.tracks.values():  # a track may outlive the result that it came with
                track.temporary = self.temporary

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, in the order of the tracks."""
        return list(self.tracks)

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.num_samples / self.sample_rate_hz

    @property
    def sources(self) -> SlidingWindowFeature:
        """All tracks at once, (num_samples, speakers); takes 4 bytes of memory a sample and speaker."""
        data = np.zeros((len(self.tracks), self.num_samples), np.float32)
        for row, track in zip(data, self.tracks.values(), strict=True):
            position = 0
            for block in track.blocks():
                row[position : position + len(block)] = block
                position += len(block)
        step_s = 1 / self.sample_rate_hz
        window = SlidingWindow(start=0.0, duration=step_s, step=step_s)
        return SlidingWindowFeature(data.T, window, labels=self.speakers)

    def __iter__(self) -> Iterator[Annotation | SlidingWindowFeature]:
        yield self.diarization
        yield self.sources

    def save(self, folder: Path | str, format: str = "wav", overwrite: bool = False) -> Path:
        """Write the result into ``folder/NAME``, whole or not at all.

        ``NAME`` is `file_name` of the uri. Into its folder go ``NAME.rttm``, ``NAME.json``, a track for each
        speaker as ``SPEAKER_00.wav`` (16 bits), and ``timeline.png``. Times are rounded to milliseconds;
        turns that vanish by it are left out.

        Parameters
        ----------
        folder
            Where the folder of the result goes.
        format
            ``"wav"`` or ``"flac"``.
        overwrite
            Replace an older result of the same name.

        Returns
        -------
        pathlib.Path
            The folder ``folder/NAME``.

        Raises
        ------
        PixitError
            If the result exists and `overwrite` is not given, or something else stands in its place; two
            speakers need the same file name; or the disk is full or not to be written.
        """
        name = file_name(self.uri)
        target = Path(folder) / name
        _check_free(target, overwrite)
        files = {speaker: f"{file_name(speaker)}.{format}" for speaker in self.speakers}
        if len(set(files.values())) < len(files):
            raise PixitError(f"{target}: two speakers have the same file name; rename one of {self.speakers}")
        with whole_folder(target) as new:
            tracks = {
                speaker: _write_track(track, new / files[speaker], format)
                for speaker, track in self.tracks.items()
            }
            description = _Description(
                uri=self.uri,
                duration=self.duration_s,
                sample_rate=self.sample_rate_hz,
                num_samples=self.num_samples,
                tracks=tracks,
                settings=self.settings,
                diarization=self._turns(),
            )
            (new / f"{name}.json").write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
            with (new / f"{name}.rttm").open("w", encoding="utf-8") as file:
                self._rttm_annotation().write_rttm(file)
            (new / TIMELINE).write_bytes(self._repr_png_())
        return target

    @classmethod
    def load(cls, folder: Path | str) -> Separation:
        """Read a result that `save` wrote.

        Raises
        ------
        PixitError
            If the folder is none of a result, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        description = _read_description(folder)
        tracks = {}
        for speaker, entry in description.tracks.items():
            track = tracks[speaker] = Track.open(folder / Path(entry.file).name)
            found = (track.num_samples, track.sample_rate_hz)
            expected = (description.num_samples, description.sample_rate)
            if found != expected:
                raise PixitError(
                    f"{track.path}: has {found[0]} samples at {found[1]} Hz, the result's description says "
                    f"{expected[0]} at {expected[1]} Hz; separate the recording again"
                )
        diarization = Annotation(uri=description.uri)
        for turn in description.diarization:
            diarization[Segment(turn.start, turn.end), turn.speaker] = turn.speaker
        return cls(
            description.uri,
            diarization,
            tracks,
            description.sample_rate,
            description.num_samples,
            description.settings,
        )

    def _turns(self) -> list[_TurnEntry]:
        """Return the turns in whole milliseconds, as RTTM has them, none beyond the end of the recording."""
        end_ms = int(self.duration_s * 1000)
        turns = []
        for segment, _, speaker in self.diarization.itertracks(yield_label=True):
            start, end = (min(round(time_s * 1000), end_ms) for time_s in (segment.start, segment.end))
            if start < end:
                turns.append(_TurnEntry(speaker=str(speaker), start=start / 1000, end=end / 1000))
        return turns

    def _rttm_annotation(self) -> Annotation:
        annotation = Annotation(uri=file_name(self.uri))  # RTTM knows no spaces in names
        for turn in self._turns():
            annotation[Segment(turn.start, turn.end), turn.speaker] = file_name(turn.speaker)
        return annotation

    def plot(self) -> Figure:
        """Draw the timeline: a lane per speaker with the turns in colour and the track's envelope on them."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        num_lanes = max(1, len(self.tracks))
        figure = Figure(
            figsize=(12, 0.9 + 0.75 * num_lanes), dpi=150, facecolor="white", layout="constrained"
        )
        FigureCanvasAgg(figure)  # no pyplot: nothing global, no window
        axes = figure.subplots()
        envelopes = [track.envelope() for track in self.tracks.values()]
        # One scale for all tracks, so that loud and quiet can be told; a few clicks may stick out.
        loudest = max((float(np.quantile(np.abs(e).max(axis=0), 0.995)) for e in envelopes), default=0.0)
        for lane, (speaker, envelope) in enumerate(zip(self.speakers, envelopes, strict=True)):
            turns = [(s.start, s.duration) for s in self.diarization.label_timeline(speaker).support()]
            _draw_lane(axes, lane, turns, envelope / (loudest or 1.0), self.duration_s)
        if not self.tracks:
            axes.text(
                0.5, 0.5, "no speech found", transform=axes.transAxes, ha="center", va="center", size=14
            )
        axes.set_ylim(num_lanes - 0.5, -0.5)
        axes.set_yticks(range(len(self.tracks)), map(self._lane_title, self.speakers), parse_math=False)
        number = f"{len(self.tracks)} speaker{'' if len(self.tracks) == 1 else 's'}"
        axes.set_title(self.uri, loc="left", weight="bold", color="#222222", parse_math=False)
        axes.set_title(f"{clock(self.duration_s)} · {number}", loc="right", color="#555555", size=10)
        _draw_time_axis(axes, self.duration_s)
        return figure

    def _lane_title(self, speaker: str) -> str:
        talk_s = self.diarization.label_duration(speaker)
        return f"{speaker}\n{clock(talk_s)} · {talk_s / self.duration_s:.0%}"

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with warnings.catch_warnings():  # a name in a script that the font lacks is no reason to complain
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            self.plot().savefig(buffer, format="png")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        """Show a notebook the timeline, the speakers, and a player each if the recording is short enough."""
        rows = []
        with tempfile.TemporaryDirectory(prefix="pixit-") as temporary:
            for index, (speaker, track) in enumerate(self.tracks.items()):
                player = ""
                if self.duration_s < PLAYER_LIMIT_S:
                    path = Path(temporary) / f"{index}.flac"  # a fraction of wav: tracks are mostly silence
                    _write_track(track, path, "flac")
                    player = (
                        f'<audio controls preload="none" src="{_data_url(path.read_bytes(), "audio/flac")}">'
                    )
                    player += "</audio>"
                talk_s = self.diarization.label_duration(speaker)
                share = f"{talk_s / self.duration_s:.0%}"
                rows.append(
                    f"<tr><td>{html.escape(speaker)}</td><td>{clock(talk_s)}</td><td>{share}</td>"
                    f"<td>{player}</td></tr>"
                )
        picture = _data_url(self._repr_png_(), "image/png")
        header = "<tr><th>speaker</th><th>speech</th><th>share</th><th></th></tr>"
        return (
            f'<div><img src="{picture}" style="max-width:100%" alt="timeline of {html.escape(self.uri)}">'
            f"<table>{header}{''.join(rows)}</table></div>"
        )


def file_name(name: str) -> str:
    """Make a name fit for files and RTTM: white space and what file systems refuse become underscores."""
    safe = re.sub(r'[\s<>:"/\\|?*\x00-\x1f\x7f]', "_", name)
    return re.sub(r"^\.+", "_", safe) or "_"


def clock(time_s: float) -> str:
    """Write a length of time as ``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a hidden folder to fill, which takes the place of `target` at the end, or vanishes on an error.

    Raises
    ------
    PixitError
        If the folder cannot be written.
    """
    mark = secrets.token_hex(4)
    new, old = (target.with_name(f".pixit-{mark}-{age}") for age in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    except OSError as error:
        raise PixitError(
            f"{target}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from None
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check_free(target: Path, overwrite: bool) -> None:
    """Raise if a result must not go to `target`: what pixit did not write is never deleted."""
    if not target.exists():
        return
    if not overwrite:
        raise PixitError(f"{target}: exists already; overwrite it, or choose another folder")
    description = _read_description(target)
    own = {TIMELINE, f"{target.name}.json", f"{target.name}.rttm"}
    own |= {entry.file for entry in description.tracks.values()}
    foreign = sorted(path.name for path in target.iterdir() if path.name not in own)
    if foreign:
        raise PixitError(f"{target}: holds {foreign[0]}, which is no part of the result; move it elsewhere")


def _read_description(folder: Path) -> _Description:
    path = folder / f"{folder.resolve().name}.json"
    try:
        return _Description.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PixitError(
            f"{path}: cannot be read ({error.strerror}); expected the folder of a result"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PixitError(f"{path}: is no description of a result ({where}: {first['msg'].lower()})") from None


def _write_track(track: Track, path: Path, format: str) -> _TrackEntry:
    peak = 0.0
    with TrackWriter(path, track.sample_rate_hz, format, num_samples=track.num_samples) as writer:
        for block in track.blocks():
            writer.write(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
    return _TrackEntry(file=path.name, peak=round(peak, 5), clipped_samples=writer.clipped_samples)


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _draw_lane(
    axes: Axes,
    lane: int,
    turns: list[tuple[float, float]],
    envelope: NDArray[np.float32],
    duration_s: float,
) -> None:
    """Draw the turns (start, length) and the envelope (2, points), about -1 to 1, of one speaker."""
    colour = COLOURS[lane % len(COLOURS)]
    # not snapped to pixels: in a long recording a turn narrower than one shades it by its share
    axes.broken_barh(turns, (lane - 0.42, 0.84), color=colour, alpha=0.25, linewidth=0, snap=False)
    low, high = np.clip(envelope, -1, 1)
    times_s = np.linspace(0, duration_s, len(low))
    # y grows downwards, from the first speaker to the last
    axes.fill_between(times_s, lane - 0.4 * high, lane - 0.4 * low, color=colour, linewidth=0.4)


def _draw_time_axis(axes: Axes, duration_s: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axes.set_xlim(0, duration_s)
    step_s = next((step for step in TICKS_S if duration_s / step <= 12), duration_s / 12)
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    if duration_s <= 120:
        unit, write = "s", lambda time_s, _: f"{time_s:g}"
    elif duration_s <= 7200:
        unit, write = "min:s", lambda time_s, _: f"{time_s // 60:.0f}:{time_s % 60:02.0f}"
    else:
        unit, write = "h:min", lambda time_s, _: f"{time_s // 3600:.0f}:{time_s % 3600 // 60:02.0f}"
    axes.xaxis.set_major_formatter(FuncFormatter(write))
    axes.set_xlabel(unit, color="#555555", loc="right")
    axes.set_facecolor("white")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#333333", length=0)
    axes.spines[:].set_visible(False)
