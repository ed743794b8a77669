"""Tracks on disk, written block by block and read again; and short clips for pages with their own sound."""

from __future__ import annotations

import errno
import io
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, SupportsIndex

import av
import numpy as np
import soundfile
from numpy.typing import DTypeLike, NDArray

from pixit.audio.decode import Samples
from pixit.audio.recording import BLOCK_SAMPLES, AudioFile
from pixit.files import check_file
from pixit.types import PixitError

WAV_LIMIT_BYTES = (1 << 32) - (1 << 12)  # sizes in a wav header are 32-bit; some room for the header
ENVELOPE_POINTS = 2000
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
OPUS_BITS_PER_S = 24_000  # wideband speech without audible loss (RFC 6716, section 2.1.1: 16 to 20 kbit/s)
OPUS_COMPLEXITY = "5"  # three times as quick as 10, at 5 % more bytes


class TrackWriter:
    """Write one mono track block by block; the file is whole only after `close`.

    Parameters
    ----------
    format
        ``"wav"``, ``"flac"``, or ``"w64"`` (without limit of size, for temporary tracks).
    subtype
        As in soundfile; by default 16 bits for wav and flac, 32-bit float for w64.
    num_samples
        Expected length: a wav beyond 4 GiB is then written as RF64.

    Attributes
    ----------
    clipped_samples, num_samples
        Samples that lay beyond [-1, 1] and were limited, as integer formats demand; all that were written.

    Raises
    ------
    PixitError
        If the file cannot be written, a sample is NaN or infinite, or an unannounced wav passes 4 GiB.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate_hz: int,
        format: str = "wav",
        subtype: str | None = None,
        num_samples: int = 0,
    ) -> None:
        self.path = Path(path)
        self.num_samples = self.clipped_samples = 0
        subtype = subtype or ("FLOAT" if format == "w64" else "PCM_16")
        if format not in ("wav", "flac", "w64") or not soundfile.check_format(format, subtype):
            raise PixitError(f"{path}: cannot write {format!r} as {subtype}; expected wav, flac or w64")
        # Full scale of integer formats, None for floating point ones.
        self._full_scale = {"PCM_16": 2**15, "PCM_24": 2**23, "PCM_32": 2**31}.get(subtype)
        bytes_each = {"PCM_16": 2, "PCM_24": 3}.get(subtype, 4)
        fits_wav = num_samples * bytes_each <= WAV_LIMIT_BYTES
        container = "RF64" if format == "wav" and not fits_wav else format.upper()
        self._max_samples = WAV_LIMIT_BYTES // bytes_each if container == "WAV" else math.inf
        check_file(self.path, "a track to write")
        try:
            self.path.open("wb").close()  # libsndfile does not say why a file cannot be made
            self._file = soundfile.SoundFile(path, "w", sample_rate_hz, 1, subtype, format=container)
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> PixitError:
        reason = getattr(error, "strerror", None) or str(error)
        return PixitError(f"{self.path}: cannot be written ({reason}); free space or choose another folder")

    def write(self, block: Samples) -> None:
        """Append `block` (n,)."""
        if not np.isfinite(block).all():
            raise PixitError(f"{self.path}: was given NaN or infinite samples; is the model damaged?")
        self.num_samples += len(block)
        if self.num_samples > self._max_samples:
            raise PixitError(f"{self.path}: passes 4 GiB, the limit of wav; write flac instead")
        if self._full_scale is not None:
            self.clipped_samples += int(np.count_nonzero(np.abs(block) > 1))
            # libsndfile would round wav towards minus infinity
            steps = np.rint(np.clip(block, -1, 1) * np.float64(self._full_scale))
            block = (steps / self._full_scale).astype(np.float32)
        try:
            self._file.write(block)
        except soundfile.LibsndfileError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
            if self._file.format == "FLAC" and self.num_samples:
                # libsndfile does not say whether the last block fitted on the disk
                with soundfile.SoundFile(self.path) as file:
                    file.seek(self.num_samples - 1)
                    if not len(file.read(1)):
                        raise OSError(errno.ENOSPC, "its end is missing, is the disk full?")
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> TrackWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Track:
    """One mono track in a file; ``np.asarray(track)`` loads all of it, float32 (num_samples,).

    Parameters
    ----------
    path, sample_rate_hz, num_samples
        Of the audio file.
    temporary
        Folder of the file, if it is to be removed with the last track that needs it.
    clipped_samples
        Samples that were limited when the file was written, as far as a result's description says.
    """

    path: Path
    sample_rate_hz: int
    num_samples: int
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)
    clipped_samples: int = field(default=0, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str) -> Track:
        """Open a mono file; a `PixitError` if it is missing or damaged."""
        audio = AudioFile(path)
        return cls(Path(path), audio.sample_rate_hz, audio.num_samples)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.temporary is not None:
            raise PixitError(
                f"{self.path}: is temporary and cannot be sent to another process; save() the result it is of"
            )
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> Track:
        return replace(self)

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read the samples [start, stop), float32 (stop - start,)."""
        return AudioFile(self.path).read(start, stop)

    def blocks(self, block_samples: int = BLOCK_SAMPLES) -> Iterator[Samples]:
        """Stream the track as blocks (n,)."""
        return AudioFile(self.path).blocks(block_samples)

    def envelope(self, num_points: int = ENVELOPE_POINTS) -> NDArray[np.float32]:
        """Return lowest and highest sample, and zero, of each of `num_points` stretches: (2, num_points).

        A track of fewer samples has one point for each.
        """
        edges = np.linspace(0, self.num_samples, min(num_points, self.num_samples) + 1).astype(np.int64)
        low, high = np.zeros((2, len(edges) - 1), np.float32)
        position = 0
        for block in self.blocks():
            first = np.searchsorted(edges, position, side="right") - 1
            last = np.searchsorted(edges, position + len(block), side="left")
            starts = np.maximum(edges[first:last] - position, 0)
            low[first:last] = np.minimum(low[first:last], np.minimum.reduceat(block, starts))
            high[first:last] = np.maximum(high[first:last], np.maximum.reduceat(block, starts))
            position += len(block)
        return np.stack([low, high])

    def __len__(self) -> int:
        return self.num_samples

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read().astype(dtype or np.float32, copy=False)


def encode_clip(samples: Samples, sample_rate_hz: int, codec: str) -> bytes:
    """Compress a mono clip (n,); what lies beyond [-1, 1] is limited.

    `codec` is ``"flac"`` (16 bits, lossless) or ``"opus"`` (in an Ogg file, about 24 kbit/s; only at one of
    `OPUS_RATES_HZ`, else a PixitError).
    """
    steps = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    stream = io.BytesIO()
    if codec == "flac":
        soundfile.write(stream, steps, sample_rate_hz, "PCM_16", format="FLAC")
        return stream.getvalue()
    if codec != "opus":
        raise PixitError(f"unknown codec {codec!r}; expected 'flac' or 'opus'")
    if sample_rate_hz not in OPUS_RATES_HZ:
        raise PixitError(f"Opus does not support {sample_rate_hz} Hz; resample to one of {OPUS_RATES_HZ}")
    options = {"application": "voip", "compression_level": OPUS_COMPLEXITY}
    with av.open(stream, "w", format="ogg") as container:
        encoder = container.add_stream("libopus", rate=sample_rate_hz, options=options)
        encoder.codec_context.layout = "mono"
        encoder.codec_context.format = "s16"
        encoder.codec_context.bit_rate = OPUS_BITS_PER_S
        frame = av.AudioFrame.from_ndarray(steps[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = sample_rate_hz
        for part in (frame, None):  # None: the end
            container.mux(encoder.encode(part))
    return stream.getvalue()
