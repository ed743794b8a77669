"""Speakers who are known, found again among those of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from pixit.pipeline.cluster import (
    Bools,
    ClusteringSettings,
    Floats,
    Ints,
    Numbers,
    assign,
    by_first_appearance,
    unit,
)
from pixit.pipeline.diarize import ActivitySettings, speaker_names
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.pipeline.local import count_talk
from pixit.pipeline.local_turns import find_all_apart
from pixit.pipeline.spool import Spool

SHORTEST_S = 1e-3
"""No embedding counts less than so much speech."""


@dataclass(frozen=True)
class Recognized:
    """Who of the speakers of a recording is known.

    Parameters
    ----------
    found
        Number of a speaker -> name.
    facts
        What the settings of the result say of it.
    """

    found: Mapping[int, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def names(self, before: Ints, after: Ints, count: int) -> list[str]:
        """Return the names of `count` speakers with the numbers `after`, who had those `before`, both (W, K)."""
        names = speaker_names(count)
        for number, name in self.found.items():
            for later in np.unique(after[(before == number) & (after >= 0)]):
                names[later] = name
        return names


def recognize(
    local: Spool,
    vectors: Floats,
    embedded_s: Floats,
    speakers: Ints,
    known: KnownSpeakers,
    settings: ClusteringSettings,
    activity: ActivitySettings,
    threshold: float,
    bounds: tuple[int, int | None],
) -> tuple[Ints, Recognized]:
    """Find known speakers among those of a recording, and decide anew who every local speaker is.

    A cluster is of somebody known if the mean cosine distance of the embeddings of both is small enough; one to one.
    What is known of a voice before, and what is heard of it here, make its centroid together. Known voices that no
    cluster is like are candidates, too. Each local speaker goes to the nearest; then candidates to whom nobody went
    who is like them are left out, and speakers who talk for less than ``min_speaker_s``, or are too many.

    Parameters
    ----------
    vectors, embedded_s, speakers
        Embeddings of the local speakers, (W, K, D), seconds behind each, and the speaker of each by clustering
        alone, (W, K).
    threshold
        Mean cosine distance up to which embeddings are of one speaker.
    bounds
        Fewest and most speakers.
    """
    active = (speakers >= 0) & np.isfinite(vectors).all(axis=-1)
    if not active.any():
        return speakers, Recognized(facts={"known_speakers": dict.fromkeys(known.names)})
    own, seconds = unit(vectors[active]), embedded_s[active]
    clusters = by_first_appearance(np.where(active, speakers, -1))[active]  # some numbers may be of nobody
    means = _means(own, seconds, clusters, int(clusters.max()) + 1)
    distances = 1 - means @ known.vectors.T  # (N, M)
    limit = threshold if settings.known_distance is None else settings.known_distance
    centroids, voices = _gather(means, distances, known, limit)
    apart, talk_s = find_all_apart(local, activity), count_talk(local, activity)[active]
    present = np.arange(len(centroids))
    while True:
        chosen = assign(vectors, active, centroids[present], apart, settings.split_gap)
        added = np.flatnonzero(present >= len(means))
        heard = _means(own, seconds, chosen[active], len(present))[added]
        apart_from = 1 - (heard * known.vectors[voices[present[added]]]).sum(axis=1)
        totals = np.bincount(chosen[active], talk_s, len(present)).astype(np.float64)
        surplus = _find_surplus(totals, added, apart_from >= limit, settings.min_speaker_s, bounds)
        if not len(surplus):
            break
        present = np.delete(present, surplus)
    ordered = by_first_appearance(chosen)
    found = {
        int(ordered[chosen == row][0]): known.names[voices[present[row]]]
        for row in np.unique(chosen[active])
        if voices[present[row]] >= 0
    }
    nearest = zip(known.names, distances.min(axis=0).tolist(), strict=True)
    return ordered, Recognized(found, {"known_speakers": {name: round(d, 3) for name, d in nearest}})


def _gather(means: Floats, distances: Floats, known: KnownSpeakers, limit: float) -> tuple[Floats, Ints]:
    """Return centroids (N', D) of all who may talk, and the known voice of each, -1 for none, (N',).

    They are of the clusters, with their means and `distances` to the known speakers, (N, M), of whom some are within
    `limit`; and then of the known speakers whom no cluster is like.
    """
    rows, columns = linear_sum_assignment(np.minimum(distances, limit))
    near = distances[rows, columns] < limit
    rows, columns = rows[near], columns[near]
    centroids, voices = unit(means), np.full(len(means), -1)
    centroids[rows] = unit(centroids[rows] + unit(known.vectors[columns]))
    voices[rows] = columns
    others = np.setdiff1d(np.arange(len(known.names)), columns)
    return np.concatenate([centroids, unit(known.vectors[others])]), np.concatenate([voices, others])


def _find_surplus(
    totals: Numbers,
    added: Ints,
    is_unlike: Bools,
    min_speaker_s: float,
    bounds: tuple[int, int | None],
) -> Ints:
    """Return the next speakers to leave out: `added` ones whom nobody is like, or else the weakest, if it has to go.

    Takes the seconds for which each talks, (N,), and `bounds` on their number: too few are not made fewer.
    """
    low, high = bounds
    if is_unlike.any() and is_unlike.sum() < len(totals):
        return added[is_unlike]
    if high is not None and len(totals) > high:
        return np.array([totals.argmin()])
    weak = np.flatnonzero(totals < min_speaker_s)
    if not len(weak) or len(totals) <= low:
        return np.zeros(0, np.int64)
    weak = weak[np.isin(weak, added)] if np.isin(weak, added).any() else weak
    return weak[[totals[weak].argmin()]]


def _means(vectors: Floats, seconds: Floats, labels: Ints, count: int) -> Floats:
    """Return the mean of the vectors (n, D) of each of `count` labels, weighted by seconds (n,): (count, D)."""
    weights = np.zeros((count, len(labels)), np.float32)
    weights[labels, np.arange(len(labels))] = np.maximum(seconds, SHORTEST_S)
    means: Floats = weights @ vectors / np.maximum(weights.sum(axis=1, keepdims=True), SHORTEST_S)
    return means
