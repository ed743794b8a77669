"""Settings: typed, frozen, and read from YAML files and ``key=value`` overrides.

A default lives in one place only: the `Settings` class next to the code that uses it. A YAML file holds
only differences from these defaults, and a key that does not exist is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pixit.types import PixitError


class Settings(BaseModel):
    """Base of all settings: immutable, and without room for unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], path: Path | str | None = None, overrides: Iterable[str] = ()) -> S:
    """Read settings from a YAML file and dotted overrides.

    Parameters
    ----------
    kind
        The `Settings` class to fill.
    path
        YAML file of differences from the defaults; none for the defaults themselves.
    overrides
        ``"optimizer.learning_rate=1e-3"`` and the like; the value is read as YAML.

    Raises
    ------
    PixitError
        If the file is missing or no YAML mapping, a key is unknown, or a value does not fit.
    """
    tree = read_yaml(path) if path is not None else {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise PixitError(f"override {override!r}: expected key=value, as in epochs=10")
        _put(tree, key.strip().split("."), _parse_yaml(value, f"override {override!r}"))
    return settings_from_mapping(kind, tree, source=str(path or "overrides"))


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
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise PixitError(f"{source}: is not valid YAML: {reason}") from None
    if isinstance(value, str):  # YAML 1.1 reads 1e-3, which everybody writes, as text
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value


def _put(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        node = tree.setdefault(key, {})
        if not isinstance(node, dict):
            raise PixitError(f"override {'.'.join(keys)}: {key} is a value, not a section")
        tree = node
    tree[keys[-1]] = value


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    """Tell the first problem in one line, with the nearest existing key for an unknown one."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{path}: {first['msg'].lower()}, found {first['input']!r}"
    known = _keys_at(kind, [str(part) for part in first["loc"][:-1]])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {path!r}; {hint}"


def _keys_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        kinds = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not kinds:
            return []
        kind = kinds[0]
    return list(kind.model_fields)
