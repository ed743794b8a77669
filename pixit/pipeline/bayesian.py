"""Incremental clustering by probabilities: a belief about each speaker's voice, which all that is heard makes surer.

Embeddings vary as a PLDA says (Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006): of a voice they are
normal around its mean, and means of voices are normal, too. So the belief about a voice that was heard is normal
again, wide after a few words and narrow after a minute, and somebody new is the belief about whom nothing was heard.
Each local speaker is given to whom it fits best. What is decided stays so: nothing is clustered twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixit.audio.intake import State
from pixit.pipeline.diarize import ActivitySettings, find_speech
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.pipeline.incremental import Bools, Floats, IncrementalSettings, Ints, find_active
from pixit.pipeline.spool import Geometry
from pixit.pipeline.vbx import project
from pixit.types import Plda

SHORTEST_S = 0.05
"""No speech is counted as shorter."""


@dataclass
class Beliefs:
    """What is known of the voices of N speakers, in the space of a PLDA of d dimensions.

    Parameters
    ----------
    variances
        Of the means of voices, (d,); around them, embeddings of long speech have variances of one.
    counts
        Embeddings that were heard of each, (N,); not whole, as windows overlap.
    sums
        And their sum, (N, d).
    """

    variances: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]

    def add(self, count: float, vector: Floats) -> None:
        """Add a speaker of whom so many embeddings like `vector` (d,) were heard."""
        self.counts = np.append(self.counts, 0.0)
        self.sums = np.vstack([self.sums, np.zeros((1, len(self.variances)))])
        self.learn(len(self.counts) - 1, count, vector)

    def learn(self, speaker: int, count: float, vector: Floats) -> None:
        """Hear so many embeddings more of a speaker."""
        self.counts[speaker] += count
        self.sums[speaker] += count * vector

    def log_odds(self, vector: Floats, spread: float) -> NDArray[np.float64]:
        """Return for each speaker how much likelier `vector` (d,) is of that voice than of a new one, (N,).

        `spread` is the variance of such an embedding within a voice.
        """
        unsure = self.variances / (1 + self.counts[:, None] * self.variances)
        odds = _log_normal(vector - unsure * self.sums, unsure + spread)
        odds -= _log_normal(vector, self.variances + spread)
        return odds


def _log_normal(distance: Floats, variance: Floats) -> NDArray[np.float64]:
    """Return the log density of normal variables (…, d) at a distance from their means, but for a constant."""
    density: NDArray[np.float64] = -0.5 * (distance**2 / variance + np.log(variance)).sum(axis=-1)
    return density


class BayesianClustering:
    """Assigns the local speakers of one window after the other to speakers that it gets to know on the way.

    Parameters
    ----------
    settings
        How.
    activity
        Says which frames are speech.
    plda
        Of the embeddings.
    geometry
        Of the windows.
    known
        Speakers who are known before.

    Attributes
    ----------
    heard
        Who of all was heard in this stream, (N,): all but those who are known before and have not talked yet.
    """

    def __init__(
        self,
        settings: IncrementalSettings,
        activity: ActivitySettings,
        plda: Plda,
        geometry: Geometry,
        known: KnownSpeakers | None = None,
    ) -> None:
        self.settings, self._activity, self._plda = settings, activity, plda
        self._frame_s = geometry.frame_s
        # each of the windows that hear the same moment counts for its share of it
        self._count_a_second = settings.evidence * geometry.step_samples / geometry.window_samples
        variances = np.asarray(plda.variances, np.float64)
        self._beliefs = Beliefs(variances, np.zeros(0), np.zeros((0, len(variances))))
        for vector, seconds in () if known is None else zip(known.vectors, known.seconds, strict=True):
            self._beliefs.add(settings.evidence * float(seconds), project(vector[None], plda)[0])
        self.heard: Bools = np.zeros(self.num_speakers, bool)

    @property
    def num_speakers(self) -> int:
        """Speakers that are known."""
        return len(self._beliefs.counts)

    def assign(self, activities: Floats, vectors: Floats, apart: Bools | None = None) -> Ints:
        """Return the speaker of each local speaker of a window, (K,), -1 for none; and learn from it.

        Who talks longest is assigned first.

        Parameters
        ----------
        activities, vectors
            Of the local speakers, (K, F) and (K, D); vectors with NaN are of somebody who is not to be assigned.
        apart
            Which of them are different people, (K, K); None: all are.
        """
        settings = self.settings
        if apart is None:
            apart = ~np.eye(len(vectors), dtype=bool)
        speakers = np.full(len(vectors), -1, np.int64)
        seconds = find_speech(activities, self._activity).sum(axis=1) * self._frame_s
        active = find_active(activities, vectors, settings)
        learnt = []
        for local in np.flatnonzero(active)[np.argsort(-seconds[active], kind="stable")].tolist():
            vector = project(vectors[[local]], self._plda)[0]
            odds = self._beliefs.log_odds(vector, 1 + settings.short_s / max(seconds[local], SHORTEST_S))
            taken = speakers[apart[local] & (speakers >= 0)]
            odds[np.unique(taken)] -= settings.split_log_odds
            is_full = self.heard.sum() >= settings.max_speakers
            if is_full:
                odds[~self.heard] = -np.inf
            best = int(odds.argmax()) if len(odds) else -1
            count = self._count_a_second * seconds[local]
            if best >= 0 and odds[best] >= settings.new_log_odds:
                if seconds[local] >= settings.min_learn_s:
                    learnt.append((best, count, vector))
            elif seconds[local] >= settings.min_new_s and not is_full:
                best = self.num_speakers
                self._beliefs.add(count, vector)
            else:  # whoever was heard, however different; somebody only known would have to be like it
                odds[~self.heard] = -np.inf
                best = int(odds.argmax()) if self.heard.any() else -1
            speakers[local] = best
            self._note(best)
        for lesson in learnt:
            self._beliefs.learn(*lesson)
        return speakers

    def _note(self, speaker: int) -> None:
        """Note that a speaker, -1 for none, was heard."""
        self.heard = np.pad(self.heard, (0, self.num_speakers - len(self.heard)))
        if speaker >= 0:
            self.heard[speaker] = True

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        return {"sums": self._beliefs.sums, "counts": self._beliefs.counts, "heard": self.heard}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._beliefs.sums, self._beliefs.counts = state["sums"], state["counts"]
        self.heard = state["heard"]
