"""Train the speaker embedder: many short crops, heavily augmented, classified with an angular margin."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pixit.config import Settings
from pixit.files import whole_file
from pixit.models.embedders import SpeakerEncoder
from pixit.training.crops import CropSampler, CropSettings
from pixit.types import PixitError

Report = Callable[[int, SpeakerEncoder, float], None]


class SpeakerTrainingSettings(Settings):
    """What `train_speaker_encoder` does."""

    encoder: dict[str, Any] = Field(default_factory=dict, description="arguments of SpeakerEncoder")
    crops: CropSettings = CropSettings()
    seed: int = Field(0, ge=0, description="seed of all that is random")
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="as in Lightning; of the separator that is listened to, too"
    )
    balance: float = Field(0.5, ge=0, le=1, description="0: all speakers are heard alike; 1: all folders are")
    steps: int = Field(2500, ge=1, description="steps of the optimizer")
    learning_rate: float = Field(1e-3, gt=0, description="its peak")
    warmup_steps: int = Field(100, ge=0, description="steps in which the learning rate grows from 0")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW")
    margin: float = Field(0.2, ge=0, description="angle by which the right speaker must be nearer, radians")
    scale: float = Field(30.0, gt=0, description="factor on the cosines before the softmax")
    sub_centres: int = Field(1, ge=1, description="centres of a class, of which the nearest counts")
    easy_start: float = Field(
        0.3, gt=0, le=1, description="share of the training in which margin and augmentation grow from 0"
    )
    ema_decay: float = Field(0.995, ge=0, lt=1, description="decay of the average over the weights")
    report_every_steps: int = Field(100, ge=1, description="steps between validations")
    plda_crops: int = Field(
        7200,
        ge=0,
        description="crops on which the PLDA is fitted in the end, with which pixit clusters; 0: none",
    )


class AdditiveAngularMargin(nn.Module):
    """Classify embeddings by angle, with a margin for the right class (ArcFace, Deng et al. 2019).

    For embeddings of size D and so many classes; `scale` multiplies the cosines before the softmax. Several centres
    to a class (Deng et al., "Sub-center ArcFace", 2020) let crops that are off gather beside the clean ones.
    """

    def __init__(self, embedding_size: int, num_classes: int, scale: float, sub_centres: int = 1) -> None:
        super().__init__()
        self.scale, self.sub_centres = scale, sub_centres
        self.centres = nn.Parameter(
            F.normalize(torch.randn(num_classes * sub_centres, embedding_size), dim=1)
        )

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
        """Return the cross entropy of unit embeddings (B, D) and class labels (B,); margin in radians."""
        cosines = (
            (embeddings @ F.normalize(self.centres, dim=1).T).unflatten(1, (-1, self.sub_centres)).amax(-1)
        )
        angles = cosines.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        # past pi the cosine would rise again: an angle is never widened beyond that
        widened = (angles + margin).clamp_max(math.pi).cos()
        own = F.one_hot(labels, cosines.shape[1]).bool()
        return F.cross_entropy(self.scale * torch.where(own, widened, cosines), labels)


class AngularPrototypes(nn.Module):
    """Find each speaker's second crop among those of all (Chung et al., Interspeech 2020, eq. 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the cross entropy of unit embeddings (B, D); rows 2 i and 2 i + 1 are one speaker."""
        cosines = embeddings[0::2] @ embeddings[1::2].T
        labels = torch.arange(len(cosines))
        return F.cross_entropy(self.scale.clamp_min(1e-6) * cosines, labels)


def train_speaker_encoder(
    sampler: CropSampler,
    settings: SpeakerTrainingSettings,
    checkpoint: Path,
    report: Report,
    encoder: SpeakerEncoder | None = None,
) -> SpeakerEncoder:
    """Train an encoder, or continue where a killed training stopped; its weights are a moving average.

    Parameters
    ----------
    sampler
        Source of batches. Batch ``i`` depends on the seed and ``i`` alone, so that a resumed training
        sees what an uninterrupted one would have seen.
    checkpoint
        File that holds the state of the training; written after every report, so that one killed in a report
        makes it again.
    report
        Called every `report_every_steps` steps and at the end with the step, the averaged encoder, and
        the mean loss since the last report.
    encoder
        What is trained; by default a new one.

    Raises
    ------
    PixitError
        If `checkpoint` is not of this training, or the training diverges.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights come from the global generator alone
        torch.manual_seed(settings.seed)
        if encoder is None:
            encoder = new_encoder(settings, sampler.sample_rate_hz)
        head = AdditiveAngularMargin(
            encoder.embedding_size, sampler.num_classes, settings.scale, settings.sub_centres
        )
    prototypes = AngularPrototypes()
    average = AveragedModel(encoder, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)
    averaged = cast(SpeakerEncoder, average.module)
    parts: dict[str, Any] = {"encoder": encoder, "head": head, "prototypes": prototypes}
    weights = [weight for part in parts.values() for weight in part.parameters()]
    optimizer = torch.optim.AdamW(weights, weight_decay=settings.weight_decay)
    parts |= {"average": average, "optimizer": optimizer}
    first = load_state(checkpoint, parts) if checkpoint.exists() else 0
    losses = []
    for step in range(first, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        severity = min(1.0, step / (settings.easy_start * settings.steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            batch = sampler.batch(np.random.default_rng([settings.seed, step]), severity)
            embeddings = encoder.train()(batch.waveforms, batch.weights).float()
        loss = prototypes(embeddings) + head(embeddings, batch.labels, severity * settings.margin)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise PixitError(
                f"{checkpoint.parent}: the training diverged at step {step + 1}, where loss or gradient is not a "
                "finite number; train in another folder with a lower training.learning_rate"
            )
        optimizer.step()
        average.update_parameters(encoder)
        losses.append(loss.item())
        if (step + 1) % settings.report_every_steps == 0 or step + 1 == settings.steps:
            report(step + 1, averaged.eval(), float(np.mean(losses)))
            save_state(checkpoint, parts, step + 1)
            losses.clear()
    return averaged.eval()


def new_encoder(settings: SpeakerTrainingSettings, sample_rate_hz: int) -> SpeakerEncoder:
    """Return an untrained encoder as the settings want it; a PixitError if it has no such arguments."""
    try:
        return SpeakerEncoder(**{"sample_rate_hz": sample_rate_hz, **settings.encoder})
    except TypeError as error:
        raise PixitError(f"settings, section encoder: {error}") from None


def learning_rate(step: int, settings: SpeakerTrainingSettings) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def save_state(path: Path, parts: dict[str, Any], step: int) -> None:
    """Write the state of a training; the file is replaced whole, so that a kill cannot damage it."""
    state = {name: part.state_dict() for name, part in parts.items()}
    with whole_file(path) as new:
        torch.save({**state, "step": step}, new)


def load_state(path: Path, parts: dict[str, Any]) -> int:
    """Read what `save_state` wrote into `parts`, and return the step to continue at."""
    try:
        state = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (RuntimeError, KeyError, ValueError, pickle.UnpicklingError, EOFError):
        raise PixitError(
            f"{path}: is not a state of this training; remove it, or use other settings"
        ) from None
    return int(state["step"])
