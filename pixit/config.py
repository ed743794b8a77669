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


S = TypeVar("S", bound=Settings)


class _Loader(yaml.SafeLoader):
    """YAML whose numbers may be written 1e-3, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_settings(kind: type[S], path: Path | str | None = None, overrides: Iterable[str] = ()) -> S:
    """Read settings from a YAML file of differences from the defaults, and from dotted overrides.

    An override is ``"optimizer.learning_rate=1e-3"`` or the like; its value is read as YAML. A PixitError if
    the file is missing or not a YAML mapping, a key is unknown, or a value does not fit.

    Examples
    --------
    >>> from pixit.pipeline.separate import SeparationSettings
    >>> load_settings(SeparationSettings, overrides=["step_s=0.5"]).step_s
    0.5
    """
    tree = read_yaml(path) if path is not None else {}
    overrides = list(overrides)
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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PixitError(f"{path}: cannot be read as a YAML file ({reason})") from None
    tree = _parse_yaml(text, str(path)) or {}
    if not isinstance(tree, dict):
        raise PixitError(f"{path}: expected a YAML mapping (key: value), found {type(tree).__name__}")
    return tree


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise PixitError(f"{source}: is not valid YAML: {one_line(error, 1000)}") from None


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
        value = repr(first["input"])
        return f"{where}{message}, found {value if len(value) <= 80 else value[:77] + '...'}"
    known = _keys_at(kind, [str(part) for part in first["loc"][:-1]])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {path!r}; {hint}"


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
