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


@pytest.fixture(scope="session")
def tiny_separator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny random networks, whose every local speaker always talks where there is sound."""
    import torch

    from pixit.checkpoints import save_model
    from pixit.models.embedders import SpeakerEncoder
    from pixit.models.totatonet import ToTaToNet

    place = tmp_path_factory.mktemp("separator")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        masker = {"name": "dprnn", "n_repeats": 1, "bn_chan": 8, "hid_size": 8}
        model = ToTaToNet(2, {"n_filters": 16}, masker, window_s=1.0)
        embedder = SpeakerEncoder(embedding_size=8, num_mels=16, base_channels=2, blocks_per_stage=1)
    torch.nn.init.constant_(model.classifier.bias, 5.0)
    save_model(model, place / "model", {})
    save_model(embedder, place / "embedder", {})
    (place / "separator.yaml").write_text("step_s: 0.5\nclustering: {min_speaker_s: 0.2}\n")
    return place
