"""docs/protocol.md: its examples are run as they stand, and its tables hold what the code has."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.sync.client import connect

from pixit.pipeline.streaming import StreamingSeparator
from pixit.serve.jobs import JobOptions
from pixit.serve.protocol import CLOSE_CODES, Hello, Resume

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
Start = Callable[..., Any]


def example(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    return folder


def run(command: list[str], place: Path, port: int) -> str:
    environment = {**os.environ, "PIXIT_SERVER": f"http://127.0.0.1:{port}"}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_a_job(start: Start, place: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    running = start()
    run(["bash", "-euc", example("bash")], place, running.port)
    assert (place / "meeting.rttm").read_text().startswith("SPEAKER ")
    assert soundfile.info(place / "SPEAKER_00.flac").frames == 480_000
    with zipfile.ZipFile(place / "meeting.zip") as archive:
        assert archive.testzip() is None
    assert running.ask("GET", f"/v1/jobs/{running.hand.begun[0]}").status == 404


def test_the_example_of_a_stream(start: Start, place: Path, tiny_separator: Path) -> None:
    code = example("python") + "np.savez('tracks.npz', **tracks)\n"
    out = run([sys.executable, "-c", code], place, start().port)
    samples, rate_hz = soundfile.read(REPOSITORY / "examples" / "meeting.flac", dtype="int16", stop=160_000)
    stream = StreamingSeparator.from_pretrained(tiny_separator, device="cpu", sample_rate_hz=rate_hz)
    updates = [stream.push(samples), stream.finish()]
    turns = [turn for update in updates for turn in update.turns]
    assert [line.split()[:2] for line in out.splitlines()] == [[turn.kind, turn.speaker] for turn in turns]
    assert turns
    with np.load(place / "tracks.npz") as tracks:
        assert list(tracks) == list(updates[-1].speakers)
        for name, track in tracks.items():
            expected = np.concatenate([update.tracks[name] for update in updates])
            np.testing.assert_array_equal(track, np.clip(np.rint(expected * 32768), -32768, 32767))


def test_every_close_code_and_every_refusal_is_in_a_table() -> None:
    table = dict(re.findall(r"^\| (\d{4})[^|]*\| `(\w+)`", PAGE, flags=re.MULTILINE))
    assert {code: int(number) for number, code in table.items()} | {"internal": 1011} == CLOSE_CODES
    for path in (REPOSITORY / "pixit" / "serve").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
                values = [
                    constant.value
                    for argument in node.args
                    for constant in ast.walk(argument)
                    if isinstance(constant, ast.Constant)
                ]
                codes = [
                    value for value in values if isinstance(value, str) and re.fullmatch("[a-z_]+", value)
                ]
                assert all(f"`{code}`" in PAGE for code in codes[:1]), (path, codes)


def test_every_field_is_told(start: Start) -> None:
    told = set(re.findall(r"[`\"](\w+)", PAGE))
    assert {*Hello.model_fields, *Resume.model_fields, *JobOptions.model_fields} <= told
    with connect(f"ws://127.0.0.1:{start().port}/v1/stream", compression=None) as client:
        client.send(json.dumps({"type": "hello", "version": 1, "sample_rate": 16000}))
        assert set(json.loads(client.recv(20))) <= told
        client.send(np.zeros(16000, "<i2").tobytes())
        assert set(json.loads(client.recv(20))) <= told
