"""Speakers who are known, found again among those of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from pixit.pipeline.cluster import ClusteringSettings, Floats, Ints, assign, by_first_appearance, unit
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
    most: int | None,
) -> tuple[Ints, Recognized]:
    """Find known speakers among those of a recording, and decide anew who every local speaker is.

    A cluster is of somebody known if the mean cosine distance of the embeddings of both is small enough; one to one.
    What is known of a voice before, and what is heard of it here, make its centroid together. Known voices that no
    cluster is like may talk, too, if that does not make too many speakers. Then each local speaker goes to the
    nearest, and who talks for less than ``min_speaker_s`` is not there.

    Parameters
    ----------
    vectors, embedded_s, speakers
        Embeddings of the local speakers, (W, K, D), seconds behind each, and the speaker of each by clustering
        alone, (W, K).
    threshold
        Mean cosine distance up to which embeddings are of one speaker.
    most
        Bound on the number of speakers.
    """
    active = (speakers >= 0) & np.isfinite(vectors).all(axis=-1)
    if not active.any():
        return speakers, Recognized(facts={"known_speakers": dict.fromkeys(known.names)})
    means = _means(unit(vectors[active]), embedded_s[active], speakers[active])
    distances = 1 - means @ known.vectors.T  # (N, M)
    limit = threshold if settings.known_distance is None else settings.known_distance
    centroids, names = _add_known(means, distances, known, limit, most)
    apart, talk_s = find_all_apart(local, activity), count_talk(local, activity)
    present = np.arange(len(centroids))
    while True:
        chosen = assign(vectors, active, centroids[present], apart, settings.split_gap)
        seconds = np.bincount(chosen[active], talk_s[active], len(present))
        if len(present) < 2 or seconds.min() >= settings.min_speaker_s:
            break
        present = np.delete(present, seconds.argmin())
    ordered = by_first_appearance(chosen)
    numbers = {int(ordered[chosen == row][0]): names[present[row]] for row in np.unique(chosen[active])}
    found = {number: name for number, name in numbers.items() if name is not None}
    nearest = zip(known.names, distances.min(axis=0).tolist(), strict=True)
    return ordered, Recognized(found, {"known_speakers": {name: round(d, 3) for name, d in nearest}})


def _add_known(
    means: Floats, distances: Floats, known: KnownSpeakers, limit: float, most: int | None
) -> tuple[Floats, list[str | None]]:
    """Return centroids (N, D) of all who may talk, and their names: of clusters, then of known speakers unlike them.

    Takes the means of the clusters and their `distances` to the known speakers, (N, M), of whom some are within
    `limit`. With more than `most` centroids no known speakers are added.
    """
    rows, columns = linear_sum_assignment(np.minimum(distances, limit))
    near = distances[rows, columns] < limit
    centroids, voices = unit(means), unit(known.vectors)
    names: list[str | None] = [None] * len(means)
    for row, column in zip(rows[near], columns[near], strict=True):
        centroids[row] = unit(centroids[row] + voices[column])
        names[row] = known.names[column]
    others = [column for column, name in enumerate(known.names) if name not in names]
    others = others if most is None else others[: max(0, most - len(names))]
    return np.concatenate([centroids, voices[others]]), names + [known.names[column] for column in others]


def _means(vectors: Floats, seconds: Floats, labels: Ints) -> Floats:
    """Return the mean of the vectors (n, D) of each label, weighted by seconds (n,): (N, D)."""
    weights = np.zeros((int(labels.max(initial=-1)) + 1, len(labels)), np.float32)
    weights[labels, np.arange(len(labels))] = np.maximum(seconds, SHORTEST_S)
    return weights @ vectors / weights.sum(axis=1, keepdims=True)
