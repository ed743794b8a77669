"""The parts of a page as HTML; every text that comes from outside is escaped here."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from pixit.report.content import Content, Lane, Scores, flatten, share, summarise
from pixit.report.timeline import clock

MARK = "<!-- a report of pixit -->"
SOUNDS_HERE = "<!-- sounds -->"
SCRIPTS = ("player.js", "pictures.js", "view.js", "page.js")
SOUND_NAMES = {"flac": "FLAC, lossless", "opus": "Opus, 24 kbit/s", "none": "left out"}
NUM_COLOURS = 8  # --speaker-0 to --speaker-7 in style.css
SPEECH_GAP_S = 1.0  # words of one speaker that are closer stand on one line of the transcript
LINE_S = 20.0  # a line holds no more than about this


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
        notice=_notice(content),
        transcript=_transcript(content),
        scores="".join(map(_scores, content.scores)),
        settings=_settings(content.result.settings),
        sound=content.sound,
        script="\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )
    head, _, foot = page.partition(SOUNDS_HERE)
    return head, foot


def _facts(content: Content) -> str:
    facts = {"length": clock(content.result.duration_s)} | summarise(content.result)
    facts |= {"mixture": content.origin, "sound": SOUND_NAMES[content.sound]}
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items()
    )


def _notice(content: Content) -> str:
    if content.result.tracks:
        return ""
    return '<p class="notice">No speech was found in this recording.</p>'


def _lane(content: Content, index: int) -> str:
    """Return the row of a lane: its head with the controls, and a canvas to draw on."""
    lane = content.lanes[index]
    name = escape(lane.name)
    number = sum(other.kind != "mixture" for other in content.lanes[:index])  # of the speaker, from 0
    colour = "var(--ink)" if lane.kind == "mixture" else f"var(--speaker-{number % NUM_COLOURS})"
    controls = "" if lane.kind == "reference" or content.sound == "none" else _controls(name, index, lane)
    return (
        f'<section class="lane {lane.kind}" data-lane="{index}" style="--colour: {colour}" aria-label="{name}">'
        f'<div class="head"><h3 title="{name}"><span class="dot"></span>{name}</h3>'
        f"<p>{_lane_facts(content, lane)}</p>{controls}</div>"
        f'<div class="view"><canvas role="img" aria-label="{_described(lane)}"></canvas></div></section>'
    )


def _controls(name: str, index: int, lane: Lane) -> str:
    key = "0" if lane.kind == "mixture" else str(index) if index < 10 else ""
    hint = f" (key {key})" if key else ""
    muted = "false" if lane.kind == "mixture" else "true"  # the tracks sum to the mixture: one of both sounds
    return (
        '<div class="controls">'
        f'<button type="button" class="mute" aria-pressed="{muted}" aria-label="Mute {name}" title="Mute">M</button>'
        f'<button type="button" class="solo" aria-pressed="false" aria-label="Solo {name}" '
        f'title="Solo{hint}">S</button>'
        f'<input type="range" class="gain" min="0" max="2" step="0.05" value="1" aria-label="Volume of {name}" '
        f'title="Volume">'
        '<span class="meter" aria-hidden="true"><i></i></span></div>'
    )


def _lane_facts(content: Content, lane: Lane) -> str:
    if lane.kind == "mixture":
        return "the whole recording"
    stretches = lane.turns if lane.kind == "track" else lane.reference
    talk_s = sum(end_s - start_s for start_s, end_s in stretches)
    turns = f"{len(stretches)} turn{'' if len(stretches) == 1 else 's'}"
    facts = f"{clock(talk_s)} · {share(talk_s, content.result.duration_s)} · {turns}"
    if lane.kind == "reference":
        return f"{facts}<br>reference only"
    if content.has_reference:
        name = "no one" if lane.reference_name is None else escape(lane.reference_name)
        facts += f'<br><span class="who">reference: {name}</span>'
    return facts


def _described(lane: Lane) -> str:
    if lane.kind == "mixture":
        return "waveform and spectrogram of the mixture"
    if lane.kind == "reference":
        return f"turns of {escape(lane.name)} in the reference"
    return f"turns, waveform and spectrogram of {escape(lane.name)}"


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


def _transcript(content: Content) -> str:
    """Return the transcript, a line for each stretch of one speaker; empty without words."""
    lines: list[tuple[int, str, list[int]]] = []  # lane, speaker, places of the utterances
    for place, utterance in enumerate(content.words):
        if lines:
            _, speaker, places = lines[-1]
            first, last = content.words[places[0]], content.words[places[-1]]
            close = utterance.start_s - last.end_s <= SPEECH_GAP_S
            if speaker == utterance.speaker and close and utterance.end_s - first.start_s <= LINE_S:
                places.append(place)
                continue
        lines.append((content.lane_of(utterance.speaker), utterance.speaker, [place]))
    if not lines:
        return ""
    items = "".join(_transcript_line(content, *line) for line in lines)
    return (
        '<section class="card"><h2 id="transcript-title">Transcript</h2>'
        f'<ol class="transcript" tabindex="0" aria-labelledby="transcript-title">{items}</ol></section>'
    )


def _transcript_line(content: Content, lane: int, speaker: str, places: list[int]) -> str:
    number = sum(other.kind != "mixture" for other in content.lanes[: max(lane, 0)])
    colour = f"var(--speaker-{number % NUM_COLOURS})" if lane >= 0 else "var(--faint)"
    start_s = content.words[places[0]].start_s
    words = " ".join(
        f'<span data-word="{place}">{escape(content.words[place].words)}</span>' for place in places
    )
    return (
        f'<li style="--colour: {colour}"><button type="button" data-seek="{start_s:.3f}">{clock(start_s)}</button>'
        f"<b>{escape(speaker)}</b><p>{words}</p></li>"
    )
