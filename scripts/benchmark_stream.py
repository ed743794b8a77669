"""Time each step of a stream with the bundled model on one thread, as it would be heard from a microphone.

    python scripts/benchmark_stream.py examples/meeting.flac 5.0 0.5

The arguments are a recording and latencies in seconds. For each: real-time factor, and the delay that a step
adds (median, 99th percentile, slowest), on the clock and in time of the processor, which a busy machine does not
change.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from pixit.audio import open_source
from pixit.pipeline.streaming import StreamingSeparator


def main() -> None:
    """Run."""
    torch.set_num_threads(1)
    _, path, *latencies = sys.argv
    for latency in map(float, latencies):
        source = open_source(path)
        settings = {"latency_s": latency}
        stream = StreamingSeparator.from_pretrained(
            device="cpu", settings=settings, sample_rate_hz=source.sample_rate_hz
        )
        steps, num_samples = [], 0
        for block in source:
            started = np.array([time.perf_counter(), time.process_time()])
            windows = stream.feed(block)
            stream.take(stream.hear(windows))
            took = np.array([time.perf_counter(), time.process_time()]) - started
            num_samples += len(block)
            if windows:
                steps.append(took)
        for name, seconds in zip(("clock", "processor"), np.transpose(steps), strict=True):
            factor = seconds.sum() * source.sample_rate_hz / num_samples
            median, late, slowest = np.percentile(1000 * seconds, [50, 99, 100])
            print(
                f"latency {latency:g} s, {name}: {factor:.3f} of real time; a step takes {median:.0f} ms, "
                f"99 % at most {late:.0f}, the slowest {slowest:.0f}"
            )


if __name__ == "__main__":
    main()
