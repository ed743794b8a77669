"""What a server allows: sizes, lengths, numbers and rates; and how it refuses."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

from pydantic import Field

from pixit.config import Settings


class ServeSettings(Settings):
    """Everything that an operator may set, beside address, token and networks."""

    folder: Path = Field(Path("served"), description="recordings and results of jobs, and their database")
    storage: str | None = Field(
        None,
        description="database of the jobs, sqlite:///FILE or postgresql://…; by default FOLDER/jobs.sqlite",
    )
    keep_s: float = Field(
        86400, ge=1, description="seconds after which a finished job is removed, with all of it"
    )
    jobs: int = Field(1, ge=1, le=256, description="recordings at a time")
    max_queue: int = Field(100, ge=1, description="jobs that may wait")
    max_upload_bytes: int = Field(
        2_000_000_000, ge=1, description="bytes of the largest recording that is taken"
    )
    max_recording_s: float = Field(
        6 * 3600, gt=0, description="seconds of the longest recording that is separated"
    )
    max_streams: int = Field(
        64, ge=1, description="streams at a time, those that wait to be resumed included"
    )
    max_stream_s: float = Field(24 * 3600, gt=0, description="seconds of the longest stream")
    max_message_bytes: int = Field(1 << 20, ge=1024, description="bytes of the largest message of a stream")
    max_speakers: int = Field(20, ge=1, le=100, description="most speakers that a client may ask for")
    resume_s: float = Field(60, ge=0, description="seconds that a broken stream waits for its client")
    ahead_s: float = Field(10, gt=0, description="seconds that a client that may resume sends ahead")
    replay_bytes: int = Field(
        16 << 20,
        ge=1 << 16,
        description="bytes of updates that are kept for a client that has not acknowledged them",
    )
    idle_s: float = Field(60, gt=0, description="seconds in which a client says, or takes, nothing")
    requests_per_minute: int = Field(600, ge=1, description="requests a minute from one address")
    grace_s: float = Field(10, ge=0, description="seconds for jobs to finish when the server is stopped")
    batch_size: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="windows of different clients at a time; by default 1 on a CPU, else 16",
    )
    known_speakers: Path | None = Field(
        None,
        description="recordings of people, FOLDER/Ann.wav or FOLDER/Ann/*.wav: who is heard again has that name, "
        "in jobs and streams of every client",
    )
    cors: tuple[str, ...] = Field(
        (), description="origins whose pages may use the server, as https://example.org"
    )


class Refusal(Exception):
    """What a request asks for is not done.

    Parameters
    ----------
    status
        Of HTTP.
    code, message
        What programs and people understand.
    headers
        To be sent with it.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


class Rate:
    """Counts the requests of each address: each may make so many a minute, and as many at once.

    It remembers a bounded number of addresses; the one that was quiet for longest is forgotten first.
    """

    def __init__(self, per_minute: int, most_addresses: int = 10_000) -> None:
        self._per_s, self._most = per_minute / 60, most_addresses
        self._burst = float(per_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, now_s: float | None = None) -> bool:
        """Count a request, and tell whether it is allowed."""
        now_s = time.monotonic() if now_s is None else now_s
        left, last_s = self._left.pop(address, (self._burst, now_s))
        left = min(self._burst, left + (now_s - last_s) * self._per_s)
        is_allowed = left >= 1
        self._left[address] = (left - 1 if is_allowed else left, now_s)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return is_allowed
