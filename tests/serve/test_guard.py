"""Who may do what, and what is written down of it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pixit.cli import cli
from pixit.serve.guard import key_of
from pixit.serve.limits import Rate
from pixit.serve.server import check_address
from pixit.types import PixitError

TOKEN = "a token that nobody guesses"
Start = Callable[..., Any]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_token(host: str) -> None:
    check_address(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.example.org"])
def test_other_machines_need_one(host: str) -> None:
    with pytest.raises(PixitError, match="PIXIT_TOKEN"):
        check_address(host, None)
    check_address(host, TOKEN)


@pytest.mark.parametrize("token", ["", "short", "a" * 15, "ä" * 20, "a\n" * 20])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(PixitError, match="the token"):
        check_address("127.0.0.1", token)


def test_the_command_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["serve", "--host", "0.0.0.0", "--folder", str(tmp_path / "served")])
    assert done.exit_code == 2
    assert "PIXIT_TOKEN" in done.stderr
    assert not (tmp_path / "served").exists()


def test_everything_that_tells_something_asks_for_the_token(start: Start, noise: Path) -> None:
    running = start(token=TOKEN)
    right = {"Authorization": f"Bearer {TOKEN}"}
    job = running.ask("POST", "/v1/recordings", noise.read_bytes(), **right).json["id"]
    done = running.wait(job, "done", **right)
    asked = [("POST", "/v1/recordings"), ("GET", f"/v1/jobs/{job}"), ("DELETE", f"/v1/jobs/{job}")]
    asked += [
        ("GET", f"/v1/jobs/{job}/rttm"),
        ("GET", f"/v1/jobs/{job}/tracks/SPEAKER_00"),
        ("GET", "/metrics"),
    ]
    asked += [("GET", "/nowhere"), ("GET", "//"), ("GET", "/v1/jobs/x/y?key=None"), ("GET", "/v1/../metrics")]
    for given in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
    ):
        for method, path in asked:
            answer = running.ask(method, path, **given)
            assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized"), (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/openapi.json", "/", "/assets/page.js"):
        assert running.ask("GET", path).status == 200
    assert running.ask("GET", "/metrics", **right).status == 200
    links = done["result"]["links"]
    link = links["rttm"]
    assert running.ask("GET", link).status == 200, "a link carries a key of its own"
    assert running.ask("GET", links["tracks"]["SPEAKER_00"]).status == 200
    assert TOKEN not in json.dumps(done)
    other = "0" * 32
    assert running.ask("GET", link.replace(job, other)).status == 401, "and only for its job"
    assert running.ask("GET", f"/v1/jobs/{job}?key={key_of(job, TOKEN)}").status == 401, (
        "and only for results"
    )
    assert running.ask("DELETE", link).status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "192.168.0.1", "127.0.0.1.evil.example", "", "["]
)
def test_a_name_that_leads_here_from_elsewhere_is_refused_without_a_token(start: Start, host: str) -> None:
    """DNS rebinding: a page of that name would be of the same origin."""
    running = start()
    answer = running.ask("GET", "/", Host=host)
    assert (answer.status, answer.json["error"]["code"]) == (403, "wrong_host")
    assert running.ask("GET", "/", Host="localhost:1").status == 200
    assert running.ask("GET", "/", Host="[::1]:1").status == 200


def test_an_origin_that_is_none_is_refused(start: Start) -> None:
    answer = start().ask("GET", "/healthz", Origin="http://[")
    assert (answer.status, answer.json["error"]["code"]) == (403, "wrong_origin")


def test_pages_of_other_sites_are_refused_unless_they_are_allowed(start: Start, noise: Path) -> None:
    running = start(cors=("https://good.example",))
    for origin, status in [
        ("https://evil.example", 403),
        ("null", 403),
        (f"http://127.0.0.1:{running.port}.evil.example", 403),
        (f"http://127.0.0.1:{running.port}", 202),
        ("https://good.example", 202),
    ]:
        answer = running.ask("POST", "/v1/recordings", noise.read_bytes(), Origin=origin)
        assert answer.status == status, origin
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == ("https://good.example" if "good" in origin else None)
    asked = {"Origin": "https://good.example", "Access_Control_Request_Method": "POST"}
    assert running.ask("OPTIONS", "/v1/recordings", **asked).status == 200


def test_cors_is_off(start: Start) -> None:
    running = start(token=TOKEN)
    given = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}
    answer = running.ask("GET", "/metrics", **given)
    assert "access-control-allow-origin" not in answer.headers


def test_answers_carry_a_strict_policy(start: Start) -> None:
    running = start()
    for path in ("/", "/healthz", "/nowhere"):
        headers = running.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_the_page_loads_nothing_from_elsewhere(start: Start) -> None:
    running = start()
    for name in (
        "",
        *(f"assets/{name}" for name in ("page.js", "jobs.js", "live.js", "page.css", "style.css")),
    ):
        text = running.ask("GET", f"/{name}").body.decode()
        assert "http://" not in text
        assert "https://" not in text


def test_requests_are_counted_for_each_address(start: Start) -> None:
    running = start(requests_per_minute=5)
    codes = [running.ask("GET", "/openapi.json").status for _ in range(8)]
    assert codes[0] == 200
    assert codes[-1] == 429
    assert running.ask("GET", "/openapi.json").headers["retry-after"] == "60"
    assert running.ask("GET", "/healthz").status == 200, "who watches is not kept out"


def test_rate() -> None:
    rate = Rate(per_minute=60, most_addresses=2)
    assert [rate.allows("a", 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert rate.allows("b", 0.0)
    assert not rate.allows("a", 0.5)
    assert rate.allows("a", 1.6)
    assert not rate.allows("a", 1.7)
    for address in ("c", "d", "e"):
        assert rate.allows(address, 2.0)
    assert len(rate._left) == 2, "it remembers a bounded number"
    assert [rate.allows("a", 1e6) for _ in range(61)] == [True] * 60 + [False], (
        "no more than a minute's at once"
    )


def test_the_log_holds_no_secrets(start: Start, noise: Path) -> None:
    log = io.StringIO()
    running = start(token=TOKEN, log=log)
    right = {"Authorization": f"Bearer {TOKEN}"}
    job = running.ask("POST", "/v1/recordings?num_speakers=1", noise.read_bytes(), **right).json["id"]
    done = running.wait(job, "done", **right)
    running.ask("GET", done["result"]["links"]["rttm"])
    running.ask("GET", "/v1/jobs/x?name=secret.wav")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {line["event"] for line in lines} >= {"server_begins", "request", "job_begins", "job_ends"}
    for secret in (TOKEN, job, key_of(job, TOKEN), "secret", noise.name):
        assert str(secret) not in log.getvalue()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"\x16\x03\x01"])
@pytest.mark.parametrize("is_second", [False, True])
def test_who_does_not_say_what_they_want_is_let_go(
    start: Start, said: bytes, is_second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.serve.server.REQUEST_S", 0.5)
    running = start()
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as mute:
        if is_second:
            mute.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert mute.recv(4096).startswith(b"HTTP/1.1 200")
            said = said or b"G"
        began_s = time.monotonic()
        mute.sendall(said)
        with contextlib.suppress(ConnectionResetError):
            while mute.recv(4096):
                pass
        assert time.monotonic() - began_s < 5


def test_who_is_refused_cannot_keep_the_connection_with_a_body_that_never_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.serve.server.REQUEST_S", 0.5)
    running = start(token=TOKEN)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as slow:
        slow.sendall(
            b"POST /v1/recordings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\nx"
        )
        assert slow.recv(4096).startswith(b"HTTP/1.1 401")
        began_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began_s + 5:
                slow.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - began_s < 4


def test_who_is_refused_and_sends_the_rest_hears_why_and_may_ask_again(start: Start) -> None:
    running = start(token=TOKEN)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.connect()
    own = connection.sock
    for token, status in (("wrong", 401), ("wrong", 401), (TOKEN, 202)):
        right = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/recordings", bytes(3_000_000), right)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, connection.sock) == (status, own)
    connection.close()


def test_a_socket_that_is_refused_says_why(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    running = start(requests_per_minute=1)
    running.ask("GET", "/")
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{running.port}/v1/stream")
    response = refused.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert json.loads(response.body)["error"]["code"] == "too_many_requests"
    assert caplog.records == []


def test_who_sends_a_recording_slowly_is_not(
    start: Start, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.serve.server.REQUEST_S", 0.2)
    running, data = start(), noise.read_bytes()

    def slowly() -> Iterator[bytes]:
        for part in range(0, len(data), 1 + len(data) // 4):
            time.sleep(0.15)
            yield data[part : part + 1 + len(data) // 4]

    answer = running.ask("POST", "/v1/recordings", slowly())
    assert answer.status == 202
    running.wait(answer.json["id"], "done")
