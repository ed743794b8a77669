"""One clean audio track per speaker of a real meeting, and who spoke when (PixIT).

The public names are imported when they are first used, so that ``import pixit`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixit.checkpoints import load_model
    from pixit.models.totatonet import ToTaToNet
    from pixit.pipeline.batch import diarize, separate
    from pixit.pipeline.separate import Separator
    from pixit.pipeline.streaming import StreamingSeparator
    from pixit.results import Diarization, Separation
    from pixit.types import PixitError

    __version__: str

__all__ = [
    "Diarization",
    "PixitError",
    "Separation",
    "Separator",
    "StreamingSeparator",
    "ToTaToNet",
    "__version__",
    "diarize",
    "load_model",
    "separate",
]

_MODULES = {
    "Diarization": "pixit.results",
    "PixitError": "pixit.types",
    "Separation": "pixit.results",
    "Separator": "pixit.pipeline.separate",
    "StreamingSeparator": "pixit.pipeline.streaming",
    "ToTaToNet": "pixit.models.totatonet",
    "diarize": "pixit.pipeline.batch",
    "load_model": "pixit.checkpoints",
    "separate": "pixit.pipeline.batch",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("pixit-audio")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'pixit' has no attribute {name!r}")
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
