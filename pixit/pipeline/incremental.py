"""Incremental clustering: who the local speakers of a window are, decided at once and for good.

By distances here, and by probabilities in `pixit.pipeline.bayesian`. After Coria et al., "Overlap-aware low-latency
online speaker diarization based on end-to-end local segmentation", ASRU 2021, in the form that diart 0.9.2 has: the
same assignments and centroids, number for number.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from pixit.audio.intake import State
from pixit.config import Settings

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class IncrementalSettings(Settings):
    """Who is a known speaker, who a new one, and what of them is learnt."""

    method: Literal["plda", "cosine"] | None = Field(
        None,
        description="plda: by what the embedder's PLDA says of voices; cosine: by distances to centroids, as in "
        "diart; by default plda where the embedder has one",
    )
    tau_active: float = Field(
        0.5, ge=0, le=1, description="activity that a local speaker reaches in a window to be given a speaker"
    )
    rho_update: float = Field(
        0.2,
        ge=0,
        le=1,
        description="cosine: mean activity in a window from which a local speaker moves a centroid, or begins one",
    )
    delta_new: float | None = Field(
        None,
        gt=0,
        le=2,
        description="cosine: distance to every centroid from which a speaker is new; by default the embedder's"
        " threshold",
    )
    new_log_odds: float = Field(
        0.0,
        ge=-1000,
        le=1000,
        description="plda: log odds, of the likeliest voice that is known against a new one, below which a speaker "
        "is new",
    )
    evidence: float = Field(
        0.7, gt=0, le=100, description="plda: embeddings as which a second of somebody's speech counts"
    )
    short_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="plda: seconds of speech of which an embedding varies twice as much as that of a long speech",
    )
    min_new_s: float = Field(
        1.2, ge=0, le=3600, description="plda: seconds of speech in a window with which a speaker begins"
    )
    min_learn_s: float = Field(
        0.5, ge=0, le=3600, description="plda: seconds of speech in a window from which a voice is learnt"
    )
    split_log_odds: float = Field(
        15.0,
        ge=0,
        le=1000,
        description="plda: loss of log odds from which two outputs that sound at once are one voice that was split",
    )
    max_speakers: int = Field(20, ge=1, le=1000, description="most speakers of a stream")


def find_active(activities: Floats, vectors: Floats, settings: IncrementalSettings) -> Bools:
    """Return which local speakers of a window are to be assigned, (K,), by (K, F) and (K, D)."""
    is_active: Bools = activities.max(axis=1, initial=0) >= settings.tau_active
    return is_active & ~np.isnan(vectors).any(axis=1)


class Clustering(Protocol):
    """What decides who the local speakers are, one window after the other."""

    @property
    def num_speakers(self) -> int:
        """Speakers that are known."""
        ...

    def assign(self, activities: Floats, vectors: Floats, apart: Bools | None = None) -> Ints:
        """Return the speaker of each local speaker of a window, (K,), -1 for none; and learn from it."""
        ...

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a state."""
        ...


class IncrementalClustering:
    """Assigns the local speakers of one window after the other to speakers that it gets to know on the way.

    Parameters
    ----------
    settings
        With ``delta_new``: the embedder's threshold is not known here.
    known
        Centroids of speakers who are known before, as sums of embeddings, (N, D).

    Attributes
    ----------
    sums
        Centroids as running sums of the embeddings that they learnt from, (N, D); a speaker stays known for ever.
    heard
        Who of them was heard in this stream, (N,): all but those who are known before and have not talked yet.
    has_begun
        False until the first window: in that one, everybody who is active is a new speaker, talk they long or not.
    """

    def __init__(self, settings: IncrementalSettings, known: Floats | None = None) -> None:
        assert settings.delta_new is not None, "the separator puts the embedder's in its place"
        self.settings, self._delta_new = settings, settings.delta_new
        self.sums: NDArray[np.float64] = np.zeros((0, 0)) if known is None else known.astype(np.float64)
        self.heard: Bools = np.zeros(len(self.sums), bool)
        self.has_begun = False

    @property
    def num_speakers(self) -> int:
        """Speakers that are known."""
        return len(self.sums)

    def assign(self, activities: Floats, vectors: Floats, apart: Bools | None = None) -> Ints:
        """Return the speaker of each local speaker of a window, (K,), -1 for none; and learn from it.

        Parameters
        ----------
        activities, vectors
            Of the local speakers, (K, F) and (K, D); vectors with NaN are of somebody who is not to be assigned.
        apart
            Which of them are different people, (K, K). None, as in diart: all are.
        """
        settings = self.settings
        speakers = np.full(len(vectors), -1, np.int64)
        is_active = find_active(activities, vectors, settings)
        is_long = activities.mean(axis=1) >= settings.rho_update
        active = np.flatnonzero(is_active)
        if not self.has_begun:
            self.has_begun, is_long = True, is_active
            if not len(self.sums):
                self.sums = np.zeros((0, vectors.shape[1]))
        if apart is not None:
            return self._assign_in_turn(vectors, active, is_long, apart)
        new: list[int] = []
        distances = self._distances(vectors[active])
        matched, columns = self._within_limit(distances, *self._match(distances))
        speakers[active[matched]] = columns
        updated = [local for local in active[matched] if is_long[local]]
        for row in sorted(set(range(len(active))) - set(matched)):
            local = int(active[row])
            if is_long[local] and self._count_with(columns) + len(new) < settings.max_speakers:
                new.append(local)
                continue
            # too little speech for a new speaker: the nearest whom nobody else in this window is
            free = np.setdiff1d(np.flatnonzero(self.heard), speakers)
            if len(free):
                speakers[local] = free[distances[row, free].argmin()]
        for local in updated:
            self.sums[speakers[local]] += vectors[local]
        for local in new:
            speakers[local] = self.num_speakers
            self.sums = np.vstack([self.sums, vectors[local]])
        return self._note(speakers)

    def _count_with(self, speakers: Ints) -> int:
        """Return how many are heard by now, and with these."""
        return int(self.heard.sum() + (~self.heard[speakers]).sum())

    def _within_limit(self, distances: NDArray[np.float64], rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
        """Leave out those of a match who are heard for the first time and too many, the most alike come first."""
        order = np.lexsort((distances[rows, columns], ~self.heard[columns]))
        is_new = ~self.heard[columns[order]]
        kept = np.sort(order[~is_new | (self.heard.sum() + is_new.cumsum() <= self.settings.max_speakers)])
        return rows[kept], columns[kept]

    def _note(self, speakers: Ints) -> Ints:
        """Note who was heard in a window, and return it."""
        self.heard = np.pad(self.heard, (0, self.num_speakers - len(self.heard)))
        self.heard[speakers[speakers >= 0]] = True
        return speakers

    def _assign_in_turn(self, vectors: Floats, active: Ints, is_long: Bools, apart: Bools) -> Ints:
        """Assign the active ones of local speakers of whom only some are different people, the most alike first."""
        speakers = np.full(len(vectors), -1, np.int64)
        nearest = self._distances(vectors[active]).min(axis=1, initial=np.inf)
        learnt = []
        for local in active[np.argsort(nearest, kind="stable")].tolist():
            distances = self._distances(vectors[[local]])[0]  # also to those whom this window has brought
            distances[speakers[apart[local] & (speakers >= 0)]] = np.inf
            is_full = self.heard.sum() >= self.settings.max_speakers
            if is_full:
                distances[~self.heard] = np.inf
            speaker = int(distances.argmin()) if np.isfinite(distances).any() else -1
            if speaker >= 0 and distances[speaker] < self._delta_new:
                learnt += [(speaker, local)] if is_long[local] else []
            elif is_long[local] and not is_full:
                speaker = self.num_speakers
                self.sums = np.vstack([self.sums, vectors[local]])
            else:  # whoever was heard, however different; somebody only known would have to be like it
                distances[~self.heard] = np.inf
                speaker = int(distances.argmin()) if np.isfinite(distances).any() else -1
            speakers[local] = speaker
            self._note(speakers)
        for speaker, local in learnt:
            self.sums[speaker] += vectors[local]
        return speakers

    def state(self) -> State:
        """Return what the rest of the stream depends on."""
        return {"sums": self.sums, "heard": self.heard}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.sums, self.heard = state["sums"], state["heard"]

    def _distances(self, vectors: Floats) -> NDArray[np.float64]:
        """Return the cosine distances to all centroids, (n, N); a vector of zeros is as far away as can be."""
        if not len(vectors) or not self.num_speakers:
            return np.zeros((len(vectors), self.num_speakers))
        return np.nan_to_num(cdist(vectors, self.sums, "cosine"), nan=2.0)

    def _match(self, distances: NDArray[np.float64]) -> tuple[Ints, Ints]:
        """Match rows to columns one to one; without those that are too far, and once more among the others."""
        rows, columns = linear_sum_assignment(distances)
        near = rows[distances[rows, columns] < self._delta_new]
        rows, columns = linear_sum_assignment(distances[near])
        return near[rows], columns
