"""Audio in and out: any format, any rate, any number of channels, one block at a time.

Lossless formats (wav, flac, aiff …) are decoded by libsndfile, everything else (mp3, ogg, m4a, mp4, mkv …) by
the ffmpeg inside PyAV. Whatever the source, what comes out is mono float32 at the asked rate, in step with the
source, and ``max(1, round(num_source_samples * rate / source_rate))`` samples long.
"""

from __future__ import annotations

import copy
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pixit.types import PixitError

if TYPE_CHECKING:
    from torch import Tensor

Samples = NDArray[np.float32]

BLOCK_SAMPLES = 1 << 18
RESAMPLER_MARGIN_S = 0.1  # longer than soxr's filter: what lies farther away has no effect on a sample
WAV_LIMIT_BYTES = (1 << 32) - (1 << 12)  # sizes in a wav header are 32-bit; some room for the header


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Parameters
    ----------
    num_samples
        Length at `sample_rate_hz`; None where only decoding the file can tell (mp3, ogg, m4a, mkv …).
    duration_s
        Length in seconds, an estimate where `num_samples` is None, and None where nothing is known.
    """

    path: Path
    sample_rate_hz: int
    num_channels: int
    num_samples: int | None
    duration_s: float | None


def read_info(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises
    ------
    PixitError
        If the file is missing, a folder, empty, no audio, without samples, or (wav, aiff, rf64) more than
        0.1 s shorter than its header promises. A truncated flac shows only when it is decoded.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise PixitError(f"{path}: cannot be read as an audio file ({error.strerror})") from None
    if is_empty:
        raise PixitError(f"{path}: is an empty file, expected audio")
    return _soundfile_info(path) or _av_info(path)


def _soundfile_info(path: Path) -> AudioInfo | None:
    """Header as libsndfile reads it, or None where ffmpeg does better."""
    try:
        with soundfile.SoundFile(path) as file:
            # libsndfile guesses the length of an mp3, seeks wrongly near the end of an ogg, and cannot read
            # a flac of unknown length in blocks
            if file.format in ("MP3", "OGG") or file.frames >= 1 << 62:
                return None
            _check_complete(path, file)
            if file.frames == 0:
                raise PixitError(f"{path}: holds no samples")
            duration_s = file.frames / file.samplerate
            return AudioInfo(path, file.samplerate, file.channels, file.frames, duration_s)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: .raw without a sample rate
        return None


def _check_complete(path: Path, file: soundfile.SoundFile) -> None:
    """Compare the length that the header promises with the length found, as libsndfile's log tells them."""
    promised_samples = file.frames
    if match := re.search(r"^ ?(?:data|SSND) ?: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE):
        promised_bytes, found_bytes = int(match[1]), int(match[2])
        # programs that write into a pipe put one of these sizes for "as much as there is"
        is_stream = promised_bytes >= 0xFFFFF000 or 0x7FFFF000 <= promised_bytes <= 0x80000000
        if found_bytes > 0 and not is_stream:
            promised_samples = file.frames * promised_bytes // found_bytes
    elif match := re.search(r"does not match value from 'ds64' chunk of (\d+)", file.extra_info):
        promised_samples = int(match[1])
    if promised_samples - file.frames > 0.1 * file.samplerate:  # less is a sloppy header, not a loss
        raise _truncated(path, file.frames / file.samplerate, promised_samples / file.samplerate)


def _truncated(path: Path, found_s: float, promised_s: float | None = None) -> PixitError:
    promise = "" if promised_s is None else f" of the {promised_s:.2f} s that its header promises"
    return PixitError(
        f"{path}: is truncated or damaged after {found_s:.2f} s{promise}; "
        "copy it again, or save what is left with ffmpeg -i"
    )


@contextmanager
def _open_av(path: Path) -> Iterator[tuple[av.container.InputContainer, av.AudioStream]]:
    options = {"protocol_whitelist": "file"}  # a playlist in disguise must not reach into the network
    with av.open(f"file:{path.absolute()}", options=options, metadata_errors="ignore") as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None or not stream.sample_rate or not stream.layout.nb_channels:
            raise PixitError(f"{path}: holds no audio that can be decoded ({container.format.name})")
        yield container, stream


def _av_info(path: Path) -> AudioInfo:
    try:
        with _open_av(path) as (container, stream):
            duration_s = None if container.duration is None else container.duration / 1e6
            return AudioInfo(path, stream.sample_rate, stream.layout.nb_channels, None, duration_s)
    except av.FFmpegError as error:
        raise PixitError(f"{path}: is not audio in a known format ({error.strerror})") from None


def _decode_soundfile(info: AudioInfo, num_samples: int, start: int, block_samples: int) -> Iterator[Samples]:
    """Yield (n, channels) blocks from sample `start` to the end of the file, `num_samples`."""
    position = start
    with soundfile.SoundFile(info.path) as file:
        while position < num_samples:
            try:
                file.seek(position)
                block = file.read(block_samples, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                block = np.zeros((0, info.num_channels), np.float32)
            if not len(block):
                raise _truncated(info.path, position / info.sample_rate_hz, num_samples / info.sample_rate_hz)
            position += len(block)
            yield block


def _decode_av(info: AudioInfo, block_samples: int) -> Iterator[Samples]:
    """Yield (n, channels) blocks of the first audio stream; ffmpeg's small frames are gathered."""
    to_float = av.AudioResampler(format="fltp")
    parts: list[Samples] = []
    num_gathered = num_decoded = 0
    try:
        with _open_av(info.path) as (container, stream):
            for frame in container.decode(stream):
                if (frame.sample_rate, frame.layout.nb_channels) != (info.sample_rate_hz, info.num_channels):
                    raise PixitError(f"{info.path}: changes its rate or channels midway; convert it to flac")
                parts += [np.asarray(part.to_ndarray().T, np.float32) for part in to_float.resample(frame)]
                num_gathered += frame.samples
                if num_gathered >= block_samples:
                    yield np.concatenate(parts)
                    num_decoded += num_gathered
                    parts, num_gathered = [], 0
    except av.FFmpegError:
        raise _truncated(info.path, (num_decoded + num_gathered) / info.sample_rate_hz) from None
    if parts:
        yield np.concatenate(parts)
    elif not num_decoded:
        raise PixitError(f"{info.path}: holds no samples")


def resampled_length(num_samples: int, source_hz: int, target_hz: int) -> int:
    """Return the length after resampling: rounded, and at least one sample of a recording of any."""
    return max(min(num_samples, 1), round(num_samples * target_hz / source_hz))


def resample_blocks(blocks: Iterable[Samples], source_hz: int, target_hz: int) -> Iterator[Samples]:
    """Resample a stream of mono blocks (n,) without delay, to `resampled_length` in all.

    soxr's own end may lie a sample off that length: it is trimmed, or padded with zeros.
    """
    if source_hz == target_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32")
    num_in = num_out = 0
    for block in blocks:
        num_in += len(block)
        resampled = resampler.resample_chunk(np.ascontiguousarray(block))
        num_out += len(resampled)
        if len(resampled):
            yield resampled
    rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    missing = resampled_length(num_in, source_hz, target_hz) - num_out
    yield np.pad(rest[:missing], (0, max(0, missing - len(rest))))


def _cut(blocks: Iterable[Samples], start: int, stop: int | None) -> Iterator[Samples]:
    """Keep the stretch [start, stop) of a stream of blocks."""
    position = 0
    for block in blocks:
        kept = block[max(0, start - position) : None if stop is None else stop - position]
        position += len(block)
        if len(kept):
            yield kept
        if stop is not None and position >= stop:
            return


class Audio(ABC):
    """A recording as mono float32 at `sample_rate_hz`: the mean of its channels, or `channel`.

    `open_audio` makes one: `AudioFile` stays on disk, `MemoryAudio` holds an array.

    Parameters
    ----------
    source_rate_hz, num_channels, num_source_samples
        Of the recording as it is stored; the length is None where only decoding tells.
    sample_rate_hz
        Rate to resample to; None keeps the stored rate.
    channel
        0-based channel to read; None for the mean of all.
    uri
        Name of the recording.
    """

    def __init__(
        self,
        source_rate_hz: int,
        num_channels: int,
        num_source_samples: int | None,
        sample_rate_hz: int | None,
        channel: int | None,
        uri: str,
    ) -> None:
        self.source_rate_hz = source_rate_hz
        self.num_channels = num_channels
        self.uri = uri
        self._num_source_samples = num_source_samples
        self._configure(sample_rate_hz or source_rate_hz, channel)

    def _configure(self, sample_rate_hz: int, channel: int | None) -> None:
        if min(self.source_rate_hz, sample_rate_hz) <= 0:
            raise PixitError(f"{self.uri}: expected sample rates above 0, found {sample_rate_hz} Hz")
        if channel is not None and not 0 <= channel < self.num_channels:
            raise PixitError(
                f"{self.uri}: has no channel {channel}; expected one of 0 to {self.num_channels - 1}"
            )
        self.sample_rate_hz = sample_rate_hz
        self.channel = channel

    def at(self, sample_rate_hz: int | None = None, channel: int | None = None) -> Audio:
        """Return the same recording at another rate or of another channel; None keeps what it has."""
        twin = copy.copy(self)
        twin._configure(sample_rate_hz or self.sample_rate_hz, self.channel if channel is None else channel)
        return twin

    @abstractmethod
    def _decode(self, start: int, block_samples: int) -> Iterator[Samples]:
        """Yield (n, channels) blocks as stored, from sample `start` to the end."""

    @property
    def num_samples(self) -> int:
        """Length in samples at `sample_rate_hz`; the first call decodes a file that does not tell."""
        if self._num_source_samples is None:
            self._num_source_samples = sum(len(block) for block in self._decode(0, BLOCK_SAMPLES))
        return resampled_length(self._num_source_samples, self.source_rate_hz, self.sample_rate_hz)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz

    def blocks(
        self, block_samples: int = BLOCK_SAMPLES, start: int = 0, stop: int | None = None
    ) -> Iterator[Samples]:
        """Stream the samples [start, stop) as float32 blocks (n,); memory holds one block.

        Parameters
        ----------
        block_samples
            Stored samples to decode at a time; the blocks that come out are about as long in time.
        start, stop
            In samples at `sample_rate_hz`; `stop` None for the end.

        Raises
        ------
        PixitError
            Where the stream meets damaged or missing data, or NaN or infinite samples.
        """
        source_hz, target_hz = self.source_rate_hz, self.sample_rate_hz
        margin = 0 if source_hz == target_hz else math.ceil(RESAMPLER_MARGIN_S * source_hz)
        # Begin where a stored and a resampled sample coincide, so that the phase is that of the whole
        # recording; twice the common period, so that round(), half to even, gives the same end.
        period = 2 * source_hz // math.gcd(source_hz, target_hz)
        first = max(0, start * source_hz // target_hz - margin) // period * period
        offset = first * target_hz // source_hz
        last = None if stop is None else math.ceil(stop * source_hz / target_hz) + margin - first
        stored = _cut(self._decode(first, block_samples), 0, last)
        resampled = resample_blocks(self._to_mono(stored, first), source_hz, target_hz)
        yield from _cut(resampled, start - offset, None if stop is None else stop - offset)

    def _to_mono(self, blocks: Iterable[Samples], position: int) -> Iterator[Samples]:
        for block in blocks:
            mono = block.mean(axis=1) if self.channel is None else block[:, self.channel]
            if not np.isfinite(mono).all():
                at_s = (position + int(np.argmin(np.isfinite(mono)))) / self.source_rate_hz
                raise PixitError(
                    f"{self.uri}: holds NaN or infinite samples, first at {at_s:.3f} s; repair it"
                )
            position += len(mono)
            yield mono

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read the samples [start, stop) at once: float32 (stop - start,).

        Only the stretch is decoded, but for mp3, ogg, m4a, mkv …, which are decoded from their beginning.

        Raises
        ------
        PixitError
            As `blocks`, and if the stretch is not inside the recording.
        """
        stop = self.num_samples if stop is None else stop
        if not 0 <= start <= stop <= self.num_samples:
            start_s, stop_s = start / self.sample_rate_hz, stop / self.sample_rate_hz
            raise PixitError(
                f"{self.uri}: lasts {self.duration_s:.3f} s, asked for {start_s:.3f} to {stop_s:.3f} s; "
                "does its annotation outlast it?"
            )
        num_stored = math.ceil((stop - start) / self.sample_rate_hz * self.source_rate_hz)
        block_samples = min(num_stored + self.source_rate_hz, BLOCK_SAMPLES)
        blocks = self.blocks(block_samples, start, stop) if start < stop else ()
        return np.concatenate([np.zeros(0, np.float32), *blocks])


class AudioFile(Audio):
    """A recording on disk; `uri` is the file's stem by default. See `Audio` and `read_info`."""

    def __init__(
        self,
        path: str | Path,
        sample_rate_hz: int | None = None,
        channel: int | None = None,
        uri: str | None = None,
    ) -> None:
        self.info = info = read_info(path)
        stored = info.sample_rate_hz, info.num_channels, info.num_samples
        super().__init__(*stored, sample_rate_hz, channel, uri or info.path.stem)

    def _decode(self, start: int, block_samples: int) -> Iterator[Samples]:
        if self.info.num_samples is not None:
            return _decode_soundfile(self.info, self.info.num_samples, start, block_samples)
        return _cut(_decode_av(self.info, block_samples), start, None)


class MemoryAudio(Audio):
    """A recording in memory: `waveform` (channel, time), floating point, NumPy or torch. See `Audio`."""

    def __init__(
        self,
        waveform: NDArray[Any] | Tensor,
        source_rate_hz: int,
        sample_rate_hz: int | None = None,
        channel: int | None = None,
        uri: str = "waveform",
    ) -> None:
        if hasattr(waveform, "detach"):
            waveform = waveform.detach().cpu()
            waveform = (waveform.float() if waveform.is_floating_point() else waveform).numpy()
        array = np.asarray(waveform)
        if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.floating):
            raise PixitError(
                f"{uri}: expected a floating point waveform (channel, time), "
                f"found {array.dtype} of shape {array.shape}"
            )
        self.waveform: Samples = array.astype(np.float32, copy=False)
        num_channels, num_samples = array.shape
        super().__init__(int(source_rate_hz), num_channels, num_samples, sample_rate_hz, channel, uri)

    def _decode(self, start: int, block_samples: int) -> Iterator[Samples]:
        for first in range(start, self.waveform.shape[1], block_samples):
            yield self.waveform[:, first : first + block_samples].T


def open_audio(
    source: str | Path | Mapping[str, Any] | Audio,
    sample_rate_hz: int | None = None,
    channel: int | None = None,
) -> Audio:
    """Open a path, a mapping as pyannote.audio takes it, or what is open already.

    Parameters
    ----------
    source
        A mapping has ``audio`` (a path), or ``waveform`` (channel, time) and ``sample_rate``; it may have
        ``uri`` and ``channel`` (0-based).
    sample_rate_hz, channel
        As for `Audio`; a `channel` given here goes before the mapping's.
    """
    if isinstance(source, Audio):
        return source.at(sample_rate_hz, channel)
    if isinstance(source, (str, Path)):
        return AudioFile(source, sample_rate_hz, channel)
    keys = set(source) if isinstance(source, Mapping) else set()
    channel = source["channel"] if channel is None and "channel" in keys else channel
    uri = source["uri"] if "uri" in keys else None
    if {"waveform", "sample_rate"} <= keys:
        return MemoryAudio(
            source["waveform"], source["sample_rate"], sample_rate_hz, channel, uri or "waveform"
        )
    if "audio" in keys and isinstance(source["audio"], (str, Path)):
        return AudioFile(source["audio"], sample_rate_hz, channel, uri)
    raise PixitError(
        f"expected a path, or a mapping with 'audio' (a path) or 'waveform' and 'sample_rate'; "
        f"found {type(source).__name__} {sorted(keys) or ''}".rstrip()
    )


def read_blocks(
    path: str | Path,
    sample_rate_hz: int | None = None,
    channel: int | None = None,
    block_samples: int = BLOCK_SAMPLES,
    start_s: float = 0.0,
    stop_s: float | None = None,
) -> Iterator[Samples]:
    """Stream a file, or the stretch [start_s, stop_s) of it, as mono blocks. See `Audio.blocks`."""
    audio = AudioFile(path, sample_rate_hz, channel)
    stop = None if stop_s is None else round(stop_s * audio.sample_rate_hz)
    return audio.blocks(block_samples, round(start_s * audio.sample_rate_hz), stop)


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
