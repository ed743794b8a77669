"""ToTaToNet against what pyannote.audio and asteroid computed (scripts/make_golden_*.py), and its invariants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

from pixit.models.filterbank import Decoder, Encoder
from pixit.models.maskers import build_masker
from pixit.models.totatonet import ToTaToNet, apply_masks
from pixit.types import LocalModel, PixitError

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = sorted(GOLDEN.glob("totatonet_*.safetensors"))
SMALL = {
    "encoder_decoder": {"n_filters": 8},
    "masker": {"name": "dprnn", "n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 10},
}
SMALL_BANDSPLIT = {
    "encoder_decoder": {"fb_name": "stft", "n_filters": 64, "kernel_size": 64, "stride": 32, "center": True},
    "masker": {"name": "bandsplit", "n_repeats": 1, "channels": 6, "hid_size": 4, "mixing_size": 8},
    "diar": {"frames_per_second": 125},
}


def read_golden(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Return metadata, weights and the other tensors."""
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["arguments"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    return metadata, weights, {k: v for k, v in tensors.items() if not k.startswith("weights.")}


def as_ours(arguments: dict[str, Any]) -> dict[str, Any]:
    """Translate pyannote's arguments."""
    ours = {k: v for k, v in arguments.items() if k not in ("dprnn", "lengths")}
    return ours | {"masker": {"name": "dprnn"} | arguments["dprnn"]}


@pytest.fixture(params=NETWORKS, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    if "wavlm" in request.param.stem:
        pytest.importorskip("transformers")
    return read_golden(request.param)


def test_golden_files_are_here_and_small() -> None:
    assert len(NETWORKS) == 5
    assert sum(path.stat().st_size for path in NETWORKS) < 200_000


def test_state_dict_is_that_of_pyannote(golden: Any) -> None:
    arguments, weights, _ = golden
    ours = ToTaToNet(**as_ours(arguments)).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in weights.items()}


def test_outputs_are_those_of_pyannote(golden: Any) -> None:
    arguments, weights, expected = golden
    network = ToTaToNet(**as_ours(arguments)).eval()
    network.load_state_dict(weights)
    for length in arguments["lengths"]:
        with torch.inference_mode():
            output = network(expected["input"][..., :length])
        scores, sources = expected[f"scores.{length}"], expected[f"sources.{length}"]
        assert scores.std() > 0.2, "a fixture with constant scores would compare nothing"
        torch.testing.assert_close(output.activities.transpose(1, 2), scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(output.sources.transpose(1, 2), sources, atol=1e-5, rtol=0)


def test_stft_filters_are_those_of_asteroid() -> None:
    arguments, weights, _ = read_golden(GOLDEN / "totatonet_stft.safetensors")
    ours = ToTaToNet(**as_ours(arguments)).state_dict()
    for name in (
        "encoder.filterbank._filters",
        "decoder.filterbank._filters",
        "encoder.filterbank.torch_window",
    ):
        torch.testing.assert_close(ours[name], weights[name], atol=1e-7, rtol=0)


@pytest.mark.parametrize("case", ["plain", "options"])
def test_dual_path_rnn_is_that_of_asteroid(case: str) -> None:
    with safe_open(GOLDEN / "dprnn_asteroid.safetensors", "pt") as file:
        arguments = json.loads(file.metadata()["arguments"])[case]
        names = [name for name in file.keys() if name.startswith(f"{case}.")]  # noqa: SIM118
        tensors = {name.removeprefix(f"{case}."): file.get_tensor(name) for name in names}
    sizes = arguments.pop("in_chan"), arguments.pop("out_chan"), arguments.pop("n_src")
    masker = build_masker("dprnn", *sizes, bn_chan=5, hid_size=3, **arguments)
    masker.load_state_dict(
        {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    )
    with torch.inference_mode():
        masks, _ = masker(tensors["features"])
    torch.testing.assert_close(masks, tensors["masks"], atol=1e-6, rtol=0)


def paper_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the paper's network without WavLM's own, as pyannote.audio's checkpoint lists them."""
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.filterbank._filters": (64, 1, 32),
        "decoder.filterbank._filters": (64, 1, 32),
        "masker.bottleneck.0.gamma": (1088,),
        "masker.bottleneck.0.beta": (1088,),
        "masker.bottleneck.1.weight": (128, 1088, 1),
        "masker.bottleneck.1.bias": (128,),
        "masker.first_out.0.weight": (1,),
        "masker.first_out.1.weight": (384, 128, 1, 1),
        "masker.first_out.1.bias": (384,),
        "masker.mask_net.weight": (64, 128, 1),
        "classifier.weight": (1, 64),
        "classifier.bias": (1,),
    }
    for layer in (0, 1):
        shapes |= {f"linear.{layer}.weight": (64, 64), f"linear.{layer}.bias": (64,)}
    for gate in ("net_out", "net_gate"):
        shapes |= {f"masker.{gate}.0.weight": (128, 128, 1), f"masker.{gate}.0.bias": (128,)}
    for block in range(6):
        for path in ("intra", "inter"):
            prefix = f"masker.net.{block}.{path}_"
            shapes |= {f"{prefix}linear.weight": (128, 256), f"{prefix}linear.bias": (128,)}
            shapes |= {f"{prefix}norm.gamma": (128,), f"{prefix}norm.beta": (128,)}
            for direction in ("", "_reverse"):
                for weight, shape in {"weight_ih": (512, 128), "weight_hh": (512, 128)}.items():
                    shapes[f"{prefix}RNN.rnn.{weight}_l0{direction}"] = shape
                shapes[f"{prefix}RNN.rnn.bias_ih_l0{direction}"] = (512,)
                shapes[f"{prefix}RNN.rnn.bias_hh_l0{direction}"] = (512,)
    return shapes


def test_full_network_has_the_tensors_of_the_paper() -> None:
    pytest.importorskip("transformers")
    with torch.device("meta"):
        network = ToTaToNet(wavlm={})
    state = network.state_dict()
    assert len(state) == 652
    assert sum(p.numel() for p in network.parameters()) == 319_266_050
    assert {k: tuple(v.shape) for k, v in state.items() if not k.startswith("wavlm.")} == paper_shapes()
    assert state["wavlm.encoder.layers.0.attention.rel_attn_embed.weight"].shape == (320, 16)
    assert state["wavlm.encoder.layers.23.feed_forward.output_dense.weight"].shape == (1024, 4096)


def test_paper_geometry() -> None:
    network = ToTaToNet(masker={"n_repeats": 1})
    assert isinstance(network, LocalModel)
    assert len(ToTaToNet().state_dict()) == 164
    assert (network.window_samples, network.num_frames(80000), network.num_speakers) == (80000, 624, 3)
    grid = network.frame_grid
    assert (grid.start_samples, grid.step_samples, grid.size_samples) == (0, 128, 144)


@pytest.mark.parametrize("arguments", [SMALL, SMALL_BANDSPLIT], ids=["dprnn", "bandsplit"])
@given(num_samples=st.integers(144, 3000), n_sources=st.integers(1, 4), batch=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_shapes(arguments: dict[str, Any], num_samples: int, n_sources: int, batch: int) -> None:
    network = ToTaToNet(n_sources=n_sources, **arguments).eval()
    with torch.inference_mode():
        output = network(torch.randn(batch, 1, num_samples))
    assert output.sources.shape == (batch, n_sources, num_samples)
    assert output.activity_logits.shape == (batch, n_sources, network.num_frames(num_samples))
    assert output.sources.isfinite().all()
    if not network.center:  # as many frames as fit
        assert network.num_frames(num_samples) == (num_samples - 144) // 128 + 1


@pytest.mark.parametrize("num_samples", [1, 31, 32, 143])
def test_window_without_a_frame_is_told(num_samples: int) -> None:
    with pytest.raises(PixitError, match=f"{num_samples} samples give no frame; expected 144 or more"):
        ToTaToNet(**SMALL)(torch.zeros(1, 1, num_samples))


@pytest.mark.parametrize("arguments", [SMALL, SMALL_BANDSPLIT], ids=["dprnn", "bandsplit"])
def test_silence_stays_silent_and_finite(arguments: dict[str, Any]) -> None:
    network = ToTaToNet(**arguments)
    waveforms = torch.zeros(1, 1, 800, requires_grad=True)
    output = network(waveforms)
    (output.sources.square().sum() + output.activity_logits.sum()).backward()
    assert output.sources.abs().max() == 0
    assert output.activity_logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("arguments", [SMALL, SMALL_BANDSPLIT], ids=["dprnn", "bandsplit"])
def test_every_weight_learns(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = ToTaToNet(**arguments)
    output = network(torch.randn(2, 1, 1600))
    (output.sources.square().mean() + output.activity_logits.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("arguments", [SMALL, SMALL_BANDSPLIT], ids=["dprnn", "bandsplit"])
def test_items_of_a_batch_do_not_meet_and_runs_repeat(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = ToTaToNet(**arguments).eval()
    waveforms = torch.randn(3, 1, 1111)
    with torch.inference_mode():
        together, again = network(waveforms), network(waveforms)
        alone = network(waveforms[1:2])
    assert torch.equal(together.sources, again.sources)
    assert torch.equal(together.activity_logits, again.activity_logits)
    torch.testing.assert_close(together.sources[1:2], alone.sources, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.activity_logits[1:2], alone.activity_logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("arguments", [SMALL, SMALL_BANDSPLIT], ids=["dprnn", "bandsplit"])
def test_sources_follow_the_level_of_the_mixture(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = ToTaToNet(**arguments).eval()
    waveforms = torch.randn(1, 1, 1600)
    with torch.inference_mode():
        once, louder = network(waveforms).sources, network(8 * waveforms).sources
    torch.testing.assert_close(8 * once, louder, atol=1e-3, rtol=1e-3)


class AllPass(nn.Module):
    """A masker that hands the whole mixture to each of two speakers."""

    complex_masks = False

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        return torch.ones(len(features), 2, *features.shape[1:]), None


def test_who_talks_does_not_depend_on_how_loud_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    waveform = torch.randn(1, 1, 4000, generator=generator)
    changes = []
    for relative in (True, False):
        torch.manual_seed(0)
        arguments = SMALL_BANDSPLIT | {"diar": SMALL_BANDSPLIT["diar"] | {"relative_level": relative}}
        network = ToTaToNet(**arguments).eval()
        with torch.inference_mode():
            loud, soft = (network(gain * waveform).activity_logits for gain in (1.0, 0.05))
        changes.append(float((loud - soft).abs().max()))
    assert changes[0] < 1e-3 < 1e-2 < changes[1]


@pytest.mark.parametrize("num_samples", [512, 1000, 1007])
@pytest.mark.parametrize("center", [True, False])
def test_stft_decodes_what_it_encodes(num_samples: int, center: bool) -> None:
    bank = {"fb_name": "stft", "n_filters": 64, "kernel_size": 64, "stride": 32, "center": center}
    network = ToTaToNet(n_sources=2, encoder_decoder=bank, masker=SMALL["masker"])
    network.masker = AllPass()
    waveforms = torch.randn(2, 1, num_samples)
    sources = network(waveforms).sources
    inner = slice(None) if center else slice(32, (num_samples - 64) // 32 * 32)  # seen by two frames
    torch.testing.assert_close(sources[..., inner], waveforms.expand(2, 2, -1)[..., inner], atol=1e-5, rtol=0)


def test_free_filterbank_is_a_convolution_and_its_transpose() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder("free", 5, 6, 3), Decoder("free", 5, 6, 3)
    waveforms = torch.randn(1, 1, 30)
    frames = waveforms[0, 0].unfold(0, 6, 3)  # (L, 6)
    torch.testing.assert_close(encoder(waveforms)[0], encoder.filterbank._filters[:, 0] @ frames.T)
    representation = torch.randn(1, 2, 5, 9)
    expected = torch.zeros(1, 2, 30)
    for frame in range(9):
        pieces = torch.einsum("bkc,cn->bkn", representation[..., frame], decoder.filterbank._filters[:, 0])
        expected[..., 3 * frame : 3 * frame + 6] += pieces
    torch.testing.assert_close(decoder(representation), expected)


def test_complex_masks_multiply_as_complex_numbers() -> None:
    masks, representation = torch.randn(2, 3, 10, 7), torch.randn(2, 10, 7)
    product = torch.complex(*masks.chunk(2, dim=2)) * torch.complex(
        *representation.chunk(2, dim=1)
    ).unsqueeze(1)
    expected = torch.cat((product.real, product.imag), dim=2)
    torch.testing.assert_close(apply_masks(masks, representation, complex_masks=True), expected)


@pytest.mark.parametrize("arguments", [{}, SMALL, SMALL_BANDSPLIT, {"window_s": 2.5, "sample_rate_hz": 8000}])
def test_config_rebuilds_the_network(arguments: dict[str, Any]) -> None:
    network = ToTaToNet(**arguments)
    again = ToTaToNet(**json.loads(json.dumps(network.config)))
    assert again.config == network.config
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_decoder": {"fb_name": "gabor"}}, "gabor"),
        ({"encoder_decoder": {"strides": 4}}, "unknown key 'strides'"),
        ({"encoder_decoder": {"fb_name": "stft", "n_filters": 16}}, "n_filters=16"),
        ({"linear": {"hiden": 4}}, "unknown key 'hiden'"),
        ({"diar": {"frames_per_second": 130}}, "whole number"),
        ({"masker": {"norm_type": "xLN"}}, "norm_type='xLN'"),
        ({"masker": {"mask_act": "cube"}}, "mask_act='cube'"),
        ({"masker": {"rnn_type": "QRNN"}}, "rnn_type='QRNN'"),
        ({"masker": {"n_repeat": 2}}, "n_repeat"),
        ({"masker": {"name": "nothing"}}, "expected one of dprnn, bandsplit"),
    ],
)
def test_arguments_that_do_not_fit_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToTaToNet(**arguments)
