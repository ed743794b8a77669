"""Scripts and recipes under test: files of the repository that are no modules of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parent.parent


def load_script(path: str) -> ModuleType:
    """Import a file, as ``scripts/NAME.py``."""
    spec = importlib.util.spec_from_file_location(
        path.removesuffix(".py").replace("/", "_"), REPOSITORY / path
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
