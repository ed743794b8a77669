"""Where live sound comes from: the blocks that come are the sound that went in, and errors are told in one line."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pixit.audio import open_source
from pixit.audio.blocks import FileSource, PcmSource
from pixit.audio.sources import MicrophoneSource, WebSocketSource
from pixit.types import PixitError

SOUND = np.random.default_rng(0).integers(-20000, 20000, (5000, 2)).astype(np.int16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "call.wav"
    soundfile.write(path, SOUND, 8000)
    return path


# --- files ----------------------------------------------------------------------------------------------


def test_a_file_comes_in_blocks(file: Path) -> None:
    source = open_source(file)
    assert (source.name, source.sample_rate_hz, source.is_live) == ("call", 8000, False)
    blocks = list(source)
    assert {len(block) for block in blocks[:-1]} == {800}
    floats = SOUND / 2**15
    np.testing.assert_allclose(np.concatenate(blocks)[:, 0], floats.mean(axis=1), atol=1e-6)
    second = np.concatenate(list(open_source(file, channel=1)))
    np.testing.assert_allclose(second[:, 0], floats[:, 1], atol=1e-6)


def test_a_paced_file_takes_its_time_and_can_be_stopped(file: Path) -> None:
    started, source = time.monotonic(), open_source(file, paced=True)
    assert source.is_live
    assert sum(map(len, source)) == 5000
    assert time.monotonic() - started >= 5000 / 8000
    source = open_source(file, paced=True)
    threading.Timer(0.15, source.stop).start()
    assert 0 < sum(map(len, source)) < 5000


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 40000), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(path)
    assert 10000 < sum(map(len, source)) < 30000
    assert "truncated" in source.note


def test_async_iteration_gives_the_same_blocks(file: Path) -> None:
    async def gather() -> list[Any]:
        return [block async for block in open_source(file)]

    for one, other in zip(asyncio.run(gather()), open_source(file), strict=True):
        np.testing.assert_array_equal(one, other)


def test_leaving_an_async_loop_stops_the_source(file: Path) -> None:
    source = open_source(file, paced=True)

    async def first() -> Any:
        async for block in source:
            return block
        return None

    block = asyncio.run(first())
    assert block is not None
    assert len(block) == 800
    assert source.is_stopped


# --- raw samples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_type", ["int16", "float32"])
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_raw_samples_come_in_pieces_that_end_anywhere(sample_type: Any, piece: int) -> None:
    sound = SOUND[:500] if sample_type == "int16" else (SOUND[:500] / 2**15).astype(np.float32)

    class Pieces(io.BytesIO):
        def read1(self, _: int = -1) -> bytes:
            return self.read(piece)

    source = PcmSource(Pieces(sound.tobytes()), 8000, sample_type, channels=2)
    found = np.concatenate(list(source))
    assert found.dtype == sound.dtype
    np.testing.assert_array_equal(found, sound)
    assert source.note is None


def test_half_a_sample_at_the_end_is_told() -> None:
    source = PcmSource(io.BytesIO(b"\1\2\3"), 8000)
    assert np.concatenate(list(source)).tolist() == [[0x0201]]
    assert source.note == "ends with 1 bytes that are no whole sample; is its type right?"


def test_standard_input_is_read_as_it_comes() -> None:
    code = "from pixit.audio import open_source\nfor b in open_source('-', 8000): print(len(b), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(SOUND[:100].tobytes())
    child.stdin.flush()
    assert child.stdout.readline() == b"200\n"  # without more
    assert child.communicate(b"\0\0", timeout=60)[0] == b"1\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PcmSource(io.BytesIO(), 3), "3 Hz; expected a sample rate of 10"),
        (lambda: PcmSource(io.BytesIO(), 8000, "int32"), "samples of 'int32'"),  # type: ignore[arg-type]
        (lambda: PcmSource(io.BytesIO(), 8000, channels=0), "0 channels"),
        (lambda: open_source("nowhere.wav"), "nowhere.wav: cannot be read"),
        (lambda: open_source("http://nowhere/x.wav"), "is an address"),
        (lambda: open_source("ws://127.0.0.1:1/x"), "ws://127.0.0.1:1/x: cannot be reached"),
        (lambda: open_source("ws://"), "cannot be reached"),
    ],
)
def test_what_cannot_be_opened_is_told(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(PixitError, match=message):
        make()


def test_a_file_has_its_own_rate(file: Path) -> None:
    with pytest.raises(PixitError, match="a file says its own sample rate"):
        open_source(file, sample_rate_hz=8000)


# --- web sockets ----------------------------------------------------------------------------------------


@contextmanager
def serving(handler: Callable[[Any], None]) -> Iterator[str]:
    from websockets.sync.server import serve

    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/pcm"
        server.shutdown()


def test_a_web_socket_sends_raw_samples() -> None:
    data = SOUND.tobytes()

    def send(connection: Any) -> None:
        for start in range(0, len(data), 777):  # messages may end anywhere
            connection.send(data[start : start + 777])

    with serving(send) as address:
        source = open_source(address, 8000, channels=2)
        assert source.is_live
        np.testing.assert_array_equal(np.concatenate(list(source)), SOUND)
        assert source.note is None


def test_a_web_socket_that_sends_text_is_an_error() -> None:
    text = pytest.raises(PixitError, match="sent text; expected binary messages")
    with serving(lambda connection: connection.send("hello")) as address, text:
        list(WebSocketSource(address))


def test_a_web_socket_that_breaks_off_is_told() -> None:
    def send(connection: Any) -> None:
        connection.send(SOUND[:100].tobytes())
        connection.socket.close()

    with serving(send) as address:
        source = WebSocketSource(address, 8000)
        assert sum(map(len, source)) == 200
        assert "broke off" in source.note


def test_a_silent_web_socket_can_be_stopped() -> None:
    with serving(lambda connection: time.sleep(2)) as address:
        source = WebSocketSource(address)
        threading.Timer(0.2, source.stop).start()
        assert list(source) == []


# --- microphones ----------------------------------------------------------------------------------------


class PortAudioError(Exception):
    pass


def make_sounddevice(blocks: int = 20, is_broken: bool = False) -> Any:
    """A library of one microphone, which gives so many blocks of counting samples, and may break then."""
    streams: list[Any] = []

    def query_devices(device: Any, kind: str) -> dict[str, Any]:
        if device not in (None, 0, "USB"):
            raise ValueError(f"No input device matching {device!r}")
        return {"default_samplerate": 48000.0}

    class InputStream:
        def __init__(
            self, rate_hz: int, callback: Any, device: Any, channels: int, dtype: str, blocksize: int
        ):
            self.callback, self.shape = callback, (blocksize, channels)
            streams.append(self)

        def __enter__(self) -> None:
            buffer = np.zeros(self.shape, np.float32)
            for number in range(blocks):  # the same buffer again and again, as PortAudio has it
                buffer[:] = number
                self.callback(buffer, len(buffer), None, None)

        def __exit__(self, *_: object) -> None:
            if is_broken:
                raise PortAudioError("Device unplugged")

    def check_input_settings(device: Any, channels: int, *_: Any) -> None:
        if channels > 2:
            raise PortAudioError("Invalid number of channels")

    return types.SimpleNamespace(
        query_devices=query_devices,
        check_input_settings=check_input_settings,
        InputStream=InputStream,
        PortAudioError=PortAudioError,
        streams=streams,
    )


def test_a_microphone_is_copied_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", make_sounddevice(is_broken=True))
    source = open_source("microphone:USB", channels=2)
    assert (source.sample_rate_hz, source.is_live) == (48000, True)
    blocks = iter(source)
    for number in range(20):
        block = next(blocks)
        assert block.shape == (4800, 2)
        assert (block == number).all()
    source.stop()
    with pytest.raises(PixitError, match="Device unplugged; is it still there"):
        next(blocks)


def test_a_microphone_that_nobody_asks_loses_sound_but_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixit.audio.sources.WAITING_S", 0.5)
    library = make_sounddevice(blocks=20)  # 5 of them are kept
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    blocks = iter(open_source("microphone"))
    found = [next(blocks) for _ in range(5)]
    (stream,) = library.streams
    for number in range(20, 30):
        stream.callback(np.full((4800, 1), number, np.float32), 4800, None, None)
        if number % 2:
            found += [next(blocks) for _ in range(5)]
    values = [int(block[0, 0]) for block in found]
    assert values[:5] == [0, 1, 2, 3, 4]
    assert values[5:28] == 23 * [0]
    assert values[28:] == [28, 29]  # each at its time


@pytest.mark.parametrize(
    ("device", "channels", "message"),
    [
        ("7", 1, "microphone:7: cannot be used .*lists what there is"),
        (None, 3, "microphone: cannot be used .Invalid number of channels"),
    ],
)
def test_a_microphone_that_is_not_there_is_told(
    device: str | None, channels: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", make_sounddevice())
    with pytest.raises(PixitError, match=message):
        MicrophoneSource(device, channels)


def test_missing_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(
        PixitError, match=r"sounddevice is not installed; run pip install 'pixit-audio\[stream\]'"
    ):
        open_source("microphone")
    monkeypatch.setitem(sys.modules, "websockets.sync.client", None)
    with pytest.raises(
        PixitError, match=r"websockets is not installed; run pip install 'pixit-audio\[stream\]'"
    ):
        open_source("ws://127.0.0.1/x")


def test_a_machine_without_portaudio_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(PixitError, match=r"PortAudio library not found\); install PortAudio"):
        open_source("microphone")


def test_a_source_is_what_its_name_says(file: Path) -> None:
    assert isinstance(open_source(str(file)), FileSource)
