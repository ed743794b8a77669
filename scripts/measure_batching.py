"""What hearing windows together gains on a CPU: windows a second, for sizes of batches and ways to share the cores.

    python scripts/measure_batching.py

The windows are of the example recording, the networks the bundled ones. "1 thread × 2" are two batches at
a time with one thread each, as `pixit serve` hears them.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pixit.audio import open_audio
from pixit.pipeline.streaming import StreamingSeparator

SECONDS = 6.0


def measure(stream: StreamingSeparator, batch_size: int, num_threads: int, num_at_a_time: int) -> float:
    """Return windows a second through model and embedder."""
    torch.set_num_threads(num_threads)
    samples = open_audio("examples/meeting.flac", stream.rate_hz).read()
    size = stream.model.window_samples
    starts = range(0, len(samples) - size, size // 4)
    windows = torch.from_numpy(np.stack([samples[start : start + size] for start in starts]))
    batches = [windows[i : i + batch_size, None] for i in range(0, len(windows) - batch_size + 1, batch_size)]

    def hear(number: int) -> int:
        with torch.inference_mode():
            output = stream.model(batches[number % len(batches)])
            sources, activities = output.sources.flatten(0, 1), output.activities.flatten(0, 1)
            stream.embedder(sources, activities)
        return batch_size

    with ThreadPoolExecutor(num_at_a_time) as pool:
        list(pool.map(hear, range(num_at_a_time)))
        started_s, count = time.perf_counter(), 0
        while time.perf_counter() - started_s < SECONDS:
            count += sum(pool.map(hear, range(2 * num_at_a_time)))
        return count / (time.perf_counter() - started_s)


def main() -> None:
    """Print a table."""
    stream = StreamingSeparator.from_pretrained(device="cpu")
    print("| batch | 2 threads × 1 | 1 thread × 2 |\n|---|---|---|")
    for batch_size in (1, 2, 4, 8):
        rates = [measure(stream, batch_size, *share) for share in ((2, 1), (1, 2))]
        print(f"| {batch_size} | {rates[0]:.1f} | {rates[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
