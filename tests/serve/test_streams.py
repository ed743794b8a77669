"""Streams through a socket, by clients that know the protocol's page and nothing of pixit."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.serve.server import SocketProtocol

RATE_HZ = 16000
Start = Callable[..., Any]
HELLO = {"type": "hello", "version": 1, "sample_rate": RATE_HZ, "format": "float32", "tracks": "float32"}


@pytest.fixture
def sound() -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-0.1, 0.1, 4 * RATE_HZ + 123).astype(np.float32)


class Client:
    """Collects what a stream gives; may be broken and taken up again."""

    def __init__(self, running: Any, **hello: Any) -> None:
        self.address = f"ws://127.0.0.1:{running.port}/v1/stream"
        self.hello = HELLO | hello
        self.updates: list[dict[str, Any]] = []
        self.frames: list[bytes] = []
        self.socket = self.connect()
        self.greet(self.hello)

    def connect(self) -> ClientConnection:
        socket = connect(self.address, max_size=None, compression=None, ping_interval=None)
        return socket.__enter__()

    def greet(self, first: dict[str, Any]) -> None:
        self.socket.send(json.dumps(first))
        self.ready = json.loads(self.socket.recv(20))

    def resume(self) -> None:
        self.socket = self.connect()
        self.greet(
            {"type": "resume", "version": 1, "session": self.ready["session"], "update": len(self.updates)}
        )

    def take(self, acknowledge: bool = True) -> dict[str, Any]:
        update = json.loads(self.socket.recv(20))
        assert update["type"] == "update", update
        frame = self.socket.recv(20) if update["tracks"] else b""
        assert isinstance(frame, bytes)
        assert update["update"] == len(self.updates) + 1
        self.updates.append(update)
        self.frames.append(frame)
        if self.hello.get("resume") and acknowledge:
            self.socket.send(json.dumps({"type": "ack", "update": update["update"]}))
        return update

    def finish(self) -> Client:
        self.socket.send('{"type": "finish"}')
        while not self.take()["final"]:
            pass
        with pytest.raises(ConnectionClosed) as closed:
            self.socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000
        return self

    def tracks(self) -> dict[str, NDArray[np.float32]]:
        """Put the tracks together, as the protocol's page says."""
        found: dict[str, list[NDArray[np.float32]]] = {}
        position = 0
        for update, frame in zip(self.updates, self.frames, strict=True):
            assert update["start"] == position
            length, position = update["end"] - update["start"], update["end"]
            samples = np.zeros((len(update["speakers"]), length), np.float32)
            if frame:
                assert struct.unpack("<I", frame[:4]) == (update["update"],)
                kind = {"float32": "<f4", "int16": "<i2"}[self.hello["tracks"]]
                samples = np.frombuffer(frame[4:], kind).reshape(samples.shape).astype(np.float32)
            for speaker, part in zip(update["speakers"], samples, strict=True):
                found.setdefault(speaker, [np.zeros(update["start"], np.float32)]).append(part)
        return {speaker: np.concatenate(parts) for speaker, parts in found.items()}

    def turns(self) -> list[dict[str, Any]]:
        return [turn for update in self.updates for turn in update["turns"]]


def expected_of(
    folder: Path, sound: NDArray[Any], rate_hz: int = RATE_HZ, **settings: Any
) -> tuple[dict[str, NDArray[np.float32]], list[dict[str, Any]]]:
    """Return tracks and turns as a separator gives them without a server."""
    stream = StreamingSeparator.from_pretrained(
        folder, device="cpu", settings=settings, sample_rate_hz=rate_hz
    )
    tracks: dict[str, list[NDArray[np.float32]]] = {}
    turns = []
    for update in (stream.push(sound), stream.finish()):
        for name in update.speakers:
            tracks.setdefault(name, [np.zeros(update.start_samples, np.float32)]).append(update.tracks[name])
        turns += [
            {
                "kind": turn.kind,
                "speaker": turn.speaker,
                "start_s": round(turn.start_s, 4),
                "end_s": None if turn.end_s is None else round(turn.end_s, 4),
            }
            for turn in update.turns
        ]
    return {name: np.concatenate(parts) for name, parts in tracks.items()}, turns


def assert_same(
    client: Client, expected: tuple[dict[str, NDArray[np.float32]], list[dict[str, Any]]]
) -> None:
    tracks, turns = expected
    assert tracks, "nobody was heard"
    found = client.tracks()
    assert list(found) == list(tracks)
    for name, track in tracks.items():
        np.testing.assert_array_equal(found[name], track)
    assert client.turns() == turns


def cut(sound: NDArray[Any], sizes: tuple[int, ...] = (1600, 1, 7999, 320)) -> list[bytes]:
    pieces, position, number = [], 0, 0
    while position < len(sound):
        size = sizes[number % len(sizes)]
        pieces.append(sound[position : position + size].tobytes())
        position, number = position + size, number + 1
    return pieces


def test_a_stream_gives_what_a_separator_gives(
    start: Start, sound: NDArray[np.float32], tiny_separator: Path
) -> None:
    running = start()
    client = Client(running, latency_s=0.75, max_speakers=2)
    assert client.ready["type"] == "ready"
    assert (client.ready["sample_rate"], client.ready["step_s"], client.ready["latency_s"]) == (
        16000,
        0.496,  # of whole frames of the model
        0.75,
    )
    for piece in cut(sound):
        client.socket.send(piece)
    client.finish()
    settings = {"latency_s": 0.75, "clustering": {"max_speakers": 2}}
    assert_same(client, expected_of(tiny_separator, sound, **settings))
    assert client.updates[-1]["received"] == len(sound)
    assert client.updates[-1]["end"] == len(sound)
    running.wait_streams = running.ask("GET", "/healthz").json["streams"]
    assert running.wait_streams == {"attached": 0, "waiting": 0}
    assert b"pixit_stream_audio_seconds_total 4.0" in running.ask("GET", "/metrics").body


def test_int16_two_channels_another_rate(start: Start, tiny_separator: Path) -> None:
    sound = (np.random.default_rng(2).uniform(-0.2, 0.2, (3 * 8000, 2)) * 32767).astype("<i2")
    client = Client(start(), sample_rate=8000, channels=2, channel=1, format="int16", tracks="int16")
    for piece in cut(sound):
        client.socket.send(piece)
    tracks, turns = expected_of(tiny_separator, sound[:, 1], rate_hz=8000)
    client.finish()
    for name, track in client.tracks().items():
        steps = np.clip(np.rint(tracks[name] * 32768), -32768, 32767)
        np.testing.assert_array_equal(track, steps)
    assert client.turns() == turns


def test_without_tracks_there_are_no_binary_messages(start: Start, sound: NDArray[np.float32]) -> None:
    client = Client(start(), tracks=None)
    client.socket.send(sound.tobytes())
    client.finish()
    assert not any(update["tracks"] for update in client.updates)
    assert client.turns()
    assert all(set(update["levels"]) == set(update["speakers"]) for update in client.updates)


def test_an_empty_stream_is_one_update(start: Start) -> None:
    client = Client(start()).finish()
    assert [(u["start"], u["end"], u["speakers"]) for u in client.updates] == [(0, 0, [])]


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_goes_on_after_breaks_and_nothing_is_lost_or_twice(
    start: Start, sound: NDArray[np.float32], tiny_separator: Path, seed: int
) -> None:
    """Connections are cut at random moments, updates that were on their way included."""
    rng = np.random.default_rng(seed)
    client = Client(start(), resume=True)
    client.socket.close_timeout = 0.1
    position = 0
    for _ in range(6):
        for _ in range(int(rng.integers(1, 4))):
            size = int(rng.integers(1, 9000))
            client.socket.send(sound[position : position + size].tobytes())
            position = min(len(sound), position + size)
        received = client.ready["received"]
        for _ in range(int(rng.integers(0, 3))):
            try:
                update = json.loads(client.socket.recv(0.3))
            except TimeoutError:
                break
            client.updates.append(update)
            if update["tracks"] and rng.random() < 0.3:  # its tracks get lost: so it did not arrive
                client.updates.pop()
                break
            client.frames.append(client.socket.recv(20) if update["tracks"] else b"")  # type: ignore[arg-type]
            if rng.random() < 0.5:
                client.socket.send(json.dumps({"type": "ack", "update": update["update"]}))
        client.socket.socket.shutdown(socket.SHUT_RDWR)
        client.resume()
        assert client.ready["type"] == "resumed"
        assert received <= client.ready["received"] <= position
        position = client.ready["received"]
    client.socket.send(sound[position:].tobytes())
    client.finish()
    assert_same(client, expected_of(tiny_separator, sound))


def test_the_last_update_too_comes_again_until_it_is_acknowledged(
    start: Start, sound: NDArray[np.float32], tiny_separator: Path
) -> None:
    running = start()
    client = Client(running, resume=True)
    client.socket.send(sound.tobytes())
    client.socket.send('{"type": "finish"}')
    while not (update := client.take(acknowledge=False))["final"]:
        pass
    assert update["received"] == len(sound)
    client.socket.socket.shutdown(socket.SHUT_RDWR)
    client.updates.pop()
    client.frames.pop()
    client.resume()
    assert client.take()["final"]
    assert_same(client, expected_of(tiny_separator, sound))
    end_s = time.monotonic() + 5
    while running.ask("GET", "/healthz").json["streams"] != {"attached": 0, "waiting": 0}:
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_another_connection_takes_a_stream_over(start: Start, sound: NDArray[np.float32]) -> None:
    client = Client(start(), resume=True)
    client.socket.send(sound[:8000].tobytes())
    client.take()
    old = client.socket
    client.resume()
    assert client.ready["received"] == 8000
    assert judge(old) == (4409, "taken_over")
    client.socket.send(sound[8000:].tobytes())
    client.finish()


def test_a_broken_stream_is_kept_for_a_while_only_and_only_if_asked(start: Start) -> None:
    running = start(resume_s=0.2)
    for resume, told in ((True, "there is no such stream"), (False, "there is no such stream")):
        client = Client(running, resume=resume)
        assert client.ready["resume_s"] == (0.2 if resume else 0)
        client.socket.socket.shutdown(socket.SHUT_RDWR)
        time.sleep(0.6)
        client.resume()
        assert (client.ready["type"], client.ready["code"]) == ("error", "unknown_session")
        assert told in client.ready["message"]


def test_who_does_not_acknowledge_can_lose_updates_and_is_told(
    start: Start, sound: NDArray[np.float32]
) -> None:
    client = Client(start(replay_bytes=1 << 16), resume=True)
    client.socket.send(sound.tobytes())
    for _ in range(6):
        client.take(acknowledge=False)
    client.socket.socket.shutdown(socket.SHUT_RDWR)
    client.updates, client.frames = client.updates[:1], client.frames[:1]
    client.resume()
    assert client.ready["code"] == "lost"


BAD = [
    ("no json", 4400, "bad_message"),
    ("[]", 4400, "bad_message"),
    ("{}", 4400, "bad_message"),
    ('{"type": "hello"}', 4400, "bad_message"),
    (json.dumps(HELLO | {"version": 2}), 4400, "bad_message"),
    (json.dumps(HELLO | {"sample_rate": 1}), 4400, "bad_message"),
    (json.dumps(HELLO | {"sample_rate": "16 kHz"}), 4400, "bad_message"),
    (json.dumps(HELLO | {"sample_rate": "16000"}), 4400, "bad_message"),
    (json.dumps(HELLO | {"resume": "yes"}), 4400, "bad_message"),
    (json.dumps(HELLO | {"channels": 10**9}), 4400, "bad_message"),
    (json.dumps(HELLO | {"channel": 1}), 4400, "bad_message"),
    (json.dumps(HELLO | {"latency_s": 50}), 4400, "bad_message"),
    (json.dumps(HELLO | {"step_s": 0.5, "latency_s": 0.2}), 4400, "bad_message"),
    (json.dumps(HELLO | {"max_speakers": 21}), 4400, "bad_message"),
    (json.dumps(HELLO | {"model": "../../etc"}), 4400, "bad_message"),
    (json.dumps(HELLO)[:-1] + "," * 10, 4400, "bad_message"),
    ("[" * 100_000, 4400, "bad_message"),
    (b"\x00\x00\x00\x00", 4400, "bad_message"),
    (
        json.dumps({"type": "resume", "version": 1, "session": "guessed", "update": 0}),
        4404,
        "unknown_session",
    ),
    ("x" * 2_000_000, 1009, None),
]
BAD_LATER = [
    ("no json", 4400, "bad_message"),
    (json.dumps(HELLO), 4400, "bad_message"),
    ('{"type": "ack", "update": 99}', 4400, "bad_message"),
    ('{"type": "ack", "update": -1}', 4400, "bad_message"),
    (b"\x00\x00\x00", 4422, "bad_audio"),
    (np.full(10, np.nan, "<f4").tobytes(), 4422, "bad_audio"),
    (np.full(10, -np.inf, "<f4").tobytes(), 4422, "bad_audio"),
    (np.full(10, 1e30, "<f4").tobytes(), 4422, "bad_audio"),
    (b"\x00" * ((1 << 20) + 4), 1009, None),
]


def judge(client: Any) -> tuple[int | None, str | None]:
    """Return the code of the closed socket, and of the error that came before."""
    told = None
    try:
        while True:
            told = json.loads(client.recv(20))
    except ConnectionClosed as closed:
        return (None if closed.rcvd is None else closed.rcvd.code), (told or {}).get("code")


def test_nonsense_ends_with_a_code_and_harms_nobody(
    start: Start, sound: NDArray[np.float32], tiny_separator: Path
) -> None:
    running = start()
    good = Client(running)
    pieces = cut(sound, (2000,))
    for first, code, name in BAD:
        with good.connect() as bad:
            bad.send(first)
            assert judge(bad) == (code, name), str(first)[:100]
        if pieces:
            good.socket.send(pieces.pop(0))
    for later, code, name in BAD_LATER:
        bad = Client(running, resume=True).socket
        bad.send(later)
        assert judge(bad) == (code, name), str(later)[:100]
        if pieces:
            good.socket.send(pieces.pop(0))
    for piece in pieces:
        good.socket.send(piece)
    good.finish()
    assert_same(good, expected_of(tiny_separator, sound))
    assert running.ask("GET", "/healthz").json["streams"] == {"attached": 0, "waiting": 0}


def test_who_says_nothing_is_let_go(start: Start) -> None:
    running = start(idle_s=0.3)
    client = Client(running)
    assert judge(client.socket) == (4408, "idle")


def test_streams_are_limited_in_number_and_length(start: Start, sound: NDArray[np.float32]) -> None:
    running = start(max_streams=2, max_stream_s=1.0)
    first, second = Client(running), Client(running, resume=True)
    third = Client(running)
    assert (third.ready["code"], judge(third.socket)[0]) == ("busy", 4429)
    second.socket.socket.shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)
    assert Client(running).ready["code"] == "busy", "who waits has a place"
    first.socket.send(sound[: RATE_HZ + 1].tobytes())
    assert judge(first.socket) == (4413, "too_long")
    assert Client(running).ready["type"] == "ready"


def test_a_token_is_asked_for(start: Start) -> None:
    token = "a token that nobody guesses"
    running = start(token=token)
    for given, header, is_right in [
        (None, None, False),
        ("wrong", None, False),
        (None, f"Bearer {token}x", False),
        (token, None, True),
        (None, f"Bearer {token}", True),
    ]:
        headers = {} if header is None else {"Authorization": header}
        address = f"ws://127.0.0.1:{running.port}/v1/stream"
        with connect(address, additional_headers=headers, compression=None) as client:
            client.send(json.dumps(HELLO | ({} if given is None else {"token": given})))
            told = json.loads(client.recv(10))
            assert told["type"] == ("ready" if is_right else "error")
            if not is_right:
                assert judge(client)[0] == 4401


def test_pages_of_other_sites_cannot_listen_in(start: Start) -> None:
    running = start()
    address = f"ws://127.0.0.1:{running.port}/v1/stream"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin="https://evil.example")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
    with connect(address, origin=f"http://127.0.0.1:{running.port}", compression=None) as client:  # type: ignore[arg-type]
        client.send(json.dumps(HELLO))
        assert json.loads(client.recv(10))["type"] == "ready"


def shake_hands(client: socket.socket) -> None:
    """Open a web socket without a library, which would read."""
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    asked = "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    client.sendall(f"{asked}{key}".encode())
    client.recv(100)


def test_who_does_not_read_is_not_heard_and_loses_the_connection(start: Start) -> None:
    running = start(idle_s=1.0)
    with socket.create_connection(("127.0.0.1", running.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        shake_hands(deaf)
        hello = json.dumps(HELLO).encode()
        deaf.sendall(bytes([0x81, 0x80 | 126]) + struct.pack("!H", len(hello)) + bytes(4) + hello)
        sound = np.random.default_rng(0).uniform(-0.1, 0.1, RATE_HZ).astype("<f4").tobytes()
        frame = bytes([0x82, 0x80 | 127]) + struct.pack("!Q", len(sound)) + bytes(4) + sound
        deaf.settimeout(5)
        sent, is_broken = 0, False
        while sent < 300 and not is_broken:
            try:
                deaf.sendall(frame)
                sent += 1
            except OSError:
                is_broken = True
        assert is_broken, "all of it was taken"
        mine = deaf.getsockname()[1]

        def is_connected() -> bool:
            ends = psutil.Process().net_connections("tcp")
            return any(
                end.laddr.port == running.port and end.raddr and end.raddr.port == mine for end in ends
            )

        end_s = time.monotonic() + 10
        while running.ask("GET", "/healthz").json["streams"]["attached"] or is_connected():
            assert time.monotonic() < end_s
            time.sleep(0.05)


def test_pings_of_who_does_not_read_take_no_memory_and_the_last_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, handle = SocketProtocol.connection_made, SocketProtocol.handle_ping
    sizes: list[int] = []

    def begin_small(self: Any, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        begin(self, transport)

    def handle_and_note(self: Any) -> None:
        handle(self)
        sizes.append(self.transport.get_write_buffer_size())

    monkeypatch.setattr(SocketProtocol, "connection_made", begin_small)
    monkeypatch.setattr(SocketProtocol, "handle_ping", handle_and_note)
    running, num_pings = start(), 30_000
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        shake_hands(deaf)
        told = b"".join(
            bytes([0x89, 0x80 | 124]) + bytes(4) + number.to_bytes(124, "big") for number in range(num_pings)
        )
        deaf.sendall(told)
        end_s = time.monotonic() + 8
        while len(sizes) < num_pings:
            assert time.monotonic() < end_s
            time.sleep(0.02)
        assert 2**16 < max(sizes) < 2**20 < len(told)
        last = b""
        while not last.endswith((num_pings - 1).to_bytes(124, "big")):
            assert time.monotonic() < end_s
            last = last[-500:] + deaf.recv(65536)


@pytest.mark.parametrize("windows_at_a_time", [1, 4])
def test_many_at_once_have_what_each_has_alone(
    start: Start, sound: NDArray[np.float32], tiny_separator: Path, windows_at_a_time: int
) -> None:
    running = start(windows_at_a_time=windows_at_a_time)
    sounds = [np.roll(sound, 1000 * number) for number in range(6)]
    latencies_s = [0.5, 0.5, 0.5, 0.75, 0.75, 1.0]
    clients = [Client(running, latency_s=latency_s) for latency_s in latencies_s]

    def work(client: Client, own: NDArray[np.float32]) -> None:
        for piece in cut(own):
            client.socket.send(piece)
        client.finish()

    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, sounds, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (client, own) in enumerate(zip(clients, sounds, strict=True)):
        assert_same(client, expected_of(tiny_separator, own, latency_s=latencies_s[number]))


def test_settings_of_a_server_are_those_of_its_streams(tiny_separator: Path) -> None:
    from pixit.serve.protocol import Hello
    from pixit.serve.server import open_streams_of

    loaded = StreamingSeparator.from_pretrained(
        tiny_separator, device="cpu", settings={"latency_s": 0.75, "activity": {"onset": 0.6}}
    )
    hello = Hello.model_validate(HELLO | {"max_speakers": 3})
    stream = open_streams_of(loaded)(hello)
    assert stream.settings == StreamingSettings.model_validate(
        loaded.settings.model_dump()
        | {"clustering": loaded.settings.clustering.model_dump() | {"max_speakers": 3}}
    )
    assert stream.model is loaded.model
    assert stream.embedder is loaded.embedder


def test_no_message_is_large(start: Start, sound: NDArray[np.float32], tiny_separator: Path) -> None:
    """Neither with a large step nor at the end, so that clients need not change the limits of their libraries."""
    client = Client(start(), step_s=0.75)
    client.socket.send(sound.tobytes())
    client.finish()
    assert max(update["end"] - update["start"] for update in client.updates) == RATE_HZ // 2
    assert [update["final"] for update in client.updates].count(True) == 1
    assert max(map(len, client.frames)) <= 4 + 4 * RATE_HZ // 2 * len(client.updates[-1]["speakers"])
    assert_same(client, expected_of(tiny_separator, sound, step_s=0.75))
