"""The load test, with few clients and little sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_ten_clients_of_whom_six_misbehave() -> None:
    command = [
        sys.executable,
        REPOSITORY / "scripts" / "load_test.py",
        "--clients",
        "10",
        "--seconds",
        "6",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["clients"] == {
        "good": [4, 4],
        "reads slowly": [2, 2],
        "vanishes": [2, 2],
        "nonsense": [2, 2],
    }
    assert found["healthz_failures"] == 0
    assert found["healthz_slowest_s"] < 1
    assert found["memory_peak_mb"] - found["memory_before_mb"] < 200
    assert done.returncode == 0
