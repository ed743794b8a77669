"""What goes into the spool comes out again; a full disk ends in one clear line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixit.pipeline.spool import Geometry, Spool
from pixit.types import FrameGrid, PixitError

GEOMETRY = Geometry(1000, 900, 8, 200, 100, FrameGrid(10, 10), 20)


def test_what_goes_in_comes_out(tmp_path: Path, rng: np.random.Generator) -> None:
    activities = rng.uniform(size=(8, 3, 20)).astype(np.float32)
    sources = rng.normal(size=(8, 3, 200)).astype(np.float32)
    sources *= 10 ** rng.uniform(-6, 6, (8, 3, 1))  # any level
    active = rng.uniform(size=(8, 3)) < 0.6
    active[2] = False
    with Spool(GEOMETRY, 3, tmp_path) as spool:
        for part in (slice(0, 3), slice(3, 4), slice(4, 8)):
            spool.append(activities[part], sources[part], active[part])
        assert len(spool) == 8
        np.testing.assert_array_equal(spool.active, active)
        for window in (7, 0, *spool):  # in any order, and again
            expected = sources[window, active[window]]
            peak = np.abs(expected).max(axis=1, keepdims=True)
            error = np.abs(spool.sources(window) - expected)
            assert (error <= 2**-11 * peak).all()  # half a step of half precision
            expected = activities[window] * active[window][:, None]
            np.testing.assert_allclose(spool.activities(window), expected, atol=0.5 / 255 + 1e-6)


def test_the_decision_at_one_half_survives(tmp_path: Path) -> None:
    """Activities are kept in steps of 1/255, but none of them changes sides."""
    near = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(0)), 0.4999, 0.5001, 0, 1], np.float32)
    with Spool(GEOMETRY, 1, tmp_path) as spool:
        spool.append(np.resize(near, (1, 1, 20)), np.ones((1, 1, 200), np.float32), np.ones((1, 1), bool))
        np.testing.assert_array_equal(spool.activities(0)[0] >= 0.5, np.resize(near, 20) >= 0.5)


def test_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Spool(GEOMETRY, 1, tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = Geometry(16000, 3600 * 16000, 3600, 80000, 16000, FrameGrid(128, 128), 625)
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 5e8}))
    with pytest.raises(PixitError, match=r"has 500\.0 MB free, the separation needs some \d+\.\d MB"):
        Spool(hour, 3, tmp_path)
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys  # run with -B: a compiled file cut off by the limit would stay behind
from pathlib import Path
import numpy as np
from pixit.pipeline.spool import Spool
from pixit.pipeline.spool import Geometry
from pixit.types import FrameGrid, PixitError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # no file beyond 1000 bytes
folder = Path(sys.argv[1])
try:
    with Spool(Geometry(1000, 900, 8, 200, 100, FrameGrid(10, 10), 20), 1, folder) as spool:
        for _ in range(8):
            spool.append(np.ones((1, 1, 20)), np.ones((1, 1, 200), np.float32), np.ones((1, 1), bool))
except PixitError as error:
    print(len(spool), error)
print(list(folder.iterdir()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_disk_that_fills_while_writing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-B", "-c", FULL, tmp_path], capture_output=True, text=True, check=True
    )
    said, left = run.stdout.splitlines()
    assert said.startswith(f"3 {tmp_path}: temporary file: cannot be written (File too large); free some")
    assert left == "[]"


def test_without_a_folder_the_last_sources_are_kept_in_memory(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """They are what a file would give back; of the windows before them only the activities are left."""
    activities = rng.random((8, 3, 20)).astype(np.float32)
    sources = rng.normal(0, 0.1, (8, 3, 200)).astype(np.float32)
    active = rng.random((8, 3)) > 0.3
    active[:, 0] = True
    with Spool(GEOMETRY, 3, tmp_path) as on_disk, Spool(GEOMETRY, 3) as in_memory:
        for batch in (slice(0, 3), slice(3, 4), slice(4, 8)):
            for spool in (on_disk, in_memory):
                spool.append(activities[batch], sources[batch], active[batch])
            for window in range(batch.start, batch.stop):
                np.testing.assert_array_equal(in_memory.sources(window), on_disk.sources(window))
        np.testing.assert_array_equal(in_memory.active, on_disk.active)
        for window in range(8):
            np.testing.assert_array_equal(in_memory.activities(window), on_disk.activities(window))
        with pytest.raises(ValueError, match="not kept"):
            in_memory.sources(3)
