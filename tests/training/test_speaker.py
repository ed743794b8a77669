"""Training of the speaker encoder: the margin's arithmetic, learning, and going on after a kill."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pixit.models.embedders import SpeakerEncoder
from pixit.simulation.pool import SpeakerPool
from pixit.simulation.rooms import NoiseBank
from pixit.training.crops import CropSampler
from pixit.training.speaker import (
    AdditiveAngularMargin,
    AngularPrototypes,
    SpeakerTrainingSettings,
    learning_rate,
    train_speaker_encoder,
)
from pixit.types import PixitError

TINY = {
    "encoder": {"embedding_size": 16, "num_mels": 16, "base_channels": 4, "blocks_per_stage": 1},
    "crops": {"batch_size": 12, "length_s": [0.5, 0.8], "speeds": [1.0], "reverberation_probability": 0},
    "steps": 40,
    "warmup_steps": 2,
    "learning_rate": 0.01,
    "report_every_steps": 10,
    "ema_decay": 0.8,
}


def settings(**changes: object) -> SpeakerTrainingSettings:
    return SpeakerTrainingSettings.model_validate({**TINY, **changes})


@pytest.fixture(scope="module")
def sampler() -> CropSampler:
    """Four buzzes of other pitch and timbre."""
    time_s = np.arange(3 * 16000) / 16000
    buzzes = {}
    for index, (pitch_hz, slope) in enumerate([(100, 0.5), (130, 1.5), (210, 0.5), (280, 1.5)]):
        harmonics = (np.sin(2 * np.pi * k * pitch_hz * time_s) / k**slope for k in range(1, 20))
        buzzes[f"buzz {index}"] = [(0.05 * sum(harmonics)).astype(np.float32)]
    return CropSampler(
        SpeakerPool.from_utterances(buzzes, 16000), None, NoiseBank(num_generated=2), settings().crops
    )


def test_margin_by_hand() -> None:
    head = AdditiveAngularMargin(2, 3, scale=10.0)
    angles = torch.tensor([0.0, 1.0, 2.5])
    with torch.no_grad():
        head.centres.copy_(3 * torch.stack([angles.cos(), angles.sin()], 1))  # their length is no matter
    embedding = torch.tensor([[math.cos(0.4), math.sin(0.4)]])
    logits = [10 * math.cos(0.4), 10 * math.cos(0.6 + 0.2), 10 * math.cos(2.1)]
    expected = -logits[1] + math.log(sum(math.exp(logit) for logit in logits))
    assert head(embedding, torch.tensor([1]), 0.2).item() == pytest.approx(expected, rel=1e-4)


def test_the_nearest_of_a_class_s_centres_counts() -> None:
    one, two = (AdditiveAngularMargin(2, 2, scale=10.0, sub_centres=count) for count in (1, 2))
    near, far, other = [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]
    with torch.no_grad():
        one.centres.copy_(torch.tensor([near, other]))
        two.centres.copy_(torch.tensor([far, near, other, other]))
    embedding = torch.tensor([[math.cos(0.3), math.sin(0.3)]])
    torch.testing.assert_close(one(embedding, torch.tensor([0]), 0.2), two(embedding, torch.tensor([0]), 0.2))


def test_margin_never_helps_the_right_class() -> None:
    head = AdditiveAngularMargin(8, 5, scale=30.0)
    embeddings = torch.nn.functional.normalize(torch.randn(200, 8), dim=1)
    embeddings[0] = -torch.nn.functional.normalize(head.centres[0], dim=0).detach()  # at pi from its own
    for row in range(200):
        one, label = embeddings[row : row + 1], torch.tensor([row % 5])
        assert head(one, label, 0.3) >= head(one, label, 0.0) - 1e-4


def test_prototypes_by_hand() -> None:
    loss = AngularPrototypes()
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.6, 0.8]])
    # first crops (1, 0) and (0, 1) against second ones (0.6, 0.8) and (-0.6, 0.8), at scale 10
    expected = (math.log(1 + math.exp(-12)) + math.log(2)) / 2
    assert loss(rows).item() == pytest.approx(expected, rel=1e-4)


def test_learning_rate_rises_and_falls() -> None:
    plan = settings(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, plan) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02


def test_it_learns_and_reports(sampler: CropSampler, tmp_path: Path) -> None:
    reports: list[tuple[int, float]] = []

    def report(step: int, encoder: SpeakerEncoder, loss: float) -> None:
        assert not encoder.training
        reports.append((step, loss))

    encoder = train_speaker_encoder(sampler, settings(), tmp_path / "state.pt", report)
    assert [step for step, _ in reports] == [10, 20, 30, 40]
    batch = sampler.batch(np.random.default_rng([99]))
    with torch.inference_mode():
        embeddings = encoder(batch.waveforms, batch.weights)
    likeness = embeddings @ embeddings.T
    same = batch.labels[:, None] == batch.labels
    assert likeness[same].mean() > likeness[~same].mean() + 0.15  # untrained: 0.02


def test_killed_and_resumed_equals_uninterrupted(sampler: CropSampler, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, encoder: SpeakerEncoder, loss: float) -> None:
        if step == 10:
            raise KilledError

    reported: list[tuple[int, float]] = []

    def note(step: int, encoder: SpeakerEncoder, loss: float) -> None:
        reported.append((step, round(loss, 4)))

    plan = settings(steps=20, report_every_steps=5)
    whole = train_speaker_encoder(sampler, plan, tmp_path / "whole.pt", note)
    straight = [*reported]
    reported.clear()
    with pytest.raises(KilledError):
        train_speaker_encoder(sampler, plan, tmp_path / "state.pt", kill)
    resumed = train_speaker_encoder(sampler, plan, tmp_path / "state.pt", note)
    assert reported == straight[1:], "a report that was killed is made again"
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_training_that_diverges_ends_and_keeps_its_last_state(
    sampler: CropSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    forward, steps = AngularPrototypes.forward, []

    def diverge(self: AngularPrototypes, embeddings: torch.Tensor) -> torch.Tensor:
        steps.append(len(steps) + 1)
        loss = forward(self, embeddings)
        if steps[-1] == 10:  # where it would be saved and reported
            return (
                loss * torch.nan
                if what == "loss"
                else (embeddings - embeddings.detach()).sum().abs().sqrt() + loss
            )
        return loss

    monkeypatch.setattr(AngularPrototypes, "forward", diverge)
    reported: list[int] = []
    with pytest.raises(PixitError, match=r"diverged at step 10, where .* a lower training\.learning_rate$"):
        train_speaker_encoder(
            sampler,
            settings(report_every_steps=5),
            tmp_path / "state.pt",
            lambda step, *_: reported.append(step),
        )
    assert reported == [5]
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5


def test_training_leaves_the_global_generator_alone(sampler: CropSampler, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    train_speaker_encoder(sampler, settings(steps=1), tmp_path / "state.pt", lambda *_: None)
    assert torch.rand(1) == expected


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x02}q\x00."])
def test_a_damaged_state_is_told(sampler: CropSampler, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(PixitError, match="state of this training"):
        train_speaker_encoder(sampler, settings(steps=1), tmp_path / "state.pt", lambda *_: None)


def test_an_unknown_argument_of_the_encoder_is_told(sampler: CropSampler, tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="section encoder"):
        train_speaker_encoder(sampler, settings(encoder={"depth": 3}), tmp_path / "s.pt", lambda *_: None)


def test_a_state_of_another_size_is_told(sampler: CropSampler, tmp_path: Path) -> None:
    train_speaker_encoder(sampler, settings(steps=1), tmp_path / "state.pt", lambda *_: None)
    other = settings(encoder={**TINY["encoder"], "embedding_size": 8})
    with pytest.raises(PixitError, match="state of this training"):
        train_speaker_encoder(sampler, other, tmp_path / "state.pt", lambda *_: None)
