"""What tells one file or network from another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def file_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(network: Any) -> str | None:
    """Return the SHA-256 of a network's weights, wherever they lie; None if it is no `torch.nn.Module`."""
    import torch

    if not isinstance(network, torch.nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        # as bytes, since NumPy does not know every type of number
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
