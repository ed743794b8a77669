"""A network from its configuration, and its weights into it: what does not fit is refused by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixit.types import PixitError, one_line

LARGEST_SIZE = 200_000
"""Of anything in a configuration: samples a second, channels, units."""
ARCHITECTURES = {
    "ToTaToNet": "pixit.models.totatonet",
    "PyanNet": "pixit.models.pyannet",
    "SpeakerEncoder": "pixit.models.embedders",
    "WeSpeakerResNet34": "pixit.models.embedders",
    "EcapaTdnn": "pixit.models.embedders",
}
"""Class -> module that holds it, imported when a checkpoint asks for it."""


BUILDING_ERRORS = (
    *(PixitError, TypeError, ValueError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, AssertionError, NotImplementedError, MemoryError),
)
"""What building a network of wrong arguments ends in; most libraries do not check them."""


def build_filled(
    architecture: str,
    config: dict[str, Any],
    source: Path,
    state: dict[str, Tensor],
    weights: Path,
    rename: Callable[..., dict[str, Tensor]] = lambda state, expected: state,
) -> nn.Module:
    """Construct a model and load its weights; `source` and `weights` are the files to name in errors.

    A configuration of other sizes than the weights have is refused before any memory is taken for it.
    """
    for key, number in _numbers(config):
        most = len(state) if re.search("layer|repeat|block", key) else LARGEST_SIZE
        if abs(number) > most:
            raise PixitError(
                f"{source}: found {key}={number:.12g}, expected at most {most} with these weights"
            )
    expected = build_empty(architecture, config, source).state_dict()
    _check_shapes(expected, rename(state, expected), weights)
    model = _build(architecture, config, source)
    model.load_state_dict(rename(state, model.state_dict()))
    return model


def build_empty(architecture: str, config: dict[str, Any], source: Path) -> nn.Module:
    """Construct a model that takes no memory; `source` is the file to name in errors."""
    with torch.device("meta"):
        return _build(architecture, config, source)


def _numbers(tree: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers of a configuration with the keys that they stand under."""
    waiting = [("", tree)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, int) and not isinstance(value, bool):
            yield key, value
        elif isinstance(value, dict):
            waiting += [(str(name), inside) for name, inside in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(key, inside) for inside in value]


def _build(architecture: str, config: dict[str, Any], source: Path) -> nn.Module:
    """Construct a model; `source` is the file to name in errors."""
    if architecture not in ARCHITECTURES:
        raise PixitError(
            f"{source}: unknown architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    kind = getattr(importlib.import_module(ARCHITECTURES[architecture]), architecture)
    known = list(inspect.signature(kind).parameters)
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or known
            raise PixitError(f"{source}: {architecture} takes no {key!r}; did you mean {near[0]!r}?")
    try:
        model: nn.Module = kind(**config)
    except BUILDING_ERRORS as error:
        raise PixitError(f"{source}: its {architecture} cannot be built ({one_line(error)})") from None
    return model


def _check_shapes(expected: dict[str, Tensor], state: dict[str, Tensor], source: Path) -> None:
    """Raise PixitError if weights are not those that are expected; `source` is the file to name in errors."""
    for name in sorted(set(expected) | set(state)):
        if name not in state or name not in expected:
            raise PixitError(f"{source}: {'lacks' if name in expected else 'has an unknown'} weight {name!r}")
        if expected[name].shape != state[name].shape:
            raise PixitError(
                f"{source}: weight {name!r} has shape {tuple(state[name].shape)}, "
                f"its configuration asks for {tuple(expected[name].shape)}"
            )
