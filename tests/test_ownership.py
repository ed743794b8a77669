"""What killed processes leave behind is removed, what living ones have is not; a claim is granted once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pixit import ownership
from pixit.files import temporary_folder, whole_folder
from pixit.ownership import claim, remove_leftovers
from pixit.types import PixitError

WORKER = """
import sys, time
from pathlib import Path
from pixit.files import temporary_folder, whole_folder
from pixit.ownership import claim
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
    machine, pid, started = ownership.own_prefix().removeprefix(".pixit-").split("-")[:3]
    return f".pixit-{machine}-{pid}-{int(started) - 1}"


@needs_proc
def test_only_what_is_proven_to_be_nobodys_is_removed(tmp_path: Path) -> None:
    machine, pid, started = ownership.own_prefix().removeprefix(".pixit-").split("-")[:3]
    (tmp_path / f"{dead_mark()}-aaaa").mkdir()
    (tmp_path / f"{dead_mark()}-bbbb.csv").write_text("")
    for name in (
        f".pixit-{machine}-{pid}-{started}-ours",
        f".pixit-{machine[::-1]}-{pid}-1-another-machine",
        f".pixit-{machine}-{os.getppid()}-{ownership._started(os.getppid())}-living",
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

    monkeypatch.setattr(ownership.fcntl, "flock", refuse)
    with claim(tmp_path / "a") as first, claim(tmp_path / "a") as second:
        assert first
        assert second
