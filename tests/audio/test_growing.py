"""A growing track is a valid file after every append, and between the writes of one."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pixit.audio import Track
from pixit.audio.growing import GrowingTrack
from pixit.types import PixitError


def test_it_can_be_read_after_every_append(tmp_path: Path) -> None:
    path = tmp_path / "track.wav"
    track = GrowingTrack(path, 8000, num_samples=100)
    whole = np.zeros(100, np.float32)
    rng = np.random.default_rng(0)
    for size in (0, 1, 333, 0, 8000):
        assert soundfile.info(path).frames == len(whole)
        np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], whole, atol=1 / 2**15)
        np.testing.assert_array_equal(Track.open(path).read(), soundfile.read(path, dtype="float32")[0])
        block = rng.uniform(-1, 1, size).astype(np.float32)
        track.append(block)
        whole = np.concatenate([whole, block])
    track.close()
    assert (soundfile.info(path).samplerate, soundfile.info(path).subtype) == (8000, "PCM_16")
    np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], whole, atol=1 / 2**15)


def test_samples_that_the_header_does_not_speak_of_are_passed_over(tmp_path: Path) -> None:
    """As when the writer is killed between samples and header."""
    path = tmp_path / "track.wav"
    track = GrowingTrack(path, 8000)
    track.append(np.full(1000, 0.5, np.float32))
    with path.open("ab") as file:
        file.write(bytes(range(7)) * 101)
    samples, _ = soundfile.read(path)
    np.testing.assert_allclose(samples, np.full(1000, 0.5))
    assert len(Track.open(path).read()) == 1000


def test_what_is_too_loud_is_limited_and_counted(tmp_path: Path) -> None:
    track = GrowingTrack(tmp_path / "track.wav", 8000)
    track.append(np.array([1.5, -2, 1, -1, 0.25], np.float32))
    assert (track.clipped_samples, track.peak, track.num_samples) == (2, 2.0, 5)
    samples, _ = soundfile.read(track.path, dtype="int16")
    assert samples.tolist() == [32767, -32768, 32767, -32768, 8192]


def test_beyond_four_gigabytes_it_is_an_rf64(tmp_path: Path) -> None:
    samples = (1 << 31) + 1000  # 4 GiB and some, which take no room
    track = GrowingTrack(tmp_path / "track.wav", 8000, num_samples=samples)
    track.append(np.array([0.5, -0.5], np.float32))
    info = soundfile.info(track.path)
    assert (info.format, info.frames) == ("RF64", samples + 2)
    with soundfile.SoundFile(track.path) as file:
        file.seek(samples)
        assert file.read().tolist() == [0.5, -0.5]
    assert Track.open(track.path).num_samples == samples + 2


def test_a_full_disk_is_an_error_and_what_was_written_stays(tmp_path: Path) -> None:
    track = GrowingTrack(tmp_path / "track.wav", 8000)
    track.append(np.full(100, 0.5, np.float32))
    whole = track._file

    class Full:
        def seek(self, place: int) -> None:
            self.is_header = place == 0
            whole.seek(place)

        def write(self, data: memoryview) -> int:
            if self.is_header:  # what is there already can be changed
                return whole.write(data)
            if len(data) < 50:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole.write(data[: len(data) // 2])  # as disks do before

    track._file = Full()  # type: ignore[assignment]
    with pytest.raises(
        PixitError, match=r"track.wav: cannot be written .No space left on device.; free space"
    ):
        track.append(np.zeros(1000, np.float32))
    assert soundfile.read(track.path)[0].tolist() == 100 * [0.5]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PixitError, match="cannot be written"):
        GrowingTrack(tmp_path / "file" / "track.wav", 8000)
