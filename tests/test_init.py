from __future__ import annotations

import subprocess
import sys

import pytest

import pixit
from pixit.types import PixitError


def in_new_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("module", ["pixit", "pixit.cli"])
def test_importing_is_quick_because_it_imports_nothing_heavy(module: str) -> None:
    heavy = [
        "torch",
        "numpy",
        "matplotlib",
        "pyannote.core",
        "pytorch_lightning",
        "soundfile",
        "av",
        "pydantic",
    ]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    assert in_new_python(code).strip() == "[]"


def test_public_names_are_listed_and_there() -> None:
    assert {
        "separate",
        "Separator",
        "Separation",
        "ToTaToNet",
        "load_model",
        "PixitError",
        "__version__",
    } <= set(dir(pixit))
    for name in pixit.__all__:
        assert getattr(pixit, name) is not None
    assert pixit.PixitError is PixitError


def test_star_import_gives_the_public_names() -> None:
    code = "from pixit import *; print(Separation.__name__, load_model.__name__, __version__)"
    assert in_new_python(code).split() == ["Separation", "load_model", pixit.__version__]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Seperator'"):
        pixit.Seperator  # noqa: B018


def test_importing_leaves_torch_and_random_numbers_as_they_are() -> None:
    code = (
        "import torch, random, numpy; threads = torch.get_num_threads(); states = (torch.get_rng_state().sum(), "
        "random.getstate(), numpy.random.get_state()[1].sum()); import pixit; pixit.Separator, pixit.ToTaToNet; "
        "same = (torch.get_rng_state().sum(), random.getstate(), numpy.random.get_state()[1].sum()) == states; "
        "print(same, torch.get_num_threads() == threads)"
    )
    assert in_new_python(code).split() == ["True", "True"]
