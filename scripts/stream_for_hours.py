"""Push hours of sound through a streaming separator at full speed: time, memory and state of each minute.

    python scripts/stream_for_hours.py 24

Two people talk by turns for half of each minute, at 2 kHz, heard by a model of a few lines at 1 kHz: what is measured
is pixit's own bookkeeping, not a network. Prints JSON: for each minute memory (bytes), seconds, bytes of the state,
and turns.
"""

from __future__ import annotations

import gc
import json
import sys
import time

import numpy as np
import psutil
import torch
from torch import Tensor

from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import FrameGrid, LocalOutput

RATE_HZ = 2000


class Halves(torch.nn.Module):
    """Hears two people: one in the upper and one in the lower half of the samples' range."""

    sample_rate_hz, num_speakers, window_samples = 1000, 3, 2000
    frame_grid = FrameGrid(20, 20)

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames."""
        return num_samples // 20

    def forward(self, waveforms: Tensor) -> LocalOutput:
        """Separate by the sign."""
        sources = torch.cat([waveforms.clamp_min(0), waveforms.clamp_max(0), 0 * waveforms], dim=1)
        levels = sources.abs().unfold(2, 20, 20).mean(-1)
        return LocalOutput(400 * levels - 4, sources)


class Sign:
    """Embeds the sign."""

    sample_rate_hz, embedding_size, clustering_threshold = 1000, 4, 0.6

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return a vector for each waveform."""
        vectors = torch.zeros(len(waveforms), 4)
        vectors[:, 0], vectors[:, 1] = waveforms.clamp_min(0).sum(1), waveforms.clamp_max(0).sum(1).abs()
        return vectors


def main() -> None:
    """Run."""
    hours = float(sys.argv[1])
    torch.set_num_threads(1)
    stream = StreamingSeparator(
        Halves(), Sign(), StreamingSettings(step_s=1.0), device="cpu", sample_rate_hz=RATE_HZ
    )
    rng = np.random.default_rng(0)
    talk = rng.uniform(0.1, 0.5, (30, RATE_HZ)) * np.where(np.arange(30) % 2, 1, -1)[:, None]
    minute = np.concatenate([talk.ravel(), np.zeros(30 * RATE_HZ)]).astype(np.float32)
    process, found = psutil.Process(), []
    for _ in range(round(60 * hours)):
        started = time.perf_counter()
        update = stream.push(minute)
        took = time.perf_counter() - started
        gc.collect()
        found.append((process.memory_info().rss, took, len(stream.state()), len(update.turns)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
