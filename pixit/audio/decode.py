"""Samples on their way in: read by libsndfile or the ffmpeg inside PyAV, the best channel, resampling."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pixit.files import check_file
from pixit.types import PixitError

Samples = NDArray[np.float32]
Channel = int | Literal["best", "mean"]
"""0-based channel; the one in which speech stands out most; or the mean of all, in which the sound of one
person, who is not equally far from all microphones, partly cancels itself."""

FRAME_S = 0.064
BAND_EDGES_HZ = (150, 300, 600, 1200, 2400, 3800)
DEPTH = 1e-4
"""Power, relative to the mean, below which nothing counts: the digital silence of a gate is no merit."""
CLOSE = 0.95
"""Channels with at least this share of the best one's score are equally good: the first of them is taken."""

RESAMPLER_MARGIN_S = 0.1
"""Longer than soxr's filter: what lies farther away has no effect on a sample."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    `num_samples`, the length at `sample_rate_hz`, is None where only decoding the file reveals it (mp3, ogg,
    m4a, mkv …); `duration_s` is an estimate then, and None where nothing is known.
    """

    path: Path
    sample_rate_hz: int
    num_channels: int
    num_samples: int | None
    duration_s: float | None


def check_local(name: str | Path) -> None:
    """Raise a PixitError for an address on the network, and for ``-``: recordings are read more than once."""
    if str(name) == "-":
        raise PixitError("-: recordings are read from files, more than once; save what is piped to one first")
    if re.match(r"[A-Za-z][\w+.-]+:/", str(name)) and not Path(name).exists():
        raise PixitError(f"{name}: is an address; pixit reads files and opens no network: download it first")


def read_info(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises
    ------
    PixitError
        If the file is missing, a folder, a pipe, of a name that is not UTF-8, empty, no audio, without samples,
        or (wav, aiff, rf64) more than 0.1 s shorter than its header promises. A truncated flac shows only when
        it is decoded.
    """
    check_local(path)
    path = Path(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise PixitError(f"{str(path)!a}: the name is not valid UTF-8; rename the file") from None
    check_file(path, "an audio file")
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
    """Compare the length that the header promises with the length found, as libsndfile's log has them."""
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
    options = {"protocol_whitelist": "file"}  # a playlist named like audio must not open the network
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


def decode_from(info: AudioInfo, start: int, block_samples: int) -> Iterator[Samples]:
    """Yield (n, channels) blocks of a file of known length, from sample `start` to its end."""
    position, num_samples = start, info.num_samples or 0
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


def decode_whole(info: AudioInfo, block_samples: int) -> Iterator[Samples]:
    """Yield (n, channels) blocks of the first audio stream of any file; small frames are gathered."""
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


def best_channel(blocks: Iterable[Samples], sample_rate_hz: int) -> int:
    """Return the channel, 0-based, in which speech stands out most; `blocks` (n, channels) are from all over.

    Speech comes and goes by the syllable in every band of its spectrum; noise, hum and silence stay, and
    reverberation fills the pauses. So a channel's score is by how many decibels its power changes from one
    frame to the next, averaged over frames and bands; its level does not matter.
    """
    power = np.concatenate([_band_power(block, sample_rate_hz) for block in blocks])
    if len(power) < 2:
        return 0
    power = np.where(np.isfinite(power).all(axis=(0, 1)), power, 0)  # a broken channel is none
    level = power.mean(axis=(0, 1))
    relative = np.where(level > 0, power / np.where(level > 0, level, 1), 1)
    scores = np.abs(np.diff(10 * np.log10(relative + DEPTH), axis=0)).sum(axis=(0, 1))
    return int(np.argmax(scores >= CLOSE * scores.max()))


def _band_power(block: Samples, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the power of each frame, band and channel; of one wide band at rates that have no more."""
    size = max(2, round(FRAME_S * sample_rate_hz))
    num_frames = len(block) // size
    frames = block[: num_frames * size].reshape(num_frames, size, block.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and the like stay in their channel
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(size)[:, None], axis=1)) ** 2
    edges = [round(edge * size / sample_rate_hz) for edge in BAND_EDGES_HZ]
    bands = [(low, high) for low, high in itertools.pairwise(edges) if high <= size // 2]
    power = [spectrum[:, low:high].sum(axis=1) for low, high in bands or [(1, size // 2 + 1)]]
    return np.stack(power, axis=1).astype(np.float32)


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
