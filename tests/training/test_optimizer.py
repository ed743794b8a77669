"""The optimizers: their groups, the course of their learning rates, and what survives a checkpoint."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from pixit.training.module import OptimizerSettings, make_optimizer
from pixit.types import PixitError


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> float:
    for step in steps:
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x[:, :2]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_wavlm_has_a_group_of_its_own_and_never_muon() -> None:
    model = network()
    settings = OptimizerSettings(algorithm="muon", learning_rate=1e-2, wavlm_learning_rate=1e-5)
    optimizer = make_optimizer(
        settings,
        [(f"wavlm.{name}" if name.startswith("0") else name, p) for name, p in model.named_parameters()],
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert set(groups) == {"matrices", "wavlm", "vectors"}
    assert groups["matrices"]["params"] == [model[2].weight]
    assert set(map(id, groups["wavlm"]["params"])) == {id(model[0].weight), id(model[0].bias)}
    assert groups["wavlm"]["lr"] == 1e-5
    assert "momentum" in groups["matrices"]
    assert "betas" in groups["wavlm"]


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_it_learns_and_goes_on_from_a_checkpoint_to_the_bit(algorithm: str) -> None:
    settings = OptimizerSettings(algorithm=algorithm, learning_rate=1e-2)
    model = network()
    optimizer = make_optimizer(settings, model.named_parameters())
    before = take_steps(model, optimizer, range(1))
    take_steps(model, optimizer, range(1, 150))
    kept = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, kept)
    assert take_steps(model, optimizer, range(150, 200)) < before / 2

    kept.seek(0)
    state = torch.load(kept, weights_only=True)
    again = network(seed=1)
    resumed = make_optimizer(settings, again.named_parameters())
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    take_steps(again, resumed, range(150, 200))
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_schedule_reaches_both_parts(loaded: bool) -> None:
    model = network()
    optimizer = make_optimizer(
        OptimizerSettings(algorithm="muon", learning_rate=1.0), model.named_parameters()
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step == 0 else 0.5)
    if loaded:
        optimizer.load_state_dict(optimizer.state_dict())
    before = [p.detach().clone() for p in model.parameters()]
    take_steps(model, optimizer, range(1))
    for one, other in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    schedule.step()
    take_steps(model, optimizer, range(1))
    assert all(not torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


def test_muon_needs_a_torch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(PixitError, match=r"muon: found torch .*, expected torch 2.9"):
        make_optimizer(OptimizerSettings(algorithm="muon"), network().named_parameters())


def test_cosine_falls_to_its_share_and_warmup_rises() -> None:
    settings = OptimizerSettings(schedule="cosine", warmup_steps=9, final_fraction=0.1)
    assert settings.factor(0, 1000) == pytest.approx(0.1, rel=1e-3)
    assert settings.factor(500, 1000) == pytest.approx(0.55)
    assert settings.factor(1000, 1000) == settings.factor(5000, 1000) == pytest.approx(0.1)
    assert OptimizerSettings(warmup_steps=9).factor(500, 1000) == 1.0
