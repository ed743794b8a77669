"""The optimizer of a training: its settings, its parameter groups, and the course of its learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from pixit.config import Settings
from pixit.types import PixitError


class OptimizerSettings(Settings):
    """Adam with one parameter group for WavLM and one for the rest; the defaults are the paper's."""

    algorithm: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: Muon for the matrices of all but WavLM, AdamW for what is left"
    )
    learning_rate: float = Field(3e-4, gt=0, description="learning rate of all but WavLM")
    wavlm_learning_rate: float = Field(1e-5, ge=0, description="learning rate of WavLM; 0 freezes it")
    clip_apart: bool = Field(
        True, description="limit the gradients of WavLM and of the rest each by itself; else their joint norm"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rates rise from 0")
    schedule: Literal["constant", "cosine"] = Field("constant", description="course of the learning rates")
    final_fraction: float = Field(
        0.02, ge=0, le=1, description="share of the learning rate where cosine ends"
    )

    def factor(self, step: int, max_steps: int) -> float:
        """Return the share of the learning rates that holds at a step."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return warmup
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, max_steps))))
        return warmup * (self.final_fraction + (1 - self.final_fraction) * cosine)


def make_optimizer(
    settings: OptimizerSettings, parameters: Iterable[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    """Make the one optimizer of named parameters; those of WavLM (``wavlm.…``) are a group of their own.

    Raises
    ------
    PixitError
        If Muon is asked for and torch does not have it yet.
    """
    named = [(name, p) for name, p in parameters if p.requires_grad]
    slow = [p for name, p in named if name.startswith("wavlm.")]
    rest = [p for name, p in named if not name.startswith("wavlm.")]
    groups: list[dict[str, Any]] = []
    if slow:
        groups.append({"params": slow, "lr": settings.wavlm_learning_rate, "name": "wavlm"})
    if settings.algorithm == "adamw":
        groups.insert(0, {"params": rest, "lr": settings.learning_rate, "name": "rest"})
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    if not hasattr(torch.optim, "Muon"):
        raise PixitError(
            f"optimizer.algorithm=muon: found torch {torch.__version__}, expected torch 2.9 or newer"
        )
    for name, chosen in (("matrices", True), ("vectors", False)):
        group = [p for p in rest if (p.ndim == 2) is chosen]
        groups.append({"params": group, "lr": settings.learning_rate, "name": name})
    return MuonAdamW([groups[-2]], [*groups[:-2], groups[-1]], settings.weight_decay)


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices and AdamW for other parameters, in one optimizer.

    Muon's steps are scaled to the size of AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), so
    that one learning rate serves both.
    """

    def __init__(
        self, matrices: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], weight_decay: float
    ) -> None:
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, weight_decay=weight_decay),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; `closure` computes the loss and its gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the groups of both parts stay those that a schedule changes."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
