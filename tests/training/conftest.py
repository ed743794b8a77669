"""A meeting corpus of a few seconds, and settings with which a training takes a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from pixit.config import settings_from_mapping
from pixit.training.train import TrainSettings

RATE_HZ = 16000
DURATION_S = 9.0
TURNS = {"A": [(0.0, 2.5), (6.2, 7.0)], "B": [(2.5, 4.5), (7.5, 9.0)], "C": [(4.2, 6.2)]}
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def write_meeting(folder: Path, uri: str, seed: int, references: bool) -> None:
    """Three speakers of differently coloured noise, with RTTM and UEM."""
    rng = np.random.default_rng(seed)
    num_samples = round(DURATION_S * RATE_HZ)
    mixture = 1e-3 * rng.standard_normal(num_samples)
    lines = []
    for number, (speaker, turns) in enumerate(TURNS.items()):
        source = np.zeros(num_samples)
        carrier = np.sin(2 * np.pi * 300 * (number + 1) * np.arange(num_samples) / RATE_HZ)
        for start_s, end_s in turns:
            part = slice(round(start_s * RATE_HZ), round(end_s * RATE_HZ))
            source[part] = 0.1 * (carrier[part] + rng.standard_normal(part.stop - part.start))
            lines.append(f"SPEAKER {uri} 1 {start_s} {end_s - start_s:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
        mixture += source
        if references:
            (folder / "references" / uri).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "references" / uri / f"{speaker}.wav", source, RATE_HZ, subtype="FLOAT")
    soundfile.write(folder / f"{uri}.wav", mixture, RATE_HZ, subtype="FLOAT")
    (folder / f"{uri}.rttm").write_text("".join(lines))
    (folder / f"{uri}.uem").write_text(f"{uri} NA 0.000 {DURATION_S:.3f}\n")


def write_corpus(
    folder: Path, references: bool = False, subsets: tuple[str, ...] = ("train", "development")
) -> Path:
    """Write two meetings for each subset and a database.yml; returns the latter."""
    folder.mkdir(parents=True)
    protocol = {}
    for number, subset in enumerate(subsets):
        uris = [f"{subset}{i}" for i in range(2)]
        for i, uri in enumerate(uris):
            write_meeting(folder, uri, seed=10 * number + i, references=references)
        (folder / f"{subset}.lst").write_text("".join(f"{uri}\n" for uri in uris))
        files = {"uri": f"{subset}.lst", "annotation": "{uri}.rttm", "annotated": "{uri}.uem"}
        if references:
            (folder / f"{subset}.map").write_text("".join(f"{uri} references/{uri}\n" for uri in uris))
            files["references"] = f"{subset}.map"
        protocol[subset] = {key: str(value) for key, value in files.items()}
    tree = {
        "Databases": {"Tiny": "{uri}.wav"},
        "Protocols": {"Tiny": {"SpeakerDiarization": {"all": {"scope": "file", **protocol}}}},
    }
    path = folder / "database.yml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``database.yml`` of meetings without reference sources."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "real")


@pytest.fixture(scope="session")
def database_with_references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``database.yml`` of meetings with reference sources."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "simulated", references=True)


@pytest.fixture
def settings() -> Callable[..., TrainSettings]:
    """Make settings from those of configs/test-minute.yaml and differences, as ``settings(trainer={…})``."""

    def make(**differences) -> TrainSettings:
        tree = yaml.safe_load((CONFIGS / "test-minute.yaml").read_text())
        tree["optimizer"]["learning_rate"] = 1e-3
        tree["trainer"]["pictures"] = 0  # which take longer than all the rest
        tree["data"] |= {"duration_s": 1.0, "pairs_per_epoch": 8, "validation_pairs": 3}
        for section, values in differences.items():
            tree[section] = tree.get(section, {}) | values if isinstance(values, dict) else values
        return settings_from_mapping(TrainSettings, tree, "test")

    return make


@pytest.fixture
def new_corpus() -> Callable[..., Path]:
    """Give `write_corpus` to a test."""
    return write_corpus
