"""The two networks over the windows of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pixit.pipeline.cluster import unit
from pixit.pipeline.compute import Compute, batches
from pixit.pipeline.diarize import Floats
from pixit.pipeline.local import Voices, embed_voices, hear_batch, weigh_frames
from pixit.pipeline.local_turns import Cut, split_window
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.spool import Geometry, in_steps
from pixit.types import Embedder, LocalModel
from pixit.windows import Window


@dataclass(frozen=True)
class Heard:
    """What the networks hear in a window of a stream; nothing, if it is skipped.

    Parameters
    ----------
    window
        The window.
    activities, sources, vectors
        Of the local speakers, (K, F), (K, T) and (K, D); zero where they are silent, vectors NaN. None: skipped;
        sources alone: turns are found, tracks stay silent.
    """

    window: Window
    activities: Floats | None = None
    sources: Floats | None = None
    vectors: Floats | None = None


def hear_live(
    model: LocalModel,
    embedder: Embedder,
    settings: StreamingSettings,
    geometry: Geometry,
    cut: Cut | None,
    compute: Compute,
    windows: Iterable[Window],
) -> list[Heard]:
    """Run the networks on windows; with `cut` the turns of the model's outputs are the local speakers."""
    heard = []
    for batch in batches(windows, compute.batch_size):
        activities, sources, active = hear_batch(
            model, batch, geometry, settings.activity, compute, "window", in_steps
        )
        activities = activities * active[:, :, None]
        assert sources is not None, "a stream is separated"
        local = list(zip(activities, sources, active, strict=True))
        if cut is not None:
            local = [split_window(cut, geometry, *outputs) for outputs in local]
        voices = []
        for number, (window, (activity, source, is_active)) in enumerate(zip(batch, local, strict=True)):
            speakers = np.flatnonzero(is_active).tolist()
            weights = weigh_frames(activity, settings.embedding, settings.activity, geometry.frame_s)
            signals = window.samples[None] if settings.embedding.signal == "mixture" else source[speakers]
            voices.append(Voices(number, speakers, signals, weights[speakers]))
        _, found = embed_voices(embedder, compute, voices)
        for number, (window, own) in enumerate(zip(batch, found, strict=True)):
            vectors = np.full((len(local[number][0]), embedder.embedding_size), np.nan, np.float32)
            vectors[voices[number].speakers] = unit(own)
            heard.append(Heard(window, *local[number][:2], vectors))
    return heard
