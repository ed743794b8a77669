"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STEP_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The counters of one server, in a registry of their own.

    Parameters
    ----------
    count_jobs, count_streams
        Tell how many jobs there are in each state, and how many streams are attached and waiting to be resumed.
    """

    def __init__(
        self, count_jobs: Callable[[], dict[str, int]], count_streams: Callable[[], dict[str, int]]
    ) -> None:
        self._registry = CollectorRegistry()
        own = self._registry
        self.requests = Counter(
            "pixit_requests", "Requests by route and status", ["route", "status"], registry=own
        )
        self.audio_s = Counter(
            "pixit_stream_audio_seconds", "Seconds of sound taken from streams", registry=own
        )
        self.windows = Counter("pixit_windows", "Windows that were heard", registry=own)
        self.wait_s = Histogram(
            "pixit_window_wait_seconds",
            "From a full window to its turn",
            buckets=STEP_BUCKETS_S,
            registry=own,
        )
        self.hear_s = Histogram(
            "pixit_window_hear_seconds",
            "Model and embedder for one batch",
            buckets=STEP_BUCKETS_S,
            registry=own,
        )
        self.errors = Counter(
            "pixit_stream_errors", "Streams that ended with an error", ["code"], registry=own
        )
        self._jobs = Gauge("pixit_jobs", "Jobs by state", ["state"], registry=own)
        self._streams = Gauge("pixit_streams", "Streams by state", ["state"], registry=own)
        self._count_jobs, self._count_streams = count_jobs, count_streams

    def render(self) -> bytes:
        """Return all of it in the text format of Prometheus."""
        for gauge, counts in ((self._jobs, self._count_jobs()), (self._streams, self._count_streams())):
            for state, count in counts.items():
                gauge.labels(state).set(count)
        return generate_latest(self._registry)
