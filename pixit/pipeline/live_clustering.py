"""How a stream assigns its speakers: what the settings leave open, and what decides."""

from __future__ import annotations

import numpy as np

from pixit.pipeline.bayesian import BayesianClustering
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.pipeline.incremental import Clustering, IncrementalClustering
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.spool import Geometry
from pixit.types import Embedder, PixitError, plda_of


def settle(settings: StreamingSettings, embedder: Embedder) -> StreamingSettings:
    """Return the settings with what they leave open to the embedder; a PixitError if it lacks a PLDA."""
    clustering, plda = settings.clustering, plda_of(embedder)
    if clustering.method == "plda" and plda is None:
        raise PixitError("clustering.method=plda: the embedder has no PLDA; expected one that has, or cosine")
    found = {
        "method": clustering.method or ("cosine" if plda is None else "plda"),
        "delta_new": clustering.delta_new or embedder.clustering_threshold,
    }
    return settings.model_copy(update={"clustering": clustering.model_copy(update=found)})


def begin_clustering(
    settings: StreamingSettings, embedder: Embedder, geometry: Geometry, known: KnownSpeakers | None
) -> Clustering:
    """Return what knows nobody yet, but for those known before: they count as if heard in this stream.

    The settings are those of `settle`.
    """
    plda = plda_of(embedder)
    if settings.clustering.method == "plda":
        assert plda is not None, "the settings were settled"
        return BayesianClustering(settings.clustering, settings.activity, plda, geometry, known)
    sums = None if known is None else known.vectors * (known.seconds / settings.step_s)[:, None]
    clustering = IncrementalClustering(settings.clustering, sums)
    # as if silence came first: a few words begin no speaker, not even the first one
    clustering.assign(np.zeros((1, 1)), np.full((1, embedder.embedding_size), np.nan))
    return clustering
