"""How a result is shown: the picture of who spoke when, and what a notebook displays."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito, colour-blind safe
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True)
class Lane:
    """What is drawn of one speaker."""

    speaker: str
    turns: Sequence[tuple[float, float]]  # (start_s, end_s), disjoint
    envelope: NDArray[np.float32]  # lowest and highest sample of each stretch of the track, (2, points)

    @property
    def talk_s(self) -> float:
        """How long the speaker talks."""
        return sum(end_s - start_s for start_s, end_s in self.turns)


def draw_timeline(title: str, lanes: Sequence[Lane], duration_s: float) -> Figure:
    """Draw a lane per speaker with the turns in colour and the track's envelope on them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_lanes = max(1, len(lanes))
    figure = Figure(figsize=(12, 0.9 + 0.75 * num_lanes), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: nothing global, no window
    axes = figure.subplots()
    # One scale for all tracks, so that loud and quiet ones can be compared; a few clicks may stick out.
    loudest = max(
        (float(np.quantile(np.abs(lane.envelope).max(axis=0), 0.995)) for lane in lanes), default=0.0
    )
    for number, lane in enumerate(lanes):
        _draw_lane(axes, number, lane, loudest or 1.0, duration_s)
    if not lanes:
        axes.text(0.5, 0.5, "no speech found", transform=axes.transAxes, ha="center", va="center", size=14)
    axes.set_ylim(num_lanes - 0.5, -0.5)
    titles = [f"{lane.speaker}\n{clock(lane.talk_s)} · {lane.talk_s / duration_s:.0%}" for lane in lanes]
    axes.set_yticks(range(len(lanes)), titles, parse_math=False)
    number_of_speakers = f"{len(lanes)} speaker{'' if len(lanes) == 1 else 's'}"
    axes.set_title(title, loc="left", weight="bold", color="#222222", parse_math=False)
    axes.set_title(f"{clock(duration_s)} · {number_of_speakers}", loc="right", color="#555555", size=10)
    _draw_time_axis(axes, duration_s)
    return figure


def render_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a name in a script that the font lacks is no reason to warn
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def render_html(
    title: str, lanes: Sequence[Lane], duration_s: float, picture: bytes, sounds: Sequence[bytes]
) -> str:
    """Show a notebook the timeline (PNG) and the speakers, with a player each if there are `sounds` (FLAC)."""
    players = [
        f'<audio controls preload="none" src="{_data_url(sound, "audio/flac")}"></audio>' for sound in sounds
    ] or [""] * len(lanes)
    rows = [
        f"<tr><td>{html.escape(lane.speaker)}</td><td>{clock(lane.talk_s)}</td>"
        f"<td>{lane.talk_s / duration_s:.0%}</td><td>{player}</td></tr>"
        for lane, player in zip(lanes, players, strict=True)
    ]
    image = _data_url(picture, "image/png")
    header = "<tr><th>speaker</th><th>speech</th><th>share</th><th></th></tr>"
    return (
        f'<div><img src="{image}" style="max-width:100%" alt="timeline of {html.escape(title)}">'
        f"<table>{header}{''.join(rows)}</table></div>"
    )


def clock(time_s: float) -> str:
    """Write a length of time as ``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _draw_lane(axes: Axes, number: int, lane: Lane, loudest: float, duration_s: float) -> None:
    """Draw turns and envelope of one speaker; a sample of `loudest` is as high as the lane."""
    colour = COLOURS[number % len(COLOURS)]
    bars = [(start_s, end_s - start_s) for start_s, end_s in lane.turns]
    # not snapped to pixels: in a long recording a turn narrower than one shades it by its share
    axes.broken_barh(bars, (number - 0.42, 0.84), color=colour, alpha=0.25, linewidth=0, snap=False)
    low, high = np.clip(lane.envelope / loudest, -1, 1)
    times_s = np.linspace(0, duration_s, len(low))
    # y grows downwards, from the first speaker to the last
    axes.fill_between(times_s, number - 0.4 * high, number - 0.4 * low, color=colour, linewidth=0.4)


def _draw_time_axis(axes: Axes, duration_s: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axes.set_xlim(0, duration_s or 1)
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
