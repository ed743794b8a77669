"""Word errors of one session: MeetEval's metrics on plain utterances.

MeetEval (von Neumann et al., CHiME 2023) does the arithmetic.
"""

from __future__ import annotations

import logging
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pixit.formats.utterances import Utterance

if TYPE_CHECKING:
    from meeteval.io import SegLST

METRICS = {
    "wer": "WER",
    "cpwer": "cpWER",
    "tcpwer": "tcpWER",
    "orcwer": "ORC-WER",
    "tcorcwer": "tcORC-WER",
    "greedy-orcwer": "greedy ORC-WER",
    "mimower": "MIMO-WER",
}
"""Name of a metric -> how it is written."""

BY_SPEAKER = ("cpwer", "tcpwer")
"""Metrics that assign the streams of the hypothesis to the speakers of the reference."""

TIMED = ("tcpwer", "tcorcwer")
"""Metrics that need times and a collar."""

MAX_SPEAKERS = {
    "cpwer": 20,
    "tcpwer": 20,
    "orcwer": 10,
    "tcorcwer": 10,
    "mimower": 10,
}  # MeetEval's own limits
MAX_MATCHING_BYTES = 2**31  # of ORC-WER and MIMO-WER, whose table is a product of all streams; about 10 s


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of words; rates of several sessions come from sums of counts.

    Parameters
    ----------
    substitutions, deletions, insertions
        Words replaced, left out and added.
    length
        Words of the reference.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def error_rate(self) -> float | None:
        """Errors for each word of the reference (1.0 is 100 %); None if the reference has no words."""
        return self.errors / self.length if self.length else None

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class SpeakerScore:
    """A speaker of the reference and the stream of the hypothesis assigned to it; None where one is missing."""

    speaker: str | None
    stream: str | None
    counts: ErrorCounts


def count_errors(
    metric: str, reference: Sequence[Utterance], hypothesis: Sequence[Utterance], collar_s: float
) -> tuple[ErrorCounts, tuple[SpeakerScore, ...]]:
    """Score one session, whose utterances are in order.

    Under a metric of `BY_SPEAKER`, return the pairs of the best assignment too; they sum to the session.
    """
    score = _scorer(metric, Decimal(str(collar_s)))
    with _hushed():
        result = score(_to_seglst(reference), _to_seglst(hypothesis))
        pairs = []
        for speaker, stream in result.assignment if metric in BY_SPEAKER else ():
            own = _to_seglst(u for u in reference if u.speaker == speaker)
            assigned = _to_seglst(u for u in hypothesis if u.speaker == stream)
            pairs.append(SpeakerScore(speaker, stream, _counts(score(own, assigned))))
    # MeetEval lists them in the order of their first words
    pairs.sort(key=lambda pair: (pair.speaker is None, pair.speaker or "", pair.stream or ""))
    return _counts(result), tuple(pairs)


def obstacle(metric: str, reference: Sequence[Utterance], hypothesis: Sequence[Utterance]) -> str | None:
    """Return why a metric cannot be had for a session, or None."""
    speakers = Counter({u.speaker: 0 for u in reference})
    streams = Counter({u.speaker: 0 for u in hypothesis})
    for u in reference:
        speakers[u.speaker] += 1
    for u in hypothesis:
        streams[u.speaker] += len(u.words.split())
    most = len(streams) if metric in ("orcwer", "tcorcwer") else max(len(speakers), len(streams))
    if most > MAX_SPEAKERS.get(metric, most):
        return f"more than {MAX_SPEAKERS[metric]} speakers, which is not feasible"
    if metric not in ("orcwer", "mimower"):
        return None
    utterances = [len(reference)] if metric == "orcwer" else speakers.values()
    cells = math.prod(n + 1 for n in streams.values()) * math.prod(n + 1 for n in utterances)
    if 16 * cells > MAX_MATCHING_BYTES:  # bytes a cell, as MeetEval counts
        return f"would need more than {MAX_MATCHING_BYTES / 2**30:g} GiB; tcorcwer and greedy-orcwer are feasible"
    return None


def align_words(reference: Sequence[Utterance], hypothesis: Sequence[Utterance]) -> dict[str, Any]:
    """Return what MeetEval's script draws of a session, aligned as for cpWER; all utterances need times."""
    from meeteval.viz.visualize import get_visualization_data

    sides = [
        _to_seglst(side).map(lambda s: s | {key: float(s[key]) for key in ("start_time", "end_time")})
        for side in (reference, hypothesis)
    ]
    with _hushed():
        return get_visualization_data(*sides, assignment="cp") | {"markers": None}


@contextmanager
def _hushed() -> Iterator[None]:
    """Silence MeetEval's preprocessing: it warns of each speaker whose own utterances overlap, in each call."""
    logger = logging.getLogger("preprocess")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _to_seglst(utterances: Iterable[Utterance]) -> SegLST:
    """Return utterances as MeetEval has them; times as decimal numbers, as MeetEval reads them from files."""
    from meeteval.io import SegLST

    segments: list[dict[str, Any]] = []
    for u in utterances:
        segments.append({"session_id": u.session, "speaker": u.speaker, "words": u.words})
        if not math.isnan(u.start_s):
            times = {"start_time": Decimal(str(u.start_s)), "end_time": Decimal(str(u.end_s))}
            segments[-1] |= times
    return SegLST(segments)


def _scorer(metric: str, collar: Decimal) -> Callable[[SegLST, SegLST], Any]:
    """Return MeetEval's function of a metric; it takes segments that are in order, so that none sorts them."""
    from meeteval import wer

    unsorted: dict[str, Any] = {"reference_sort": False, "hypothesis_sort": False}
    timed = unsorted | {"collar": collar}
    functions: dict[str, Callable[[SegLST, SegLST], Any]] = {
        "wer": lambda r, h: wer.siso_word_error_rate(_one_segment(r), _one_segment(h)),
        "cpwer": lambda r, h: wer.cp_word_error_rate(r, h, **unsorted),
        "tcpwer": lambda r, h: wer.time_constrained_minimum_permutation_word_error_rate(r, h, **timed),
        "orcwer": lambda r, h: wer.orc_word_error_rate(r, _at_least_one(h, r), **unsorted),
        "tcorcwer": lambda r, h: wer.time_constrained_orc_wer(r, h, **timed),
        "greedy-orcwer": lambda r, h: wer.greedy_orc_word_error_rate(r, h, **unsorted),
        "mimower": lambda r, h: wer.mimo_word_error_rate(r, _at_least_one(h, r), **unsorted),
    }
    return functions[metric]


def _one_segment(segments: SegLST) -> SegLST:
    """Join all words."""
    from meeteval.io import SegLST

    return SegLST([{"words": " ".join(segment["words"] for segment in segments)}])


def _at_least_one(hypothesis: SegLST, reference: SegLST) -> SegLST:
    """Give an empty hypothesis a segment without words: MeetEval 0.4.3's ORC- and MIMO-WER fail on none."""
    return hypothesis if len(hypothesis) else reference.map(lambda segment: {**segment, "words": ""})


def _counts(result: Any) -> ErrorCounts:
    return ErrorCounts(result.substitutions, result.deletions, result.insertions, result.length)
