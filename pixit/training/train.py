"""One training, from settings to an exported checkpoint."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pydantic import Field
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from pytorch_lightning.callbacks.weight_averaging import EMAWeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from pixit.checkpoint import load_model, save_model
from pixit.config import Settings
from pixit.models.totatonet import ToTaToNet
from pixit.models.wavlm import load_pretrained_wavlm
from pixit.training.loaders import DataSettings, PairData
from pixit.training.module import OptimizerSettings, PixITModule
from pixit.training.objective import ObjectiveSettings
from pixit.training.pictures import ExamplePictures
from pixit.types import PixitError


class TrainerSettings(Settings):
    """How long and on what a training runs; the rest of Lightning's `Trainer` is at its defaults."""

    max_steps: int = Field(100_000, ge=1, description="steps of the optimizer")
    max_time: str | None = Field(None, description="stop after DD:HH:MM:SS")
    gradient_clip: float = Field(5.0, ge=0, description="largest norm of the gradient; 0 for no limit")
    accumulate: int = Field(1, ge=1, description="batches to a step")
    precision: str = Field("32-true", description="as in Lightning: 32-true, bf16-mixed, 16-mixed, …")
    accelerator: str = Field("auto", description="auto, cpu, gpu, mps")
    devices: int | str = Field("auto", description="devices (or processes, on a CPU) of each node")
    num_nodes: int = Field(1, ge=1, description="machines")
    strategy: str = Field("auto", description="auto, ddp, …")
    checkpoint_every_steps: int = Field(500, ge=1, description="steps between two savings of last.ckpt")
    patience: int | None = Field(None, ge=1, description="validations without progress before stopping")
    monitor: str = Field("val/der", description="the lower, the better: decides the best checkpoint")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="moving average of the weights; 0 for none")
    threads: int | None = Field(None, ge=1, description="CPU threads of each process")


class TrainSettings(Settings):
    """Everything about a training; the defaults are the paper's."""

    seed: int = 0
    model: dict[str, Any] = Field(default_factory=lambda: {"wavlm": {}}, description="arguments of ToTaToNet")
    wavlm_weights: str | None = Field(
        "microsoft/wavlm-large", description="folder or hub name of pretrained WavLM weights"
    )
    data: DataSettings = DataSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    trainer: TrainerSettings = TrainerSettings()


def train(
    settings: TrainSettings,
    folder: Path,
    database: Path | None = None,
    protocol: str | None = None,
    init: str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train a model and export it.

    Parameters
    ----------
    settings
        Everything about the training.
    folder
        Where logs, pictures and checkpoints go; the exported model is ``folder/model``.
    database, protocol
        Real meetings: a ``database.yml`` and the name of a protocol of it.
    init
        A checkpoint to begin with (folder, hub name or pyannote file) in place of random weights; its
        architecture replaces ``settings.model``.
    resume
        Go on with the training in `folder`, at the step where it stopped.

    Returns
    -------
    pathlib.Path
        The exported checkpoint.

    Raises
    ------
    PixitError
        If the data, a setting or a checkpoint does not fit.
    """
    last = folder / "checkpoints" / "last.ckpt"
    if resume and not last.exists():
        raise PixitError(f"{last}: nothing to resume, no such file; leave out --resume to start afresh")
    if not resume and last.exists():
        raise PixitError(f"{folder}: holds a training already; pass --resume to go on, or another folder")
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.trainer.threads is not None:
        torch.set_num_threads(settings.trainer.threads)
    model = build_model(settings, init, pretrained=not resume)
    data = PairData(model, settings.data, database, protocol, settings.seed)
    module = PixITModule(model, settings.objective, settings.optimizer, settings.trainer.max_steps)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
    trainer = build_trainer(settings.trainer, folder, progress)
    # Our own checkpoint: besides tensors it holds plain numbers and names only.
    trainer.fit(module, data, ckpt_path=str(last) if resume else None, weights_only=False)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return export(trainer, module, folder, provenance_of(settings, trainer, database, protocol, init))


def build_model(settings: TrainSettings, init: str | None, pretrained: bool) -> nn.Module:
    """Return the network with which a training begins."""
    if init is not None:
        return load_model(init).train()
    try:
        model = ToTaToNet(**settings.model)
    except (TypeError, ValueError) as error:
        raise PixitError(f"config, section model: {error}") from None
    if model.wavlm is not None and pretrained and settings.wavlm_weights is not None:
        model.wavlm.load_state_dict(load_pretrained_wavlm(settings.wavlm_weights).state_dict())
    return model


def build_trainer(settings: TrainerSettings, folder: Path, progress: bool) -> pl.Trainer:
    """Return the Lightning trainer with its loggers and callbacks."""
    checkpoints = folder / "checkpoints"
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(
            checkpoints,
            filename="best",
            monitor=settings.monitor,
            save_top_k=1,
            enable_version_counter=False,
        ),
        ModelCheckpoint(
            checkpoints,
            filename="last",
            every_n_train_steps=settings.checkpoint_every_steps,
            save_top_k=1,
            enable_version_counter=False,
        ),
        LearningRateMonitor("step"),
        ExamplePictures(folder / "pictures"),
    ]
    if settings.patience is not None:
        callbacks.append(EarlyStopping(settings.monitor, patience=settings.patience))
    if settings.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    if progress:
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        default_root_dir=folder,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=settings.precision,  # type: ignore[arg-type]
        max_steps=settings.max_steps,
        max_epochs=-1,
        max_time=settings.max_time,
        gradient_clip_val=settings.gradient_clip or None,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        logger=[CSVLogger(folder, name="logs", version="csv"), TensorBoardLogger(folder, "logs", "tensorboard")],
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def export(trainer: pl.Trainer, module: PixITModule, folder: Path, provenance: dict[str, Any]) -> Path:
    """Write the best weights, or the last ones if there was no validation, as a pixit checkpoint."""
    best = folder / "checkpoints" / "best.ckpt"
    if best.exists():
        state = torch.load(best, map_location="cpu", weights_only=False)["state_dict"]
        module.load_state_dict(state)
    target = folder / "model"
    if trainer.is_global_zero:
        metrics = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        save_model(module.model, target, provenance | {"metrics_at_the_end": metrics})
    return target


def provenance_of(
    settings: TrainSettings, trainer: pl.Trainer, database: Path | None, protocol: str | None, init: str | None
) -> dict[str, Any]:
    """Return what is needed to know where a checkpoint came from."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pixit": version("pixit-audio"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "steps": trainer.global_step,
        "database": database.name if database is not None else None,
        "protocol": protocol,
        "init": init,
        "settings": settings.model_dump(mode="json"),
    }
