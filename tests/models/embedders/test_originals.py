"""WeSpeaker's ResNet34 and SpeechBrain's ECAPA-TDNN against what the originals compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pixit.models.embedders import EcapaTdnn, WeSpeakerResNet34
from pixit.types import Embedder, PixitError
from script_files import load_script

NETWORKS = {"wespeaker": WeSpeakerResNet34, "ecapa": EcapaTdnn}

script = load_script("scripts/make_golden_embedders.py")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(script.GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    return request.param, script.fill(NETWORKS[request.param]())


def test_they_are_embedders(network: tuple[str, nn.Module]) -> None:
    _name, model = network
    assert isinstance(model, Embedder)
    assert type(model)(**model.config).config == model.config


def test_equal_to_the_original(network: tuple[str, nn.Module], golden: dict[str, np.ndarray]) -> None:
    name, model = network
    waveforms, _weights = script.make_input()
    with torch.inference_mode():
        features = model.fbank(waveforms)
        features = features - features.mean(1, keepdim=True) if name == "wespeaker" else features.mT
        found = model(waveforms)
    np.testing.assert_allclose(features[:, ::10], golden[f"{name}_features"], atol=2e-3)
    np.testing.assert_allclose(found, golden[name], atol=1e-4)


def test_weights_as_in_the_original(golden: dict[str, np.ndarray]) -> None:
    waveforms, weights = script.make_input()
    with torch.inference_mode():
        found = script.fill(WeSpeakerResNet34())(waveforms, weights)
    np.testing.assert_allclose(found, golden["wespeaker_weighted"], atol=1e-4)


def test_ecapa_hears_what_weighs_and_nothing_else() -> None:
    model = script.fill(EcapaTdnn(channels=(16, 16, 16, 16, 48)))
    waveforms, _ = script.make_input()
    weights = torch.zeros(2, 3)
    weights[0, 1:], weights[1, 0] = 1, 1
    with torch.inference_mode():
        found = model(waveforms, weights)
        torch.testing.assert_close(found[:1], model(waveforms[:1, 8000:]))
        torch.testing.assert_close(found[1:], model(waveforms[1:, :8000]))


def test_a_batch_is_its_rows_and_what_is_silent_is_nan(network: tuple[str, nn.Module]) -> None:
    _, model = network
    waveforms, weights = script.make_input()
    waveforms, weights = torch.cat((waveforms, waveforms)), torch.cat((weights, weights))
    waveforms[2], weights[3] = 0, 0
    with torch.inference_mode():
        found = model(waveforms, weights)
        alone = torch.cat([model(waveforms[i : i + 1], weights[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(found[:2], alone, atol=1e-4, rtol=1e-4)
    assert found[2:].isnan().all()
    assert not found[:2].isnan().any()


@pytest.mark.parametrize("num_samples", [1, 100, 399, 400, 1700])
def test_short_speech_is_embedded(network: tuple[str, nn.Module], num_samples: int) -> None:
    _, model = network
    with torch.inference_mode():
        found = model(torch.full((1, num_samples), 0.1))
    assert found.isfinite().all()
    assert found.shape == (1, model.embedding_size)


def test_the_shortest_weight_is_not_lost() -> None:
    weights = torch.zeros(1, 150)
    weights[0, 77] = 1  # between the frames that are left after the strides
    with torch.inference_mode():
        assert script.fill(WeSpeakerResNet34())(script.make_input()[0][:1], weights).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (WeSpeakerResNet34, {"num_mels": 20}),
        (WeSpeakerResNet34, {"base_channels": 0}),
        (EcapaTdnn, {"channels": (16, 16, 16)}),
        (EcapaTdnn, {"channels": (12, 12, 12, 12, 24)}),
        (EcapaTdnn, {"channels": (16, 8, 16, 16, 48)}),
    ],
)
def test_bad_arguments_are_told(kind: type[nn.Module], arguments: dict[str, object]) -> None:
    with pytest.raises(PixitError, match=f"{kind.__name__}: found .* expected"):
        kind(**arguments)


def test_distances_of_centroids_are_mean_cosine_distances() -> None:
    """The thresholds: pyannote's are between centroids (Euclidean), ours between all members (mean cosine)."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 7):
        first, second = (rng.standard_normal((size, 16)) + rng.standard_normal(16) for _ in range(2))
        first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second))
        between = np.linalg.norm(first.mean(0) - second.mean(0))
        inside = [(1 - v @ v.T).mean() for v in (first, second)]
        np.testing.assert_allclose((1 - first @ second.T).mean(), between**2 / 2 + np.mean(inside))
    assert WeSpeakerResNet34().clustering_threshold == pytest.approx(0.7046**2 / 2 + 0.4, abs=0.01)


@pytest.mark.parametrize("kind", [WeSpeakerResNet34, EcapaTdnn])
@pytest.mark.parametrize("threshold", [0, -1, 2.5, float("nan"), "0.5", None, True])
def test_thresholds_that_divide_nothing_are_refused(kind: type[nn.Module], threshold: object) -> None:
    with pytest.raises(PixitError, match=f"{kind.__name__}: found clustering_threshold"):
        kind(clustering_threshold=threshold)
