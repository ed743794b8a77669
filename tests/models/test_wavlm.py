"""WavLM: built and loaded offline, its features at the encoder's rate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pixit.models.totatonet import ToTaToNet
from pixit.models.wavlm import build_wavlm, load_pretrained_wavlm, receptive_field_samples, wavlm_features
from pixit.types import PixitError

pytest.importorskip("transformers")

TINY: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 16,
}
TINY_NETWORK: dict[str, Any] = {
    "wavlm": TINY,
    "encoder_decoder": {"n_filters": 8},
    "masker": {"n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 10},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny WavLM in transformers' layout."""
    target: Path = tmp_path_factory.mktemp("wavlm")
    build_wavlm(TINY).save_pretrained(target)
    return target


@pytest.mark.parametrize("num_samples", [400, 719, 720, 1600, 5000])
@pytest.mark.parametrize("stride", [16, 24, 32, 100, 160, 256, 320, 480, 512, 1000])
@pytest.mark.parametrize("first_sample", [0, -64, -128])
def test_features_lie_at_their_time(num_samples: int, stride: int, first_sample: int) -> None:
    """A frame's features are the average over its samples, where hidden state j holds for 320j … 320(j + 1)."""
    wavlm: Any = build_wavlm(TINY).eval()
    waveforms = torch.randn(2, 1, num_samples)
    num_frames = num_samples // stride + 2
    with torch.inference_mode():
        features = wavlm_features(wavlm, waveforms, stride, num_frames, first_sample)
        hidden = wavlm(waveforms[:, 0]).last_hidden_state
    assert features.shape == (2, 8, num_frames)
    of_samples = hidden.repeat_interleave(320, dim=1)  # (B, samples, H)
    for frame in range(num_frames):
        start, end = (max(0, first_sample + stride * n) for n in (frame, frame + 1))
        inside = of_samples[:, start : max(start + 1, end)]  # the first holds for what lies before it
        expected = inside.mean(1) if inside.shape[1] else torch.zeros(2, 8)
        torch.testing.assert_close(features[..., frame], expected)


def test_features_repeat_each_hidden_state_for_the_paper_s_stride() -> None:
    wavlm: Any = build_wavlm(TINY).eval()
    waveforms = torch.randn(1, 1, 1600)
    with torch.inference_mode():
        features = wavlm_features(wavlm, waveforms, 16, 99)
        hidden = wavlm(waveforms[:, 0]).last_hidden_state.transpose(1, 2)
    assert torch.equal(features[..., :80], hidden.repeat_interleave(20, dim=-1))
    assert not features[..., 80:].any()


def test_another_sample_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"16000 Hz only, found sample_rate_hz=8000"):
        ToTaToNet(**TINY_NETWORK, sample_rate_hz=8000, diar={"frames_per_second": 62.5})


def test_shorter_than_a_frame_is_padded() -> None:
    wavlm: Any = build_wavlm(TINY)
    assert receptive_field_samples(wavlm.config) == 400
    assert wavlm_features(wavlm, torch.randn(1, 1, 150), 16, 8).shape == (1, 8, 8)


def test_frozen_keeps_no_gradient_and_fine_tuned_learns() -> None:
    network = ToTaToNet(**TINY_NETWORK)
    network.wavlm.requires_grad_(False)
    network(torch.randn(1, 1, 800)).sources.sum().backward()
    assert all(parameter.grad is None for parameter in network.wavlm.parameters())
    assert network.masker.mask_net.weight.grad is not None

    network = ToTaToNet(**TINY_NETWORK)
    network(torch.randn(1, 1, 800)).sources.sum().backward()
    trained = {name for name, p in network.wavlm.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in network.wavlm.named_parameters() if p.grad is not None}
    assert set(dict(network.wavlm.named_parameters())) - trained == {"masked_spec_embed"}


def test_training_mode_changes_nothing_unless_asked_for() -> None:
    waveforms = torch.randn(1, 1, 3200)
    quiet, noisy = (
        ToTaToNet(**TINY_NETWORK),
        ToTaToNet(**TINY_NETWORK | {"wavlm": TINY | {"hidden_dropout": 0.5}}),
    )
    assert torch.equal(quiet.train()(waveforms).sources, quiet.eval()(waveforms).sources)
    assert not torch.equal(noisy.train()(waveforms).sources, noisy.eval()(waveforms).sources)


def test_loads_from_a_folder(folder: Path) -> None:
    network = ToTaToNet(**TINY_NETWORK)
    loaded = load_pretrained_wavlm(str(folder), like=network.wavlm)
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.config.layerdrop == 0
    network.wavlm.load_state_dict(loaded.state_dict())


def test_sizes_that_differ_are_told(folder: Path) -> None:
    with pytest.raises(PixitError, match=r"not those of the network; set .* hidden_size=8"):
        load_pretrained_wavlm(str(folder), like=build_wavlm(TINY | {"intermediate_size": 16}))


def test_incomplete_weights_are_told(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layers.1.attention.q_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(PixitError, match=r"lacks encoder.layers.1.attention.q_proj.weight"):
        load_pretrained_wavlm(str(tmp_path))


@pytest.mark.parametrize(
    "damage", ["no weights", "no config", "broken weights", "broken config", "wrong config"]
)
def test_damaged_folders_are_told(damage: str, folder: Path, tmp_path: Path) -> None:
    config, weights = (folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    if damage != "no config":
        wrong = json.dumps(json.loads(config) | {"hidden_size": "eight"}).encode()
        (tmp_path / "config.json").write_bytes(
            {"broken config": config[:40], "wrong config": wrong}.get(damage, config)
        )
    if damage != "no weights":
        (tmp_path / "model.safetensors").write_bytes(weights[: 100 if damage == "broken weights" else None])
    with pytest.raises(PixitError, match=str(tmp_path)) as error:
        load_pretrained_wavlm(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("differences", [{"hiden_size": 8}, {"hidden_size": 9}])
def test_configurations_that_do_not_fit_are_told(differences: dict[str, Any]) -> None:
    with pytest.raises(PixitError, match=r"^wavlm: "):
        build_wavlm(TINY | differences)


def test_missing_transformers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PixitError, match=r"pip install 'pixit-audio\[wavlm\]'"):
        build_wavlm({})
    assert ToTaToNet(masker={"n_repeats": 1}).wavlm is None


FRESH = """
import sys
import pixit.models.totatonet as totatonet
from pixit.models.wavlm import load_pretrained_wavlm
from pixit.types import PixitError
assert "transformers" not in sys.modules
totatonet.ToTaToNet(wavlm=dict(hidden_size=16, num_hidden_layers=1, intermediate_size=8))
assert "torchaudio" not in sys.modules
try:
    load_pretrained_wavlm("nobody/no-such-wavlm")
except PixitError as error:
    print(error)
"""


def test_offline_and_without_torchaudio() -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "WavLM 'nobody/no-such-wavlm': cannot be loaded" in run.stdout
    assert len(run.stdout.splitlines()) == 1
