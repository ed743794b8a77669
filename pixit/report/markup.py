"""The parts of a page as HTML; every text that comes from outside is escaped here."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from pixit.diarized import Diarization
from pixit.report.content import Content, Lane, Scores, flatten
from pixit.report.timeline import clock

MARK = "<!-- a report of pixit -->"
SOUNDS_HERE = "<!-- sounds -->"
SCRIPTS = (
    *("turns.js", "stretch.js", "player.js", "pictures.js", "view.js"),
    *("transcript.js", "editor.js", "saving.js", "page.js"),
)
SOUND_NAMES = {"flac": "FLAC, lossless", "opus": "Opus, 24 kbit/s", "none": "left out"}
NUM_COLOURS = 8  # --speaker-0 to --speaker-7 in style.css
NOTHING = '<p class="notice">No speech was found in this recording.</p>'


def fill_template(content: Content) -> tuple[str, str]:
    """Return what comes before and after the sound of a page."""
    folder = files(__package__)
    page = Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        mark=MARK,
        title=escape(content.result.uri),
        duration=clock(content.result.duration_s),
        style=(folder / "style.css").read_text(encoding="utf-8"),
        facts=_facts(content),
        lanes="\n".join(_lane(content, index) for index in range(len(content.lanes))),
        notice="" if content.result.speakers else NOTHING,
        scores="".join(map(_scores, content.scores)),
        settings=_settings(content.result.settings),
        sound=content.sound,
        script="\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )
    head, _, foot = page.partition(SOUNDS_HERE)
    return head, foot


def _facts(content: Content) -> str:
    result = content.result
    facts = {
        "length": clock(result.duration_s),
        "speakers": str(len(result.speakers)),
        "speech": _share(result.diarization.get_timeline().support().duration(), result),
        "overlap": _share(result.diarization.get_overlap().duration(), result),
        "sample rate": f"{result.sample_rate_hz / 1000:g} kHz",
        "mixture": content.origin,
        "sound": SOUND_NAMES[content.sound],
    }
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items()
    )


def _share(part_s: float, result: Diarization) -> str:
    return f"{part_s / result.duration_s:.0%}" if result.duration_s else "–"


def _colour(content: Content, index: int) -> str:
    """Return the colour of a lane, -1 for none; speakers are numbered from 0."""
    if index < 0:
        return "var(--faint)"
    if content.lanes[index].kind == "mixture":
        return "var(--ink)"
    number = sum(other.kind != "mixture" for other in content.lanes[:index])
    return f"var(--speaker-{number % NUM_COLOURS})"


def _lane(content: Content, index: int) -> str:
    """Return the row of a lane: its head with the controls, and a canvas to draw on."""
    lane = content.lanes[index]
    name = escape(lane.name)
    described = {
        "mixture": "waveform and spectrogram of the mixture",
        "track": f"turns, waveform and spectrogram of {name}" if lane.has_sound else f"turns of {name}",
        "reference": f"turns of {name} in the reference",
    }[lane.kind]
    controls = _controls(name, index, lane) if lane.has_sound and content.sound != "none" else ""
    rename = ""
    if lane.kind == "track":
        rename = (
            f'<button type="button" class="rename" aria-label="Rename {name}" title="Rename (r)">✎</button>'
        )
    return (
        f'<section class="lane {lane.kind}" data-lane="{index}" style="--colour: {_colour(content, index)}" '
        f'aria-label="{name}">'
        f'<div class="head"><h3 title="{name}"><span class="dot"></span><span class="name">{name}</span>{rename}</h3>'
        f"<p>{_lane_facts(content, lane)}</p>{controls}</div>"
        f'<div class="view"><canvas role="img" aria-label="{described}"></canvas></div></section>'
    )


def _controls(name: str, index: int, lane: Lane) -> str:
    key = "0" if lane.kind == "mixture" else str(index) if index < 10 else ""
    hint = f" (key {key})" if key else ""
    download = (
        f'<button type="button" class="download" aria-label="Download the track of {name}" '
        f'title="Download as wav">↓</button>'
        if lane.kind == "track"
        else ""
    )
    muted = "false" if lane.kind == "mixture" else "true"  # the tracks sum to the mixture: one of both sounds
    return (
        '<div class="controls">'
        f'<button type="button" class="mute" aria-pressed="{muted}" aria-label="Mute {name}" title="Mute">M</button>'
        f'<button type="button" class="solo" aria-pressed="false" aria-label="Solo {name}" '
        f'title="Solo{hint}">S</button>'
        f'<input type="range" class="gain" min="0" max="2" step="0.05" value="1" aria-label="Volume of {name}" '
        f'title="Volume">{download}'
        '<span class="meter" aria-hidden="true"><i></i></span></div>'
    )


def _lane_facts(content: Content, lane: Lane) -> str:
    if lane.kind == "mixture":
        return "the whole recording"
    if lane.kind == "reference":
        talk_s = sum(end_s - start_s for start_s, end_s in lane.reference)
        turns = f"{len(lane.reference)} turn{'' if len(lane.reference) == 1 else 's'}"
        return f"{clock(talk_s)} · {_share(talk_s, content.result)} · {turns}<br>reference only"
    facts = '<span class="talk"></span>'  # by the page, since it changes there
    if content.has_reference:
        name = "no one" if lane.reference_name is None else escape(lane.reference_name)
        facts += f'<br><span class="who">reference: {name}</span><br><span class="who errors"></span>'
    return facts


def _scores(scores: Scores) -> str:
    head = "".join(f'<th scope="col">{escape(heading.replace("_", " "))}</th>' for heading in scores.headings)
    rows = []
    for index, row in enumerate(scores.rows):
        kind = ' class="total"' if index in scores.totals else ""
        rows.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return (
        f'<section class="card"><h2>{escape(scores.title)}</h2><div class="wide"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _settings(settings: dict[str, Any]) -> str:
    rows = []
    for key, value in flatten(settings).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>')
    return "".join(rows)
