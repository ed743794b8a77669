"""A model on disk: identical after a round trip, and never loaded half or with code in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants  # a lazy module: there only once it was asked for
import pytest
import torch
from torch import nn

from pixit.checkpoints import load_model, save_model
from pixit.models.embedders import SpeakerEncoder
from pixit.models.totatonet import ToTaToNet
from pixit.types import PixitError

TINY: dict[str, Any] = {
    "n_sources": 2,
    "encoder_decoder": {"n_filters": 8},
    "masker": {"name": "dprnn", "n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 10},
    "window_s": 1.0,
}
TINY_BANDSPLIT: dict[str, Any] = {
    "encoder_decoder": {"fb_name": "stft", "n_filters": 64, "kernel_size": 64, "stride": 32, "center": True},
    "masker": {"name": "bandsplit", "n_repeats": 1, "channels": 6, "hid_size": 4, "mixing_size": 8},
}
TINY_WAVLM: dict[str, Any] = TINY | {
    "wavlm": {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "conv_dim": [4] * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    }
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model."""
    return save_model(ToTaToNet(**TINY), tmp_path / "model", {"data": "none"})


def edit_description(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    description = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in description.items() if v is not None}))


def error_of(folder: Path) -> str:
    """Return the one line with which loading fails."""
    with pytest.raises(PixitError) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("arguments", [TINY, TINY_BANDSPLIT, TINY_WAVLM], ids=["dprnn", "bandsplit", "wavlm"])
def test_saved_and_loaded_is_identical(arguments: dict[str, Any], tmp_path: Path) -> None:
    if "wavlm" in arguments:
        pytest.importorskip("transformers")
    model = ToTaToNet(**arguments).eval()
    loaded = load_model(save_model(model, tmp_path / "model", {}))
    assert isinstance(loaded, ToTaToNet)
    assert not loaded.training
    assert loaded.config == model.config
    waveforms = torch.randn(2, 1, 2000)
    with torch.inference_mode():
        expected, found = model(waveforms), loaded(waveforms)
    assert torch.equal(found.sources, expected.sources)
    assert torch.equal(found.activity_logits, expected.activity_logits)


def test_speaker_encoder_too(tmp_path: Path) -> None:
    model = SpeakerEncoder(embedding_size=8, num_mels=16, base_channels=2, blocks_per_stage=1).eval()
    loaded = load_model(str(save_model(model, tmp_path / "embedder", {})))
    speech = torch.randn(2, 8000)
    assert torch.equal(loaded(speech), model(speech))


def test_description_is_complete(folder: Path) -> None:
    description = json.loads((folder / "config.json").read_text())
    assert description["format"] == 1
    assert description["architecture"] == "ToTaToNet"
    assert description["provenance"] == {"data": "none"}
    assert description["config"] == ToTaToNet(**TINY).config
    assert description["config"]["masker"]["norm_type"] == "gLN", "defaults are written too"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces_and_leaves_nothing_beside(folder: Path) -> None:
    model = ToTaToNet(**TINY | {"n_sources": 3})
    save_model(model, folder, {})
    assert load_model(folder).config["n_sources"] == 3  # type: ignore[index]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_failed_saving_keeps_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PixitError, match=r"cannot be written \(No space left on device"):
        save_model(ToTaToNet(**TINY | {"n_sources": 3}), folder, {})
    assert load_model(folder).config["n_sources"] == 2  # type: ignore[index]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_other_folders_and_models_are_not_overwritten_or_saved(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PixitError, match="is not a model's folder"):
        save_model(ToTaToNet(**TINY), tmp_path, {})
    with pytest.raises(PixitError, match="Linear: cannot be saved; expected one of ToTaToNet, PyanNet"):
        save_model(nn.Linear(1, 1), tmp_path / "new", {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_weights_are_told(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert error_of(folder).startswith(f"{weights}: damaged")


def test_one_flipped_bit_is_told(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert "damaged" in error_of(folder)


def test_rubbish_with_the_right_hash_is_told(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"rubbish")
    edit_description(folder, sha256=hashlib.sha256(b"rubbish").hexdigest())
    assert "is not a safetensors file" in error_of(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, this pixit reads format 1; update"),
        ({"format": None}, "lacks 'format'"),
        ({"architecture": "os.system"}, "unknown architecture 'os.system'; expected one of ToTaToNet"),
        ({"config": None}, "lacks 'config'"),
        ({"config": TINY | {"n_source": 2}}, "takes no 'n_source'; did you mean 'n_sources'"),
        ({"config": TINY | {"masker": {"name": "dprnn", "repeats": 1}}}, "repeats"),
        ({"config": TINY | {"encoder_decoder": {"stride": 0}}}, "its ToTaToNet cannot be built"),
        ({"config": TINY | {"n_sources": 3}}, "has shape .* its configuration asks for"),
        ({"config": TINY | {"linear": {"num_layers": 1}}}, "has an unknown weight 'linear.1.bias'"),
        ({"config": TINY | {"linear": {"num_layers": 3}}}, "lacks weight 'linear.2.bias'"),
        ({"sha256": "0" * 64}, "damaged"),
    ],
)
def test_wrong_descriptions_are_told(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_description(folder, **changes)
    assert re.search(message, error_of(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "\udcff"])
def test_broken_descriptions_are_told(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert str(folder / "config.json") in error_of(folder)


def test_missing_files_are_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors: cannot be read (No such file" in error_of(folder)
    (folder / "config.json").unlink()
    assert "config.json: cannot be read (No such file" in error_of(folder)
    shutil.rmtree(folder)
    assert "no such model; expected a folder" in error_of(folder)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def put_in_cache(cache: Path, folder: Path, name: str, revision: str) -> None:
    """Lay out a model as the hub's client keeps it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / revision).write_text(commit)


@pytest.mark.usefixtures("offline")
def test_hub_names(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    put_in_cache(cache, folder, "someone/tiny", "main")
    put_in_cache(cache, folder, "someone/tagged", "v1")
    assert load_model("someone/tiny", cache_dir=cache).config["n_sources"] == 2  # type: ignore[index]
    assert isinstance(load_model("someone/tagged@v1", cache_dir=cache), ToTaToNet)
    assert isinstance(load_model("someone/tagged", revision="v1", cache_dir=cache), ToTaToNet)
    for absent in ("someone/tagged", "someone/else", "someone/tiny@v2"):
        with pytest.raises(PixitError, match=f"^{absent}: no such file here, and the hub did not provide it"):
            load_model(absent, cache_dir=cache)


@pytest.mark.parametrize(
    "name", ["model", "./a/b", "/a/b", "a/b/c", "~/a", "a b/c", "http://a/b", "here/model"]
)
def test_paths_do_not_use_the_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(PixitError, match="no such model"):
        load_model(name)


def test_unusable_device_is_told(folder: Path) -> None:
    with pytest.raises(PixitError, match="device 'toaster': cannot be used"):
        load_model(folder, device="toaster")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_place_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PixitError, match="cannot be written"):
        save_model(ToTaToNet(**TINY), tmp_path / "model", {})


def test_half_precision_file_loads_as_float32(tmp_path: Path) -> None:
    model = SpeakerEncoder()
    save_model(model, tmp_path / "model", {}, dtype=torch.float16)
    loaded = load_model(tmp_path / "model")
    for name, tensor in model.state_dict().items():
        other = loaded.state_dict()[name]
        assert other.dtype == tensor.dtype
        torch.testing.assert_close(other, tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"window_s": 1e9}, "window_s=1000000000.0: expected more than 0 and at most 600 s"),
        ({"window_s": float("nan")}, "window_s=nan"),
        ({"n_sources": 0}, "n_sources=0: expected 1 to 32"),
        ({"n_sources": 10**9}, "n_sources=1000000000, expected at most 200000"),
        ({"linear": {"hidden_size": 10**5, "num_layers": 2}}, "asks for (1, 100000)"),
        ({"linear": {"hidden_size": 64, "num_layers": 10**9}}, "num_layers=1000000000, expected at most"),
        ({"masker": {"name": "dprnn", "n_repeats": 10**9}}, "n_repeats=1000000000, expected at most"),
        ({"masker": None}, "its configuration asks for (128,)"),
        ({"masker": ["dprnn"]}, "cannot be built"),
        ({"encoder_decoder": {"stride": 0}}, "cannot be built"),
    ],
)
def test_configurations_of_other_sizes_than_the_weights_take_no_memory(
    folder: Path, changes: dict[str, Any], problem: str
) -> None:
    edit_description(folder, config=json.loads((folder / "config.json").read_text())["config"] | changes)
    assert problem in error_of(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{name}: is a pipe, expected" in error_of(folder)
