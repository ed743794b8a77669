"""Where live sound comes from: a file, a microphone, a pipe, a web socket; each yields blocks at a sample rate.

A source is iterated once, by ``for`` or by ``async for``. Blocks are (n, channels), float32 or int16, as
`pixit.StreamingSeparator.push` takes them.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from pixit.audio.recording import RATES_HZ, AudioFile
from pixit.types import PixitError, one_line

Blocks = NDArray[np.float32] | NDArray[np.int16]
SampleType = Literal["int16", "float32"]

BLOCK_S = 0.1
"""Seconds of sound in a block."""
WAITING_S = 10.0
"""Seconds of sound that a microphone keeps while nobody asks for it; what comes after that is lost, and silent."""
DEFAULT_RATE_HZ = 16000


class Source(ABC):
    """Blocks of sound at `sample_rate_hz`, which come when they come.

    Attributes
    ----------
    name, sample_rate_hz
        What results are called; of the blocks.
    is_live
        Sound goes on whether it is heard or not. What is not live waits.
    note
        What is to be told of the sound after its end.
    """

    is_live = False
    note: str | None = None

    def __init__(self, name: str, sample_rate_hz: int) -> None:
        self.name, self.sample_rate_hz = name, sample_rate_hz
        self._stopped = threading.Event()

    @abstractmethod
    def _blocks(self) -> Iterator[Blocks]:
        """Yield the blocks, until the end or until `_stopped` is set."""

    def stop(self) -> None:
        """Let the blocks end; from any thread."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def __iter__(self) -> Iterator[Blocks]:
        for block in self._blocks():
            if self._stopped.is_set():
                return
            yield block

    async def __aiter__(self) -> AsyncIterator[Blocks]:
        """Yield the blocks; they are waited for in a thread of their own."""
        blocks = iter(self)
        try:
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                yield block
        finally:
            self.stop()


class FileSource(Source):
    """A recording, as fast as it is asked for, or `paced` as it was spoken: then it is live.

    Mono: one `channel`, or the mean of all. A PixitError as of `read_info`, and while it is read of `Audio.blocks`.
    """

    def __init__(self, path: str | Path, channel: int | None = None, paced: bool = False) -> None:
        self.audio = AudioFile(path, channel="mean" if channel is None else channel, partial=True)
        super().__init__(self.audio.uri, self.audio.source_rate_hz)
        self.is_live = paced

    def _blocks(self) -> Iterator[Blocks]:
        started, position = time.monotonic(), 0
        size = max(1, round(BLOCK_S * self.sample_rate_hz))
        for block in self.audio.blocks(size):
            position += len(block)
            if self.is_live:  # a block is there when its last sample was spoken
                self._stopped.wait(max(0.0, started + position / self.sample_rate_hz - time.monotonic()))
            yield block[:, None]
        self.note = self.audio.loss


class PcmSource(Source):
    """Raw samples from a pipe, little-endian; channels take turns. It is live if whoever writes cannot wait."""

    def __init__(
        self,
        file: BinaryIO,
        sample_rate_hz: int = DEFAULT_RATE_HZ,
        sample_type: SampleType = "int16",
        channels: int = 1,
        live: bool = False,
        name: str = "stdin",
    ) -> None:
        super().__init__(name, check_rate(sample_rate_hz))
        self.is_live, self._pcm, self._file = live, Pcm(sample_type, channels), file

    def _blocks(self) -> Iterator[Blocks]:
        size = max(1, round(BLOCK_S * self.sample_rate_hz)) * self._pcm.frame_bytes
        # what is there at once, instead of whole blocks
        read: Callable[[int], bytes] = getattr(self._file, "read1", self._file.read)
        while data := read(size):
            yield self._pcm.decode(data)
        self.note = self._pcm.note


class Pcm:
    """Raw samples, in pieces that may end anywhere."""

    def __init__(self, sample_type: SampleType, channels: int) -> None:
        if sample_type not in ("int16", "float32") or channels < 1:
            raise PixitError(
                f"samples of {sample_type!r}, {channels} channels; expected int16 or float32, 1 or more"
            )
        self._type = np.dtype(sample_type).newbyteorder("<")
        self._channels = channels
        self.frame_bytes = self._type.itemsize * channels
        self._rest = b""

    def decode(self, data: bytes) -> Blocks:
        """Return the samples (n, channels) that are whole."""
        data = self._rest + data
        whole = len(data) - len(data) % self.frame_bytes
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], self._type).reshape(-1, self._channels)
        native: Blocks = samples.astype(self._type.newbyteorder("="))
        return native

    @property
    def note(self) -> str | None:
        """What is to be told if the samples end here."""
        return (
            f"ends with {len(self._rest)} bytes that are no whole sample; is its type right?"
            if self._rest
            else None
        )


class MicrophoneSource(Source):
    """A microphone, by its number or a part of its name; None is the system's own.

    A PixitError if there is none, or the library that reaches it is missing.
    """

    is_live = True

    def __init__(
        self, device: str | None = None, channels: int = 1, sample_rate_hz: int | None = None
    ) -> None:
        self._library = _find_sounddevice()
        self._device: int | str | None = int(device) if device is not None and device.isdigit() else device
        self._channels = channels
        try:
            found = self._library.query_devices(self._device, "input")
            super().__init__("microphone", check_rate(sample_rate_hz or int(found["default_samplerate"])))
            self._library.check_input_settings(self._device, channels, "float32", None, self.sample_rate_hz)
        except (self._library.PortAudioError, ValueError) as error:
            which = "" if device is None else f":{device}"
            raise PixitError(
                f"microphone{which}: cannot be used ({one_line(error)}); python -m sounddevice lists what there is"
            ) from None

    def _blocks(self) -> Iterator[Blocks]:
        size = max(1, round(BLOCK_S * self.sample_rate_hz))
        waiting: queue.Queue[Blocks] = queue.Queue(max(1, round(WAITING_S / BLOCK_S)))
        lost = [0]

        def keep(block: Blocks, num_samples: int, _: Any, status: Any) -> None:
            try:
                while lost[0]:  # time goes on: what was lost is silence
                    waiting.put_nowait(np.zeros((min(lost[0], size), self._channels), np.float32))
                    lost[0] -= min(lost[0], size)
                waiting.put_nowait(block.copy())
            except queue.Full:
                lost[0] += num_samples

        options = {"device": self._device, "channels": self._channels, "dtype": "float32", "blocksize": size}
        try:
            with self._library.InputStream(self.sample_rate_hz, callback=keep, **options):
                while not self._stopped.is_set():
                    try:
                        yield waiting.get(timeout=BLOCK_S)
                    except queue.Empty:
                        continue
        except self._library.PortAudioError as error:
            raise PixitError(f"microphone: {one_line(error)}; is it still there?") from None


def _find_sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise PixitError(
            "microphone: sounddevice is not installed; run pip install 'pixit-audio[stream]'"
        ) from None
    except OSError as error:
        raise PixitError(
            f"microphone: cannot be reached ({one_line(error)}); install PortAudio, as by apt install libportaudio2"
        ) from None
    return sounddevice


class WebSocketSource(Source):
    """Raw samples as binary messages of a web socket, ``ws://`` or ``wss://``, that pixit connects to."""

    is_live = True

    def __init__(
        self,
        address: str,
        sample_rate_hz: int = DEFAULT_RATE_HZ,
        sample_type: SampleType = "int16",
        channels: int = 1,
    ) -> None:
        super().__init__("websocket", check_rate(sample_rate_hz))
        self._pcm = Pcm(sample_type, channels)
        try:
            from websockets.sync.client import connect
        except ModuleNotFoundError:
            raise PixitError(
                f"{address}: websockets is not installed; run pip install 'pixit-audio[stream]'"
            ) from None
        from websockets.exceptions import WebSocketException

        self.address = address
        try:
            self._connection = connect(address, open_timeout=10, close_timeout=2)
        except (OSError, WebSocketException, ValueError) as error:
            raise PixitError(
                f"{address}: cannot be reached ({one_line(error)}); expected a web socket"
            ) from None

    def _blocks(self) -> Iterator[Blocks]:
        from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

        with self._connection as connection:
            while not self._stopped.is_set():
                try:
                    message = connection.recv(timeout=BLOCK_S)
                except TimeoutError:
                    continue
                except ConnectionClosedOK:
                    break
                except ConnectionClosed as error:
                    self.note = f"broke off ({one_line(error)})"
                    return
                if isinstance(message, str):
                    raise PixitError(f"{self.address}: sent text; expected binary messages of raw samples")
                yield self._pcm.decode(message)
        self.note = self._pcm.note


def check_rate(sample_rate_hz: int) -> int:
    """Return a sample rate; a PixitError if it is none of sound."""
    if not RATES_HZ[0] <= sample_rate_hz <= RATES_HZ[1]:
        raise PixitError(f"{sample_rate_hz} Hz; expected a sample rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    return sample_rate_hz


def open_source(
    name: str | Path,
    sample_rate_hz: int | None = None,
    sample_type: SampleType = "int16",
    channels: int = 1,
    channel: int | None = None,
    paced: bool = False,
) -> Source:
    """Open what live sound comes from.

    Parameters
    ----------
    name
        A file; ``"microphone"``, or ``"microphone:ID"`` with a number or a part of a name; ``"-"``, raw samples from
        standard input; or an address ``"ws://…"``, whose binary messages are raw samples.
    sample_rate_hz, sample_type, channels
        Of raw samples, by default 16 kHz, ``"int16"`` (the other is ``"float32"``), and mono. A microphone is asked
        for the rate and so many channels.
    channel
        0-based channel of a file, None for the mean; of the others the separator takes a channel.
    paced
        A file comes as fast as it was spoken, and a pipe is taken for live: who writes into it cannot wait.

    Raises
    ------
    PixitError
        If it cannot be opened, or what is asked for does not fit it.

    Examples
    --------
    >>> source = open_source("examples/meeting.flac")
    >>> source.sample_rate_hz
    16000
    >>> next(iter(source)).shape
    (1600, 1)
    """
    text = str(name)
    rate_hz = sample_rate_hz or DEFAULT_RATE_HZ
    if text == "microphone" or text.startswith("microphone:"):
        _, _, device = text.partition(":")
        most = channels if channel is None else max(channels, channel + 1)
        return MicrophoneSource(device or None, most, sample_rate_hz)
    if text == "-":
        if sys.stdin.isatty():
            raise PixitError("-: standard input is a terminal; pipe raw samples into it")
        return PcmSource(sys.stdin.buffer, rate_hz, sample_type, channels, paced)
    if text.startswith(("ws://", "wss://")):
        return WebSocketSource(text, rate_hz, sample_type, channels)
    if sample_rate_hz is not None:
        raise PixitError(f"{text}: a file says its own sample rate; leave it out")
    return FileSource(name, channel, paced)
