from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pixit.models.embedders import EcapaTdnn, WeSpeakerResNet34

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def script() -> Any:
    """scripts/make_golden_embedders.py"""
    path = Path(__file__).resolve().parents[2] / "scripts" / "make_golden_embedders.py"
    spec = importlib.util.spec_from_file_location("make_golden_embedders", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
