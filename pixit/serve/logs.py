"""What happens, as lines of JSON: never what is in a recording, what a client calls it, or a token."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any, TextIO


class Log:
    """Writes one line of JSON for each event.

    Parameters
    ----------
    file
        Where to; by default standard error, None for nowhere.
    """

    def __init__(self, file: TextIO | None = sys.stderr) -> None:
        self._file, self._lock = file, threading.Lock()

    def __call__(self, event: str, level: str = "info", **facts: Any) -> None:
        """Write an event; `facts` are numbers and words of ours."""
        if self._file is None:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        line = json.dumps({"time": f"{stamp}Z", "level": level, "event": event, **facts}, default=str)
        with self._lock:
            print(line, file=self._file, flush=True)
