"""A pipeline of the shape of ``pyannote/speaker-diarization-3.1`` finds the turns that pyannote.audio 4.0.7 finds.

The fixture (scripts/compare_pyannote_diarization.py --golden) holds small networks of random weights, and turns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from pixit.checkpoints import save_model
from pixit.models.embedders import WeSpeakerResNet34
from pixit.models.pyannet import PyanNet
from pixit.pipeline.separate import Separator
from pixit.types import PixitError
from script_files import load_script

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "diarization.npz"


SHARED = load_script("scripts/compare_pyannote_diarization.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as on disk: a config.yaml, and the networks in folders beside it."""
    place = tmp_path_factory.mktemp("pipeline")
    sizes = SHARED.SMALL
    voice = {"base_channels": sizes["channels"], "embedding_size": sizes["embedding_size"]}
    networks = {
        "segmentation": PyanNet(3, 2, lstm=sizes["lstm"], linear=sizes["linear"]),
        "embedding": WeSpeakerResNet34(**voice),
    }
    with np.load(GOLDEN) as golden:
        for name, network in networks.items():
            state = {
                key: torch.from_numpy(golden[f"{name}/{key}"]).float()
                if f"{name}/{key}" in golden
                else tensor  # counts of batches
                for key, tensor in network.state_dict().items()
            }
            network.load_state_dict(state)
            save_model(network, place / name, {})
    return place


@pytest.fixture(scope="module")
def audio() -> dict[str, Any]:
    samples, rate_hz = soundfile.read(REPOSITORY / "examples" / "meeting.flac", dtype="float32")
    return {"waveform": samples[None, : SHARED.GOLDEN_S * rate_hz], "sample_rate": rate_hz, "uri": "x"}


@pytest.mark.parametrize("variant", SHARED.VARIANTS)
def test_the_turns_are_pyannotes(folder: Path, audio: dict[str, Any], variant: str) -> None:
    tree, call = SHARED.vary(SHARED.VARIANTS[variant])
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    result = Separator.from_pretrained(folder, device="cpu").diarize(audio, **call)
    with np.load(GOLDEN) as golden:
        theirs = [(start, end, int(speaker)) for start, end, speaker in golden[f"turns/{variant}"]]
    ours = [(turn.start_s, turn.end_s, turn.speaker) for turn in result.turns]
    assert len(theirs) >= 10
    assert len(result.speakers) == len({speaker for *_, speaker in theirs})
    assert SHARED.agreement(ours, theirs, result.duration_s) > 0.99


def test_it_cannot_separate(folder: Path, audio: dict[str, Any]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(SHARED.CONFIG))
    with pytest.raises(PixitError, match="diarizes only"):
        Separator.from_pretrained(folder, device="cpu")(audio)


def test_agreement_forgives_a_frame_and_no_more() -> None:
    theirs = [(0.0, 1.0, 0), (1.0, 2.0, 1)]
    assert SHARED.agreement([(0.0, 1.01, "a"), (0.99, 2.0, "b")], theirs, 2.0) == 1
    assert SHARED.agreement([(1.0, 2.0, "a"), (0.0, 1.0, "b")], theirs, 2.0) == 1
    assert SHARED.agreement([(0.0, 1.1, "a"), (1.0, 2.0, "b")], theirs, 2.0) == pytest.approx(0.95, abs=1e-3)
    assert SHARED.agreement([(0.0, 2.0, "a")], theirs, 2.0) == pytest.approx(0.5)
