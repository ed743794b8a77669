"""Audio files out: tracks, written block by block, and short clips for pages that carry their own sound."""

from __future__ import annotations

import io
import math
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from pixit.audio.decode import Samples
from pixit.types import PixitError

WAV_LIMIT_BYTES = (1 << 32) - (1 << 12)  # sizes in a wav header are 32-bit; some room for the header
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
OPUS_BITS_PER_S = 24_000  # wideband speech without audible loss (RFC 6716, section 2.1.1: 16 to 20 kbit/s)
OPUS_COMPLEXITY = "5"  # three times as quick as 10, at 5 % more bytes


class TrackWriter:
    """Write one mono track block by block.

    The file is whole only after `close`; write into a temporary folder and rename that.

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
    clipped_samples
        How many samples lay beyond [-1, 1] and were limited, as integer formats demand.
    num_samples
        How many samples were written.

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
        except soundfile.LibsndfileError as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> TrackWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encode_clip(samples: NDArray[np.float32], sample_rate_hz: int, codec: str) -> bytes:
    """Compress a mono clip.

    Parameters
    ----------
    samples
        float32 (n,); what lies beyond [-1, 1] is limited.
    sample_rate_hz
        One of `OPUS_RATES_HZ` for Opus.
    codec
        ``"flac"`` (16 bits, lossless) or ``"opus"`` (in an Ogg file, about 24 kbit/s).

    Raises
    ------
    PixitError
        If the codec is unknown, or does not know the sample rate.
    """
    steps = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    if codec == "flac":
        stream = io.BytesIO()
        soundfile.write(stream, steps, sample_rate_hz, "PCM_16", format="FLAC")
        return stream.getvalue()
    if codec != "opus":
        raise PixitError(f"unknown codec {codec!r}; expected 'flac' or 'opus'")
    if sample_rate_hz not in OPUS_RATES_HZ:
        raise PixitError(f"Opus does not support {sample_rate_hz} Hz; resample to one of {OPUS_RATES_HZ}")
    return _encode_opus(steps, sample_rate_hz)


def _encode_opus(steps: NDArray[np.int16], sample_rate_hz: int) -> bytes:
    stream = io.BytesIO()
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
