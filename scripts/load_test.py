"""Many clients at once, well-behaved and not, against a server of this machine.

    python scripts/load_test.py                                  # 100 clients, a light model
    python scripts/load_test.py --clients 3 --good --model bundled --real-time --seconds 30

A fifth of the clients read slowly, a fifth vanish in the middle, a fifth send nonsense. What all others get is
compared, byte by byte, with what one client alone gets; meanwhile the server's memory is watched, and whether it
answers ``/healthz`` within a second. Everything stays on 127.0.0.1, and ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pixit.types import FrameGrid, LocalOutput

RATE_HZ = 16000
BLOCK_S = 0.1
NUM_SOUNDS = 4
LONGEST_S = 540.0
HELLO = {"type": "hello", "version": 1, "sample_rate": RATE_HZ, "format": "float32", "tracks": "float32"}
NONSENSE: dict[str, tuple[Any, int]] = {
    "wrong JSON": ('{"type": "ack"', 4400),
    "text for sound": ("la la la", 4400),
    "odd bytes": (b"\x00" * 1001, 4422),
    "NaN": (np.full(1600, np.nan, "<f4").tobytes(), 4422),
    "giant message": (b"\x00" * (4 << 20), 1009),
}


class Light(nn.Module):
    """A model that takes no time: low tones are one speaker, high ones another."""

    sample_rate_hz, num_speakers, window_samples = RATE_HZ, 2, 2 * RATE_HZ
    frame_grid = FrameGrid(160, 160)

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 160

    def forward(self, waveforms: Tensor) -> LocalOutput:
        low = nn.functional.avg_pool1d(waveforms, 15, 1, 7)
        sources = torch.cat([low, waveforms - low], dim=1)
        power = nn.functional.avg_pool1d(sources.square(), 160)
        return LocalOutput(torch.where(power > 1e-4, 5.0, -5.0), sources)


class Ear(nn.Module):
    """An embedder that takes no time: how the spectrum is shared out."""

    sample_rate_hz, embedding_size, clustering_threshold = RATE_HZ, 8, 0.3

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        power = torch.fft.rfft(waveforms[:, : 1 << 14]).abs()[:, : 1 << 13]
        shares: Tensor = power.reshape(len(power), self.embedding_size, -1).mean(-1)
        return shares / shares.norm(dim=1, keepdim=True).clamp_min(1e-9)


def serve(model: str, folder: str, num_clients: int) -> None:
    """Run the server, in a process of its own; print its port."""
    from pixit.pipeline.streaming import StreamingSeparator
    from pixit.serve.app import make_app
    from pixit.serve.limits import ServeSettings
    from pixit.serve.logs import Log
    from pixit.serve.server import Server, configure, open_streams_of, share_threads
    from pixit.serve.storage import Storage
    from pixit.serve.workers import make_workers_here

    limits = {"max_streams": num_clients + 30, "requests_per_minute": 100_000, "idle_s": 30}
    settings = ServeSettings(folder=Path(folder), **limits)
    loaded = (
        StreamingSeparator.from_pretrained() if model == "bundled" else StreamingSeparator(Light(), Ear())
    )
    app = make_app(
        settings,
        Storage.in_folder(settings.folder, "load test"),
        make_workers_here((None, None, "cpu", {}), settings),
        open_streams_of(loaded),
        num_threads=share_threads(),
        log=Log(None),
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    Server(configure(app, settings)).run(sockets=[listener])


def make_sound(number: int, seconds: float) -> np.ndarray:
    """Two voices, a low and a high tone with noise, that take turns."""
    rng, time_s = np.random.default_rng(number), np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    turn = np.floor(time_s / (1.3 + 0.2 * number)) % 3
    low, high = np.sin(2 * np.pi * (120 + 20 * number) * time_s), np.sin(2 * np.pi * 3000 * time_s)
    sound = 0.2 * (low * (turn != 1) + high * (turn != 0)) + 0.01 * rng.standard_normal(len(time_s))
    return sound.astype("<f4")


@dataclass
class Outcome:
    """What became of one client."""

    kind: str
    digest: str = ""
    is_right: bool = False
    delays_s: list[float] = field(default_factory=list)
    detail: str = ""


class Client:
    """One client; `kind` says how it behaves."""

    def __init__(self, port: int, kind: str, number: int, sound: np.ndarray, pace: float) -> None:
        self.address, self.kind, self.sound, self.pace = f"ws://127.0.0.1:{port}/v1/stream", kind, sound, pace
        self.rng = np.random.default_rng(number)
        self.number = number
        self.outcome = Outcome(kind)
        self.sent_s: list[float] = []

    async def run(self) -> Outcome:
        small = {
            "max_queue": 1,
            "max_size": None,
            "compression": None,
            "ping_interval": None,
            "open_timeout": 120,
        }
        try:
            async with connect(self.address, **small) as socket:
                resume = self.kind == "vanishes" and self.number % 2 == 0
                await socket.send(json.dumps(HELLO | {"resume": resume}))
                ready = json.loads(await socket.recv())
                if ready["type"] != "ready":
                    self.outcome.detail = ready["code"]
                    return self.outcome
                sending = asyncio.create_task(self._send(socket))
                await self._read(socket, ready["latency_s"])
                await sending
        except (ConnectionClosed, OSError, TimeoutError) as error:
            code = error.rcvd.code if isinstance(error, ConnectionClosed) and error.rcvd is not None else None
            self.outcome.is_right = self.kind == "vanishes" or (
                self.kind == "nonsense" and code == list(NONSENSE.values())[self.number % len(NONSENSE)][1]
            )
            self.outcome.detail = f"{type(error).__name__} {code}"
        return self.outcome

    async def _send(self, socket: ClientConnection) -> None:
        size, started_s = round(BLOCK_S * RATE_HZ), time.monotonic()
        starts = range(0, len(self.sound), size)
        upset_at = int(self.rng.integers(1, len(starts) - 1))
        try:
            for number, start in enumerate(starts):
                if self.pace:
                    await asyncio.sleep(max(0.0, started_s + number * BLOCK_S / self.pace - time.monotonic()))
                if self.kind == "nonsense" and number == upset_at:
                    await socket.send(list(NONSENSE.values())[self.number % len(NONSENSE)][0])
                    return
                if self.kind == "vanishes" and number == upset_at:
                    socket.transport.abort()
                    return
                await socket.send(self.sound[start : start + size].tobytes())
                self.sent_s.append(time.monotonic())
            await socket.send('{"type": "finish"}')
        except ConnectionClosed:
            return

    async def _read(self, socket: ClientConnection, latency_s: float) -> None:
        digest = hashlib.sha256()
        while True:
            text = await socket.recv()
            update = json.loads(text)
            if update["type"] == "error":
                await socket.recv()  # which raises, with the code
            digest.update(str(text).encode())
            if self.sent_s and not update["final"]:  # from the last sample that it took, to the answer
                block = min(len(self.sent_s) - 1, (update["received"] - 1) // round(BLOCK_S * RATE_HZ))
                self.outcome.delays_s.append(time.monotonic() - self.sent_s[block])
            if update["tracks"]:
                digest.update(bytes(await socket.recv()))
            if update["final"]:
                break
            if self.kind == "reads slowly":
                await asyncio.sleep(float(self.rng.uniform(0.05, 0.3)))
        self.outcome.digest = digest.hexdigest()


class Watch:
    """Looks after the server's health and memory, in a thread of its own."""

    def __init__(self, port: int, pid: int) -> None:
        self._port, self._process = port, psutil.Process(pid)
        self._ends = threading.Event()
        self.slowest_s, self.peak_bytes, self.failures = 0.0, 0, 0
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self.first_bytes = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.wait(0.2):
            started_s = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
                connection.request("GET", "/healthz")
                self.failures += connection.getresponse().status != 200
                connection.close()
            except OSError:
                self.failures += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)


async def run_clients(clients: list[Client]) -> list[Outcome]:
    """Run all at once, bounded in time."""
    return await asyncio.wait_for(asyncio.gather(*(client.run() for client in clients)), LONGEST_S)


def kinds_of(count: int, only_good: bool) -> list[str]:
    """Return how each client behaves."""
    fifth = 0 if only_good else count // 5
    bad = ["reads slowly"] * fifth + ["vanishes"] * fifth + ["nonsense"] * fifth
    return ["good"] * (count - len(bad)) + bad


def test(arguments: argparse.Namespace, port: int, pid: int) -> dict[str, Any]:
    """Run the quiet clients, then all, and return what was found."""
    sounds = [make_sound(number, arguments.seconds) for number in range(NUM_SOUNDS)]
    pace = 1.0 if arguments.real_time else 0.0
    quiet = [
        asyncio.run(run_clients([Client(port, "good", 0, sound, 0.0)]))[0].digest
        for sound in sounds[: arguments.clients]
    ]
    kinds = kinds_of(arguments.clients, arguments.good)
    clients = [
        Client(port, kind, number, sounds[number % NUM_SOUNDS], pace) for number, kind in enumerate(kinds)
    ]
    started_s = time.monotonic()
    with Watch(port, pid) as watch:
        outcomes = asyncio.run(run_clients(clients))
    elapsed_s = time.monotonic() - started_s
    for number, outcome in enumerate(outcomes):
        if outcome.kind in ("good", "reads slowly"):
            outcome.is_right = bool(outcome.digest) and outcome.digest == quiet[number % NUM_SOUNDS]
    good = [outcome for outcome in outcomes if outcome.kind == "good"]
    delays_s = np.array([delay for outcome in good for delay in outcome.delays_s] or [0.0])
    sound_s = sum(len(client.sent_s) for client in clients) * BLOCK_S
    return {
        "clients": {
            kind: [kinds.count(kind), sum(o.is_right for o in outcomes if o.kind == kind)]
            for kind in Counter(kinds)
        },
        "wrong": [f"{o.kind}: {o.detail or 'differs'}" for o in outcomes if not o.is_right],
        "elapsed_s": round(elapsed_s, 1),
        "real_time_streams": round(sound_s / elapsed_s, 1),
        "delay_median_s": round(float(np.median(delays_s)), 3),
        "delay_99_s": round(float(np.quantile(delays_s, 0.99)), 3),
        "healthz_slowest_s": round(watch.slowest_s, 3),
        "healthz_failures": watch.failures,
        "memory_before_mb": round(watch.first_bytes / 1e6),
        "memory_peak_mb": round(watch.peak_bytes / 1e6),
    }


def main() -> None:
    """Start a server, run the clients, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0, help="of sound of each client")
    parser.add_argument("--model", choices=["light", "bundled"], default="light")
    parser.add_argument("--good", action="store_true", help="well-behaved clients only")
    parser.add_argument("--real-time", action="store_true", help="send as slowly as it is spoken")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (1 <= arguments.clients <= 200 and 1 <= arguments.seconds <= 120):
        parser.error("expected 1 to 200 clients and 1 to 120 seconds")
    if arguments.serve is not None:
        serve(arguments.model, arguments.serve, arguments.clients)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder, "--model", arguments.model]
        command += ["--clients", str(arguments.clients)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                found = test(arguments, int(server.stdout.readline()), server.pid)
            finally:
                server.terminate()
    if arguments.json:
        print(json.dumps(found))
    else:
        for kind, (count, right) in found.pop("clients").items():
            print(f"{kind:20}{right} of {count} as they should")
        for name, value in found.items():
            print(f"{name:20}{value}")
    sys.exit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
