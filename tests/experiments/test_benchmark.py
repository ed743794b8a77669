"""`pixit benchmark`: what is measured is what ran, in turns; and the tables say what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from pixit.audio import TrackWriter, open_audio
from pixit.cli import cli
from pixit.experiments import benchmark
from pixit.experiments.benchmark import Answer, Grid, Job, make_jobs, measure, summarize, write_excerpt
from pixit.types import PixitError, Turn

TURNS = [(0.0, 1.0, "a"), (1.0, 2.0, "b")]


def program(elapsed_s: float = 1.0, turns: Any = TURNS, log: Path | None = None, name: str = "") -> list[str]:
    """Return a command that claims to have measured something."""
    answer = {
        "elapsed_s": elapsed_s,
        "cpu_s": 2 * elapsed_s,
        "peak_bytes": 10**9,
        "turns": turns,
        "stages_s": {},
    }
    note = f"open({str(log)!r}, 'a').write({name!r}); " if log else ""
    return [sys.executable, "-c", f"{note}print('loading'); print({json.dumps(answer)!r})"]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "meeting.flac"
    with TrackWriter(path, 16000, "flac") as writer:
        writer.write(np.linspace(-0.5, 0.5, 16000, dtype=np.float32))
    return path


def test_an_excerpt_repeats_the_recording(recording: Path, tmp_path: Path) -> None:
    whole = open_audio(recording, 16000).read()
    write_excerpt(recording, 2.5, tmp_path / "long.flac")
    expected = np.concatenate([whole, whole, whole[:8000]])
    np.testing.assert_array_equal(open_audio(tmp_path / "long.flac", 16000).read(), expected)
    with pytest.raises(PixitError, match="expected a recording and a length"):
        write_excerpt(recording, 0, tmp_path / "none.flac")


def test_jobs_take_turns(tmp_path: Path) -> None:
    log, seen = tmp_path / "log", []
    jobs = [Job({"step": n}, 1.0, {}, program(log=log, name=n)) for n in "ab"]
    answers = measure(jobs, 3, lambda done, total: seen.append((done, total)))
    assert log.read_text() == "ababab"
    assert seen[-1] == (6, 6)
    assert [len(own) for own in answers] == [3, 3]


def test_every_combination_is_a_job(recording: Path, tmp_path: Path) -> None:
    grid = Grid([1.0, 2.0], [None, 0.5], ["float32"], [1, 2])
    jobs = make_jobs(recording, grid, {"model": None}, tmp_path)
    assert len(jobs) == 8
    assert {(job.length_s, job.request["settings"].get("step_s"), job.threads) for job in jobs} == {
        (length, step, threads) for length in (1.0, 2.0) for step in (None, 0.5) for threads in (1, 2)
    }
    assert open_audio(Path(jobs[-1].request["recording"])).duration_s == 2.0


def test_the_table_says_median_memory_errors_and_agreement() -> None:
    jobs = [Job({"system": name}, 2.0, {}) for name in ("one", "other")]
    swapped = [(0.0, 1.0, "x"), (1.0, 1.5, "y")]  # other names are no error; half a second is missing
    answers = [
        [Answer(elapsed_s, 4.0, 10**9, TURNS, {}) for elapsed_s in (1.0, 8.0, 2.0)],
        [Answer(3.0, 3.0, 2 * 10**9, swapped, {})],
    ]
    reference = [Turn(*turn) for turn in TURNS], 2.0
    table = summarize(jobs, answers, reference, lambda job: jobs[0] if job is jobs[1] else None)
    first, second = table.rows
    assert first["real_time_factor"] == 1.0
    assert (first["fastest"], first["slowest"], first["peak_gb"]) == (0.5, 4.0, 1.0)
    assert (first["der_percent"], second["der_percent"]) == pytest.approx((0, 25))
    assert second["agreement_percent"] == pytest.approx(75, abs=1.2)  # boundaries may be a frame of 8 ms off
    assert "agreement" in table.render()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([sys.executable, "-c", "raise SystemExit('no such model')"], "ended with 1 .no such model"),
        ([sys.executable, "-c", "print('hello')"], "printed no measurement, found 'hello"),
    ],
)
def test_a_program_that_fails_is_named(command: list[str], message: str) -> None:
    with pytest.raises(PixitError, match=message):
        measure([Job({"system": "theirs"}, 1.0, {}, command)], 1)


def test_the_command_measures_itself(recording: Path, tmp_path: Path) -> None:
    """The one test that runs the real thing: bundled model, a process of its own, table and plot."""
    (tmp_path / "meeting.rttm").write_text("SPEAKER meeting 1 0.0 1.0 <NA> <NA> a <NA> <NA>\n")
    files = {name: str(tmp_path / name) for name in ("speed.json", "speed.png", "meeting.rttm")}
    options = ["--length", "1", "--rounds", "1", "--threads", "1", "--reference", files["meeting.rttm"]]
    done = CliRunner().invoke(
        cli, ["benchmark", str(recording), *options, "-o", files["speed.json"], "--plot", files["speed.png"]]
    )
    assert done.exit_code == 0, done.output
    (row,) = json.loads(Path(files["speed.json"]).read_text())["rows"]
    assert row["real_time_factor"] > 0
    assert row["peak_gb"] > 0.1
    assert 0 <= row["der_percent"] <= 300
    assert Path(files["speed.png"]).read_bytes().startswith(b"\x89PNG")


def test_a_reference_of_other_recordings_is_refused(recording: Path, tmp_path: Path) -> None:
    rttm = tmp_path / "all.rttm"
    lines = (f"SPEAKER {uri} 1 0.0 1.0 <NA> <NA> a <NA> <NA>\n" for uri in ("one", "two"))
    rttm.write_text("".join(lines))
    with pytest.raises(PixitError, match="expected the turns of meeting"):
        benchmark.read_reference(rttm, recording)


def test_numbers_of_threads_have_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure) or path.touch())
    jobs = [Job({"step": "1 s"}, 60.0 * n, {}, threads=k) for n in (1, 2) for k in (None, 1, 2)]
    answers = [[Answer(float(n), 1.0, 10**9, TURNS, {})] for n in range(len(jobs))]
    benchmark.plot(jobs, summarize(jobs, answers), tmp_path / "speed.png")
    benchmark.plot(jobs[1::3], summarize(jobs[1::3], answers[1::3]), tmp_path / "speed.png")
    several, one = (figure.axes[0].get_lines() for figure in drawn)
    assert [line.get_label() for line in several] == ["1 s, all threads", "1 s, 1 threads", "1 s, 2 threads"]
    assert [len(line.get_xdata()) for line in several] == [2, 2, 2]
    assert [line.get_label() for line in one] == ["1 s"]
