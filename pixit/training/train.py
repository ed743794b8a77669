"""One training, from settings to an exported checkpoint."""

from __future__ import annotations

import contextlib
import logging
import platform
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from pytorch_lightning.callbacks.weight_averaging import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pixit.checkpoints import load_model, save_model
from pixit.memory import keep_memory
from pixit.models.totatonet import ToTaToNet
from pixit.models.wavlm import load_pretrained_wavlm
from pixit.training.callbacks import (
    BestCheckpoint,
    ExamplePictures,
    LastCheckpoint,
    MetricsFile,
    Progress,
    StopWhereDiverged,
)
from pixit.training.loaders import PairData
from pixit.training.module import PixITModule
from pixit.training.run import Run, TrainerSettings, TrainSettings, check_state, last_parts, read_state
from pixit.types import LocalModel, PixitError, one_line


def train(
    settings: TrainSettings,
    folder: Path,
    database: Path | None = None,
    protocol: str | None = None,
    init: str | None = None,
    resume: bool = False,
    progress: bool = True,
    moved: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Train a model and return the path of its export, ``folder/model``.

    Parameters
    ----------
    settings
        Everything about the training.
    folder
        Where logs, pictures, checkpoints and the exported model go.
    database, protocol
        Real meetings: a ``database.yml`` and the name of a protocol of it.
    init
        A checkpoint to begin with (folder, hub name or pyannote file) in place of random weights; its
        architecture replaces ``settings.model``.
    resume, moved
        Continue the training in `folder`, at the step where it stopped. ``run.yaml`` there holds what it was
        started with; database, protocol and init need not be given again, and nothing may differ from it but
        ``trainer.*``, ``data.num_workers`` and ``data.simulation.cache``; where the data have `moved`,
        nothing but that and the folders of paths.
    progress, say
        Show a progress bar; and what takes the lines of ``logs/train.log``, on what is trained on what.

    Raises
    ------
    PixitError
        If the data, a setting or a checkpoint does not fit, or the training diverges.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after ``last.ckpt`` has been saved.
    """
    last = folder / "checkpoints" / "last.ckpt"
    if not resume and last.exists():
        raise PixitError(f"{folder}: holds a training already; pass --resume to go on, or another folder")
    run = Run.of(settings, database, protocol, init)
    if resume:
        run = Run.read(folder).resumed(run, folder, moved)
    with _quiet_lightning():
        return _train(run, folder, last, resume, progress, say)


def _train(
    run: Run, folder: Path, last: Path, resume: bool, progress: bool, say: Callable[[str], None] | None
) -> Path:
    settings = run.settings
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.trainer.threads is not None:
        torch.set_num_threads(settings.trainer.threads)
    if resume:
        model = build_network(run.architecture, f"{folder / 'run.yaml'}, section architecture")
    else:
        model = build_model(settings, run.init)
        run = run.model_copy(update={"architecture": model.config})
    database = Path(run.database) if run.database is not None else None
    data = PairData(cast(LocalModel, model), settings.data, database, run.protocol, settings.seed)
    module = PixITModule(model, settings.objective, settings.optimizer, settings.trainer.max_steps)
    if resume:
        check_state(last, read_state(last), module)
    trainer = build_trainer(settings.trainer, folder, last, progress)
    if trainer.strategy.root_device.type == "cpu":
        keep_memory()
    data.check_size(trainer.world_size)
    if trainer.is_global_zero:
        run.write(folder)
        report(model, data, folder, resume, say)
    fit(trainer, module, data, last if resume else None)
    return export(trainer, module, folder, provenance_of(run))


def report(
    model: ToTaToNet, data: PairData, folder: Path, resume: bool, say: Callable[[str], None] | None
) -> None:
    """Say some lines on what is trained on what, and add them to ``logs/train.log``."""
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    settings = data.settings
    lines = [
        f"model: {millions:.2f} million parameters, up to {model.num_speakers} speakers",
        f"pairs: {settings.pairs_per_epoch} an epoch in batches of {settings.batch_size}, "
        f"{settings.validation_pairs} to validate on, of {settings.duration_s:g} s",
        *data.reports,  # recordings that give no pair are named
    ]
    path = folder / "logs" / "train.log"
    start = f"{datetime.now(UTC).isoformat(timespec='seconds')} {'resumed' if resume else 'started'}"
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in (start, *lines))
    except OSError as error:
        raise PixitError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
    if say is not None:
        for line in lines:
            say(line)


def build_model(settings: TrainSettings, init: str | None) -> ToTaToNet:
    """Return the network with which a training begins."""
    if init is not None:
        loaded = load_model(init)
        if not isinstance(loaded, ToTaToNet):
            raise PixitError(f"{init}: is a {type(loaded).__name__}, expected a ToTaToNet")
        return loaded.train()
    model = build_network(settings.model, "config, section model")
    if model.wavlm is not None and settings.wavlm_weights is not None:
        weights = load_pretrained_wavlm(settings.wavlm_weights, like=model.wavlm)
        model.wavlm.load_state_dict(weights.state_dict())
    return model


def build_network(arguments: dict[str, Any], source: str) -> ToTaToNet:
    """Return a network with random weights; `source` names where its arguments come from in error messages."""
    try:
        return ToTaToNet(**arguments)
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise PixitError(f"{source}: {one_line(error, 300)}") from None


def fit(trainer: pl.Trainer, module: PixITModule, data: PairData, checkpoint: Path | None) -> None:
    """Train, from the beginning or from the state in `checkpoint`."""
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
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
    metrics = MetricsFile(folder / "logs" / "metrics.csv")
    best = BestCheckpoint(
        folder / "checkpoints",
        filename="best",
        monitor=settings.monitor,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,  # but where a validation ends
    )
    callbacks: list[pl.Callback] = [StopWhereDiverged(), best, LearningRateMonitor("step")]
    if settings.pictures:
        callbacks.append(ExamplePictures(folder / "pictures", settings.pictures))
    if settings.patience is not None:
        stop = EarlyStopping(settings.monitor, patience=settings.patience, check_on_train_epoch_end=False)
        callbacks.append(stop)
    if settings.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    callbacks.append(LastCheckpoint(last, settings.checkpoint_every_steps, metrics))
    if progress:
        callbacks.append(Progress())
    same = ("accelerator", "devices", "num_nodes", "strategy", "precision", "max_steps", "max_time")
    try:
        trainer = pl.Trainer(
            **{name: getattr(settings, name) for name in same},
            default_root_dir=folder,
            max_epochs=-1,
            gradient_clip_val=settings.gradient_clip or None,
            accumulate_grad_batches=settings.accumulate,
            callbacks=callbacks,
            logger=[metrics, TensorBoardLogger(folder, "logs", "tensorboard")],
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise PixitError(f"config, section trainer: {one_line(error, 300)}") from None
    metrics.trainer = trainer
    return trainer


def export(trainer: pl.Trainer, module: PixITModule, folder: Path, provenance: dict[str, Any]) -> Path:
    """Write the best weights, or the last ones if there was no validation, as a pixit checkpoint."""
    best, steps = folder / "checkpoints" / "best.ckpt", trainer.global_step
    if best.exists():
        checkpoint = read_state(best)
        module.load_state_dict(checkpoint["state_dict"])
        steps = checkpoint["global_step"]
    target = folder / "model"
    if trainer.is_global_zero:
        metrics = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        save_model(module.model, target, provenance | {"steps": steps, "metrics_at_the_end": metrics})
    return target


def provenance_of(run: Run) -> dict[str, Any]:
    """Return what is needed to know where a checkpoint came from; of paths only the last part."""
    named: dict[str, Any] = last_parts(run.model_dump(mode="json", exclude={"architecture"}))
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pixit": version("pixit-audio"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    } | named


_NOISE = (
    r".*does not have many workers.*",  # the number of workers is our users' choice
    r".*Our suggested max number of worker.*",
    r".*your dataloader is not resumable.*",  # it is, see ResumableSampler
    r".*exists and is not empty.*",  # that is what --resume is for
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own affair
    r".*smaller than the logging interval.*",  # steps are counted across epochs
    r".*not created with WeightAveraging.*",  # trainer.ema_decay may change where a training is resumed
    r".*callbacks used to create the checkpoint.*",
    r".*looks like a TorchScript archive.*",  # it is refused in our own words
)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and status messages off the user's screen."""
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
