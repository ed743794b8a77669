"""Where a model is found: on disk, or on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pixit.types import PixitError

WEIGHTS, CONFIG, PYANNOTE = "model.safetensors", "config.json", "pytorch_model.bin"


def find_model(name: str, revision: str | None, token: str | None, cache_dir: Path | str | None) -> Path:
    """Return the local path of a model, downloading it if it is named as on the hub."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    named = re.fullmatch(r"([\w-][\w.-]*)/([\w-][\w.-]*)(?:@([\w./-]+))?", name)
    if named is None or Path(named[1]).is_dir():  # beside things that are here, it is a path with an error
        raise PixitError(
            f"{name}: no such model; expected a folder with {CONFIG} and {WEIGHTS}, a {PYANNOTE} of pyannote.audio, "
            "or a name on the hub, as organisation/name"
        )
    import huggingface_hub  # only here: a model that is at hand needs no client of the network
    from huggingface_hub.errors import HfHubHTTPError

    # The base of the hub's own errors is that of its HTTP client: another one in each major version.
    hub_errors: tuple[Any, ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    repository, revision = f"{named[1]}/{named[2]}", revision or named[3]
    try:
        for wanted in ([CONFIG, WEIGHTS], [PYANNOTE]):
            snapshot = huggingface_hub.snapshot_download(
                repository, revision=revision, token=token, cache_dir=cache_dir, allow_patterns=wanted
            )
            if any((Path(snapshot) / file).exists() for file in wanted):
                break
    except hub_errors as error:
        reason = " ".join(str(error).split())[:200]
        raise PixitError(
            f"{name}: no such file here, and the hub did not provide it ({reason}); check the name, "
            "the network, HF_HUB_OFFLINE, and for a gated model accept its terms and set HF_TOKEN"
        ) from None
    return Path(snapshot)
