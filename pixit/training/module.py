"""The LightningModule: one step of training, what is logged of it, and the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pydantic import Field
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from pixit.config import Settings
from pixit.models.filterbank import full_precision
from pixit.training.objective import (
    ObjectiveSettings,
    PairBatch,
    best_permutation,
    heard_mixtures,
    mixtures_of_mixtures,
    pit_bce,
    pixit_loss,
    si_sdr,
    three_mixtures,
)
from pixit.types import LocalOutput, PixitError

MIN_SCORED_S = 0.25
"""Shorter stretches of a window say little about the separation."""


class OptimizerSettings(Settings):
    """Adam with one parameter group for WavLM and one for the rest; the defaults are the paper's."""

    algorithm: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: Muon for the matrices of all but WavLM, AdamW for what is left"
    )
    clip_apart: bool = Field(
        True, description="limit the gradients of WavLM and of the rest each by itself; else their joint norm"
    )
    learning_rate: float = Field(3e-4, gt=0, description="learning rate of all but WavLM")
    wavlm_learning_rate: float = Field(1e-5, ge=0, description="learning rate of WavLM; 0 freezes it")
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


class PixITModule(pl.LightningModule):
    """Train a local model with the objective of PixIT; a cosine schedule ends at `max_steps`."""

    def __init__(
        self, model: nn.Module, objective: ObjectiveSettings, optimizer: OptimizerSettings, max_steps: int
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.objective, self.optimizer_settings, self.max_steps = objective, optimizer, max_steps
        self.validation_sums: dict[str, Tensor] = {}
        if optimizer.wavlm_learning_rate == 0:
            for name, parameter in model.named_parameters():
                if name.startswith("wavlm."):
                    parameter.requires_grad_(False)

    def on_train_start(self) -> None:
        """Keep WavLM in evaluation mode: in training mode it would drop layers and mask its input.

        Here and not where an epoch starts, which a training resumed within an epoch never reaches.
        """
        if getattr(self.model, "wavlm", None) is not None:
            self.model.wavlm.eval()

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the loss of a batch of pairs."""
        pairs = PairBatch(**batch)
        output = self._listen(three_mixtures(pairs)[heard_mixtures(pairs, self.objective)])
        with full_precision(output.sources):
            losses = pixit_loss(output, pairs, self.objective)
        terms = {"loss": losses.total, "separation": losses.separation, "diarization": losses.diarization}
        values = {f"train/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(batch["mixtures"]))
        self.log("loss", losses.total.detach(), prog_bar=True, logger=False)
        return losses.total

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        self.validation_sums = {}

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Sum up the counts of a batch; ratios are taken at the end, over the whole set."""
        pairs = PairBatch(**batch)
        output = self._listen(three_mixtures(pairs))
        heard = heard_mixtures(pairs, self.objective)
        judged = LocalOutput(output.activity_logits[heard], output.sources[heard])
        with full_precision(output.sources):
            loss = pixit_loss(judged, pairs, self.objective).total
            sums = frame_errors_and_gains(output, pairs, self.model.sample_rate_hz)
        size = torch.tensor(len(pairs.mixtures), device=self.device, dtype=torch.float32)
        for name, value in (sums | {"count": size, "loss": loss * size}).items():
            self.validation_sums[name] = self.validation_sums.get(name, torch.zeros_like(value)) + value

    def on_validation_epoch_end(self) -> None:
        """Log the loss, the diarization error rate of single windows, and the separation gain."""
        sums = {name: cast(Tensor, self.all_gather(x)).sum() for name, x in self.validation_sums.items()}
        speech = sums["speech"].clamp_min(1)
        errors = {name: sums[name] / speech for name in ("false_alarm", "missed", "confusion")}
        metrics = {
            "val/loss": sums["loss"] / sums["count"],
            "val/der": sum(errors.values(), torch.zeros_like(speech)),
            **{f"val/{name}": value for name, value in errors.items()},
        }
        for kind in ("overlap", "single"):
            if sums[f"{kind}_count"] > 0:
                metrics[f"val/si_sdr_{kind}_db"] = sums[f"{kind}_si_sdr"] / sums[f"{kind}_count"]
        if sums["overlap_count"] > 0:
            metrics["val/si_sdr_gain_db"] = sums["overlap_gain"] / sums["overlap_count"]
        # All processes log the same values; sync_dist lets Lightning know.
        self.log_dict(metrics, sync_dist=True)
        self.log("val_der", metrics["val/der"], prog_bar=True, logger=False, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimizer with a parameter group for WavLM and one for the rest."""
        settings = self.optimizer_settings
        optimizer = make_optimizer(settings, self.model.named_parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: settings.factor(step, self.max_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of the gradient, of WavLM and of the rest each by itself unless the settings say otherwise.

        As pyannote.audio does, whose two optimizers are clipped one after the other.
        """
        if not gradient_clip_val:
            return
        parts: dict[str, list[Tensor]] = {}
        for group in optimizer.param_groups:
            name = "wavlm" if self.optimizer_settings.clip_apart and group.get("name") == "wavlm" else "rest"
            parts.setdefault(name, []).extend(group["params"])
        for parameters in parts.values():
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def _listen(self, mixtures: Tensor) -> LocalOutput:
        """Return what the network says of mixtures (M, 1, T), in full precision."""
        output: LocalOutput = self.model(mixtures)
        return LocalOutput(output.activity_logits.float(), output.sources.float())


def frame_errors_and_gains(output: LocalOutput, batch: PairBatch, sample_rate_hz: int) -> dict[str, Tensor]:
    """Return counts of diarization errors in frames, and sums of SI-SDR in dB, for a batch of pairs.

    Diarization is scored on each window by itself, under its best permutation, at a threshold of 0.5. Separation
    is scored where references exist: each speaker on the samples on which others speak too (``overlap``, and its gain
    over the mixture) and on those on which nobody else does (``single``), if they last `MIN_SCORED_S` together.
    """
    activities, references = mixtures_of_mixtures(batch.activities, batch.references)
    _, permutation = pit_bce(output.activity_logits, activities)
    logits = torch.take_along_dim(output.activity_logits, permutation.unsqueeze(-1), 1)
    counts = frame_errors(logits > 0, activities > 0.5)

    matched = _match_sources(output.sources, references)
    talking = F.interpolate(activities, references.shape[-1], mode="nearest") > 0.5  # (3B, K, T)
    crowded = talking.sum(1, keepdim=True) > 1
    names = ("overlap_count", "overlap_si_sdr", "overlap_gain", "single_count", "single_si_sdr")
    sums = {name: torch.zeros((), device=references.device) for name in names}
    mixtures = three_mixtures(batch).expand_as(references)
    for kind, where in (("overlap", talking & crowded), ("single", talking & ~crowded)):
        where = where & batch.has_references.repeat(3)[:, None, None]
        for place in (where.sum(-1) >= MIN_SCORED_S * sample_rate_hz).nonzero().tolist():
            index = tuple(place)
            chosen = where[index]
            reference = references[index][chosen]
            score = si_sdr(matched[index][chosen], reference)
            sums[f"{kind}_count"] += 1
            sums[f"{kind}_si_sdr"] += score
            if kind == "overlap":
                sums["overlap_gain"] += score - si_sdr(mixtures[index][chosen], reference)
    return counts | sums


def _match_sources(sources: Tensor, references: Tensor) -> Tensor:
    """Put sources (B, K, T) in the order of their references, by SI-SDR over the whole window."""
    scores = [si_sdr(sources, reference.unsqueeze(1)) for reference in references.unbind(1)]
    sounding = (references != 0).any(-1)  # a silent reference takes what is left
    _, permutation = best_permutation(-torch.stack(scores, dim=-1) * sounding.unsqueeze(1))
    return torch.take_along_dim(sources, permutation.unsqueeze(-1), dim=1)


def frame_errors(estimate: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Return frames of false alarm, missed speech, confusion and speech of aligned activities (B, K, F)."""
    estimated, expected = estimate.sum(1), reference.sum(1)
    correct = (estimate & reference).sum(1)
    return {
        "false_alarm": (estimated - expected).clamp_min(0).sum(),
        "missed": (expected - estimated).clamp_min(0).sum(),
        "confusion": (torch.minimum(estimated, expected) - correct).sum(),
        "speech": expected.sum(),
    }


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
    rate = settings.learning_rate
    wavlm = [{"params": slow, "lr": settings.wavlm_learning_rate, "name": "wavlm"}] if slow else []
    if settings.algorithm == "adamw":
        groups = [{"params": rest, "lr": rate, "name": "rest"}, *wavlm]
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    if not hasattr(torch.optim, "Muon"):
        raise PixitError(
            f"optimizer.algorithm=muon: found torch {torch.__version__}, expected torch 2.9 or newer"
        )
    matrices = {"params": [p for p in rest if p.ndim == 2], "lr": rate, "name": "matrices"}
    vectors = {"params": [p for p in rest if p.ndim != 2], "lr": rate, "name": "vectors"}
    return MuonAdamW([matrices], [*wavlm, vectors], settings.weight_decay)


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
