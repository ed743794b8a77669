"""The two networks over all windows: local speakers, with their level restored, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pixit.config import Settings
from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, find_solo, find_speech
from pixit.pipeline.spool import Spool, give_back_memory
from pixit.types import Embedder, LocalModel, PixitError
from pixit.windows import Window, frame_centres_samples

SILENCE = 1e-5
"""Amplitude up to which a window holds no sound: a third of the smallest step of 16 bits."""

Item = TypeVar("Item")
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
    batch_size: int,
    device: torch.device,
    progress: Progress,
    levels: Literal["window", "track"] = "window",
) -> None:
    """Separate and diarize every window, and put what comes out into `spool`.

    With `levels` of ``"window"`` the sources of each window get the levels that they have in the mixture. A local
    speaker with less speech than `settings` ask for is silent, and so is everybody in a window without sound,
    whatever the model makes of it. A PixitError if the model gives NaN or infinite values.
    """
    min_frames = max(1, round(settings.min_local_s / spool.geometry.frame_s))
    centres = frame_centres_samples(spool.geometry.frame_grid, spool.geometry.num_frames)
    for batch in batches(windows, batch_size):
        mixtures = torch.from_numpy(np.stack([window.samples for window in batch])).to(device)
        with torch.inference_mode():
            output = model(mixtures.unsqueeze(1))
            for name, values in (("activities", output.activity_logits), ("sources", output.sources)):
                if not values.isfinite().all():
                    at = f"about {batch[0].start_samples / spool.geometry.sample_rate_hz:.1f} s"
                    raise PixitError(
                        f"the model gives NaN or infinite {name} at {at}; is it damaged? try another"
                    )
            # what the model hears in the zeros after the recording counts for nothing
            inside = torch.from_numpy(centres < np.array([[window.valid] for window in batch]))[:, None]
            activities = spool.in_steps(
                (output.activities * inside.to(output.activity_logits)).float().cpu().numpy()
            )
            speech = find_speech(activities, settings)
            active = torch.from_numpy(speech.sum(-1) >= min_frames).to(device)
            active &= mixtures.abs().amax(-1, keepdim=True) > SILENCE
            sources = output.sources.float() * active.unsqueeze(-1)
            if levels == "window":
                sources = restore_levels(sources, mixtures, active)
        spool.append(activities, sources.cpu().numpy(), active.cpu().numpy())
        progress(len(spool), spool.geometry.num_windows)
    give_back_memory()


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


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of up to `size` items."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


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
            inputs = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in (signals, weights))
            with torch.inference_mode():
                vectors[tuple(np.transpose(places))] = embedder(*inputs).float().cpu().numpy()
        progress(batch[-1] + 1, len(local))
    give_back_memory()
    return vectors, embedded_s


def _weights(speech: Bools, settings: EmbeddingSettings, frame_s: float) -> Floats:
    """Return how much each frame counts, (K, F)."""
    if not settings.exclude_overlap:
        return speech.astype(np.float32)
    solo = find_solo(speech)
    enough = solo.sum(axis=1, keepdims=True) * frame_s >= settings.min_solo_s
    return np.where(enough, solo, speech).astype(np.float32)


def count_solo(local: Spool, settings: ActivitySettings) -> Floats:
    """Return the share of its window for which each local speaker talks alone, (W, K)."""
    shares = np.zeros((len(local), local.num_speakers), np.float32)
    for window in local:
        shares[window] = find_solo(find_speech(local.activities(window), settings)).mean(axis=1)
    return shares


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
