"""Speaker embedders as users own them: files of pyannote.audio and SpeechBrain, read without either.

Their pickles are those that the originals wrote, and the weights beside them are made of their names
(scripts/make_golden_embedders.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixit.checkpoints import load_model, save_model
from pixit.checkpoints.native import provenance_of
from pixit.models.embedders import EcapaTdnn, SpeakerEncoder, WeSpeakerResNet34
from pixit.types import PixitError

FILES = {"wespeaker": "pytorch_model.bin", "ecapa": "embedding_model.ckpt"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HYPERPARAMS = """
n_mels: 80
deltas: False
hooks: !apply:os.system ["touch {marker}"]
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
    deltas: !ref <deltas>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    dilations: [1, 2, 3, 4, 1]
modules:
    embedding_model: !ref <embedding_model>
"""


@pytest.fixture
def small(tmp_path: Path, script: Any) -> Path:
    """A small ECAPA-TDNN as SpeechBrain saves it."""
    path = tmp_path / "embedding_model.ckpt"
    model = EcapaTdnn(20, channels=(16, 16, 16, 16, 48), attention_channels=8, embedding_size=12)
    torch.save(script.fill(model).state_dict(), path)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(PixitError) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert str(path.parent) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("place", ["file", "folder"])
def test_they_compute_what_the_originals_do(
    originals: dict[str, Path], script: Any, name: str, place: str
) -> None:
    folder = originals[name]
    model = load_model(folder if place == "folder" else folder / FILES[name])
    with np.load(script.GOLDEN) as golden, torch.inference_mode():
        np.testing.assert_allclose(model(script.make_input()[0]), golden[name], atol=1e-4)


def test_a_repository_of_speechbrain_with_its_other_files(small: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"speechbrain_interface": "SpeakerRecognition"}')
    marker = tmp_path / "owned"
    (tmp_path / "hyperparams.yaml").write_text(HYPERPARAMS.format(marker=marker))
    model: Any = load_model(tmp_path)
    assert isinstance(model, EcapaTdnn)
    assert model.config["num_mels"] == 20
    assert model.config["channels"] == [16, 16, 16, 16, 48]
    assert (model.config["attention_channels"], model.embedding_size) == (8, 12)
    assert model.sample_rate_hz == 16000
    assert not marker.exists(), "hyperparams.yaml was run"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("n_mels: 80", "sample_rate: 8000", None),
        ("n_mels: 80", "sample_rate: fast", "sample_rate is fast, expected a number of Hz"),
        ("n_mels: 80", "sample_rate: !ref <sample_rate>", "sample_rate is <sample_rate>"),
        ("dilations: [1, 2, 3, 4, 1]", "dilations: [1, 2, 2, 2, 1]", "embedding_model.dilations is"),
        ("std_norm: False", "std_norm: True", "mean_var_norm.std_norm is True, expected False"),
        ("deltas: False", "deltas: True", "compute_features.deltas is True, expected False"),
        ("n_mels: 80", "a: [", "is not valid YAML"),
        ("n_mels: 80", "a: " + 5000 * "[", "is not valid YAML"),
    ],
)
def test_other_features_than_ours_are_refused(
    small: Path, tmp_path: Path, before: str, after: str, message: str | None
) -> None:
    text = HYPERPARAMS.format(marker=tmp_path / "owned").replace(before, after)
    (tmp_path / "hyperparams.yaml").write_text(text)
    if message is None:
        assert load_model(small).sample_rate_hz == 8000
    else:
        assert message in error_of(small)


def test_it_is_known_where_they_came_from(originals: dict[str, Path], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--pyannote--wespeaker-voxceleb-resnet34-LM" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(originals["wespeaker"])
    saved = save_model(
        model := load_model(snapshot), tmp_path / "model", provenance_of(model), dtype=torch.float16
    )
    found = provenance_of(load_model(saved))
    assert found == {
        "written_by": "pyannote.audio 4.0.7",
        "file": "pytorch_model.bin",
        "repository": "pyannote/wespeaker-voxceleb-resnet34-LM",
        "revision": COMMIT,
    }


@pytest.mark.parametrize("kind", [WeSpeakerResNet34, EcapaTdnn, SpeakerEncoder])
def test_saved_and_loaded_is_identical(kind: Any, tmp_path: Path, script: Any) -> None:
    small = {
        WeSpeakerResNet34: {"num_mels": 16, "base_channels": 2, "embedding_size": 4},
        EcapaTdnn: {"num_mels": 16, "channels": (8, 8, 8, 8, 24), "attention_channels": 4},
        SpeakerEncoder: {"num_mels": 16, "base_channels": 2},
    }[kind]
    model = script.fill(kind(**small, clustering_threshold=0.42))
    loaded = load_model(save_model(model, tmp_path / "model", {}))
    assert loaded.config == model.config
    assert loaded.clustering_threshold == 0.42
    waveforms = script.make_input()[0]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(waveforms), model(waveforms), atol=0, rtol=0)


def pyannote_file(originals: dict[str, Path], tmp_path: Path, **changes: Any) -> Path:
    """Return the original checkpoint with changes."""
    from pixit.checkpoints.convert import _save_pickle
    from pixit.checkpoints.native import _read_foreign

    content = _read_foreign(originals["wespeaker"] / FILES["wespeaker"])
    _save_pickle(content | changes, path := tmp_path / "changed.bin")
    return path


def test_other_features_of_pyannote_are_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    path = pyannote_file(originals, tmp_path, hyper_parameters={"window_type": "povey"})
    assert "has window_type='povey', expected 'hamming'" in error_of(path)
    path = pyannote_file(originals, tmp_path, hyper_parameters={"num_mel_bins": 64})
    assert "'resnet.seg_1.weight' has shape (256, 5120), its configuration asks for (256, 4096)" in error_of(
        path
    )


def test_what_a_task_added_for_training_is_left_out(originals: dict[str, Path], tmp_path: Path) -> None:
    state = load_model(originals["wespeaker"]).state_dict() | {"loss_func.W": torch.zeros(2, 256)}
    assert isinstance(load_model(pyannote_file(originals, tmp_path, state_dict=state)), WeSpeakerResNet34)


def test_damaged_and_other_files_are_told(small: Path, tmp_path: Path) -> None:
    state = torch.load(small, weights_only=True)
    for changes, message in (
        ({"fc.conv.weight": 1}, "does not hold tensors only"),
        ({"fc.conv.weight": torch.zeros(3, 96, 1)}, "weight 'fc.conv.bias' has shape"),
        ({"more": torch.zeros(1)}, "has an unknown weight 'more'"),
    ):
        torch.save(state | changes, small)
        assert message in error_of(small)
    state.pop("mfa.conv.conv.weight")
    torch.save(state, small)
    assert "lacks 'mfa.conv.conv.weight'; expected an ECAPA-TDNN" in error_of(small)
    torch.save({"weight": torch.zeros(1)}, small)
    assert "is not a ToTaToNet or a PyanNet or a WeSpeakerResNet34" in error_of(small)
    small.write_bytes(b"PK\x03\x04")
    assert "expected a whole checkpoint of pyannote.audio or SpeechBrain" in error_of(small)


class Evil:
    """Runs a command when it is unpickled in the ordinary way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_code_in_the_pickle_is_refused_and_does_not_run(small: Path, tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    state = torch.load(small, weights_only=True)
    torch.save(state | {"fc.conv.bias": Evil(f"touch {marker}")}, small)
    assert "asks for posix.system, which is refused" in error_of(small)
    assert not marker.exists()
