"""Servers in this process, on loopback, with networks that take no time."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pixit.pipeline.separate import Separator
from pixit.pipeline.workers import Event, Lost, Ready, Task, perform

RATE_HZ = 16000


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Three seconds of noise."""
    path = tmp_path / "private name.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 3 * RATE_HZ), RATE_HZ)
    return path


@dataclass
class Hand:
    """Workers of this process: one, that does what it is given while `gate` is open."""

    separator: Separator | None
    count: int = 1
    advice: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    given: list[Task] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    is_stopped: bool = False

    def start(self) -> int:
        self.events.append(Ready(0))
        return 0

    def give(self, worker: int, task: Task) -> None:
        self.given.append(task)
        self.begun.append(task.uri)

    def listen(self, timeout_s: float | None = None) -> list[Event]:
        events, self.events = self.events, []
        if self.given and self.gate.wait(timeout_s):
            assert self.separator is not None
            return [*events, perform(self.separator, self.given.pop(), 0, events.append)]
        return events

    def end(self, worker: int) -> None:
        self.ended.append(worker)
        self.given.clear()
        self.events.append(Lost(worker, "its worker was ended"))

    def stop(self) -> None:
        self.is_stopped = True


@dataclass
class Answer:
    """What a server answers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that runs."""

    port: int
    hand: Any
    app: Any
    folder: Path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request, and return the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        told = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        return told

    def wait(self, job_id: str, *states: str, timeout_s: float = 30, **headers: str) -> Any:
        """Wait until a job is in one of the states, and return it."""
        end_s = time.monotonic() + timeout_s
        while (job := self.ask("GET", f"/v1/jobs/{job_id}", **headers).json)["state"] not in states:
            assert time.monotonic() < end_s, job
            time.sleep(0.02)
        return job


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Address of an empty database of PostgreSQL, Debian's package; skips where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL on this machine; install Debian's package postgresql")
    own = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to be run by root
    quiet: dict[str, Any] = {"check": True, "capture_output": True, "cwd": "/", **own}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        if own:
            shutil.chown(place, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = f"{place}/data"
        subprocess.run([programs[-1] / "initdb", "-D", data, "-U", "pixit", "-A", "trust"], **quiet)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {place} -c fsync=off"
        command = [programs[-1] / "pg_ctl", "-D", data, "-w"]
        subprocess.run([*command, "-o", options, "-l", f"{place}/log", "start"], **quiet)
        try:
            yield f"postgresql://pixit@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*command, "-m", "immediate", "stop"], **quiet)


@pytest.fixture
def start(tiny_separator: Path, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start servers; they end with the test."""
    from pixit.pipeline.streaming import StreamingSeparator
    from pixit.serve.app import make_app
    from pixit.serve.limits import ServeSettings
    from pixit.serve.logs import Log
    from pixit.serve.server import Server, configure, open_streams_of
    from pixit.serve.storage import Storage

    running: list[tuple[Any, threading.Thread]] = []

    def begin(
        token: str | None = None,
        log: Any = None,
        stream: Any = None,
        is_open: bool = True,
        owner: str = "test",
        windows_at_a_time: int = 1,
        **options: Any,
    ) -> Running:
        settings = ServeSettings(folder=tmp_path / "served", **{"grace_s": 0, **options})
        settings.folder.mkdir(exist_ok=True)
        hand = Hand(Separator.from_pretrained(tiny_separator, device="cpu"))
        if is_open:
            hand.gate.set()
        streams = stream or StreamingSeparator.from_pretrained(tiny_separator, device="cpu")
        address = settings.storage or f"sqlite:///{settings.folder / 'jobs.sqlite'}"
        storage = Storage(address, owner)
        more: dict[str, Any] = {"token": token, "batch_size": windows_at_a_time, "log": Log(log)}
        app = make_app(settings, storage, lambda: hand, open_streams_of(streams), **more)
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(configure(app, settings))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        running.append((server, thread))
        found = Running(listener.getsockname()[1], hand, app, settings.folder)
        end_s = time.monotonic() + 20
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                if found.ask("GET", "/healthz").status == 200:
                    return found
            time.sleep(0.02)
        raise AssertionError("the server does not start")

    def stop() -> None:
        for server, thread in running:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
        running.clear()

    begin.stop = stop  # type: ignore[attr-defined]
    yield begin
    stop()
