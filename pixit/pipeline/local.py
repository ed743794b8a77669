"""The two networks over all windows: local speakers, with their level restored, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pixit.config import Settings
from pixit.pipeline.compute import Compute
from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, find_solo, find_speech
from pixit.pipeline.spool import Geometry, Spool, give_back_memory, in_steps
from pixit.types import Embedder, LocalModel, PixitError
from pixit.windows import Window, frame_centres_samples

SILENCE = 1e-5
"""Amplitude up to which a window holds no sound: a third of the smallest step of 16 bits."""

Progress = Callable[[int, int], None]
"""Called with the number of windows done and of all."""


class EmbeddingSettings(Settings):
    """What the speaker embeddings are computed from."""

    signal: Literal["separated", "mixture"] = Field(
        "separated", description="embed the separated sources, or the mixture masked by the activities"
    )
    exclude_overlap: bool = Field(
        True, description="leave overlapped speech out where there is enough speech without it"
    )
    min_solo_s: float = Field(
        1.0, ge=0, le=3600, description="seconds of speech without overlap that are enough"
    )


def run_windows(
    model: LocalModel,
    windows: Iterable[Window],
    spool: Spool,
    settings: ActivitySettings,
    compute: Compute,
    progress: Progress,
) -> None:
    """Separate and diarize every window, and put what comes out into `spool`.

    A local speaker with less speech than `settings` ask for is silent, and so is everybody in a window
    without sound, whatever the model makes of it. A PixitError if the model gives NaN or infinite values.
    """
    for local in compute.map_batches(partial(_run, model, spool.geometry, settings, compute), windows):
        spool.append(*local)
        progress(len(spool), spool.geometry.num_windows)
    give_back_memory()


def _run(
    model: LocalModel, geometry: Geometry, settings: ActivitySettings, compute: Compute, batch: list[Window]
) -> tuple[Floats, Floats, Bools]:
    """Return what a spool keeps of a batch of windows: activities, sources, and which of them are active."""
    min_frames = max(1, round(settings.min_local_s / geometry.frame_s))
    centres = frame_centres_samples(geometry.frame_grid, geometry.num_frames)
    mixtures = torch.from_numpy(np.stack([window.samples for window in batch])).to(compute.device)
    with torch.inference_mode():
        with compute.mixed_precision():
            output = model(mixtures.unsqueeze(1))
        for name, values in (("activities", output.activity_logits), ("sources", output.sources)):
            if not values.isfinite().all():
                at = f"about {batch[0].start_samples / geometry.sample_rate_hz:.1f} s"
                raise PixitError(
                    f"the model gives NaN or infinite {name} at {at}; is it damaged? try another"
                )
        # what the model hears in the zeros after the recording counts for nothing
        inside = torch.from_numpy(centres < np.array([[window.valid] for window in batch]))[:, None]
        activities = in_steps((output.activities * inside.to(output.activity_logits)).float().cpu().numpy())
        speech = find_speech(activities, settings)
        active = torch.from_numpy(speech.sum(-1) >= min_frames).to(compute.device)
        active &= mixtures.abs().amax(-1, keepdim=True) > SILENCE
        sources = restore_levels(output.sources.float(), mixtures, active)
    return activities, sources.cpu().numpy(), active.cpu().numpy()


def restore_levels(sources: Tensor, mixtures: Tensor, active: Tensor) -> Tensor:
    """Scale the active sources so that their sum comes as near to the mixture as it can (least squares).

    SI-SDR leaves the scale, and even the sign, of a source free; here they are found again. A little ridge keeps
    the solution from blowing up where sources are alike; no source becomes louder than the mixture.

    Takes sources (B, K, T), mixtures (B, T) and which sources are `active` (B, K): the others become zero.
    """
    sources = sources * active.unsqueeze(-1)
    gram = sources @ sources.mT  # (B, K, K)
    cross = sources @ mixtures.unsqueeze(-1)  # (B, K, 1)
    power = gram.diagonal(dim1=1, dim2=2)
    tiny = torch.finfo(gram.dtype).tiny ** 0.5
    ridge = torch.diag_embed(1e-3 * power + (power <= tiny).to(gram))
    gains = torch.linalg.solve(gram + ridge, cross).squeeze(-1)  # (B, K)
    loudest = (mixtures.square().sum(-1, keepdim=True) / power.clamp_min(tiny)).sqrt()
    return sources * gains.clamp(-loudest, loudest).unsqueeze(-1)


def embed_speakers(
    embedder: Embedder,
    local: Spool,
    windows: Iterable[Window],
    settings: EmbeddingSettings,
    activity: ActivitySettings,
    compute: Compute,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Embed every active local speaker of every window.

    `windows` are read if ``settings.signal`` is ``"mixture"``; `activity` says which frames are speech.

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
    mixtures = windows if settings.signal == "mixture" else None
    heard = _hear(local, mixtures, settings, activity)
    for batch, found in compute.map_batches(partial(_embed, embedder, compute), heard):
        for one in batch:
            vectors[one.window, one.speakers], found = np.split(found, [len(one.speakers)])
            embedded_s[one.window, one.speakers] = one.weights.sum(axis=1) * local.geometry.frame_s
        progress(batch[-1].window + 1, len(local))
    give_back_memory()
    return vectors, embedded_s


@dataclass(frozen=True)
class _Heard:
    """What an embedder hears of a window: signals (n, T) and weights (n, F) of its active local speakers."""

    window: int
    speakers: list[int]
    signals: Floats
    weights: Floats


def _hear(
    local: Spool, windows: Iterable[Window] | None, settings: EmbeddingSettings, activity: ActivitySettings
) -> Iterator[_Heard]:
    mixtures = iter(windows) if windows is not None else None
    for window in local:
        mixture = next(mixtures).samples if mixtures is not None else None
        speech = find_speech(local.activities(window), activity)
        speakers = np.flatnonzero(local.active[window]).tolist()
        sources = [local.source(window, speaker) if mixture is None else mixture for speaker in speakers]
        signals = np.array(sources, np.float32).reshape(len(speakers), local.geometry.window_samples)
        weights = _weights(speech, settings, local.geometry.frame_s)
        yield _Heard(window, speakers, signals, weights[speakers])


def _embed(embedder: Embedder, compute: Compute, batch: list[_Heard]) -> tuple[list[_Heard], Floats]:
    """Return the batch again, and the embeddings of all its speakers, (n, D)."""
    arrays = ([one.signals for one in batch], [one.weights for one in batch])
    signals, weights = (torch.from_numpy(np.concatenate(parts)).to(compute.device) for parts in arrays)
    if len(signals) == 0:
        return batch, np.zeros((0, embedder.embedding_size), np.float32)
    with torch.inference_mode(), compute.mixed_precision():
        vectors: Floats = embedder(signals, weights).float().cpu().numpy()
    return batch, vectors


def _weights(speech: Bools, settings: EmbeddingSettings, frame_s: float) -> Floats:
    """Return how much each frame counts, (K, F)."""
    if not settings.exclude_overlap:
        return speech.astype(np.float32)
    solo = find_solo(speech)
    enough = solo.sum(axis=1, keepdims=True) * frame_s >= settings.min_solo_s
    return np.where(enough, solo, speech).astype(np.float32)


def count_talk(local: Spool, settings: ActivitySettings) -> Floats:
    """Return the seconds of the recording that each local speaker stands for, (W, K).

    Windows overlap: a frame that four of them hear counts a quarter in each. So the local speakers who are one
    person have together the seconds for which that person talks, whatever the step and the length of the recording.
    """
    geometry = local.geometry
    frames = [slice(start, start + geometry.num_frames) for start in map(geometry.start_frames, local)]
    hearing = np.zeros(geometry.start_frames(len(local) - 1) + geometry.num_frames, np.int32)
    for heard in frames:
        hearing[heard] += 1
    seconds = np.zeros((len(local), local.num_speakers), np.float32)
    for window, heard in enumerate(frames):
        speech = find_speech(local.activities(window), settings)
        seconds[window] = speech @ (geometry.frame_s / hearing[heard])
    return seconds
