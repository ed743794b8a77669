"""The two networks over all windows: local speakers, with their level restored, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, repeat
from typing import Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pixit.config import Settings
from pixit.pipeline.diarize import ActivitySettings, Bools, Floats, find_solo, find_speech
from pixit.pipeline.spool import Spool, give_back_memory
from pixit.types import Embedder, LocalDiarizer, LocalOutput, PixitError
from pixit.windows import Window, frame_centres_samples

SILENCE = 1e-5
"""Amplitude up to which a window holds no sound: a third of the smallest step of 16 bits."""

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
"""Called with the number of windows done and of all."""


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
    batch_size: int,
    device: torch.device,
    progress: Progress,
    levels: Literal["window", "track"] = "window",
    listen: Callable[[list[Window]], None] = lambda batch: None,
) -> None:
    """Diarize every window, separate it if the model does, and put what comes out into `spool`.

    With `levels` of ``"window"`` the sources of each window get the levels that they have in the mixture. A local
    speaker with less speech than `settings` ask for is silent, and so is everybody in a window without sound,
    whatever the model makes of it. `listen` is called with the windows that `spool` took last. A PixitError if the
    model gives NaN or infinite values.
    """
    min_frames = max(1, round(settings.min_local_s / spool.geometry.frame_s))
    centres = frame_centres_samples(spool.geometry.frame_grid, spool.geometry.num_frames)
    for batch in batches(windows, batch_size):
        mixtures = torch.from_numpy(np.stack([window.samples for window in batch])).to(device)
        with torch.inference_mode():
            output = model(mixtures.unsqueeze(1))
            given = {"activities": output.activity_logits}
            if isinstance(output, LocalOutput):
                given["sources"] = output.sources
            for name, values in given.items():
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
            sources = None
            if isinstance(output, LocalOutput):
                heard = output.sources.float() * active.unsqueeze(-1)
                heard = restore_levels(heard, mixtures, active) if levels == "window" else heard
                sources = heard.cpu().numpy()
        spool.append(activities, sources, active.cpu().numpy())
        listen(batch)
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


class Embeddings:
    """The speaker embeddings of a recording, of one batch of windows after the other.

    `activity` says which frames are speech.

    Attributes
    ----------
    vectors
        (W, K, D), NaN where a local speaker is silent.
    embedded_s
        Seconds of speech each vector stands on, (W, K).
    """

    def __init__(
        self,
        embedder: Embedder,
        local: Spool,
        settings: EmbeddingSettings,
        activity: ActivitySettings,
        device: torch.device,
    ) -> None:
        self.embedder, self.local, self.settings, self.activity = embedder, local, settings, activity
        self.device = device
        shape = (local.geometry.num_windows, local.num_speakers)
        self.vectors = np.full((*shape, embedder.embedding_size), np.nan, np.float32)
        self.embedded_s = np.zeros(shape, np.float32)

    def add(self, batch: Mapping[int, Window | None]) -> None:
        """Embed the active local speakers of some windows; the windows themselves are needed for the mixture."""
        frame_s = self.local.geometry.frame_s
        signals, weights, places = [], [], []
        for number, window in batch.items():
            speech = find_speech(self.local.activities(number), self.activity)
            counts = _weights(speech, self.settings, frame_s)
            for speaker in np.flatnonzero(self.local.active[number]).tolist():
                places.append((number, speaker))
                signals.append(self.local.source(number, speaker) if window is None else window.samples)
                weights.append(counts[speaker])
                self.embedded_s[number, speaker] = counts[speaker].sum() * frame_s
        if places:
            inputs = (torch.from_numpy(np.stack(arrays)).to(self.device) for arrays in (signals, weights))
            with torch.inference_mode():
                found = self.embedder(*inputs).float().cpu().numpy()
            self.vectors[tuple(np.transpose(places))] = found


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
    """Embed every active local speaker of every window; return vectors and seconds as of `Embeddings`.

    `windows` are read if ``settings.signal`` is ``"mixture"``.
    """
    found = Embeddings(embedder, local, settings, activity, device)
    mixtures: Iterable[Window | None] = windows if settings.signal == "mixture" else repeat(None)
    for batch in batches(zip(local, mixtures, strict=False), batch_size):
        found.add(dict(batch))
        progress(batch[-1][0] + 1, len(local))
    give_back_memory()
    return found.vectors, found.embedded_s


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
