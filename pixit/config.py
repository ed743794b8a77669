"""Settings: typed, frozen, and read from YAML files and ``key=value`` overrides.

A default lives in one place only: the `Settings` class next to the code that uses it. A YAML file holds
only differences from these defaults, and a key that does not exist is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pixit.files import read_text
from pixit.types import PixitError, one_line


class Settings(BaseModel):
    """Base of all settings: immutable, and without room for unknown keys, NaN and infinite numbers."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


YAML_BYTES, YAML_VALUES = 1 << 20, 100_000
"""What the largest sensible configuration is far below."""

S = TypeVar("S", bound=Settings)


class _Loader(yaml.SafeLoader):
    """YAML whose numbers may be written 1e-3, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_settings(
    kind: type[S],
    path: Path | str | None = None,
    overrides: Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
) -> S:
    """Read settings from a YAML file of differences from the defaults, from given values, and from dotted overrides.

    An override is ``"optimizer.learning_rate=1e-3"`` or the like; its value is read as YAML. What is `given` is a
    value by such a key, taken as it is: a path may look like YAML. A PixitError if the file is missing or not a YAML
    mapping, a key is unknown, or a value does not fit.

    Examples
    --------
    >>> from pixit.pipeline.settings import SeparationSettings
    >>> load_settings(SeparationSettings, overrides=["step_s=0.5"]).step_s
    0.5
    """
    tree = read_yaml(path) if path is not None else {}
    overrides = list(overrides)
    for key, value in (given or {}).items():
        _put(tree, key.split("."), value)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise PixitError(f"override {override!r}: expected key=value, as in epochs=10")
        _put(tree, key.strip().split("."), _parse_yaml(value, f"override {override!r}"))
    sources = ([str(path)] if path is not None else []) + (["overrides"] if overrides else [])
    return settings_from_mapping(kind, tree, source=" + ".join(sources))


def settings_from_mapping(kind: type[S], tree: Mapping[str, Any], source: str) -> S:
    """Validate a mapping; `source` names where it came from in error messages."""
    try:
        return kind.model_validate(dict(tree))
    except ValidationError as error:
        raise PixitError(f"{source}: {_explain(kind, error)}") from None


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds (empty for an empty file)."""
    tree = _parse_yaml(read_text(Path(path), "a YAML file", YAML_BYTES), str(path)) or {}
    if not isinstance(tree, dict):
        raise PixitError(f"{path}: expected a YAML mapping (key: value), found {type(tree).__name__}")
    return tree


def _parse_yaml(text: str, source: str) -> Any:
    try:
        loader = _Loader(text)  # a SafeLoader
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count_values(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise PixitError(f"{source}: is not valid YAML: {one_line(error, 1000)}") from None
    except RecursionError:
        raise PixitError(f"{source}: is not valid YAML: nested too deeply") from None
    except (
        ValueError,
        ArithmeticError,
    ) as error:  # a date that does not exist, a number of thousands of digits
        raise PixitError(f"{source}: is not valid YAML: {one_line(error)}") from None


def _count_values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many values a node has with all that its aliases stand for; a ValueError for too many.

    Aliases of aliases ("billion laughs") are small in the file and in memory, until somebody walks through them.
    """
    if id(node) not in known:
        known[id(node)] = None  # until it is counted
        inside = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for item in inside for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    if (count := known[id(node)]) is None:
        raise ValueError("an alias stands for what it is part of")
    if count > YAML_VALUES:
        raise ValueError(f"its aliases stand for more than {YAML_VALUES} values")
    return count


def _put(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    node = tree
    for key in keys[:-1]:
        if node.get(key) is None:  # missing, or an empty section
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise PixitError(f"override {'.'.join(keys)}: {key!r} is a value, not a section")
    node[keys[-1]] = value


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    """Describe the first problem in one line, with the nearest existing key for an unknown one."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    where = f"{path}: " if path else ""
    if first["type"] == "missing":
        return f"{where}a value is required, found none"
    if first["type"] != "extra_forbidden":
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        if first["type"] != "value_error":  # pydantic's own: "Input should be …"
            message = message[:1].lower() + message[1:]
        return f"{where}{message}, found {_shown(first['input'])}"
    known = _keys_at(kind, [str(part) for part in first["loc"][:-1]])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {path!r}; {hint}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        text = f"a {type(value).__name__} of too many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys of the section at `path`; numbers in it are places in a list of sections."""
    for part in path:
        if part.isdigit():
            continue
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        candidates = (annotation, *getattr(annotation, "__args__", ()))
        inner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if inner is None:
            return []
        kind = inner
    return list(kind.model_fields)
