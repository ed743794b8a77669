"""Files appear whole or not at all; hashes are equal if, and only if, what they stand for is."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixit import files
from pixit.files import (
    claim,
    file_hash,
    file_name,
    read_pickle,
    remove_leftovers,
    temporary_folder,
    weights_hash,
    whole_file,
    whole_folder,
    writable,
    write_text,
)
from pixit.types import PixitError


@given(st.text(min_size=1))
def test_file_name_is_one_path_part_without_white_space(name: str) -> None:
    safe = file_name(name)
    assert safe
    assert safe not in (".", "..")
    assert not re.search(r'[\s/\\:*?"<>|\x00]', safe)
    assert file_name(safe) == safe


def test_whole_folder_is_hidden_until_it_is_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "x") as new:
        (new / "a").write_text("1")
        assert not (tmp_path / "x").exists()
        assert new.parent == tmp_path
        assert new.name.startswith(".")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_an_error_leaves_the_old_and_nothing_else(tmp_path: Path, whole) -> None:
    target = tmp_path / "x.txt"
    with whole(target) as new:
        (new if whole is whole_file else new / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(target) as new:  # noqa: PT012
        (new if whole is whole_file else new / "a").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert (target if whole is whole_file else target / "a").read_text() == "old"


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_place_that_cannot_be_is_named(tmp_path: Path, whole) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PixitError, match=r"file/x: cannot be written \(.*Not a directory|File exists"):  # noqa: SIM117
        with whole(tmp_path / "file" / "x"):
            pass


def test_text_makes_its_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "ä\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "ä\n".encode()


# --- hashes -------------------------------------------------------------------------------------------


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


def test_writable_removes_only_what_it_made_and_what_is_empty(tmp_path: Path) -> None:
    with writable(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with writable(tmp_path / "kept"):
        (tmp_path / "kept" / "file").write_text("")
    assert (tmp_path / "kept" / "file").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(PixitError), writable(tmp_path / "old"):
        raise PixitError("x")
    assert (tmp_path / "old").is_dir()


class Allowed:
    pass


def test_a_pickle_holds_what_is_allowed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"tensor": torch.ones(2), "object": Allowed()}, path)
    assert isinstance(read_pickle(path, "a state", [Allowed])["object"], Allowed)
    with pytest.raises(PixitError, match=r"it asks for \S+Allowed, which is refused\); expected a state"):
        read_pickle(path, "a state")  # what was allowed once is not allowed for ever
    torch.save([1, 2], path)
    with pytest.raises(PixitError, match="holds a list; expected a state"):
        read_pickle(path, "a state")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PixitError, match="damaged"):
        read_pickle(path, "a state")
    with pytest.raises(PixitError, match="cannot be read"):
        read_pickle(tmp_path / "none.ckpt", "a state")


# --- what processes leave behind, and claims -----------------------------------------------------------

WORKER = """
import sys, time
from pathlib import Path
from pixit.files import claim, temporary_folder, whole_folder
folder = Path(sys.argv[1])
kept = temporary_folder(folder)
with claim(folder / "a"), whole_folder(folder / "new") as new:
    (new / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells who is over")


@needs_proc
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = sorted(tmp_path.iterdir())
        assert len(before) == 3  # the temporary folder, the new one, the claim
        remove_leftovers(tmp_path)
        assert sorted(tmp_path.iterdir()) == before
        with claim(tmp_path / "a") as is_ours:
            assert not is_ours
        process.kill()
        process.wait()
    assert sorted(tmp_path.iterdir()) == before
    with claim(tmp_path / "a", wait=True) as is_ours:  # a claim ends with its process
        assert is_ours
    temporary_folder(tmp_path).cleanup()
    assert list(tmp_path.iterdir()) == []


def dead_mark() -> str:
    """How the names of a process begin that is over: it had our number, but began before us."""
    machine, pid, started = files._own_prefix().removeprefix(".pixit-").split("-")[:3]
    return f".pixit-{machine}-{pid}-{int(started) - 1}"


@needs_proc
def test_only_what_is_proven_to_be_nobodys_is_removed(tmp_path: Path) -> None:
    machine, pid, started = files._own_prefix().removeprefix(".pixit-").split("-")[:3]
    (tmp_path / f"{dead_mark()}-aaaa").mkdir()
    (tmp_path / f"{dead_mark()}-bbbb.csv").write_text("")
    for name in (
        f".pixit-{machine}-{pid}-{started}-ours",
        f".pixit-{machine[::-1]}-{pid}-1-another-machine",
        f".pixit-{machine}-{os.getppid()}-{files._started(os.getppid())}-living",
        ".pixit-of-an-older-version",
        "meeting",
    ):
        (tmp_path / name).mkdir()
    kept = len(list(tmp_path.iterdir())) - 2
    trap = tmp_path / "elsewhere"
    (trap / "precious").mkdir(parents=True)
    (tmp_path / f"{dead_mark()}-cccc-old").symlink_to(trap)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == kept + 2  # and the trap, with its link
    assert (trap / "precious").is_dir()


@needs_proc
def test_what_was_to_be_replaced_is_put_back(tmp_path: Path) -> None:
    """Killed between moving the old away and the new into its place, and after that."""
    for number, name in enumerate(("between", "after")):
        new, old = (tmp_path / f"{dead_mark()}-{number}-{age}" for age in ("new", "old"))
        (old / name).mkdir(parents=True)
        (old / name / "file").write_text("old")
        (new if name == "between" else tmp_path / name).mkdir()
    (tmp_path / "after" / "file").write_text("new")
    with whole_folder(tmp_path / "other") as made:
        (made / "file").write_text("")
    found = {path.parent.name: path.read_text() for path in tmp_path.rglob("file")}
    assert found == {"between": "old", "after": "new", "other": ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "between", "other"]


def test_a_claim_is_granted_once(tmp_path: Path) -> None:
    with claim(tmp_path / "a") as first, claim(tmp_path / "a") as second, claim(tmp_path / "b") as other:
        assert (first, second, other) == (True, False, True)
    with claim(tmp_path / "a") as again:
        assert again
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PixitError, match="cannot be written"), claim(tmp_path / "missing" / "a"):
        pass


def test_where_there_are_no_locks_all_claims_are_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with claim(tmp_path / "a") as first, claim(tmp_path / "a") as second:
        assert first
        assert second
