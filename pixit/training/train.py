"""One training, from settings to an exported checkpoint."""

from __future__ import annotations

import contextlib
import logging
import platform
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
import yaml
from pydantic import Field
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from pytorch_lightning.callbacks.weight_averaging import EMAWeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pixit.checkpoints import load_model, save_model
from pixit.config import Settings, read_yaml
from pixit.models.totatonet import ToTaToNet
from pixit.models.wavlm import load_pretrained_wavlm
from pixit.training.callbacks import ExamplePictures, LastCheckpoint
from pixit.training.loaders import DataSettings, PairData
from pixit.training.module import OptimizerSettings, PixITModule
from pixit.training.objective import ObjectiveSettings
from pixit.types import LocalModel, PixitError


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
    monitor: Literal["val/der", "val/loss"] = Field(
        "val/der", description="the lower, the better: decides the best checkpoint"
    )
    ema_decay: float = Field(0.0, ge=0, lt=1, description="moving average of the weights; 0 for none")
    pictures: int = Field(2, ge=0, description="validation pairs to draw at every validation")
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
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after ``last.ckpt`` has been saved.
    """
    last = folder / "checkpoints" / "last.ckpt"
    check_folder(folder, last, settings, resume)
    with _quiet_lightning():
        pl.seed_everything(settings.seed, workers=True, verbose=False)
        if settings.trainer.threads is not None:
            torch.set_num_threads(settings.trainer.threads)
        model = build_model(settings, init, pretrained=not resume)
        data = PairData(cast(LocalModel, model), settings.data, database, protocol, settings.seed)
        module = PixITModule(model, settings.objective, settings.optimizer, settings.trainer.max_steps)
        trainer = build_trainer(settings.trainer, folder, last, progress)
        data.check_size(trainer.world_size)
        if trainer.is_global_zero:
            _write_settings(settings, folder)
        fit(trainer, module, data, last if resume else None)
        return export(trainer, module, folder, provenance_of(settings, database, protocol, init))


def check_folder(folder: Path, last: Path, settings: TrainSettings, resume: bool) -> None:
    """Refuse to mix two trainings in one folder."""
    if not resume and last.exists():
        raise PixitError(f"{folder}: holds a training already; pass --resume to go on, or another folder")
    if not resume:
        return
    if not last.exists():
        raise PixitError(f"{last}: nothing to resume, no such file; leave out --resume to start afresh")
    before, now = read_yaml(folder / "settings.yaml"), settings.model_dump(mode="json")
    for section in ("seed", "model", "data"):
        if before.get(section) != now[section]:
            raise PixitError(
                f"{folder / 'settings.yaml'}: the training to resume has another {section!r}; "
                "resume with its settings, or start another folder (with init, to keep its weights)"
            )


def build_model(settings: TrainSettings, init: str | None, pretrained: bool) -> ToTaToNet:
    """Return the network with which a training begins."""
    if init is not None:
        loaded = load_model(init)
        if not isinstance(loaded, ToTaToNet):
            raise PixitError(f"{init}: is a {type(loaded).__name__}, expected a ToTaToNet")
        return loaded.train()
    try:
        model = ToTaToNet(**settings.model)
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise PixitError(f"config, section model: {_one_line(error)}") from None
    if model.wavlm is not None and pretrained and settings.wavlm_weights is not None:
        weights = load_pretrained_wavlm(settings.wavlm_weights, like=model.wavlm)
        model.wavlm.load_state_dict(weights.state_dict())
    return model


def fit(trainer: pl.Trainer, module: PixITModule, data: PairData, checkpoint: Path | None) -> None:
    """Train, from the beginning or from the state in `checkpoint`."""
    try:
        # Our own checkpoint: besides tensors it holds plain numbers and names only.
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=False)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit
            raise KeyboardInterrupt from None
        raise
    except RuntimeError as error:
        if "parameters that were not used" not in str(error):
            raise
        raise PixitError(
            "the network holds weights that the loss does not reach, as some maskers of asteroid do; "
            "to train it on several devices set trainer.strategy=ddp_find_unused_parameters_true"
        ) from None


def build_trainer(settings: TrainerSettings, folder: Path, last: Path, progress: bool) -> pl.Trainer:
    """Return the Lightning trainer with its loggers and callbacks."""
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        monitor=settings.monitor,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,  # but where a validation ends
    )
    callbacks: list[pl.Callback] = [best, LearningRateMonitor("step")]
    if settings.pictures:
        callbacks.append(ExamplePictures(folder / "pictures", settings.pictures))
    if settings.patience is not None:
        callbacks.append(
            EarlyStopping(settings.monitor, patience=settings.patience, check_on_train_epoch_end=False)
        )
    if settings.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    callbacks.append(LastCheckpoint(last, settings.checkpoint_every_steps))
    if progress:
        callbacks.append(RichProgressBar())
    try:
        return _trainer(settings, folder, callbacks, progress)
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        raise PixitError(f"config, section trainer: {_one_line(error)}") from None


def _trainer(
    settings: TrainerSettings, folder: Path, callbacks: list[pl.Callback], progress: bool
) -> pl.Trainer:
    starts = len(list(folder.glob("logs/csv*")))
    csv = "csv" if starts == 0 else f"csv-{starts + 1}"  # CSVLogger would empty that of an earlier start
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
        logger=[CSVLogger(folder, "logs", csv), TensorBoardLogger(folder, "logs", "tensorboard")],
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def export(trainer: pl.Trainer, module: PixITModule, folder: Path, provenance: dict[str, Any]) -> Path:
    """Write the best weights, or the last ones if there was no validation, as a pixit checkpoint."""
    best = folder / "checkpoints" / "best.ckpt"
    steps = trainer.global_step
    if best.exists():
        checkpoint = torch.load(best, map_location="cpu", weights_only=False)
        module.load_state_dict(checkpoint["state_dict"])
        steps = checkpoint["global_step"]
    target = folder / "model"
    if trainer.is_global_zero:
        metrics = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        save_model(module.model, target, provenance | {"steps": steps, "metrics_at_the_end": metrics})
    return target


def provenance_of(
    settings: TrainSettings, database: Path | None, protocol: str | None, init: str | None
) -> dict[str, Any]:
    """Return what is needed to know where a checkpoint came from."""
    provenance = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pixit": version("pixit-audio"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "database": str(database) if database is not None else None,
        "protocol": protocol,
        "init": init,
        "settings": settings.model_dump(mode="json"),
    }
    named: dict[str, Any] = _without_folders(provenance)
    return named


def _without_folders(value: Any) -> Any:
    """Keep only the last part of every path: a model that is given away tells nothing of its maker's machine."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    is_path = isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute())
    return Path(value).name if is_path else value


def _write_settings(settings: TrainSettings, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        (folder / "settings.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise PixitError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None


_NOISE = (
    r".*does not have many workers.*",  # the number of workers is our users' choice
    r".*Our suggested max number of worker.*",
    r".*your dataloader is not resumable.*",  # it is, see ResumableSampler
    r".*exists and is not empty.*",  # that is what --resume is for
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own affair
    r".*smaller than the logging interval.*",  # steps are counted across epochs
)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and reports of its own doings from the user's screen."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
