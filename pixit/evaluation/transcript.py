"""Word error rates of transcripts with speakers, and a page on which their words stand side by side.

MeetEval (von Neumann et al., CHiME 2023) does the arithmetic and draws; here are the reading, the text
normalisation, the rules for sessions that only one side has, and sums that nobody can average wrongly.
"""

from __future__ import annotations

import html
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from pixit.evaluation.tables import Column, Table
from pixit.evaluation.word_errors import (
    MAX_SPEAKERS,
    METRICS,
    TIMED,
    ErrorCounts,
    SpeakerScore,
    align_words,
    count_errors,
    obstacle,
)
from pixit.formats.names import match_sides, some
from pixit.formats.transcripts import Tell, read_transcript
from pixit.formats.utterances import Utterance
from pixit.types import PixitError

NORMALIZERS = ("whisper-english", "none")
"""Names of text normalisers; the first is the default."""

Normalizer = Callable[[str], str]
Transcript = Path | str | Iterable[Utterance]


@dataclass(frozen=True)
class SessionScore:
    """A session under one metric."""

    session: str
    counts: ErrorCounts | None  # None if it could not be scored under this metric; a note says why
    speakers: tuple[SpeakerScore, ...] = ()  # under cpWER and tcpWER, the pairs of the best assignment


@dataclass(frozen=True)
class TranscriptScores:
    """What `evaluate_transcript` found.

    Parameters
    ----------
    sessions
        Metric -> its scores, a session each, ordered by name.
    normalizer, collar_s
        How the texts were normalised, and the collar of the time-constrained metrics.
    notes
        What the user should know: sessions on one side only, sessions that a metric could not score.
    """

    sessions: dict[str, tuple[SessionScore, ...]]
    normalizer: str
    collar_s: float
    notes: tuple[str, ...] = ()

    def total(self, metric: str) -> ErrorCounts | None:
        """Return the summed counts of all sessions; None if one of them has no score."""
        counts = [score.counts for score in self.sessions[metric] if score.counts is not None]
        return sum(counts, start=ErrorCounts()) if len(counts) == len(self.sessions[metric]) else None

    def table(self, per_speaker: bool = True) -> Table:
        """Return a row each session, each speaker of it, and a total, metric by metric; rates in percent."""
        rows = []
        for metric, scores in self.sessions.items():
            for score in scores:
                rows.append(_row(metric, score.session, score.counts))
                pairs = score.speakers if per_speaker else ()
                rows += [_row(metric, score.session, p.counts, p.speaker, p.stream) for p in pairs]
            rows.append(_row(metric, "TOTAL", self.total(metric)))
        timed = [METRICS[metric] for metric in self.sessions if metric in TIMED]
        collar = f"; collar of {' and '.join(timed)}: {self.collar_s:g} s" if timed else ""
        return Table(f"Word error rates in %; text normaliser: {self.normalizer}{collar}", COLUMNS, rows)


COLUMNS = (
    Column("session", "session"),
    Column("metric", "metric"),
    Column("speaker", "speaker"),
    Column("stream", "hypothesis"),
    Column("error_rate_percent", "%"),
    Column("errors", "errors"),
    Column("substitutions", "sub"),
    Column("deletions", "del"),
    Column("insertions", "ins"),
    Column("length", "words"),
)


def _row(
    metric: str,
    session: str,
    counts: ErrorCounts | None,
    speaker: str | None = None,
    stream: str | None = None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "session": session,
        "metric": METRICS[metric],
        "speaker": speaker,
        "stream": stream,
    }
    if counts is None:
        return row
    rate = counts.error_rate
    percent = None if rate is None else 100 * rate
    return row | vars(counts) | {"error_rate_percent": percent, "errors": counts.errors}


def evaluate_transcript(
    reference: Transcript,
    hypothesis: Transcript,
    metrics: Sequence[str] = ("cpwer",),
    collar_s: float = 5.0,
    normalizer: str | Normalizer = NORMALIZERS[0],
) -> TranscriptScores:
    """Score a transcript against a reference.

    Utterances of a session are put in the order of their starts (of the file where times are missing). All
    streams of the hypothesis count: the words of one that matches no speaker are insertions. A session without
    hypothesis is all deletions; a session without reference is left out; a note names both. To charge what
    is recognised in a silent recording, give it a reference of one utterance without words.

    Parameters
    ----------
    reference, hypothesis
        A file or folder that `read_transcript` reads, or utterances.
    metrics
        Keys of `METRICS`. ``wer`` takes all words of a session as one stream in order of time, whoever speaks.
    collar_s
        Of tcpWER and tcORC-WER: how far a word may lie from its reference (MeetEval's ``--collar``).
    normalizer
        A name of `NORMALIZERS`, or a function of a text; applied to each utterance by itself.

    Raises
    ------
    PixitError
        If a transcript cannot be read, the reference is empty, no session is on both sides, times are
        missing that a metric needs, or a metric, the normaliser or the collar is unknown or impossible.
    """
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics:
        raise PixitError(f"unknown metrics {unknown}; expected one or more of {', '.join(METRICS)}")
    if not 0 <= collar_s < math.inf:
        raise PixitError(f"collar of {collar_s} s; expected 0 or more")
    timed = any(metric in TIMED for metric in metrics)
    normalize = load_normalizer(normalizer)
    notes: list[str] = []
    references = _read_sessions(reference, normalize, timed, "reference", notes.append)
    hypotheses = _read_sessions(hypothesis, normalize, timed, "hypothesis", notes.append)
    hypotheses, more = _match(references, hypotheses)
    notes += more
    sessions = {}
    for metric in dict.fromkeys(metrics):
        sessions[metric], unscored = _score_sessions(metric, references, hypotheses, collar_s)
        notes += unscored
    name = normalizer if isinstance(normalizer, str) else getattr(normalizer, "__name__", "custom")
    return TranscriptScores(sessions, name, collar_s, tuple(notes))


def _match(
    references: Mapping[str, list[Utterance]], hypotheses: Mapping[str, list[Utterance]]
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """Return the hypotheses by the names of the references, and notes; errors are those of `match_sides`."""
    hint = " (of subtitles, the names of the files)"
    found, notes = match_sides(references, hypotheses, "session", "all words are deletions", hint)
    named = {
        name: [replace(utterance, session=name) for utterance in hypotheses[other]]
        for name, other in found.items()
    }
    return named, notes


def _score_sessions(
    metric: str,
    references: Mapping[str, list[Utterance]],
    hypotheses: Mapping[str, list[Utterance]],
    collar_s: float,
) -> tuple[tuple[SessionScore, ...], list[str]]:
    """Return the scores under one metric, and notes on the sessions that have none."""
    scores, unscored = [], defaultdict(list)
    for session, utterances in references.items():
        pair = utterances, hypotheses.get(session, [])
        if reason := obstacle(metric, *pair):
            unscored[reason].append(session)
            scores.append(SessionScore(session, None))
        else:
            scores.append(SessionScore(session, *count_errors(metric, *pair, collar_s)))
    notes = [f"no {METRICS[metric]} of {some(names)}: {reason}" for reason, names in unscored.items()]
    return tuple(scores), notes


def load_normalizer(normalizer: str | Normalizer) -> Normalizer:
    """Return the function of a text normaliser; a `PixitError` if the name is unknown."""
    if not isinstance(normalizer, str):
        return normalizer
    if normalizer == "none":
        return str
    if normalizer == "whisper-english":
        from whisper.normalizers import EnglishTextNormalizer

        return EnglishTextNormalizer()
    raise PixitError(f"unknown text normaliser {normalizer!r}; expected {' or '.join(NORMALIZERS)}")


def _read_sessions(
    transcript: Transcript, normalize: Normalizer, need_times: bool, side: str, tell: Tell | None = None
) -> dict[str, list[Utterance]]:
    """Return session -> its utterances, normalised and in order, sessions ordered by name.

    An utterance that the normaliser leaves without words stays: its speaker is still one.
    """
    if isinstance(transcript, str | Path):
        name, utterances = str(transcript), read_transcript(transcript, need_times, tell)
    else:
        name, utterances = f"the {side}", list(transcript)
    if side == "reference" and not utterances:
        raise PixitError(f"{name}: holds no utterances; expected a reference to score against")
    if need_times and any(math.isnan(utterance.start_s) for utterance in utterances):
        raise PixitError(f"{name}: holds utterances without times; {', '.join(TIMED)} need them")
    sessions: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        words = " ".join(normalize(utterance.words).split())
        sessions.setdefault(utterance.session, []).append(replace(utterance, words=words))
    for own in sessions.values():
        if not any(math.isnan(utterance.start_s) for utterance in own):  # else as the file has them
            own.sort(key=lambda utterance: utterance.start_s)
    return dict(sorted(sessions.items()))


def alignment_page(
    reference: Transcript, hypothesis: Transcript, normalizer: str | Normalizer = NORMALIZERS[0]
) -> str:
    """Return a self-contained HTML page that shows how cpWER aligns the words of each session.

    MeetEval's own page loads D3 from a content delivery network; this one carries it (ISC licence), and all
    sessions, so that it opens from disk without a network.

    Parameters
    ----------
    reference, hypothesis, normalizer
        As for `evaluate_transcript`; both sides need times. Sessions that are not in the reference or have no
        words are left out.

    Raises
    ------
    PixitError
        If a transcript cannot be read or lacks times, or no session can be shown.
    """
    normalize = load_normalizer(normalizer)
    references = _read_sessions(reference, normalize, True, "reference")
    hypotheses, _ = _match(references, _read_sessions(hypothesis, normalize, True, "hypothesis"))
    sessions = {}
    for session, utterances in references.items():
        pair = utterances, hypotheses.get(session, [])
        if any(utterance.words for side in pair for utterance in side) and not obstacle("cpwer", *pair):
            sessions[session] = align_words(*pair)
    if not sessions:
        raise PixitError(f"no session to show; expected words, and at most {MAX_SPEAKERS['cpwer']} speakers")
    own, meeteval = files("pixit") / "evaluation" / "alignment", files("meeteval.viz")
    return Template((own / "page.html").read_text(encoding="utf-8")).substitute(
        css=(meeteval / "visualize.css").read_text(encoding="utf-8"),
        d3=(own / "d3.min.js").read_text(encoding="utf-8"),
        visualize=(meeteval / "visualize.js").read_text(encoding="utf-8"),
        options="".join(f"<option>{html.escape(session)}</option>" for session in sessions),
        sessions=json.dumps(sessions, separators=(",", ":")).replace("<", "\\u003c"),
    )
