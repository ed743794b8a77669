"""Jobs by HTTP, as a client sees them."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
import torch
from starlette.routing import Route

from pixit.audio import open_audio
from pixit.files import write_text
from pixit.formats.rttm import read_rttm
from pixit.pipeline.separate import Separator
from pixit.pipeline.streaming import StreamingSeparator
from pixit.pipeline.workers import Progressed
from pixit.serve.app import read_openapi
from pixit.serve.jobs import JobOptions, Jobs
from pixit.serve.limits import ServeSettings
from pixit.serve.logs import Log
from pixit.serve.protocol import Hello
from pixit.serve.server import open_streams_of, serve
from pixit.serve.storage import Storage, StorageError
from pixit.serve.workers import load_separator, make_workers_on
from pixit.types import PixitError

Start = Callable[..., Any]


def files_of(start: Any, tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "served" / "jobs").iterdir())


def test_known_speakers_have_their_names_in_jobs_and_streams(
    start: Start, noise: Path, tiny_separator: Path, tmp_path: Path
) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    soundfile.write(voices / "Ann.wav", np.random.default_rng(1).uniform(-0.1, 0.1, 5 * 16000), 16000)
    stream = StreamingSeparator.from_pretrained(tiny_separator, device="cpu", known_speakers=voices)
    running = start(stream=stream, known_speakers=voices)
    job = running.ask("POST", "/v1/recordings?num_speakers=1", noise.read_bytes()).json
    done = running.wait(job["id"], "done", "failed")
    assert done["result"]["speakers"] == ["Ann"], done
    assert running.ask("GET", done["result"]["links"]["tracks"]["Ann"]).body[:4] == b"fLaC"
    hello = Hello.model_validate({"type": "hello", "version": 1, "sample_rate": 16000})
    opened = open_streams_of(stream)(hello)
    opened.push(open_audio(noise).read())
    opened.finish()
    assert "Ann" in opened.speakers


def test_a_recording_becomes_what_pixit_separate_makes_of_it(
    start: Start, noise: Path, tiny_separator: Path, tmp_path: Path
) -> None:
    running = start()
    answer = running.ask("POST", "/v1/recordings?num_speakers=1&channel=0&format=wav", noise.read_bytes())
    assert answer.status == 202
    job = answer.json
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    done = running.wait(job["id"], "done", "failed")
    expected = Separator.from_pretrained(tiny_separator, device="cpu")(noise, num_speakers=1, channel=0)
    assert done["state"] == "done", done["error"]
    result, links = done["result"], done["result"]["links"]
    assert result["speakers"] == result["tracks"] == expected.speakers == ["SPEAKER_00"]
    assert result["duration_s"] == 3.0
    alone = expected.save(tmp_path / "alone")
    rttm = tmp_path / "found.rttm"
    rttm.write_bytes(running.ask("GET", links["rttm"]).body)
    ((_, turns),) = read_rttm([rttm]).items()
    ((_, expected_turns),) = read_rttm([alone / f"{alone.name}.rttm"]).items()
    assert turns == expected_turns
    track, rate_hz = soundfile.read(io.BytesIO(running.ask("GET", links["tracks"]["SPEAKER_00"]).body))
    np.testing.assert_array_equal(track, soundfile.read(alone / "SPEAKER_00.wav")[0])
    assert rate_hz == 16000
    part = running.ask("GET", links["tracks"]["SPEAKER_00"], Range="bytes=0-3")
    assert (part.status, part.body) == (206, b"RIFF")
    assert running.ask("GET", links["timeline"]).body[:4] == b"\x89PNG"
    with zipfile.ZipFile(io.BytesIO(running.ask("GET", links["zip"]).body)) as archive:
        assert archive.testzip() is None
        ending = {name.rpartition("/")[2].rpartition(".")[2] for name in archive.namelist()}
        assert ending == {"rttm", "json", "png", "wav"}
    report = running.ask("GET", links["report"])
    assert (report.status, report.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "sandbox" in report.headers["content-security-policy"]
    assert b"SPEAKER_00" in report.body


def test_nothing_tells_where_a_recording_lies_or_what_it_was_called(
    start: Start, noise: Path, tmp_path: Path
) -> None:
    log = io.StringIO()
    running = start(log=log)
    good = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
    bad = running.ask(
        "POST", "/v1/recordings", b"no sound at all", Content_Disposition="x; filename=secret.wav"
    )
    told = [json.dumps(running.wait(good, "done")), json.dumps(running.wait(bad.json["id"], "failed"))]
    links = json.loads(told[0])["result"]["links"]
    told += [running.ask("GET", links[name]).body.decode() for name in ("json", "rttm", "report")]
    assert json.loads(told[2])["settings"]["source"] == "recording"
    for text in told:
        assert str(tmp_path) not in text
    assert str(tmp_path) not in log.getvalue()
    assert "secret" not in log.getvalue()
    assert all("event" in json.loads(line) for line in log.getvalue().splitlines())
    assert json.loads(told[1])["error"].startswith("recording: ")
    if os.name == "posix":
        places = [tmp_path / "served" / "jobs", tmp_path / "served" / "jobs" / good]
        assert [place.stat().st_mode & 0o077 for place in places] == [0, 0]


def test_progress_is_told_and_a_place_in_the_queue(start: Start, noise: Path) -> None:
    running = start(is_open=False)
    first, second, third = (
        running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"] for _ in range(3)
    )
    running.wait(first, "running")
    assert running.ask("GET", f"/v1/jobs/{third}").json["place"] == 1
    assert running.ask("GET", f"/v1/jobs/{second}").json["place"] == 0
    early = running.ask("GET", f"/v1/jobs/{first}/rttm")
    assert (early.status, early.json["error"]["code"]) == (409, "not_done")
    running.hand.gate.set()
    for job_id in (first, second, third):
        running.wait(job_id, "done")
    assert running.hand.begun == [first, second, third]
    counts = running.ask("GET", "/metrics").body.decode()
    assert 'pixit_jobs{state="done"} 3.0' in counts


@pytest.mark.parametrize("moment", ["queued", "running", "done"])
def test_what_is_deleted_is_gone(start: Start, noise: Path, tmp_path: Path, moment: str) -> None:
    running = start(is_open=moment == "done")
    first = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
    running.wait(first, "done" if moment == "done" else "running")
    job = (
        running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"] if moment == "queued" else first
    )
    assert running.ask("DELETE", f"/v1/jobs/{job}").status == 204
    assert running.ask("GET", f"/v1/jobs/{job}").status == 404
    assert running.ask("DELETE", f"/v1/jobs/{job}").status == 404
    end_s = time.monotonic() + 10
    while job in files_of(start, tmp_path):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    if moment == "running":
        assert running.hand.ended, "its worker was not ended"
        running.hand.gate.set()
        again = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
        running.wait(again, "done")
    if moment == "queued":
        running.hand.gate.set()
        running.wait(first, "done")
        assert running.hand.begun == [first]


def test_results_expire(start: Start, noise: Path, tmp_path: Path) -> None:
    running = start(keep_s=1)
    job = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
    done = running.wait(job, "done")
    assert done["expires_s"] == pytest.approx(done["finished_s"] + 1)
    end_s = time.monotonic() + 20
    while running.ask("GET", f"/v1/jobs/{job}").status == 200 or job in files_of(start, tmp_path):
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert time.time() > done["expires_s"]


def test_after_a_restart_queued_jobs_go_on_and_the_one_that_was_begun_begins_again(
    start: Start, noise: Path
) -> None:
    running = start(is_open=False)
    jobs = [running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"] for _ in range(2)]
    running.wait(jobs[0], "running")
    start.stop()  # type: ignore[attr-defined]
    running = start()
    for job in jobs:
        running.wait(job, "done")
    assert running.hand.begun == jobs


def test_two_servers_share_jobs_in_postgresql(
    start: Start, noise: Path, postgresql: str, tmp_path: Path
) -> None:
    """Each takes what the other does not, knows all of it, and a job that is deleted here is stopped there."""
    one = start(owner="one", storage=postgresql, is_open=False)
    two = start(owner="two", storage=postgresql, is_open=False)
    jobs = [one.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"] for _ in range(3)]
    end_s = time.monotonic() + 10
    while not (one.hand.begun and two.hand.begun):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    (theirs,) = two.hand.begun
    assert one.ask("DELETE", f"/v1/jobs/{theirs}").status == 204
    while theirs in files_of(start, tmp_path):
        assert time.monotonic() < end_s + 10
        time.sleep(0.05)
    assert (one.hand.ended, two.hand.ended) == ([], [0])
    one.hand.gate.set()
    two.hand.gate.set()
    for job in set(jobs) - {theirs}:
        assert two.wait(job, "done")["result"]["speakers"]
        assert one.ask("GET", f"/v1/jobs/{job}/rttm").body.startswith(b"SPEAKER")
    assert sorted(one.hand.begun + two.hand.begun) == sorted(jobs)


def test_a_database_that_is_away_for_a_while_costs_time_only(
    start: Start, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.serve.jobs.PAUSE_S", 0.1)
    running = start(is_open=False)
    job = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
    running.wait(job, "running")
    storage = Storage.in_folder(running.folder, "test")
    with storage._change() as connection:
        connection.exec_driver_sql("ALTER TABLE pixit_jobs RENAME TO elsewhere")
    away = running.ask("GET", f"/v1/jobs/{job}")
    assert (away.status, away.json["error"]["code"]) == (503, "busy")
    running.hand.gate.set()
    time.sleep(1)
    assert running.ask("GET", "/healthz").status == 200
    with storage._change() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO pixit_jobs")
    running.wait(job, "done")


@pytest.mark.slow
def test_jobs_are_done_on_a_ray_cluster(
    tiny_separator: Path, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is done, one is stopped while it is at work, and one after that is done."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.random.default_rng(0).uniform(-0.1, 0.1, 16000 * 600), 16000)
    settings = ServeSettings(folder=tmp_path, grace_s=0)
    storage = Storage.in_folder(tmp_path, "test")
    make_workers = make_workers_on("auto", (str(tiny_separator), None, "cpu", {}), settings)
    jobs = Jobs(settings, storage, make_workers, Log(None))
    jobs.start()
    try:
        for path in (noise, long, noise):
            job_id = jobs.begin(JobOptions())
            shutil.copy(path, jobs.recording_of(job_id))
            jobs.queue(job_id)
            end_s = time.monotonic() + 120
            while (job := storage.get(job_id)) is None or job.state != "done":
                assert time.monotonic() < end_s
                if path == long and job is not None and job.step is not None:
                    assert jobs.delete(job_id)
                    break
                time.sleep(0.1)
        while len(list((tmp_path / "jobs").iterdir())) > 2:
            assert time.monotonic() < end_s
            time.sleep(0.1)
        assert job is not None
        assert (jobs.result_of(job.id) / "SPEAKER_00.flac").exists()
    finally:
        jobs.stop()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("num_speakers=zero", "num_speakers"),
        ("num_speakers=0", "expected at least 1"),
        ("num_speakers=101", "at most"),
        ("min_speakers=3&max_speakers=2", "lower bound first"),
        ("format=../../etc/passwd", "format"),
        ("channel=left", "channel"),
        ("channel=-1", "channel"),
        ("stream=-1", "stream"),
        ("num_speakers=true", "num_speakers"),
        ("output=/etc", "expected some of num_speakers"),
        ("tracks=perhaps", "tracks"),
    ],
)
def test_options_that_are_none_are_refused(start: Start, noise: Path, query: str, told: str) -> None:
    answer = start().ask("POST", f"/v1/recordings?{query}", noise.read_bytes())
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_options")
    assert told in answer.json["error"]["message"]


def test_a_diarization_has_no_tracks(start: Start, noise: Path) -> None:
    running = start()
    job = running.ask("POST", "/v1/recordings?tracks=false", noise.read_bytes()).json["id"]
    result = running.wait(job, "done")["result"]
    assert result["speakers"]
    assert result["tracks"] == []
    assert running.ask("GET", f"/v1/jobs/{job}/tracks/SPEAKER_00").status == 404


def test_too_much_is_refused_and_nothing_stays(start: Start, noise: Path, tmp_path: Path) -> None:
    running = start(max_upload_bytes=1000, max_queue=1, is_open=False)
    announced = running.ask("POST", "/v1/recordings", noise.read_bytes())
    chunked = running.ask("POST", "/v1/recordings", iter([b"x" * 600] * 3))
    empty = running.ask("POST", "/v1/recordings", b"")
    codes = [(a.status, a.json["error"]["code"]) for a in (announced, chunked, empty)]
    assert codes == [(413, "too_large"), (413, "too_large"), (400, "empty")]
    with socket.create_connection(("127.0.0.1", running.port)) as broken:
        broken.sendall(b"POST /v1/recordings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\nhalf")
    end_s = time.monotonic() + 10
    while files_of(start, tmp_path):
        assert time.monotonic() < end_s, files_of(start, tmp_path)
        time.sleep(0.02)
    for _ in range(2):
        assert running.ask("POST", "/v1/recordings", b"x" * 900).status == 202
        end_s = time.monotonic() + 10
        while not running.hand.begun:
            assert time.monotonic() < end_s
            time.sleep(0.02)
    full = running.ask("POST", "/v1/recordings", b"x" * 900)
    assert (full.status, full.json["error"]["code"], full.headers["retry-after"]) == (503, "busy", "60")


def test_a_disk_that_is_full_is_said_to_be(
    start: Start, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=256 << 20))
    answer = running.ask("POST", "/v1/recordings", noise.read_bytes())
    assert (answer.status, answer.json["error"]["code"]) == (507, "disk_full")
    assert files_of(start, tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=257 << 20))
    assert running.ask("POST", "/v1/recordings", noise.read_bytes()).status == 202


def test_a_result_that_cannot_be_written_is_the_error_of_its_job_alone(
    start: Start, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []

    def full_at_first(path: Path, text: str) -> None:
        places.append(path)
        if len(places) == 1:
            raise PixitError(f"{path}: cannot be written (No space left on device)")
        write_text(path, text)

    monkeypatch.setattr("pixit.serve.jobs.write_text", full_at_first)
    log = io.StringIO()
    running = start(log=log)
    first, second = (running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"] for _ in range(2))
    failed = running.wait(first, "failed", "done")
    assert "No space left on device" in failed["error"]
    assert str(tmp_path) not in failed["error"]
    running.wait(second, "done")
    assert "workers_failed" not in log.getvalue()
    assert (running.hand.is_stopped, running.hand.begun) == (False, [first, second])


def test_progress_that_cannot_be_noted_costs_no_outcome(
    start: Start, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StorageError("the database does not answer")

    log = io.StringIO()
    running = start(log=log)
    listen = running.hand.listen
    told = Progressed(0, "segmentation", 1, 1)  # in one batch with what comes after it
    running.hand.listen = lambda timeout_s=None: [told, *listen(timeout_s)]
    monkeypatch.setattr(Storage, "report", away)
    job_id = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
    running.wait(job_id, "done", timeout_s=4)  # less than the pause after an error
    assert "progress_lost" in log.getvalue()


def test_jobs_have_all_threads_though_streams_have_one_each(
    tiny_separator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def make_app(
        settings: ServeSettings, storage: Storage, make_workers: Any, *_: Any, **options: Any
    ) -> None:
        made.append((make_workers().num_threads, options["num_threads"], torch.get_num_threads()))
        storage.close()
        raise PixitError("that is enough")

    monkeypatch.setattr("pixit.serve.server.make_app", make_app)
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        settings = ServeSettings(folder=tmp_path / "served", jobs=2)
        with pytest.raises(PixitError, match="that is enough"):
            serve("127.0.0.1", 0, None, (str(tiny_separator), None, "cpu"), settings, {}, {})
    finally:
        torch.set_num_threads(before)
    assert made == [(3, 6, 1)]


def test_a_recording_that_is_too_long_fails(tiny_separator: Path, noise: Path) -> None:
    separator = load_separator(str(tiny_separator), None, {}, 2.5, device="cpu")
    for call in (separator, separator.diarize):
        with pytest.raises(PixitError, match="lasts 3 s; expected at most 2 s"):
            call(open_audio(noise))
    separator.most_s = 3.5
    assert separator.diarize(open_audio(noise)).duration_s == 3


@pytest.mark.parametrize("path", ["/v1/jobs/..%2f..%2fetc", "/v1/jobs/x/../../y", f"/v1/jobs/{'0' * 32}"])
@pytest.mark.parametrize("end", ["", "/rttm", "/tracks/..%2f..%2fjobs.sqlite"])
def test_no_path_of_a_client_is_one_on_disk(start: Start, path: str, end: str) -> None:
    answer = start().ask("GET", path + end)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


def test_tracks_and_assets_are_found_by_name_only(start: Start, noise: Path) -> None:
    running = start()
    job = running.ask("POST", "/v1/recordings", noise.read_bytes()).json["id"]
    running.wait(job, "done")
    for name in ("..%2f..%2frecording", "SPEAKER_00.flac", "SPEAKER_00%00", f"{job}.json"):
        assert running.ask("GET", f"/v1/jobs/{job}/tracks/{name}").status == 404
    for name in ("..%2findex.html", "index.html", "..%2f..%2fapp.py", "none.js"):
        assert running.ask("GET", f"/assets/{name}").status == 404
    assert running.ask("GET", "/assets/style.css").status == 200
    assert running.ask("PUT", f"/v1/jobs/{job}").status == 405


def test_the_description_is_of_what_is_there(start: Start, noise: Path) -> None:
    """Every route is described, every described one is there, and answers are as described."""
    running = start()
    described = running.ask("GET", "/openapi.json").json
    assert described == json.loads(json.dumps(read_openapi()))
    there = {
        (route.path, method.lower())
        for route in running.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    operations = {
        (path, method): operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    assert set(operations) == there
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)

    def check(kind: str, value: Any) -> None:
        jsonschema.validate(value, {"$ref": f"#/components/schemas/{kind}", **described})

    created = running.ask("POST", "/v1/recordings?min_speakers=1", noise.read_bytes()).json
    check("Job", created)
    check("Job", running.wait(created["id"], "done"))
    check("Health", running.ask("GET", "/healthz").json)
    check("Error", running.ask("GET", "/v1/jobs/nobody").json)
    check("Error", running.ask("GET", "/nowhere").json)
    with pytest.raises(jsonschema.ValidationError):
        check("Job", created | {"more": 1})


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_job(tiny_separator: Path, tmp_path: Path) -> None:
    """The real program, with workers in processes of their own."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    rng, long = np.random.default_rng(0), tmp_path / "long.wav"
    soundfile.write(long, rng.uniform(-0.1, 0.1, 16000 * 20), 16000)

    def begin() -> tuple[subprocess.Popen[bytes], int]:
        command = [
            sys.executable,
            "-m",
            "pixit",
            "serve",
            "--port",
            "0",
            "--folder",
            str(tmp_path / "served"),
        ]
        command += ["--model", str(tiny_separator), "--device", "cpu"]
        log = tmp_path / f"log-{time.monotonic_ns()}"
        with log.open("w") as file:
            process = subprocess.Popen(command, stderr=file)
        while process.poll() is None:
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            if ports := [line["port"] for line in lines if line["event"] == "listening"]:
                return process, ports[0]
            time.sleep(0.1)
        raise AssertionError(log.read_text())

    def ask(port: int, *arguments: str) -> Any:
        address = f"http://127.0.0.1:{port}"
        command = ["curl", "-sf", *arguments[:-1], address + arguments[-1]]
        for _ in range(100):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return json.loads(done.stdout)
            time.sleep(0.1)
        raise AssertionError(done)

    process, port = begin()
    jobs = [ask(port, "-T", str(long), "-X", "POST", "/v1/recordings")["id"] for _ in range(2)]
    while ask(port, f"/v1/jobs/{jobs[0]}").get("progress") is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    process, port = begin()
    try:
        for job in jobs:
            while (state := ask(port, f"/v1/jobs/{job}"))["state"] != "done":
                assert state["state"] in ("queued", "running")
                time.sleep(0.1)
        left = [path.name for path in (tmp_path / "served").rglob(".pixit-*") if "lock" not in path.name]
        assert left == []
    finally:
        process.terminate()
        assert process.wait(30) == 0
