"""A track that is a valid file while it grows: whenever its writer is killed, what was written before can be read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from pixit.audio.decode import Samples
from pixit.files import whole_file
from pixit.types import PixitError

HEADER_BYTES = 80
RIFF_LIMIT_BYTES = (1 << 32) - 1


class GrowingTrack:
    """A mono wav of 16 bits that samples are appended to.

    Samples are written first, then the sizes in the header, in one piece: so the header never promises what is not
    there, and what it does not speak of yet readers pass over. Beyond 4 GiB it becomes RF64, for which the header has
    room (EBU Tech 3306).

    Parameters
    ----------
    path
        The file; it appears with its first `num_samples`, which are silent.

    Attributes
    ----------
    num_samples, peak, clipped_samples
        Of what was written: its length, its largest sample, and how many lay beyond [-1, 1] and were limited.

    Raises
    ------
    PixitError
        If the file cannot be written.
    """

    def __init__(self, path: Path, sample_rate_hz: int, num_samples: int = 0) -> None:
        self.path, self.sample_rate_hz = path, sample_rate_hz
        self.num_samples, self.peak, self.clipped_samples = num_samples, 0.0, 0
        with whole_file(path) as new, new.open("wb") as file:
            file.write(self._header())
            file.truncate(HEADER_BYTES + 2 * num_samples)  # zeros, which take no room on most disks
        try:
            self._file = path.open("r+b", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> PixitError:
        return PixitError(
            f"{self.path}: cannot be written ({error.strerror}); free space or choose another folder"
        )

    def _header(self) -> bytes:
        rate_hz, size = self.sample_rate_hz, 2 * self.num_samples
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
        if size + HEADER_BYTES <= RIFF_LIMIT_BYTES:
            riff = struct.pack("<4sI4s", b"RIFF", size + HEADER_BYTES - 8, b"WAVE")
            return riff + struct.pack("<4sI28x", b"JUNK", 28) + form + struct.pack("<4sI", b"data", size)
        riff = struct.pack("<4sI4s", b"RF64", RIFF_LIMIT_BYTES, b"WAVE")
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, size + HEADER_BYTES - 8, size, self.num_samples, 0)
        return riff + sizes + form + struct.pack("<4sI", b"data", RIFF_LIMIT_BYTES)

    def append(self, samples: Samples) -> None:
        """Append samples (n,); a PixitError if they cannot be written."""
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0.0)))
        self.clipped_samples += int(np.count_nonzero(np.abs(samples) > 1))
        steps = np.rint(np.clip(samples, -1, 1) * np.float64(2**15)).clip(-(2**15), 2**15 - 1)
        data = memoryview(steps.astype("<i2").tobytes())
        try:
            self._write_at(HEADER_BYTES + 2 * self.num_samples, data)
            self.num_samples += len(samples)
            self._write_at(0, memoryview(self._header()))
        except OSError as error:
            raise self._unwritable(error) from None

    def _write_at(self, place: int, data: memoryview) -> None:
        self._file.seek(place)
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Write all of it to the disk."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from None
