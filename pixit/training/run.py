"""What a training is, and the files in its folder from which it can be resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field
from torch import nn

from pixit.config import Settings, load_settings
from pixit.files import read_pickle, write_text
from pixit.training.loaders import DataSettings
from pixit.training.module import OptimizerSettings
from pixit.training.objective import ObjectiveSettings
from pixit.types import PixitError, one_line

FREE = ("trainer.", "data.num_workers", "data.simulation.cache")
"""Settings that a resumption may change: they belong to the machine, or say how long to train."""


class TrainerSettings(Settings):
    """How long and on what a training runs; the rest of Lightning's `Trainer` is at its defaults."""

    max_steps: int = Field(100_000, ge=1, description="steps of the optimizer")
    max_time: str | None = Field(None, description="stop after DD:HH:MM:SS")
    gradient_clip: float = Field(5.0, ge=0, description="largest norm of the gradient; 0 for no limit")
    accumulate: int = Field(1, ge=1, description="batches to a step")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="as in Lightning, without those in which the weights themselves are cut"
    )
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

    seed: int = Field(0, ge=0, lt=2**32, description="seed of all that is random")
    model: dict[str, Any] = Field(default_factory=lambda: {"wavlm": {}}, description="arguments of ToTaToNet")
    wavlm_weights: str | None = Field(
        "microsoft/wavlm-large", description="folder or hub name of pretrained WavLM weights"
    )
    data: DataSettings = DataSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    trainer: TrainerSettings = TrainerSettings()


class Run(Settings):
    """A training as ``run.yaml`` in its folder keeps it; paths are absolute."""

    settings: TrainSettings
    database: str | None = None
    protocol: str | None = None
    init: str | None = None
    architecture: dict[str, Any] = Field(
        default_factory=dict, description="of the network, as ToTaToNet(**architecture)"
    )

    @classmethod
    def of(
        cls, settings: TrainSettings, database: Path | None, protocol: str | None, init: str | None
    ) -> Run:
        """Describe a training that is asked for; its architecture is not known yet."""
        tree = settings.model_dump() | {"wavlm_weights": absolute_name(settings.wavlm_weights)}
        return cls(
            settings=TrainSettings.model_validate(absolute(tree)),
            database=str(absolute(database)) if database is not None else None,
            protocol=protocol,
            init=absolute_name(init),
        )

    @classmethod
    def read(cls, folder: Path, overrides: Iterable[str] = ()) -> Run:
        """Read ``run.yaml``, and change its settings by ``key=value``; a PixitError if it is damaged."""
        path = folder / "run.yaml"
        if not path.exists():
            raise PixitError(f"{path}: nothing to resume, no such file; leave out --resume to start afresh")
        return load_settings(cls, path, [f"settings.{override}" for override in overrides])

    def write(self, folder: Path) -> None:
        """Write ``run.yaml``, whole or not at all."""
        write_text(folder / "run.yaml", yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    def resumed(self, asked: Run, folder: Path, moved: bool = False) -> Run:
        """Return this training as it is to go on; a PixitError if anything differs that must not.

        `FREE` settings are taken from what is `asked`; database, protocol and init that it does not name stay
        as they are. Where the data have `moved`, of each path only the last part must be as it was.
        """
        named = {key: getattr(asked, key) for key in ("database", "protocol", "init") if getattr(asked, key)}
        new = self.model_copy(update={"settings": asked.settings, **named})
        kept, wanted = dict(_leaves(_plain(self))), dict(_leaves(_plain(new)))
        for key in dict.fromkeys([*kept, *wanted]):
            if key.startswith(FREE):
                continue
            before, now = kept.get(key), wanted.get(key)
            same_names = last_parts(before) == last_parts(now)
            if before == now or (moved and same_names):
                continue
            remedy = "pass --resume alone to go on as it began, or train in another folder"
            if same_names:
                remedy = "pass --moved if the same data lie there now"
            difference = f"{key} is {_short(before)} in this training, found {_short(now)}"
            raise PixitError(f"{folder / 'run.yaml'}: {difference}; {remedy}")
        return new


def last_parts(value: Any) -> Any:
    """Keep only the last part of every path: a model that is given away says nothing of its maker's machine."""
    if isinstance(value, dict):
        return {key: last_parts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [last_parts(item) for item in value]
    is_path = isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute())
    return Path(value).name if is_path else value


def read_state(path: Path) -> dict[str, Any]:
    """Read ``last.ckpt`` or ``best.ckpt`` (`read_pickle`); a PixitError if it is no state of a training."""
    state = read_pickle(path, "a checkpoint as pixit train writes it", mmap=True)
    if not {"global_step", "callbacks"} <= set(state) or not isinstance(state.get("state_dict"), dict):
        raise PixitError(
            f"{path}: holds no state of a training; expected a checkpoint as pixit train writes it"
        )
    return state


def check_state(path: Path, state: dict[str, Any], module: nn.Module) -> None:
    """Raise PixitError if a state is that of another network."""
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = {name: getattr(tensor, "shape", None) for name, tensor in state["state_dict"].items()}
    for name in dict.fromkeys([*expected, *found]):
        if expected.get(name) != found.get(name):
            raise PixitError(
                f"{path}: {name} is {found.get(name)}, expected {expected.get(name)}; "
                "run.yaml beside it is that of another training"
            )


def _plain(run: Run) -> dict[str, Any]:
    """Return what must not differ, under the names by which users give it."""
    tree = run.model_dump(mode="json", exclude={"architecture"})
    settings: dict[str, Any] = tree.pop("settings")
    return settings | tree


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def absolute(value: Any) -> Any:
    """Make every path of a tree absolute."""
    if isinstance(value, dict):
        return {key: absolute(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [absolute(item) for item in value]
    return value.expanduser().absolute() if isinstance(value, Path) else value


def absolute_name(name: str | None) -> str | None:
    """Make a folder's name absolute; a name on the hub stays."""
    path = absolute(Path(name or ""))
    return str(path) if name is not None and path.exists() else name


def _short(value: Any) -> str:
    text = one_line(value, 1000)
    return text if len(text) <= 120 else f"{text[:117]}..."
