"""PyanNet against the original (scripts/make_golden_pyannet.py), and on its own."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixit.models.pyannet import PyanNet, SincFilters, powerset
from pixit.types import LocalDiarizer, PixitError, separates

GOLDEN = Path(__file__).parent / "golden" / "pyannet.npz"
CASES: dict[str, tuple[int, int | None, dict[str, Any]]] = {
    "segmentation-3.0": (3, 2, {"lstm": {"num_layers": 4}}),
    "segmentation": (4, None, {"lstm": {"num_layers": 2, "monolithic": False}}),
    "other": (
        2,
        2,
        {"sincnet": {"stride": 5}, "lstm": {"bidirectional": False}, "linear": {"num_layers": 0}},
    ),
}


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Change every weight by random numbers that depend on its name alone, as the script does."""
    for name, tensor in network.named_parameters():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape))
        scale = 20.0 if name.endswith("_hz_") else 0.1
        start = tensor.detach().numpy() if name.endswith("_hz_") else float("norm1d" in name)
        tensor.data = torch.from_numpy(np.asarray(start + scale * values)).float()
    return network.eval()


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_pyannote_does(name: str) -> None:
    num_speakers, most, parts = CASES[name]
    network = fill(PyanNet(num_speakers, most, **parts))
    with np.load(GOLDEN) as golden:
        waveforms, expected = (torch.from_numpy(golden[key]) for key in ("waveforms", f"{name}/scores"))
        classes = None if most is None else torch.from_numpy(golden[f"{name}/multilabel"])
    with torch.inference_mode():
        logits = network.classify(waveforms)
        activities = network(waveforms).activities.transpose(1, 2)
    found = logits.sigmoid() if most is None else logits.log_softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.05  # scores that are all alike would compare nothing
    torch.testing.assert_close(activities, expected if classes is None else classes, atol=1e-4, rtol=0)
    if classes is not None:
        assert (classes.std(dim=(0, 1)) > 0.1).sum() >= 2  # they talk now and then


@pytest.mark.parametrize(("num_speakers", "most"), [(3, 2), (3, 3), (4, 1), (1, 1)])
def test_a_class_is_a_set_of_speakers(num_speakers: int, most: int) -> None:
    sets = powerset(num_speakers, most)
    smaller = [s for s in itertools.product([0, 1], repeat=num_speakers) if sum(s) <= most]
    assert sorted(map(tuple, sets.int().tolist())) == sorted(smaller)
    assert sets.sum(1).diff().ge(0).all()  # the small ones first
    assert sets[: num_speakers + 1].tolist() == [[0] * num_speakers, *torch.eye(num_speakers).tolist()]


def test_filters_pass_their_band_and_nothing_else() -> None:
    filters = SincFilters(stride=10, sample_rate_hz=16000)
    responses = filters.filters().detach()[:, 0]
    even, odd = responses.chunk(2)
    torch.testing.assert_close(even, even.flip(1))
    torch.testing.assert_close(odd, -odd.flip(1), atol=1e-6, rtol=0)
    low = (50 + filters.low_hz_.abs())[:, 0].detach()
    high = low + 50 + filters.band_hz_.abs()[:, 0].detach()
    hz = torch.fft.rfftfreq(4096, 1 / 16000)
    for kind in (even, odd):
        power = torch.fft.rfft(kind, 4096).abs().square()
        for number in range(10, 40):  # the narrow ones below are as wide as the window lets them be
            inside = (hz > low[number] - 150) & (hz < high[number] + 150)
            assert power[number, inside].sum() > 0.99 * power[number].sum()


@pytest.mark.parametrize("stride", [5, 10])
def test_frames_are_where_it_looks(stride: int) -> None:
    """The gradient of a frame reaches as far as the grid says; instance norms, which see all, are left out."""
    network = PyanNet(sincnet={"stride": stride}).eval().sincnet
    for norm in (network.wav_norm1d, *network.norm1d):
        norm.forward = lambda hidden: hidden  # type: ignore[method-assign]
    grid = network.frame_grid
    waveforms = torch.randn(1, 1, 4000, requires_grad=True)
    features = network(waveforms)
    assert features.shape[-1] == network.num_frames(4000)
    for frame in (0, 3):
        (gradient,) = torch.autograd.grad(features[..., frame].abs().sum(), waveforms, retain_graph=True)
        heard = gradient[0, 0].nonzero()
        assert heard.min() >= frame * grid.step_samples
        assert heard.max() < frame * grid.step_samples + grid.size_samples


def test_it_is_a_local_model_without_sources() -> None:
    network = PyanNet().eval()
    assert isinstance(network, LocalDiarizer)
    assert not separates(network)
    assert network.window_samples == 160_000
    assert network.num_frames(160_000) == 589
    assert network.num_frames(990) == 0
    with pytest.raises(PixitError, match="expected 991 or more"):
        network(torch.zeros(1, 1, 990))
    logits = network(torch.full((1, 1, 2000), torch.nan)).activity_logits
    assert logits.isnan().all()  # and not a certain silence


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            {"num_speakers": 0},
            {"num_speakers": 3, "powerset_max": 4},
            {"num_speakers": 32, "powerset_max": 16},
        ),
        *({"sample_rate_hz": 8000}, {"window_s": 0}, {"sincnet": {"stride": 0}}, {"lstm": {"layers": 3}}),
    ],
)
def test_arguments_that_make_no_network(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PyanNet(**arguments)
