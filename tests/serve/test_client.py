"""``pixit client`` against a server, through a line that breaks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from pixit.cli import cli
from pixit.results import Separation
from pixit.serve.client import ClientSettings, Received, SessionLost, StreamClient, stream_address
from pixit.serve.following import Following
from pixit.serve.limits import Rate
from pixit.types import PixitError

Start = Callable[..., Any]


class Line:
    """Passes on what goes to a server and comes from it, until it is torn."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends: list[socket.socket] = []
        self.num_bytes = self.num_connections = 0
        self.tear_after: list[int] = []
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                try:
                    other = socket.create_connection(("127.0.0.1", self.to))
                except OSError:
                    one.close()
                    continue
                self.num_connections += 1
                self.ends += [one, other]
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                with self.lock:
                    self.num_bytes += len(data)
                    if self.tear_after and self.num_bytes >= self.tear_after[0]:
                        self.tear_after.pop(0)
                        self.tear()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def tear(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                end.shutdown(socket.SHUT_RDWR)
        self.ends.clear()


@pytest.fixture
def line() -> Iterator[Callable[[int], Line]]:
    lines: list[Line] = []

    def lay(port: int) -> Line:
        lines.append(Line(port))
        return lines[-1]

    yield lay
    for one in lines:
        one.listener.close()
        one.tear()


def run_client(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["client", *map(str, arguments)])


def run_stream(folder: Path, *arguments: object) -> Any:
    return CliRunner().invoke(
        cli, ["stream", *map(str, arguments), "--model", str(folder), "--device", "cpu"]
    )


def assert_same_results(found: Path, expected: Path) -> None:
    ours, theirs = Separation.load(found), Separation.load(expected)
    assert ours.turns == theirs.turns
    assert ours.turns
    assert list(ours.tracks) == list(theirs.tracks)
    for name, track in ours.tracks.items():
        np.testing.assert_array_equal(np.asarray(track), np.asarray(theirs.tracks[name]))


def test_it_prints_and_writes_what_pixit_stream_does(
    start: Start, noise: Path, tiny_separator: Path, tmp_path: Path
) -> None:
    port = start().port
    server = ("--server", f"127.0.0.1:{port}")
    far = run_client(noise, *server, "-o", tmp_path / "far", "--latency", 0.75)
    near = run_stream(tiny_separator, noise, "-o", tmp_path / "near", "--latency", 0.75)
    assert (far.exit_code, near.exit_code) == (0, 0), far.output + near.output
    assert far.stdout.splitlines() == near.stdout.splitlines()
    assert far.stdout.startswith("SPEAKER ")
    (name,) = (path.name for path in (tmp_path / "far").iterdir())
    assert_same_results(tmp_path / "far" / name, tmp_path / "near" / name)
    events = [json.loads(text) for text in run_client(noise, *server, "--jsonl").stdout.splitlines()]
    assert {event["event"] for event in events} == {"opened", "closed", "final"}
    again = run_client(noise, *server, "-o", tmp_path / "far")
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)


@pytest.mark.parametrize("seed", range(3))
def test_a_line_that_tears_changes_nothing(
    start: Start, line: Callable[[int], Line], tiny_separator: Path, tmp_path: Path, seed: int
) -> None:
    rng, path = np.random.default_rng(seed), tmp_path / "long.wav"
    soundfile.write(path, rng.uniform(-0.1, 0.1, 12 * 16000), 16000, "FLOAT")
    torn = line(start().port)
    # hello, sound, updates and tracks: some 3 MB go through it
    torn.tear_after = sorted(rng.integers(200, 2_500_000, 5).tolist())
    said: list[str] = []
    settings = ClientSettings(patience_s=20)
    run = Following(str(path), f"127.0.0.1:{torn.port}", settings, output=tmp_path / "far", say=said.append)
    for _ in run:
        pass
    assert torn.tear_after == []
    assert torn.num_connections >= 4
    assert sum("broke" in text for text in said) >= 3
    assert run_stream(tiny_separator, path, "-o", tmp_path / "near").exit_code == 0
    assert_same_results(tmp_path / "far" / "long", tmp_path / "near" / "long")


def test_a_file_is_sent_anew_to_a_server_that_was_started_again(
    start: Start, line: Callable[[int], Line], tiny_separator: Path, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 4 * 16000), 16000, "FLOAT")
    torn = line(start().port)
    said: list[str] = []
    server = f"127.0.0.1:{torn.port}"
    run = Following(
        str(path), server, ClientSettings(), output=tmp_path / "far", realtime=True, say=said.append
    )
    is_again = False
    for moment in run:
        if moment.final_s > 1 and not is_again:
            is_again = True
            torn.tear()
            start.stop()  # type: ignore[attr-defined]
            torn.to = start().port
    assert any("from its beginning" in text for text in said)
    assert run_stream(tiny_separator, path, "-o", tmp_path / "near").exit_code == 0
    assert_same_results(tmp_path / "far" / "long", tmp_path / "near" / "long")


class Forgetful:
    """A client of a server that forgets streams; an attempt is a list of the speakers of its updates."""

    attempts: ClassVar[list[list[list[str]]]] = []

    def __init__(self, _: str, rate_hz: int, *__: Any) -> None:
        self.rate_hz = rate_hz

    async def run(self, _: Any) -> AsyncIterator[Received]:
        for number, speakers in enumerate(self.attempts.pop(0)):
            tracks = {name: np.full(self.rate_hz, 0.1, np.float32) for name in speakers}
            end = (number + 1) * self.rate_hz
            place = {"start": number * self.rate_hz, "end": end, "received": end}
            message = {"speakers": speakers, "turns": [], "levels": {}, **place}
            yield Received(message, tracks, self.rate_hz)
        if self.attempts:
            raise SessionLost("the server refuses: unknown")


def test_what_lost_attempts_left_is_replaced_whoever_spoke(
    noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.serve.following.StreamClient", Forgetful)
    monkeypatch.setattr(Forgetful, "attempts", [[], [["Ann"], ["Ann", "Bob"]], [], [["SPEAKER_00"]]])
    run = Following(str(noise), "127.0.0.1", ClientSettings(), output=tmp_path)
    assert [moment.update.speakers for moment in run][-1] == ("SPEAKER_00",)
    assert run.folder is not None
    assert {path.stem for path in run.folder.glob("*.wav")} == {"SPEAKER_00"}


def test_a_lost_attempt_that_wrote_nothing_does_not_let_the_next_one_overwrite(
    noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.serve.following.StreamClient", Forgetful)
    monkeypatch.setattr(Forgetful, "attempts", [[["Ann"]]])
    list(Following(str(noise), "127.0.0.1", ClientSettings(), output=tmp_path))
    monkeypatch.setattr(Forgetful, "attempts", [[], [["Bob"]]])
    with pytest.raises(PixitError, match="exists already"):
        list(Following(str(noise), "127.0.0.1", ClientSettings(), output=tmp_path))
    assert list(Separation.load(tmp_path / noise.stem.replace(" ", "_")).tracks) == ["Ann"]


def test_who_comes_back_too_often_waits_and_goes_on(
    start: Start, line: Callable[[int], Line], noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[bool] = []

    def allows(*_: Any) -> bool:
        return not (refused and refused.pop())

    monkeypatch.setattr(Rate, "allows", allows)
    torn = line(start().port)
    said: list[str] = []
    run = Following(str(noise), f"127.0.0.1:{torn.port}", ClientSettings(), realtime=True, say=said.append)
    moments = iter(run)
    next(moments)
    refused += [True] * 3
    torn.tear()
    assert [moment.final_s for moment in moments][-1] == 3
    assert (refused, torn.num_connections, len(said)) == ([], 5, 2)
    refused += [True]
    with pytest.raises(PixitError, match="no more requests from here for now; try again in a minute"):
        list(Following(str(noise), f"127.0.0.1:{torn.port}", ClientSettings()))


def test_a_server_that_stays_away_is_given_up(start: Start, line: Callable[[int], Line], noise: Path) -> None:
    torn = line(start().port)
    run = Following(str(noise), f"127.0.0.1:{torn.port}", ClientSettings(patience_s=0.5), realtime=True)
    began_s, moments = time.monotonic(), iter(run)
    next(moments)
    torn.to = 1
    torn.tear()
    with pytest.raises(PixitError, match="out of reach"):
        list(moments)
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--latency", 0.2), "the server refuses: a latency of 0.2 s"),
        (("--max-speakers", 21), "the server refuses: max_speakers"),
        (("--token", "wrong"), "the server refuses: the token"),
        (("--server", "ftp://127.0.0.1"), "is no address"),
        (("--server", "http://127.0.0.1:1"), "is the server started?"),
    ],
)
def test_what_is_refused_is_one_line(
    start: Start, noise: Path, options: tuple[object, ...], told: str
) -> None:
    running = start(token="a token that nobody guesses")
    server = () if "--server" in options else ("--server", f"http://127.0.0.1:{running.port}")
    token = () if "--token" in options else ("--token", "a token that nobody guesses")
    done = run_client(noise, *server, *token, *options)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_server_is_not_mistaken_for_one(noise: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with suppress(OSError):
            one, _ = listener.accept()
            one.recv(4096)
            one.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            one.close()

    threading.Thread(target=answer, daemon=True).start()
    done = run_client(noise, "--server", f"127.0.0.1:{listener.getsockname()[1]}")
    listener.close()
    assert (done.exit_code, "is it a pixit server" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("localhost:8000", "ws://localhost:8000/v1/stream"),
        ("http://127.0.0.1:1/", "ws://127.0.0.1:1/v1/stream"),
        ("https://pixit.example.org/here", "wss://pixit.example.org/here/v1/stream"),
        ("wss://a/v1/stream", "wss://a/v1/stream"),
    ],
)
def test_addresses(server: str, address: str) -> None:
    assert stream_address(server) == address


@pytest.mark.parametrize("server", ["http://", "file:///etc/passwd", "127.0.0.1:no", "http://a:99999999"])
def test_addresses_that_are_none(server: str) -> None:
    with pytest.raises(PixitError, match="is no address"):
        StreamClient(server, 16000)
