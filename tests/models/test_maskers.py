"""Maskers by name: those of asteroid, live where it can be imported and through stand-ins everywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pixit.checkpoints import load_model, save_model
from pixit.models.maskers import build_masker
from pixit.models.totatonet import ToTaToNet

SMALL: dict[str, dict[str, Any]] = {
    "TDConvNet": {"n_blocks": 2, "n_repeats": 1, "bn_chan": 4, "hid_chan": 6, "skip_chan": 4},
    "TDConvNetpp": {"n_blocks": 2, "n_repeats": 1, "bn_chan": 4, "hid_chan": 6, "skip_chan": 4},
    "DPRNN": {"n_repeats": 1, "bn_chan": 4, "hid_size": 4, "chunk_size": 20},
    "DPTransformer": {"n_repeats": 1, "n_heads": 2, "ff_hid": 4, "chunk_size": 20},
    "LSTMMasker": {"n_layers": 1, "hid_size": 4, "dropout": 0.0},
    "SuDORMRF": {"num_blocks": 1, "bn_chan": 4, "upsampling_depth": 3},
    "SuDORMRFImproved": {"num_blocks": 1, "bn_chan": 4, "upsampling_depth": 3},
}


class Plain(nn.Module):
    """Stands for DPTransformer and SuDORMRF: as many channels out as in."""

    def __init__(self, in_chan: int, n_src: int, width: int = 5, hop: int | None = None) -> None:
        super().__init__()
        self.n_src, self.hop = n_src, hop or width // 2
        self.net = nn.Conv1d(in_chan, n_src * in_chan, 1)

    def forward(self, features: Tensor) -> Any:
        return self.net(features).unflatten(1, (self.n_src, -1)).relu()


class Weighted(nn.Module):
    """Stands for TDConvNet++: weights of the sources beside the masks."""

    def __init__(self, in_chan: int, n_src: int, out_chan: int | None = None, width: int = 5) -> None:
        super().__init__()
        self.n_src, self.out_chan = n_src, out_chan or in_chan
        self.net = nn.Conv1d(in_chan, n_src * self.out_chan, 1)

    def forward(self, features: Tensor) -> Any:
        masks = self.net(features).unflatten(1, (self.n_src, -1)).relu()
        return masks, torch.ones(len(features), self.n_src)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asteroid of two maskers and something that is none."""
    masknn = ModuleType("asteroid.masknn")
    masknn.Plain, masknn.Weighted, masknn.norms = Plain, Weighted, ModuleType("norms")  # type: ignore[attr-defined]
    asteroid = ModuleType("asteroid")
    asteroid.masknn = masknn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "asteroid", asteroid)
    monkeypatch.setitem(sys.modules, "asteroid.masknn", masknn)


def network(name: str, **arguments: Any) -> ToTaToNet:
    torch.manual_seed(0)
    return ToTaToNet(encoder_decoder={"n_filters": 8}, masker={"name": name} | arguments, window_s=0.5)


def check_separates_and_survives_a_checkpoint(model: ToTaToNet, folder: Path) -> None:
    """Forward on lengths that divide by nothing, backward, and the same outputs after a save and a load."""
    waveforms = torch.randn(2, 1, 4321)
    output = model(waveforms)
    assert output.sources.shape == (2, 3, 4321)
    assert output.activity_logits.shape == (2, 3, model.num_frames(4321))
    (output.sources.square().mean() + output.activity_logits.square().mean()).backward()
    gradients = [p.grad for p in model.masker.parameters() if p.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)
    loaded = load_model(save_model(model, folder / "model", {}))
    with torch.inference_mode():
        before, after = model.eval()(waveforms), loaded(waveforms)
    assert torch.equal(before.sources, after.sources)
    assert torch.equal(before.activity_logits, after.activity_logits)


@pytest.mark.parametrize("name", ["Plain", "Weighted"])
def test_a_module_of_asteroid_is_a_masker(stand_in: None, name: str, tmp_path: Path) -> None:
    check_separates_and_survives_a_checkpoint(network(name, width=6), tmp_path)


def test_defaults_of_asteroid_go_into_the_checkpoint(stand_in: None) -> None:
    assert build_masker("Plain", 8, 8, 3).config == {"name": "Plain", "width": 5, "hop": 2}
    assert build_masker("Weighted", 9, 8, 3, width=7).config == {"name": "Weighted", "width": 7}


def test_masks_fit_the_encoder_where_features_stand_beside_it(stand_in: None) -> None:
    masks, embeddings = build_masker("Weighted", 11, 8, 3)(torch.randn(2, 11, 20))
    assert (masks.shape, embeddings) == ((2, 3, 8, 20), None)
    with pytest.raises(ValueError, match="'Plain' takes no WavLM features"):
        build_masker("Plain", 11, 8, 3)


@pytest.mark.parametrize("name", ["norms", "nobody", "__name__"])
def test_what_is_no_masker_is_refused(stand_in: None, name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}': expected one of dprnn, bandsplit, or a module of"):
        build_masker(name, 8, 8, 3)


def test_arguments_that_do_not_fit_are_told(stand_in: None) -> None:
    with pytest.raises(ValueError, match=r"masker 'Plain': .*chunk_size"):
        build_masker("Plain", 8, 8, 3, chunk_size=20)


class _Broken:
    """Fails to import asteroid as a torchaudio that does not fit torch does."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "asteroid":
            raise OSError("Could not load this library: libtorchaudio.so")


def test_an_asteroid_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asteroid", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Broken(), *sys.meta_path])
    with pytest.raises(ValueError, match=r"pixit-audio\[asteroid\].*libtorchaudio"):
        build_masker("TDConvNet", 8, 8, 3)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("ignore")
def test_maskers_of_asteroid(name: str, tmp_path: Path) -> None:
    try:
        import asteroid  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: its torchaudio does not fit torch
        pytest.skip(f"asteroid cannot be imported ({error})")
    check_separates_and_survives_a_checkpoint(network(name, **SMALL[name]), tmp_path)
