"""Files appear whole or not at all; hashes are equal if, and only if, what they stand for is."""

from __future__ import annotations

import errno
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixit.audio import AudioFile, Track, TrackWriter
from pixit.corrections import rename_saved
from pixit.diarized import Diarization
from pixit.files import (
    file_hash,
    file_name,
    read_pickle,
    read_text,
    weights_hash,
    whole_file,
    whole_folder,
    writable,
    write_all,
    write_text,
)
from pixit.formats.labelled import read_labelled
from pixit.formats.names import find_files, find_results
from pixit.formats.rttm import read_rttm, read_uem
from pixit.formats.transcripts import read_transcript
from pixit.results import Separation
from pixit.transcription.jobs import find_jobs
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


@pytest.mark.parametrize("name", ["x\0", "folder\0/x.rttm", "y" * 300, "/".join(["z" * 200] * 30)])
@pytest.mark.parametrize(
    "read",
    [
        *(Separation.load, Diarization.load, read_rttm, read_uem, read_transcript, AudioFile, Track.open),
        *(lambda name: find_results([name]), lambda name: find_files(Path(name), ["x"])),
        *(
            lambda name: read_labelled([name]),
            lambda name: find_jobs([name]),
            lambda name: read_text(Path(name), "x"),
        ),
        *(lambda name: rename_saved(Path(name), ["A=B"]), lambda name: TrackWriter(name, 16000)),
    ],
)
def test_what_is_no_name_of_a_file_is_told(read: Callable[[str], object], name: str) -> None:
    with pytest.raises(PixitError, match=r"is (no|too long for the) name of a file, expected"):
        read(name)


def test_what_an_unbuffered_file_takes_in_parts_is_written_whole() -> None:
    class Full(io.RawIOBase):
        """Takes three bytes at a time, and ten in all."""

        taken = b""

        def write(self, data: Any) -> int:
            if len(self.taken) >= 10:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.taken += bytes(data[:3])
            return len(bytes(data[:3]))

    file = Full()
    write_all(file, b"abcdefgh")
    assert file.taken == b"abcdefgh"
    with pytest.raises(OSError, match="No space left"):
        write_all(file, b"ijklmnop")


def test_a_checkpoint_that_is_compressed_is_not_inflated(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "plain.bin")
    assert read_pickle(tmp_path / "plain.bin", "a checkpoint")["a"].shape == (1000,)
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as old,
        zipfile.ZipFile(tmp_path / "small.bin", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    with pytest.raises(PixitError, match=r"small\.bin: is compressed, which torch\.save never does"):
        read_pickle(tmp_path / "small.bin", "a checkpoint")
