"""Two files or networks have the same hash if, and only if, they are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from pixit.fingerprint import file_hash, weights_hash


def network(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)
    )  # a buffer of no dimension too
    return module.to(dtype)


def test_a_file_is_hashed_as_by_everyone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_network_is_hashed_by_names_and_bytes() -> None:
    """The hash is that of results made before: it must not change from version to version."""
    digest = hashlib.sha256()
    for name, tensor in network().state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    assert weights_hash(network()) == digest.hexdigest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_type_have_a_hash(dtype: torch.dtype) -> None:
    assert weights_hash(network(dtype)) == weights_hash(network(dtype)) != weights_hash(network())


def test_any_change_changes_the_hash() -> None:
    changed = network()
    with torch.no_grad():
        changed[1].bias[1] += 1e-6  # type: ignore[index]
    assert weights_hash(changed) != weights_hash(network())
    renamed = torch.nn.ModuleDict({"a": network()})
    assert weights_hash(renamed) != weights_hash(network())


def test_a_layout_in_memory_is_no_change() -> None:
    turned = network()
    turned[0].weight = torch.nn.Parameter(turned[0].weight.detach().T.contiguous().T)  # type: ignore[index]
    assert not turned[0].weight.is_contiguous()  # type: ignore[index]
    assert weights_hash(turned) == weights_hash(network())


def test_what_is_no_network_has_none() -> None:
    assert weights_hash(object()) is None
