"""The local model over all windows of a recording, with the level of its sources restored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixit.pipeline.activity import ActivitySettings, find_speech
from pixit.pipeline.spool import Spool, in_steps
from pixit.types import LocalModel, LocalOutput, PixitError
from pixit.windows import Window

SILENCE = 1e-5
"""Amplitude up to which a window holds no sound: a third of the smallest step of 16 bits."""

Item = TypeVar("Item")
Progress = Callable[[int, int], None]


def run_windows(
    model: LocalModel,
    windows: Iterable[Window],
    spool: Spool,
    settings: ActivitySettings,
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> None:
    """Separate and diarize every window, and put what comes out into `spool`.

    Parameters
    ----------
    settings
        A local speaker with less speech than they ask for is silent, and so is everybody in a window without
        sound, whatever the model makes of it.
    progress
        Called with the number of windows done and of all.

    Raises
    ------
    PixitError
        If the model gives NaN or infinite values.
    """
    min_frames = max(1, round(settings.min_local_s / spool.geometry.frame_s))
    for batch in batches(windows, batch_size):
        mixtures = torch.from_numpy(np.stack([window.samples for window in batch])).to(device)
        with torch.inference_mode():
            output = model(mixtures.unsqueeze(1))
            _check_finite(output, batch[0].start_samples / spool.geometry.sample_rate_hz)
            inside = _inside(output.activity_logits, batch, spool)
            activities = in_steps((output.activities * inside).float().cpu().numpy())
            speech = find_speech(activities, settings)
            active = torch.from_numpy(speech.sum(-1) >= min_frames).to(device)
            active &= mixtures.abs().amax(-1, keepdim=True) > SILENCE
            sources = restore_levels(output.sources.float(), mixtures, active)
        spool.append(activities, sources.cpu().numpy(), active.cpu().numpy())
        progress(len(spool), spool.geometry.num_windows)


def _check_finite(output: LocalOutput, start_s: float) -> None:
    for name, values in (("activities", output.activity_logits), ("sources", output.sources)):
        if not values.isfinite().all():
            raise PixitError(
                f"the model gives NaN or infinite {name} at about {start_s:.1f} s; is it damaged? try another"
            )


def _inside(activities: Tensor, batch: list[Window], spool: Spool) -> Tensor:
    """Return 1 for frames of the recording, 0 for those of the zeros that follow it, (B, 1, F)."""
    grid = spool.geometry.frame_grid
    centres = grid.centre_samples(0) + grid.step_samples * torch.arange(activities.shape[-1])
    valid = torch.tensor([window.valid for window in batch])
    return (centres < valid[:, None])[:, None].to(activities)


def restore_levels(sources: Tensor, mixtures: Tensor, active: Tensor) -> Tensor:
    """Scale the active sources so that their sum comes as near to the mixture as it can (least squares).

    SI-SDR leaves the scale, and even the sign, of a source free; here they are found again. A little ridge keeps
    the solution from blowing up where sources are alike; no source becomes louder than the mixture.

    Parameters
    ----------
    sources
        (B, K, T).
    mixtures
        (B, T).
    active
        (B, K); silent sources become zero.

    Returns
    -------
    Tensor
        (B, K, T).
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


def count_talk(local: Spool, settings: ActivitySettings) -> NDArray[np.float32]:
    """Return the seconds of the recording that each local speaker stands for, (W, K).

    Windows overlap: a frame that four of them hear counts a quarter in each. So the local speakers who are one
    person have together the seconds for which that person talks, whatever the step and the length of the recording.
    """
    geometry = local.geometry
    num_frames = geometry.num_frames
    hearing = np.zeros(geometry.start_frames(len(local) - 1) + num_frames, np.int32)
    for window in local:
        start = geometry.start_frames(window)
        hearing[start : start + num_frames] += 1
    seconds = np.zeros((len(local), local.num_speakers), np.float32)
    for window in local:
        start = geometry.start_frames(window)
        shares = geometry.frame_s / hearing[start : start + num_frames]
        seconds[window] = find_speech(local.activities(window), settings) @ shares
    return seconds
