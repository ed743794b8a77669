"""cpWER of the same sessions under several attributions, side by side, and how sure their difference is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixit.evaluation.tables import Column, Table
from pixit.evaluation.transcript import NORMALIZERS, TranscriptScores, evaluate_transcript
from pixit.evaluation.word_errors import ErrorCounts
from pixit.formats.utterances import Utterance

METRIC = "cpwer"
ERRORS = ("substitutions", "deletions", "insertions")
CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """cpWER of the first attribution less that of the second, in points of %: below 0, the first is better."""

    points: float  # of all sessions together
    interval: tuple[float, float] | None  # bootstrap interval of `CONFIDENCE`; None for a single session


@dataclass(frozen=True)
class Comparison:
    """Scores of the same sessions under several attributions, and the difference between the first two.

    Parameters
    ----------
    scores
        Attribution -> its scores.
    difference
        None for a single attribution, or where a session could not be scored or nothing was said.
    """

    scores: dict[str, TranscriptScores]
    difference: Difference | None

    @property
    def notes(self) -> list[str]:
        """What the user should know, each once."""
        return [f"{name}: {note}" for name, scores in self.scores.items() for note in scores.notes]

    def table(self) -> Table:
        """Return a row each session and a total, all attributions side by side; rates in percent."""
        columns = [Column("session", "session"), Column("length", "words")]
        for name in self.scores:
            columns += [Column(f"{name}_percent", f"{name} %"), Column(f"{name}_errors", "errors")]
            columns += [Column(f"{name}_{kind}", kind[:3]) for kind in ERRORS]
        if len(self.scores) == 2:
            columns.append(Column("difference", "difference"))
            columns += [Column("difference_low", "from"), Column("difference_high", "to")]
        by_session = zip(*(scores.sessions[METRIC] for scores in self.scores.values()), strict=True)
        rows = [self._row(session[0].session, [score.counts for score in session]) for session in by_session]
        total = self._row("TOTAL", [scores.total(METRIC) for scores in self.scores.values()])
        if self.difference is not None and self.difference.interval is not None:
            total["difference_low"], total["difference_high"] = self.difference.interval
        return Table(self._title(len(rows)), columns, [*rows, total])

    def _row(self, session: str, counts: Sequence[ErrorCounts | None]) -> dict[str, Any]:
        row: dict[str, Any] = {"session": session}
        for name, count in zip(self.scores, counts, strict=True):
            if count is None:
                continue
            rate = count.error_rate
            row |= {"length": count.length, f"{name}_percent": None if rate is None else 100 * rate}
            row[f"{name}_errors"] = count.errors
            row |= {f"{name}_{kind}": getattr(count, kind) for kind in ERRORS}
        rates = [rate for name in self.scores if (rate := row.get(f"{name}_percent")) is not None]
        if len(rates) == len(self.scores) == 2:
            row["difference"] = rates[0] - rates[1]
        return row

    def _title(self, num_sessions: int) -> str:
        names, scores = list(self.scores), next(iter(self.scores.values()))
        title = f"cpWER in %; text normaliser: {scores.normalizer}"
        if len(names) != 2:
            return title
        title += f"; difference: {names[0]} − {names[1]}, in points, "
        if self.difference is None or self.difference.interval is None:
            return title + "no interval (it takes two sessions with words)"
        return title + f"with its {CONFIDENCE:.0%} bootstrap interval over {num_sessions} sessions"


def compare_attributions(
    reference: Iterable[Utterance],
    hypotheses: Mapping[str, Iterable[Utterance]],
    normalizer: str = NORMALIZERS[0],
    seed: int = 0,
) -> Comparison:
    """Score transcripts of the same sessions, and the difference between the first two.

    Parameters
    ----------
    reference
        The sessions to score, all of them and no others.
    hypotheses
        Attribution -> transcript. A session that it lacks is all deletions.
    normalizer
        As for `evaluate_transcript`.
    seed
        Of the bootstrap.

    Raises
    ------
    PixitError
        As `evaluate_transcript`.
    """
    reference = list(reference)
    sessions = {utterance.session for utterance in reference}
    scores = {}
    for name, utterances in hypotheses.items():
        own = [utterance for utterance in utterances if utterance.session in sessions]
        scores[name] = evaluate_transcript(reference, own, [METRIC], normalizer=normalizer)
    counts = [[score.counts for score in found.sessions[METRIC]] for found in scores.values()]
    difference = bootstrap_difference(counts[0], counts[1], seed) if len(counts) > 1 else None
    return Comparison(scores, difference)


def bootstrap_difference(
    first: Sequence[ErrorCounts | None], second: Sequence[ErrorCounts | None], seed: int = 0
) -> Difference | None:
    """Estimate how sure the difference of two error rates of the same sessions is.

    The paired bootstrap of Bisani & Ney (ICASSP 2004): sessions are drawn with replacement, the same for both,
    and rates are of summed counts. Samples without a word are left out. None if a session has no counts on one
    side, or none of them has a word.
    """
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one and other]
    errors = np.array([one.errors - other.errors for one, other in pairs])
    lengths = np.array([one.length for one, _ in pairs])
    if len(pairs) < len(first) or not lengths.sum():
        return None
    points = float(100 * errors.sum() / lengths.sum())
    if len(pairs) < 2:
        return Difference(points, None)
    rng = np.random.default_rng(seed)
    times_drawn = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), NUM_RESAMPLES)
    words = times_drawn @ lengths
    samples = 100 * (times_drawn @ errors)[words > 0] / words[words > 0]
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(points, (float(low), float(high)))
