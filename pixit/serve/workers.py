"""Who does the jobs: separators with a bound, in processes of this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from pixit.audio import Audio
from pixit.diarized import Diarization
from pixit.pipeline.separate import Separator
from pixit.pipeline.workers import Workers
from pixit.serve.limits import ServeSettings
from pixit.types import PixitError

Networks = tuple[str | None, str | None, str, Mapping[str, Any]]
"""Model, embedder, device and differences from the settings, as for `Separator.from_pretrained`."""
NICENESS = 10


class BoundedSeparator(Separator):
    """A separator that takes no recording that is longer than `most_s`."""

    most_s: float

    def _run(self, is_separation: bool, audio: Any, *arguments: Any) -> Diarization:
        if isinstance(audio, Audio) and audio.duration_s > self.most_s:
            raise PixitError(
                f"{audio.uri}: lasts {audio.duration_s:.0f} s; expected at most {self.most_s:.0f} s"
            )
        return super()._run(is_separation, audio, *arguments)


def load_separator(
    model: str | None,
    embedder: str | None,
    settings: Mapping[str, Any],
    most_s: float,
    niceness: int = 0,
    device: str = "auto",
) -> BoundedSeparator:
    """Load the separator of a worker, whose process stands back behind others by `niceness`."""
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    separator = BoundedSeparator.from_pretrained(model, embedder, device, settings)
    assert isinstance(separator, BoundedSeparator)
    separator.most_s = most_s
    return separator


def make_workers_here(networks: Networks, settings: ServeSettings) -> Callable[[], Workers]:
    """Return what makes workers in processes of this machine, which stand back behind the streams.

    They have the threads that torch would take now: streams may leave this process with one, before workers are made.
    """
    from pixit.pipeline.processes import Processes

    model, embedder, device, changes = networks
    load = partial(load_separator, model, embedder, changes, settings.max_recording_s, NICENESS)
    num_threads = torch.get_num_threads()
    return lambda: Processes(load, device, settings.jobs, num_threads)


def make_workers_on(address: str, networks: Networks, settings: ServeSettings) -> Callable[[], Workers]:
    """Return what makes workers on a Ray cluster, whose machines share the server's folder."""
    from pixit.pipeline.ray_cluster import RayWorkers

    model, embedder, device, changes = networks
    load = partial(load_separator, model, embedder, changes, settings.max_recording_s)
    return lambda: RayWorkers(load, device, address, settings.jobs, settings.jobs)
