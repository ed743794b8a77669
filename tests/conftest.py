"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# One thread for each process: xdist runs several, and torch 2.13.0 (CPU) crashes in the backward pass of
# tiny convolutions on several threads. Set before torch is imported; subprocesses of tests inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

# A busy machine is no failure.
hypothesis.settings.register_profile("pixit", deadline=None)
hypothesis.settings.load_profile("pixit")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings: beside the checkout, or where PIXIT_TEST_DATA says; skips without it."""
    folder = Path(os.environ.get("PIXIT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; set PIXIT_TEST_DATA to their folder")
    return folder
