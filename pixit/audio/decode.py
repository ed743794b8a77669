"""Audio files in: headers and samples, as libsndfile or the ffmpeg inside PyAV read them.

Nothing that a file holds raises anything but `PixitError` here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from pixit.audio.ending import SLOPPY_S, End
from pixit.files import check_file
from pixit.types import PixitError

Samples = NDArray[np.float32]
SMALL_BLOCK = 1024
"""Samples at a time near the place where a flac is cut off."""
LONGEST_GAP_S = 86_400
"""What a few damaged bytes may be taken for: more would be made of them for hours."""

_DAMAGE = (
    *(av.FFmpegError, soundfile.SoundFileError, ArithmeticError, AttributeError),
    *(LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)
"""What reading a damaged file ends in: PyAV finds streams without a codec, and formats that change."""


_FORMATS = ",".join(
    sorted(av.formats_available - {"concat", "concatf", "dash", "hls", "imf", "sdp", "webm_dash_manifest"})
)
"""All but lists of other files."""


class TruncatedError(PixitError):
    """A file that ends before it should; `loss` says what is missing."""

    def __init__(self, path: Path, loss: str) -> None:
        super().__init__(f"{path}: {loss}; copy it again, or save what is left with ffmpeg -i")
        self.loss = loss


def _truncated(path: Path, found_s: float, promised_s: float | None = None, why: str = "") -> TruncatedError:
    promise = "" if promised_s is None else f" of the {promised_s:.2f} s that its header promises"
    return TruncatedError(path, f"is truncated or damaged after {found_s:.2f} s{promise}{why}")


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    `num_samples`, the length at `sample_rate_hz`, is None where only decoding the file reveals it (mp3, ogg,
    m4a, mkv …); `duration_s` is an estimate then, and None where nothing is known. `stream` is the audio stream
    that is meant, of `num_streams`. `loss` says what is missing at the end, where the header tells. In a file that
    `is_seekable`, a stretch is read without what lies before it.
    """

    path: Path
    sample_rate_hz: int
    num_channels: int
    num_samples: int | None
    duration_s: float | None
    stream: int = 0
    num_streams: int = 1
    loss: str | None = None
    is_seekable: bool = False


def check_local(name: str | Path) -> None:
    """Raise a PixitError for an address on the network, and for ``-``: recordings are read more than once."""
    if str(name) == "-":
        raise PixitError("-: recordings are read from files, more than once; save what is piped to one first")
    if re.match(r"[A-Za-z][\w+.-]+:/", str(name)) and not Path(name).exists():
        raise PixitError(f"{name}: is an address; pixit reads files and opens no network: download it first")


def read_info(path: str | Path, stream: int | None = None, partial: bool = False) -> AudioInfo:
    """Read the header of an audio file.

    Parameters
    ----------
    stream
        0-based audio stream, for files with several, as videos in several languages; None is the first.
    partial
        Take a file that ends before it should for what it holds. What only decoding reveals is left open: the
        length of a flac too.

    Raises
    ------
    PixitError
        If the file is missing, a folder, a pipe, of a name that is not UTF-8, empty, no audio, without samples
        or without that stream, or (wav, aiff, rf64; but for `partial`) more than 0.1 s shorter than its header
        promises. Other truncated files show only when they are decoded.
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
    info = _soundfile_info(path, partial)
    if info is None:
        return _av_info(path, stream or 0)
    _check_stream(path, stream or 0, 1)
    return info


def _check_stream(path: Path, stream: int, num_streams: int) -> None:
    if stream not in range(num_streams):
        last = f" to {num_streams - 1}" if num_streams > 1 else ""
        raise PixitError(f"{path}: has no audio stream {stream}; expected 0{last}")


def _soundfile_info(path: Path, partial: bool) -> AudioInfo | None:
    """Header as libsndfile reads it, or None where ffmpeg does better."""
    try:
        with soundfile.SoundFile(path) as file:
            # libsndfile guesses the length of an mp3, seeks wrongly near the end of an ogg, and cannot read
            # a flac of unknown length in blocks
            if file.format in ("MP3", "OGG") or file.frames >= 1 << 62:
                return None
            error = _check_complete(path, file)
            if error is not None and not partial:
                raise error
            if file.frames == 0:
                raise PixitError(f"{path}: holds no samples")
            duration_s = file.frames / file.samplerate
            num_samples = None if partial and file.format == "FLAC" else file.frames
            loss = None if error is None else error.loss
            stored = file.samplerate, file.channels
            return AudioInfo(path, *stored, num_samples, duration_s, loss=loss, is_seekable=True)
    except _DAMAGE:  # among them TypeError: .raw without a sample rate
        return None


def _check_complete(path: Path, file: soundfile.SoundFile) -> TruncatedError | None:
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
    if promised_samples - file.frames <= SLOPPY_S * file.samplerate:
        return None
    return _truncated(path, file.frames / file.samplerate, promised_samples / file.samplerate)


@contextmanager
def _open_av(path: Path, number: int) -> Iterator[tuple[av.container.InputContainer, av.AudioStream]]:
    # what is named like audio, or comes from a stranger, must open neither the network nor other files
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    with av.open(f"file:{path.absolute()}", options=options, metadata_errors="ignore") as container:
        streams = container.streams.audio
        if streams:
            _check_stream(path, number, len(streams))
        stream = streams[number] if streams else None
        # a stream of an unknown codec has no context, and so none of a stream's properties
        known = stream is not None and stream.codec_context is not None
        if stream is None or not known or not stream.sample_rate or not stream.layout.nb_channels:
            raise PixitError(f"{path}: holds no audio that can be decoded ({container.format.name})")
        yield container, stream


def _av_info(path: Path, number: int) -> AudioInfo:
    try:
        with _open_av(path, number) as (container, stream):
            duration_s = None if container.duration is None else container.duration / 1e6
            stored = stream.sample_rate, stream.layout.nb_channels
            return AudioInfo(path, *stored, None, duration_s, number, len(container.streams.audio))
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or "damaged?"
        raise PixitError(f"{path}: is not audio in a known format ({reason})") from None


def decode_from(info: AudioInfo, start: int, block_samples: int) -> Iterator[Samples]:
    """Yield (n, channels) blocks of a file of known length, from sample `start` to its end."""
    try:
        with soundfile.SoundFile(info.path) as file:
            num_samples = info.num_samples or file.frames
            position = start
            while position < num_samples:
                try:
                    file.seek(position)
                    size = min(block_samples, num_samples - position)  # a file may grow while it is read
                    block = file.read(size, dtype="float32", always_2d=True)
                except soundfile.SoundFileError:
                    block = np.zeros((0, info.num_channels), np.float32)
                if not len(block) and block_samples > SMALL_BLOCK:
                    block_samples = SMALL_BLOCK
                    continue
                if not len(block):
                    seconds = position / info.sample_rate_hz, num_samples / info.sample_rate_hz
                    raise _truncated(info.path, *seconds)
                position += len(block)
                yield block
    except soundfile.SoundFileError:
        raise PixitError(f"{info.path}: cannot be read any more; was it changed or moved?") from None


class Gap:
    """Finds where a container says that sound goes on later than the samples before it end: silence fills that.

    Only Matroska and MP4 tell it reliably. Time stamps beyond the length that the file promises, or a day after the
    samples before them, are nonsense.
    """

    def __init__(self, container: av.container.InputContainer, info: AudioInfo) -> None:
        is_told = container.format.name.split(",")[0] in ("matroska", "mov")
        self._end_s = (container.duration or 0) / 1e6 if is_told else 0.0
        self._start_s = (container.start_time or 0) / 1e6
        self._rate_hz, self._num_channels = info.sample_rate_hz, info.num_channels

    def fill(self, frame: av.AudioFrame, position: int, block_samples: int) -> Iterator[Samples]:
        """Yield zeros (n, channels) before a frame, where the samples end at `position`."""
        if frame.pts is None or frame.time_base is None:
            return
        start_s = float(frame.pts * frame.time_base) - self._start_s
        missing = round(start_s * self._rate_hz) - position
        is_gap = SLOPPY_S * self._rate_hz < missing <= LONGEST_GAP_S * self._rate_hz
        if not is_gap or start_s > self._end_s:
            return
        for first in range(0, missing, block_samples):
            yield np.zeros((min(block_samples, missing - first), self._num_channels), np.float32)


def decode_whole(info: AudioInfo, block_samples: int) -> Iterator[Samples]:
    """Yield (n, channels) blocks of an audio stream of any file; small frames are gathered."""
    # "fltp" has a plane for each channel, and with more than 8 PyAV reads beyond its table of them
    to_float = av.AudioResampler(format="flt")
    parts: list[Samples] = []
    num_gathered = num_decoded = 0
    error: TruncatedError | None = None
    try:
        with _open_av(info.path, info.stream) as (container, stream):
            end, gap = End(), Gap(container, info)
            for packet in container.demux():  # of all streams: how far the file goes shows in any of them
                end.see(packet, stream)
                for frame in stream.decode(packet) if packet.stream.index == stream.index else ():
                    for silence in gap.fill(frame, num_decoded + num_gathered, block_samples):
                        if parts:
                            yield np.concatenate(parts)
                        yield silence
                        num_decoded += num_gathered + len(silence)
                        parts, num_gathered = [], 0
                    stored = frame.sample_rate, frame.layout.nb_channels
                    if stored != (info.sample_rate_hz, info.num_channels):
                        raise PixitError(
                            f"{info.path}: changes its rate or channels midway; convert it to flac"
                        )
                    floats = [np.asarray(part.to_ndarray(), np.float32) for part in to_float.resample(frame)]
                    parts += [part.reshape(-1, info.num_channels) for part in floats]
                    num_gathered += frame.samples
                if num_gathered >= block_samples:
                    yield np.concatenate(parts)
                    num_decoded += num_gathered
                    parts, num_gathered = [], 0
            if (loss := end.find_loss(info.path, container)) is not None:
                error = _truncated(info.path, (num_decoded + num_gathered) / info.sample_rate_hz, *loss)
    except _DAMAGE:
        error = _truncated(info.path, (num_decoded + num_gathered) / info.sample_rate_hz)
    if not num_decoded and not parts:
        raise PixitError(f"{info.path}: holds no samples")
    if parts:
        yield np.concatenate(parts)
    if error is not None:
        raise error
