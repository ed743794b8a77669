"""From one library's files to another's; scripts/check_convert.py asks pyannote.audio itself."""

from __future__ import annotations

import gzip
import json
import pickletools
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from pixit.checkpoints import load_model, save_model
from pixit.checkpoints.convert import convert
from pixit.checkpoints.native import _read_foreign, provenance_of
from pixit.cli import cli
from pixit.files import file_hash
from pixit.models.embedders import EcapaTdnn, SpeakerEncoder, WeSpeakerResNet34
from pixit.models.totatonet import ToTaToNet
from pixit.types import PixitError

GOLDEN = Path(__file__).parent / "golden"
TINY: dict[str, Any] = {
    "n_sources": 2,
    "encoder_decoder": {"n_filters": 8},
    "masker": {"name": "dprnn", "n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 10},
}
WAVLM: dict[str, Any] = {
    **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12},
    **{"conv_dim": [4] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
}


def saved(model: torch.nn.Module, folder: Path) -> Path:
    return save_model(model, folder / "ours", {"data": "none"})


def pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def globals_of(pickled: bytes) -> set[str]:
    return {str(argument) for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"}


def same(first: Any, second: Any) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()
    )


def tree_of(value: Any) -> Any:
    """Return a checkpoint as plain values, tensors as their shapes."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape)
    if isinstance(value, dict):
        return {key: tree_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tree_of(item) for item in value]
    return tree_of(vars(value)) if type(value).__name__ == "Specifications" else value


@pytest.mark.parametrize("n_sources", [1, 3])
@pytest.mark.parametrize("frames_per_second", [125, 16000 / 16 / 7, 16000 / 16 / 9])
def test_a_totatonet_there_and_back(tmp_path: Path, n_sources: int, frames_per_second: float) -> None:
    model = ToTaToNet(**TINY | {"n_sources": n_sources, "diar": {"frames_per_second": frames_per_second}})
    written, notes = convert(saved(model, tmp_path), tmp_path / "pytorch_model.bin")
    assert notes == []
    back, _ = convert(written, tmp_path / "back")
    again: Any = load_model(back)
    assert same(again, model)
    assert again.config | {"diar": None} == model.config | {"diar": None}
    assert again.pooling == model.pooling
    assert provenance_of(again) == {
        **{"data": "none", "file": "pytorch_model.bin"},
        "sha256": file_hash(written),
    }


def test_wespeaker_there_and_back(tmp_path: Path) -> None:
    model = WeSpeakerResNet34(num_mels=16, clustering_threshold=0.5)
    written, _ = convert(saved(model, tmp_path), tmp_path / "pytorch_model.bin")
    again: Any = load_model(written)
    assert same(again, model)
    assert again.config == model.config, "pyannote.audio has no threshold; it is kept beside"


def test_ecapa_there_and_back(tmp_path: Path) -> None:
    model = EcapaTdnn(20, channels=(16, 16, 16, 16, 48), attention_channels=8, clustering_threshold=0.5)
    written, notes = convert(saved(model, tmp_path), tmp_path / "embedding_model.ckpt")
    assert "no room for clustering_threshold=0.5" in notes[0]
    assert set(torch.load(written, weights_only=True)) == set(model.state_dict())
    again: Any = load_model(written)
    assert same(again, model)
    assert again.config == model.config | {"clustering_threshold": EcapaTdnn().clustering_threshold}


def test_what_is_written_has_the_form_of_the_original(tmp_path: Path) -> None:
    """But for what a network without a task has no use of: the state of the trainer's loops."""
    pytest.importorskip("transformers")
    original = tmp_path / "original.bin"
    original.write_bytes(gzip.decompress((GOLDEN / "pyannote_pytorch_model.bin.gz").read_bytes()))
    theirs = tree_of(_read_foreign(original))
    masker = {"name": "dprnn"} | theirs["hyper_parameters"]["dprnn"]
    model = ToTaToNet(2, theirs["hyper_parameters"]["encoder_decoder"], masker, {"num_layers": 1})
    ours, _ = convert(saved(model, tmp_path), tmp_path / "pytorch_model.bin")
    found = tree_of(_read_foreign(ours))
    assert globals_of(pickle_of(ours)) - globals_of(pickle_of(original)) == set()
    assert set(theirs) - set(found) == {"loops"}
    assert set(found) - set(theirs) == {"pixit"}
    assert found["pyannote.audio"] == theirs["pyannote.audio"]
    assert found["hparams_name"] == theirs["hparams_name"]
    own = {"sample_rate": 16000, "num_channels": 1, "n_sources": 2, "use_wavlm": False}
    for key, expected in (theirs["hyper_parameters"] | own).items():
        value = found["hyper_parameters"][key]
        assert {**value, **expected} == value if isinstance(value, dict) else value == expected, key
    state = {name: shape for name, shape in theirs["state_dict"].items() if not name.startswith("wavlm")}
    assert set(found["state_dict"]) == set(state)


def test_an_embedder_that_is_written_has_the_form_of_the_original(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    original = originals["wespeaker"] / "pytorch_model.bin"
    ours, _ = convert(original, tmp_path / "pytorch_model.bin")
    assert globals_of(pickle_of(ours)) == globals_of(pickle_of(original))
    theirs, found = (tree_of(_read_foreign(path)) for path in (original, ours))
    for of_the_trainer in ("loops", "pytorch-lightning_version"):
        theirs.pop(of_the_trainer)
    assert {key: found[key] for key in theirs} == theirs
    assert set(found) - set(theirs) == {"pixit", "pytorch-lightning_version"}


def test_pyannote_need_not_be_there(tmp_path: Path) -> None:
    convert(saved(ToTaToNet(**TINY), tmp_path), tmp_path / "pytorch_model.bin")
    assert "pyannote.audio" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder_decoder": {"n_filters": 8, "center": True}}, "no room for encoder_decoder.center=True"),
        (
            {"encoder_decoder": {"fb_name": "stft", "n_filters": 16, "kernel_size": 16, "stride": 8}},
            "no room for a fb_name=stft encoder",
        ),
        ({"diar": {"relative_level": True}}, "no room for diar.relative_level=True"),
        ({"linear": {"hidden_size": 32}}, "linear.hidden_size=32; it has 64 only"),
        ({"wavlm": WAVLM}, "a WavLM with hidden_size=8; it builds WavLM-large"),
    ],
)
def test_what_pyannote_cannot_express_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    if "wavlm" in changes:
        pytest.importorskip("transformers")
    with pytest.raises(PixitError, match=reason) as error:
        convert(saved(ToTaToNet(**TINY | changes), tmp_path), tmp_path / "pytorch_model.bin")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_the_bundled_model_and_other_embedders_are_refused(tmp_path: Path) -> None:
    bundled = Path(__file__).resolve().parents[2] / "pixit" / "bundled"
    done = CliRunner().invoke(cli, ["convert", str(bundled / "model"), str(tmp_path / "a.bin")])
    assert done.exit_code == 2
    assert "cannot be one of pyannote.audio, which has no room for a fb_name=stft encoder" in done.stderr
    with pytest.raises(PixitError, match=r"SpeakerEncoder is unknown to pyannote.audio"):
        convert(saved(SpeakerEncoder(8, 16, 2, 1), tmp_path), tmp_path / "b.bin")
    with pytest.raises(PixitError, match="base_channels=32 only; found 2"):
        convert(save_model(WeSpeakerResNet34(16, base_channels=2), tmp_path / "w", {}), tmp_path / "c.bin")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    ours = saved(ToTaToNet(**TINY), tmp_path)
    for name in ("a.bin", "folder"):
        convert(ours, tmp_path / name)
        with pytest.raises(PixitError, match=f"{name}: exists already; choose another name"):
            convert(ours, tmp_path / name)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = saved(ToTaToNet(**TINY), tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(PixitError, match=r"a\.bin: cannot be written .*file write failed"):
        convert(ours, tmp_path / "a.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_from_the_command_line(tmp_path: Path) -> None:
    ours = saved(EcapaTdnn(20, channels=(16, 16, 16, 16, 48), attention_channels=8), tmp_path)
    done = CliRunner().invoke(cli, ["convert", str(ours), str(tmp_path / "e.ckpt")], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout == f"{ours}: → {tmp_path / 'e.ckpt'}\n"
    assert done.stderr.startswith("pixit: warning:")
    done = CliRunner().invoke(cli, ["convert", "-q", str(tmp_path / "e.ckpt"), str(tmp_path / "again")])
    assert (done.exit_code, done.output) == (0, "")
    described = json.loads((tmp_path / "again" / "config.json").read_text())
    assert described["provenance"]["sha256"] == file_hash(tmp_path / "e.ckpt")
