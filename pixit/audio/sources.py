"""Where live sound comes from: a microphone or a web socket; and any source, by its name."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pixit.audio.blocks import (
    BLOCK_S,
    DEFAULT_RATE_HZ,
    Blocks,
    FileSource,
    Pcm,
    PcmSource,
    SampleType,
    Source,
    check_rate,
)
from pixit.types import PixitError, one_line

WAITING_S = 10.0
"""Seconds of sound that a microphone keeps while nobody asks for it; what comes after that is lost, and silent."""


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
    is_raw = text == "-" or text.startswith(("ws://", "wss://"))
    if is_raw and channel is not None and channel >= channels:
        raise PixitError(
            f"{text}: has {channels} channels, none of number {channel}, from 0; say how many come"
        )
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
