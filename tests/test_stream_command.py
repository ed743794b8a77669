"""`pixit stream`: the command says and writes what the library gives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from pixit.cli import cli
from pixit.cli.stream import draw
from pixit.formats.rttm import rttm_line
from pixit.pipeline.live import Update
from pixit.pipeline.live_run import Moment
from pixit.pipeline.streaming import StreamingSeparator
from pixit.results import Separation
from pixit.types import Turn

RATE_HZ = 16000


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """Noise that comes and goes, 5.3 s."""
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.3, 0.3, round(5.3 * RATE_HZ)) * (np.arange(round(5.3 * RATE_HZ)) % 32000 < 20000)
    soundfile.write(tmp_path / "call.wav", sound, RATE_HZ)
    return tmp_path / "call.wav"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["stream", *map(str, arguments)], catch_exceptions=False)


def expect(call: Path, tiny_separator: Path, **settings: Any) -> tuple[list[str], Update]:
    """Return the lines of RTTM, and all of the stream, as the library has them."""
    stream = StreamingSeparator.from_pretrained(tiny_separator, device="cpu", settings=settings)
    sound, _ = soundfile.read(call, dtype="float32")
    windows = stream.feed(sound)
    update = stream.take(stream.hear(windows + stream.end()))
    closed = [Turn(t.start_s, t.end_s, t.speaker) for t in update.turns if t.end_s is not None]
    return [rttm_line("call", turn) for turn in closed], update


def test_turns_are_printed_and_written(call: Path, tiny_separator: Path, tmp_path: Path) -> None:
    lines, update = expect(call, tiny_separator, latency_s=0.7)
    assert len(lines) >= 2
    out = run(call, "--model", tiny_separator, "--device", "cpu", "--latency", 0.7, "-o", tmp_path / "live")
    assert out.exit_code == 0
    assert out.stdout.splitlines() == lines
    assert "call: 0:05, " in out.stderr
    assert "of real time" in out.stderr
    result = Separation.load(tmp_path / "live" / "call")
    assert result.num_samples == round(5.3 * RATE_HZ)
    for name, track in update.tracks.items():
        np.testing.assert_allclose(np.asarray(result.tracks[name]), track.clip(-1, 1), atol=1 / 2**15)
    assert sorted((tmp_path / "live" / "call" / "call.rttm").read_text().splitlines()) == sorted(lines)


def test_the_result_serves_the_other_commands(call: Path, tiny_separator: Path, tmp_path: Path) -> None:
    run(call, "--model", tiny_separator, "--device", "cpu", "-o", tmp_path / "live", "-q")
    for command in (
        ["report", tmp_path / "live"],
        ["export", tmp_path / "live", "--to", "audacity", "-o", tmp_path / "exported"],
        ["rename", tmp_path / "live" / "call", "SPEAKER_00=Ann"],
    ):
        done = CliRunner().invoke(cli, list(map(str, command)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "live" / "call.html").is_file()
    assert (tmp_path / "live" / "call" / "Ann.wav").is_file()
    assert (tmp_path / "exported").is_dir()


def test_lines_of_json_tell_all(call: Path, tiny_separator: Path) -> None:
    lines, update = expect(call, tiny_separator)
    out = run(call, "--model", tiny_separator, "--device", "cpu", "--jsonl")
    events = [json.loads(line) for line in out.stdout.splitlines()]
    closed = [Turn(e["start"], e["end"], e["speaker"]) for e in events if e["event"] == "closed"]
    assert len(closed) == len(lines)
    final = [event for event in events if event["event"] == "final"]
    assert [event["time"] for event in final] == sorted(event["time"] for event in final)
    assert final[-1]["time"] == 5.3
    assert set(final[-1]["levels_db"]) == set(update.speakers)
    assert events[-1]["event"] == "end"
    assert (events[-1]["duration"], events[-1]["speakers"]) == (5.3, len(update.speakers))
    assert out.stderr == ""


def test_a_pipe_gives_what_the_file_gives(call: Path, tiny_separator: Path) -> None:
    lines, _ = expect(call, tiny_separator)
    sound, _ = soundfile.read(call, dtype="int16")
    command = [
        sys.executable,
        "-m",
        "pixit",
        "stream",
        "-",
        "--model",
        tiny_separator,
        "--device",
        "cpu",
        "--name",
        "call",
    ]
    for kind, data in (("int16", sound), ("float32", (sound / 2**15).astype(np.float32))):
        done = subprocess.run(
            [*command, "--dtype", kind], input=data.tobytes(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().splitlines() == lines


def test_settings_come_from_a_file_and_from_options(call: Path, tiny_separator: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text("step_s: 0.25\nclustering: {delta_new: 0.01, max_speakers: 3}\n")
    out = run(
        *(
            call,
            "--model",
            tiny_separator,
            "--settings",
            path,
            "--set",
            "clustering.rho_update=0.3",
            "--max-speakers",
            1,
        ),
        *("-o", tmp_path / "live"),
    )
    assert out.exit_code == 0
    found = Separation.load(tmp_path / "live" / "call").settings["streaming"]
    assert found["step_s"] == 0.25
    expected = {
        "tau_active": 0.5,
        "rho_update": 0.3,
        "delta_new": 0.01,
        "max_speakers": 1,
        "method": "cosine",
    }
    assert found["clustering"].items() >= expected.items()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_result(
    number: signal.Signals, tiny_separator: Path, tmp_path: Path, call: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "pixit",
        "stream",
        str(call),
        "--model",
        str(tiny_separator),
        "--realtime",
        "--jsonl",
    ]
    child = subprocess.Popen([*command, "-o", tmp_path / "live"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.5)
    child.send_signal(number)
    events = [json.loads(line) for line in child.communicate(timeout=60)[0].splitlines()]
    assert child.returncode == 0
    assert events[-1]["event"] == "end"
    assert 0 < events[-1]["duration"] < 5.3
    assert Separation.load(tmp_path / "live" / "call").duration_s == pytest.approx(
        events[-1]["duration"], abs=1e-3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.wav"], "nowhere.wav: cannot be read as an audio file"),
        (["CALL", "--latency", "7"], "a latency of 7 s; expected the step, 0.5 s, to the window, 1 s"),
        (["CALL", "--step", "-1"], "step_s: input should be greater than 0"),
        (["CALL", "--rate", "8000"], "a file says its own sample rate"),
        (["CALL", "--channel", "3"], "has no channel 3"),
        (["CALL", "--set", "clustering.delta=1"], "did you mean 'delta_new'"),
        (["CALL", "--set", "clustering.delta=1"], "unknown key"),
        (["CALL", "--settings", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["CALL", "--model", "nowhere"], "nowhere"),
        (["ws://127.0.0.1:1"], "cannot be reached"),
        (["CALL", "-o", "CALL"], "cannot be written"),
    ],
)
def test_wrong_inputs_are_one_line(
    arguments: list[str], message: str, call: Path, tiny_separator: Path
) -> None:
    given = [str(call) if argument == "CALL" else argument for argument in arguments]
    out = run(*given, *(() if "--model" in given else ("--model", tiny_separator)))
    assert out.exit_code == 2
    assert message in out.stderr
    assert out.stderr.startswith("pixit: error: ")
    assert out.stderr.count("\n") == 1


def test_what_is_damaged_keeps_what_came_before(tmp_path: Path, tiny_separator: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, 8 * RATE_HZ), RATE_HZ)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out = run(path, "--model", tiny_separator, "-o", tmp_path / "live")
    assert out.exit_code == 0
    assert "pixit: warning: cut: is truncated or damaged after" in out.stderr
    result = Separation.load(tmp_path / "live" / "cut")
    assert 3 < result.duration_s < 5
    assert "truncated" in result.settings["loss"]


def test_a_terminal_shows_who_speaks() -> None:
    from rich.console import Console

    update = Update(0, 1, {})
    levels = {"SPEAKER_00": -20.0, "SPEAKER_01": -100.0}
    moment = Moment("call\x1b[31m", update, 12.5, 10.0, ("SPEAKER_00",), {"SPEAKER_01": 65.0}, levels)
    console = Console(record=True, width=80)
    console.print(draw(moment))
    title, first, second = console.export_text().splitlines()
    assert title.rstrip() == "call\\u001b[31m   0:10   2.5 s behind"
    assert first.split() == ["●", "SPEAKER_00", 13 * "█", "0:00"]
    assert second.split() == ["SPEAKER_01", "1:05"]


def test_quiet_prints_nothing_but_errors(call: Path, tiny_separator: Path, tmp_path: Path) -> None:
    out = run(call, "--model", tiny_separator, "--device", "cpu", "-q")
    assert (out.exit_code, out.stdout, out.stderr) == (0, "", "")
    out = run(call, "--model", tiny_separator, "--device", "cpu", "-q", "--jsonl")
    assert json.loads(out.stdout.splitlines()[-1])["event"] == "end"


def test_a_channel_that_raw_samples_have_not_is_told_before_anything_is_written(tmp_path: Path) -> None:
    out = CliRunner().invoke(
        cli, ["stream", "-", "--channel", "3", "-o", str(tmp_path / "live")], input=b"\0\0"
    )
    assert out.exit_code == 2
    assert "-: has 1 channels, none of number 3" in out.stderr
    assert not (tmp_path / "live").exists()
