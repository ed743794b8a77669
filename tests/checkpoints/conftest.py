from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from pixit.models.embedders import EcapaTdnn, WeSpeakerResNet34
from script_files import load_script

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def script() -> Any:
    """scripts/make_golden_embedders.py"""
    return load_script("scripts/make_golden_embedders.py")


@pytest.fixture(scope="session")
def originals(script: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as in a snapshot from the hub, with an embedder in its original form.

    The pickles are those that pyannote.audio and SpeechBrain wrote, the weights beside them are made of their names.
    """
    kinds = {
        "wespeaker": ("pytorch_model.bin", WeSpeakerResNet34),
        "ecapa": ("embedding_model.ckpt", EcapaTdnn),
    }
    folders = {}
    for name, (file, kind) in kinds.items():
        folders[name] = tmp_path_factory.mktemp(name)
        pickled = gzip.decompress((GOLDEN / f"{name}.pkl.gz").read_bytes())
        script.with_pickle(script.fill(kind()).state_dict(), pickled, folders[name] / file)
    return folders
