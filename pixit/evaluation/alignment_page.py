"""The words of reference and hypothesis side by side in a browser, drawn by MeetEval's visualisation.

MeetEval's own page loads D3 from a content delivery network; this one carries it (ISC licence), and all
sessions, so that it opens from disk without a network.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

from pixit.evaluation.transcript import NORMALIZERS, Normalizer, Transcript, load_normalizer, read_sessions
from pixit.evaluation.word_errors import MAX_SPEAKERS, hushed, obstacle, to_seglst
from pixit.formats.transcripts import Utterance
from pixit.types import PixitError

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Alignment of transcripts</title>
<link rel="icon" href="data:,">
<style>{css}</style>
<style>
  html, body {{ height: 100%; margin: 0; overflow: hidden; font-family: Arial, Helvetica, sans-serif; }}
  body {{ display: flex; flex-direction: column; }}
  header {{ padding: 4px 8px; }}
  main {{ flex: 1; min-height: 0; }}
  .meeteval-viz {{ width: 100%; height: 100%; }}
</style>
<script>{d3}</script>
<script>{visualize}</script>
</head>
<body>
<header><label>Session <select id="session">{options}</select></label> aligned as for cpWER</header>
<main><div class="meeteval-viz" id="view"></div></main>
<script>
  const sessions = {sessions};
  const select = document.getElementById("session");
  const asked = decodeURIComponent(location.hash.slice(1));
  if (asked in sessions) select.value = asked;
  select.addEventListener("change", () => {{
    location.hash = encodeURIComponent(select.value);
    location.reload();  // MeetEval's drawing cannot be taken down
  }});
  alignment_visualization(sessions[select.value], "#view", {{
    colors: colormaps.default,
    barplot: {{ style: "absolute", scaleExcludeCorrect: false }},
    minimaps: {{ number: sessions[select.value].info.end_time > 300 ? 2 : 1 }},
    show_details: true,
    show_legend: true,
    search_bar: {{ initial_query: null }},
    recording_file: {{ "": "" }},
    match_width: 0.1,
    audio_server: "http://localhost:7777",
    syncID: null,
    encodeURL: false,
    show_playhead: false,
  }});
</script>
</body>
</html>
"""


def alignment_page(
    reference: Transcript, hypothesis: Transcript, normalizer: str | Normalizer = NORMALIZERS[0]
) -> str:
    """Return a self-contained HTML page that shows how cpWER aligns the words of each session.

    Parameters
    ----------
    reference, hypothesis, normalizer
        As for `pixit.evaluation.transcript.evaluate_transcript`; both sides need times. Sessions that are not
        in the reference or have no words are left out.

    Raises
    ------
    PixitError
        If a transcript cannot be read or lacks times, or no session can be shown.
    """
    normalize = load_normalizer(normalizer)
    references = read_sessions(reference, normalize, True, "reference")
    hypotheses = read_sessions(hypothesis, normalize, True, "hypothesis")
    sessions = {}
    for session, utterances in references.items():
        pair = utterances, hypotheses.get(session, [])
        if any(utterance.words for side in pair for utterance in side) and not obstacle("cpwer", *pair):
            sessions[session] = _alignment(*pair)
    if not sessions:
        raise PixitError(f"no session to show; expected words, and at most {MAX_SPEAKERS['cpwer']} speakers")
    meeteval = files("meeteval.viz")
    return PAGE.format(
        css=(meeteval / "visualize.css").read_text(encoding="utf-8"),
        d3=(files("pixit") / "evaluation" / "d3" / "d3.min.js").read_text(encoding="utf-8"),
        visualize=(meeteval / "visualize.js").read_text(encoding="utf-8"),
        options="".join(f"<option>{html.escape(session)}</option>" for session in sessions),
        sessions=json.dumps(sessions, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _alignment(reference: list[Utterance], hypothesis: list[Utterance]) -> dict[str, Any]:
    """Return what MeetEval's script draws."""
    from meeteval.viz.visualize import get_visualization_data

    sides = [
        to_seglst(side).map(
            lambda s: {**s, "start_time": float(s["start_time"]), "end_time": float(s["end_time"])}
        )
        for side in (reference, hypothesis)
    ]
    with hushed():
        return get_visualization_data(*sides, assignment="cp") | {"markers": None}
