"""Speaker embeddings of the local speakers of every window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from pixit.config import Settings
from pixit.pipeline.activity import ActivitySettings, Bools, Floats, find_solo, find_speech
from pixit.pipeline.local import Progress, batches
from pixit.pipeline.spool import Spool
from pixit.types import Embedder
from pixit.windows import Window


class EmbeddingSettings(Settings):
    """What the speaker embeddings are computed from."""

    signal: Literal["separated", "mixture"] = Field(
        "separated", description="embed the separated sources, or the mixture masked by the activities"
    )
    exclude_overlap: bool = Field(
        True, description="leave overlapped speech out where there is enough speech without it"
    )
    min_solo_s: float = Field(1.0, ge=0, description="seconds of speech without overlap that are enough")


def embed_speakers(
    embedder: Embedder,
    local: Spool,
    windows: Iterable[Window],
    settings: EmbeddingSettings,
    activity: ActivitySettings,
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Embed every active local speaker of every window.

    Parameters
    ----------
    windows
        The windows of the recording, read if ``settings.signal`` is ``"mixture"``.
    settings, activity
        What is embedded, and which frames are speech.

    Returns
    -------
    vectors
        (W, K, D), NaN where a local speaker is silent.
    embedded_s
        Seconds of speech each vector stands on, (W, K).
    """
    shape = (len(local), local.num_speakers)
    vectors = np.full((*shape, embedder.embedding_size), np.nan, np.float32)
    embedded_s = np.zeros(shape, np.float32)
    mixtures = iter(windows) if settings.signal == "mixture" else None
    for batch in batches(local, batch_size):
        signals, weights, places = [], [], []
        for window in batch:
            mixture = next(mixtures).samples if mixtures is not None else None
            speech = find_speech(local.activities(window), activity)
            counts = _weights(speech, settings, local.geometry.frame_s)
            for speaker in np.flatnonzero(local.active[window]).tolist():
                places.append((window, speaker))
                signals.append(local.source(window, speaker) if mixture is None else mixture)
                weights.append(counts[speaker])
                embedded_s[window, speaker] = counts[speaker].sum() * local.geometry.frame_s
        if places:
            with torch.inference_mode():
                found = embedder(_tensor(signals, device), _tensor(weights, device)).float().cpu().numpy()
            vectors[tuple(np.transpose(places))] = found
        progress(batch[-1] + 1, len(local))
    return vectors, embedded_s


def _weights(speech: Bools, settings: EmbeddingSettings, frame_s: float) -> Floats:
    """Return how much each frame counts, (K, F)."""
    if not settings.exclude_overlap:
        return speech.astype(np.float32)
    solo = find_solo(speech)
    enough = solo.sum(axis=1, keepdims=True) * frame_s >= settings.min_solo_s
    return np.where(enough, solo, speech).astype(np.float32)


def _tensor(arrays: list[Floats], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)
