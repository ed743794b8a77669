"""The speaker encoder: what counts, what does not, and what silence gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pixit.checkpoints import load_model, save_model
from pixit.models.embedders.resnet import (
    LogMel,
    SpeakerEncoder,
    fit_weights,
    mel_filterbank,
    weighted_statistics,
)
from pixit.types import Embedder, PixitError, Plda, PldaEmbedder

SMALL = {"embedding_size": 16, "num_mels": 32, "base_channels": 4, "blocks_per_stage": 1}


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    encoder = SpeakerEncoder(**SMALL)
    with torch.no_grad():  # an untrained batch normalisation would hide mistakes behind its neutral start
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.bias.uniform_(-0.5, 0.5)
    return encoder.eval()


def speech_like(num_rows: int, num_samples: int = 48000, seed: int = 0) -> Tensor:
    """Noise whose level changes every 0.1 s."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(num_rows, num_samples // 1600 + 1, generator=generator).repeat_interleave(1600, dim=1)
    return levels[:, :num_samples] * torch.randn(num_rows, num_samples, generator=generator)


def test_fulfils_the_embedder_protocol(encoder: SpeakerEncoder) -> None:
    assert isinstance(encoder, Embedder)
    assert encoder.sample_rate_hz == 16000
    assert encoder.embedding_size == 16


def test_embeddings_have_unit_length(encoder: SpeakerEncoder) -> None:
    embeddings = encoder(speech_like(3))
    assert embeddings.shape == (3, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_config_rebuilds_the_network(encoder: SpeakerEncoder) -> None:
    assert all(isinstance(value, int | float | str | bool) for value in encoder.config.values())
    twin = SpeakerEncoder(**encoder.config).eval()
    twin.load_state_dict(encoder.state_dict())
    waveforms = speech_like(2)
    torch.testing.assert_close(twin(waveforms), encoder(waveforms), rtol=0, atol=0)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 301, 624, 5000])
def test_constant_weights_of_any_number_are_as_none(encoder: SpeakerEncoder, num_frames: int) -> None:
    waveforms = speech_like(2)
    weights = torch.full((2, num_frames), 0.37)
    torch.testing.assert_close(encoder(waveforms, weights), encoder(waveforms), rtol=0, atol=1e-4)


def test_what_has_no_weight_is_not_heard(encoder: SpeakerEncoder) -> None:
    waveforms = speech_like(1)
    weights = torch.zeros(1, 300)
    weights[:, 100:200] = 1  # of 3 s, the middle one
    other = waveforms.clone()
    other[:, :15600] = 5 * speech_like(1, 15600, seed=1)  # a window's length before the middle begins
    other[:, 32500:] = 0
    torch.testing.assert_close(encoder(other, weights), encoder(waveforms, weights), rtol=0, atol=1e-5)
    assert not torch.allclose(encoder(other), encoder(waveforms), atol=1e-3)


def test_level_does_not_matter(encoder: SpeakerEncoder) -> None:
    waveforms = speech_like(2)
    torch.testing.assert_close(encoder(waveforms * 1e-3), encoder(waveforms), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
def test_only_the_ratio_of_weights_matters(encoder: SpeakerEncoder, scale: float) -> None:
    waveforms, weights = speech_like(2), torch.rand(2, 100) + 0.1
    torch.testing.assert_close(
        encoder(waveforms, scale * weights), encoder(waveforms, weights), rtol=0, atol=1e-4
    )


def test_rows_are_independent_and_silent_ones_are_nan(encoder: SpeakerEncoder) -> None:
    waveforms, weights = speech_like(4), torch.ones(4, 100)
    weights[1] = 0
    waveforms[2] = 0
    embeddings = encoder(waveforms, weights)
    assert embeddings[1:3].isnan().all()
    for row in (0, 3):
        alone = encoder(waveforms[row : row + 1], weights[row : row + 1])
        torch.testing.assert_close(embeddings[row : row + 1], alone, rtol=0, atol=1e-5)


def test_gradients_stay_finite_beside_a_silent_row() -> None:
    encoder = SpeakerEncoder(**SMALL)
    waveforms, weights = speech_like(3), torch.ones(3, 50)
    weights[1] = 0
    embeddings = encoder(waveforms, weights)
    embeddings[~embeddings.isnan().any(1)].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("num_samples", [1, 100, 399, 401])
def test_the_shortest_inputs_are_embedded(encoder: SpeakerEncoder, num_samples: int) -> None:
    embedding = encoder(torch.randn(1, num_samples), torch.ones(1, 1))
    assert embedding.shape == (1, 16)
    assert embedding.isfinite().all() or num_samples == 1


@pytest.mark.parametrize(
    ("waveforms", "weights"),
    [
        (torch.randn(1, 1, 8000), None),
        (torch.randn(2, 0), None),
        (torch.randn(2, 8000), torch.ones(3, 10)),
        (torch.randn(2, 8000), torch.ones(2, 0)),
        (torch.randn(2, 8000), torch.ones(2, 3, 10)),
    ],
)
def test_shapes_that_do_not_fit_are_told(
    encoder: SpeakerEncoder, waveforms: Tensor, weights: Tensor | None
) -> None:
    with pytest.raises(PixitError, match="expected"):
        encoder(waveforms, weights)


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(PixitError, match="multiple of 16"):
        SpeakerEncoder(num_mels=40)
    for threshold in (0, 2.5):
        with pytest.raises(PixitError, match="clustering_threshold"):
            SpeakerEncoder(clustering_threshold=threshold)


def test_statistics_equal_those_of_repeated_frames() -> None:
    hidden = torch.randn(2, 5, 4)
    counts = torch.tensor([[1, 0, 3, 2], [4, 4, 4, 4]])
    statistics = weighted_statistics(hidden, counts.float())
    for row in range(2):
        repeated = hidden[row].repeat_interleave(counts[row], dim=1)
        expected = torch.cat([repeated.mean(1), (repeated.var(1, unbiased=False) + 1e-5).sqrt()])
        torch.testing.assert_close(statistics[row], expected)


@pytest.mark.parametrize(("num_given", "num_frames"), [(1000, 7), (7, 1000), (501, 501), (624, 501)])
def test_no_weight_is_lost(num_given: int, num_frames: int) -> None:
    """A single active frame stays one, wherever it lies."""
    fitted = fit_weights(torch.eye(num_given), num_frames)
    assert fitted.shape == (num_given, num_frames)
    assert (fitted.sum(1) > 0).all()


def test_mel_bands_find_tones() -> None:
    """A tone is loudest in the band whose centre is nearest on the mel scale."""
    features = LogMel(40, 16000)
    low, high = 2595 * torch.tensor([1 + 60 / 700, 1 + 0.47 * 16000 / 700]).log10()
    for frequency_hz in (300.0, 1000.0, 4000.0):
        tone = torch.sin(2 * torch.pi * frequency_hz * torch.arange(16000) / 16000)
        mel = 2595 * torch.tensor(1 + frequency_hz / 700).log10()
        expected = ((mel - low) / (high - low) * 41).item() - 1
        assert abs(features(tone[None])[0, :, 50].argmax().item() - expected) <= 1


def test_every_mel_band_hears_something() -> None:
    assert (mel_filterbank(64, 512, 16000, 60, 7520).sum(1) > 0).all()


@pytest.mark.slow
def test_a_plda_is_kept_with_the_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    encoder = SpeakerEncoder(embedding_size=8, num_mels=16, base_channels=4, blocks_per_stage=1)
    assert isinstance(encoder, PldaEmbedder)
    assert encoder.plda is None
    plain = len(encoder.state_dict())
    plda = Plda(*(rng.normal(size=size).astype(np.float32).astype(float) for size in (8, 8, (8, 8), 8)))
    encoder.plda = plda
    found = load_model(save_model(encoder, tmp_path / "model", {}))
    assert isinstance(found, SpeakerEncoder)
    assert found.plda is not None
    for name, value in vars(plda).items():
        np.testing.assert_array_equal(getattr(found.plda, name), value)
    found.plda = None
    assert (len(found.state_dict()), found.config["plda"]) == (plain, False)


def test_the_default_size_is_small() -> None:
    encoder = SpeakerEncoder().eval()
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 1.5e6
    waveforms = speech_like(1, 80000)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(waveforms)
    assert counter.get_total_flops() < 1e9  # for 5 s of speech
