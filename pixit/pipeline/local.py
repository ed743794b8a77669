"""The two networks over all windows: local speakers, with their level restored, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pixit.config import Settings
from pixit.memory import give_back_memory
from pixit.pipeline.compute import Compute
from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, find_solo, find_speech
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import Embedder, LocalDiarizer, LocalOutput, MaskEmbedder, PixitError, separates
from pixit.windows import Window, frame_centres_samples

SILENCE = 1e-5
"""Amplitude up to which a window holds no sound: a third of the smallest step of 16 bits."""

Levels = Literal["window", "track"]
Progress = Callable[[int, int], None]
"""Called with the number of windows done and of all."""
Outputs = tuple[Floats, Floats | None, Bools]
"""Activities (B, K, F), sources (B, K, T) if the model gives any, and who is active (B, K)."""


class EmbeddingSettings(Settings):
    """What the speaker embeddings are computed from."""

    signal: Literal["separated", "mixture"] = Field(
        "separated",
        description="embed the separated sources, or the mixture masked by the activities, as always where the "
        "model does not separate",
    )
    exclude_overlap: bool = Field(
        True, description="leave overlapped speech out where there is enough speech without it"
    )
    min_solo_s: float = Field(
        1.0, ge=0, le=3600, description="seconds of speech without overlap that are enough"
    )


def run_windows(
    model: LocalDiarizer,
    windows: Iterable[Window],
    spool: Spool,
    settings: ActivitySettings,
    compute: Compute,
    progress: Progress,
    levels: Levels = "window",
) -> None:
    """Diarize every window, separate it if the model does, and put what comes out into `spool`.

    With `levels` of ``"window"`` the sources of each window get the levels that they have in the mixture. A local
    speaker with less speech than `settings` ask for is silent, and so is everybody in a window without sound,
    whatever the model makes of it. A PixitError if the model gives NaN or infinite values.
    """
    for _ in hear_windows(model, windows, spool, settings, compute, progress, levels):
        pass
    give_back_memory()


def hear_windows(
    model: LocalDiarizer,
    windows: Iterable[Window],
    spool: Spool,
    settings: ActivitySettings,
    compute: Compute,
    progress: Progress,
    levels: Levels = "window",
) -> Iterator[Window]:
    """Do as `run_windows`, and yield each window when `spool` holds what the model heard in it."""
    run = partial(_run, model, spool, settings, compute, levels)
    for batch, (activities, sources, active) in compute.map_batches(run, windows):
        spool.append(activities, sources, active)
        progress(len(spool), spool.geometry.num_windows)
        yield from batch


def _run(
    model: LocalDiarizer,
    spool: Spool,
    settings: ActivitySettings,
    compute: Compute,
    levels: Levels,
    batch: list[Window],
) -> tuple[list[Window], Outputs]:
    """Return a batch of windows, and what `spool` keeps of it."""
    return batch, hear_batch(model, batch, spool.geometry, settings, compute, levels, spool.in_steps)


def hear_batch(
    model: LocalDiarizer,
    batch: list[Window],
    geometry: Geometry,
    settings: ActivitySettings,
    compute: Compute,
    levels: Levels,
    in_steps: Callable[[Floats], Floats],
) -> Outputs:
    """Return what the model hears in a batch of windows, as `run_windows` describes it.

    Activities (B, K, F), rounded by `in_steps`, sources (B, K, T) or None, and who is active (B, K). Sources of
    silent local speakers are zero, their activities are not. A PixitError if the model gives NaN or infinite values.
    """
    loudest = np.array([np.abs(window.samples).max(initial=0) for window in batch])
    if (loudest <= SILENCE).all():
        return _hear_nothing(model, batch, geometry)
    min_frames = max(1, round(settings.min_local_s / geometry.frame_s))
    centres = frame_centres_samples(geometry.frame_grid, geometry.num_frames)
    mixtures = torch.from_numpy(np.stack([window.samples for window in batch])).to(compute.device)
    with torch.inference_mode():
        with compute.mixed_precision():
            output = model(mixtures.unsqueeze(1))
        given = {"activities": output.activity_logits}
        if isinstance(output, LocalOutput):
            given["sources"] = output.sources
        for name, values in given.items():
            if not values.isfinite().all():
                at = f"about {batch[0].start_samples / geometry.sample_rate_hz:.1f} s"
                raise PixitError(
                    f"the model gives NaN or infinite {name} at {at}; is it damaged? try another"
                )
        # what the model hears in the zeros before (live) and after the recording counts for nothing
        inside = np.stack([(centres >= -window.start_samples) & (centres < window.valid) for window in batch])
        kept = torch.from_numpy(inside)[:, None].to(output.activity_logits)
        activities = in_steps((output.activities * kept).float().cpu().numpy())
        speech = find_speech(activities, settings)
        active = torch.from_numpy(speech.sum(-1) >= min_frames).to(compute.device)
        active &= torch.from_numpy(loudest > SILENCE).to(compute.device)[:, None]
        sources = None
        if isinstance(output, LocalOutput):
            heard = output.sources.float() * active.unsqueeze(-1)
            heard = restore_levels(heard, mixtures, active) if levels == "window" else heard
            sources = heard.cpu().numpy()
    return activities, sources, active.cpu().numpy()


def _hear_nothing(model: LocalDiarizer, batch: list[Window], geometry: Geometry) -> Outputs:
    """Return what is heard in windows without sound, for which no network is needed."""
    size = len(batch), model.num_speakers
    sources = np.zeros((*size, geometry.window_samples), np.float32) if separates(model) else None
    return np.zeros((*size, geometry.num_frames), np.float32), sources, np.zeros(size, bool)


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
    windows: Iterable[Window] | None,
    settings: EmbeddingSettings,
    activity: ActivitySettings,
    compute: Compute,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Embed every active local speaker of every window.

    Parameters
    ----------
    local, windows
        What the model heard in the windows; and these themselves, which may come as `hear_windows` yields them. None
        where the sources of all windows are there and are embedded.
    activity
        Says which frames are speech.

    Returns
    -------
    vectors
        (W, K, D), NaN where a local speaker is silent.
    embedded_s
        Seconds of speech each vector stands on, (W, K).
    """
    shape = (local.geometry.num_windows, local.num_speakers)
    vectors = np.full((*shape, embedder.embedding_size), np.nan, np.float32)
    embedded_s = np.zeros(shape, np.float32)
    given = (
        ((window.index, window.samples) for window in windows)
        if windows is not None
        else zip(local, repeat(None))
    )
    heard = (_hear(number, samples, local, settings, activity) for number, samples in given)
    for batch, found in compute.map_batches(partial(embed_voices, embedder, compute), heard):
        for one, own in zip(batch, found, strict=True):
            vectors[one.window, one.speakers] = own
            embedded_s[one.window, one.speakers] = one.weights.sum(axis=1) * local.geometry.frame_s
        progress(batch[-1].window + 1, len(vectors))
    give_back_memory()
    return vectors, embedded_s


@dataclass(frozen=True)
class Voices:
    """What an embedder hears of a window: weights (n, F) of its n active local speakers, and signals.

    The signals are their sources (n, T), or the mixture (1, T).
    """

    window: int
    speakers: list[int]
    signals: Floats
    weights: Floats


def _hear(
    number: int, mixture: Floats | None, local: Spool, settings: EmbeddingSettings, activity: ActivitySettings
) -> Voices:
    speakers = np.flatnonzero(local.active[number]).tolist()
    if settings.signal == "mixture":
        assert mixture is not None, "whoever embeds mixtures hands the windows over"
        signals = mixture[None]
    else:
        signals = local.sources(number)
    weights = weigh_frames(local.activities(number), settings, activity, local.geometry.frame_s)
    return Voices(number, speakers, signals, weights[speakers])


def embed_voices(
    embedder: Embedder, compute: Compute, batch: list[Voices]
) -> tuple[list[Voices], list[Floats]]:
    """Return the batch again, and the embeddings (n, D) of the speakers of each window."""
    found = {one.window: np.zeros((0, embedder.embedding_size), np.float32) for one in batch}
    if talking := [one for one in batch if one.speakers]:
        sizes = [len(one.speakers) for one in talking]
        signals = np.concatenate([one.signals for one in talking])
        weights = np.concatenate([one.weights for one in talking])
        if len(signals) < len(weights) and not isinstance(embedder, MaskEmbedder):
            signals = np.concatenate([signals[n : n + 1].repeat(size, 0) for n, size in enumerate(sizes)])
        inputs = [torch.from_numpy(array).to(compute.device) for array in (signals, weights)]
        with torch.inference_mode(), compute.mixed_precision():
            if len(signals) < len(weights) and isinstance(embedder, MaskEmbedder):
                vectors = embedder.embed_masks(inputs[0], inputs[1], torch.tensor(sizes))
            else:
                vectors = embedder(*inputs)
        parts = np.split(vectors.float().cpu().numpy(), np.cumsum(sizes)[:-1])
        found |= {one.window: part for one, part in zip(talking, parts, strict=True)}
    return batch, [found[one.window] for one in batch]


def weigh_frames(
    activities: Floats, settings: EmbeddingSettings, activity: ActivitySettings, frame_s: float
) -> Floats:
    """Return how much each frame of a window counts for the embedding of each local speaker, (K, F)."""
    speech = find_speech(activities, activity)
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
