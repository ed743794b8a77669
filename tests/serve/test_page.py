"""The page of a server in a real browser: Debian's Chromium, with a microphone that plays a file."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

RATE_HZ = 48000
Start = Callable[..., Any]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.3, 0.3, 30 * RATE_HZ), RATE_HZ, "PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(spoken: Path) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; install Debian's package chromium")
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    arguments += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    arguments += [f"--use-file-for-fake-audio-capture={spoken}"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page of a server; at the end it must not have complained, nor asked anybody else."""
    complaints: list[str] = []
    contexts = []

    def open_page(port: int) -> Any:
        context = browser.new_context(viewport={"width": 1100, "height": 900}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        own = (f"http://127.0.0.1:{port}/", f"blob:http://127.0.0.1:{port}/", "data:")
        page.on("request", lambda asked: asked.url.startswith(own) or complaints.append(asked.url))
        page.goto(own[0])
        return page

    yield open_page
    for context in contexts:
        context.close()
    expected = re.compile("401|429|503|ERR_FAILED")  # the browser's own words of what a test lets happen
    assert [line for line in complaints if not expected.search(line)] == []


def wait_until(page: Any, is_so: Callable[[], Any], timeout_s: float = 30) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, page.locator("main").inner_text()
        page.wait_for_timeout(50)


def downloaded(page: Any, place: Any) -> bytes:
    with page.expect_download() as waiting:
        place.click()
    return Path(waiting.value.path()).read_bytes()


def is_drawn(page: Any, canvas: str) -> bool:
    """Return whether a canvas shows the colour of the first speaker."""
    return bool(
        page.evaluate(
            """(selector) => {
                const canvas = document.querySelector(selector), probe = document.createElement("canvas");
                const pen = probe.getContext("2d"), style = document.createElement("i");
                document.body.append(style);
                style.style.color = "var(--speaker-0)";
                pen.fillStyle = getComputedStyle(style).color;
                pen.fillRect(0, 0, 1, 1);
                style.remove();
                const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                for (let i = 0; i < data.length; i += 4)
                    if (data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255) return true;
                return false;
            }""",
            canvas,
        )
    )


def test_a_recording_is_sent_shown_and_fetched(start: Start, visit: Any, noise: Path) -> None:
    running = start(is_open=False)
    page = visit(running.port)
    page.fill("#num-speakers", "1")
    with page.expect_file_chooser() as chooser:
        page.locator("h1").click()
        page.keyboard.press("u")
    chooser.value.set_files(noise)
    card = page.locator(".job")
    wait_until(page, lambda: "begins" in card.inner_text() or "waits" in card.inner_text())
    assert card.locator("h2").inner_text() == noise.name
    running.hand.gate.set()
    wait_until(page, lambda: card.locator("audio").count())
    assert "0:03, 1 speaker" in card.inner_text()
    assert running.hand.begun
    assert is_drawn(page, ".job canvas")
    assert b"SPEAKER_00" in downloaded(page, card.get_by_text("RTTM"))
    assert downloaded(page, card.get_by_text("Everything")).startswith(b"PK")
    assert page.evaluate(
        """async () => {
            const audio = document.querySelector(".job audio");
            audio.muted = true;
            await audio.play();
            await new Promise((done) => { audio.ontimeupdate = () => audio.currentTime > 0.2 && done(); });
            return audio.duration;
        }"""
    ) == pytest.approx(3.0, abs=0.01)
    page.set_viewport_size({"width": 390, "height": 800})
    page.reload()  # the tab remembers its jobs
    wait_until(page, lambda: card.locator("audio").count())
    assert card.locator("audio").first.bounding_box()["width"] > 250
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    card.get_by_text("Delete").click()
    wait_until(page, lambda: card.count() == 0)
    assert running.ask("GET", f"/v1/jobs/{running.hand.begun[0]}").status == 404


def test_the_report_opens_beside_it_and_plays(start: Start, visit: Any, noise: Path) -> None:
    page = visit(start().port)
    page.set_input_files("#file", noise)
    wait_until(page, lambda: page.locator(".job audio").count())
    with page.context.expect_page(timeout=60_000) as waiting:
        page.locator(".job").get_by_text("Report").click()
    report = waiting.value
    report.wait_for_load_state()
    assert report.locator(".lane h3").count() >= 2
    report.click("#play")
    end_s = time.monotonic() + 15
    while report.evaluate("player.position") < 0.3:
        assert time.monotonic() < end_s
        report.wait_for_timeout(50)


def test_a_file_that_is_no_recording_is_said_to_be_none(start: Start, visit: Any, tmp_path: Path) -> None:
    page = visit(start().port)
    (tmp_path / "letter.txt").write_text("Dear Sir")
    page.set_input_files("#file", tmp_path / "letter.txt")
    wait_until(page, lambda: page.locator(".job.is-failed").count())
    assert "recording: " in page.locator(".job .state").inner_text()


def test_a_server_that_has_too_much_to_do_is_asked_again(start: Start, visit: Any, noise: Path) -> None:
    running = start()
    page = visit(running.port)
    refusals = {"POST": [429, 503], "GET": [503, 429], "DELETE": [429, 0, 503]}

    def refuse(route: Any) -> None:
        if not refusals[route.request.method]:
            route.continue_()
        elif status := refusals[route.request.method].pop():
            error = {"error": {"code": "busy", "message": "try again"}}
            route.fulfill(status=status, headers={"Retry-After": "0.2"}, body=json.dumps(error))
        else:
            route.abort()

    page.route(re.compile("/v1/recordings|/v1/jobs/"), refuse)
    page.set_input_files("#file", noise)
    card = page.locator(".job")
    wait_until(page, lambda: card.locator("audio").count())
    (job,) = running.hand.begun
    page.locator(".job").get_by_text("Delete").click()
    wait_until(page, lambda: card.count() == 0)
    assert refusals == {"POST": [], "GET": [], "DELETE": []}
    assert running.ask("GET", f"/v1/jobs/{job}").status == 404
    assert page.evaluate("sessionStorage.getItem('jobs')") == "[]"


def test_what_cannot_be_deleted_stays(start: Start, visit: Any, noise: Path) -> None:
    page = visit(start().port)
    page.set_input_files("#file", noise)
    card = page.locator(".job")
    wait_until(page, lambda: card.locator("audio").count())
    page.route(re.compile("/v1/jobs/"), lambda route: route.abort())
    card.get_by_text("Delete").click()
    page.wait_for_timeout(2500)  # longer than a pause
    assert "being deleted" in card.inner_text()
    assert len(json.loads(page.evaluate("sessionStorage.getItem('jobs')"))) == 1


def test_many_jobs_are_asked_for_less_often(start: Start, visit: Any) -> None:
    page = visit(start().port)
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(body=json.dumps({"state": "queued", "place": 3}))

    page.route(re.compile("/v1/jobs/"), answer)
    jobs = [[f"{number:032x}", "a.wav"] for number in range(30)]
    page.evaluate("(jobs) => sessionStorage.setItem('jobs', JSON.stringify(jobs))", jobs)
    page.reload()
    wait_until(page, lambda: len(asked) >= 30)
    page.wait_for_timeout(3000)
    assert len(asked) < 60
    assert "waits, 3 before it" in page.locator(".job").first.inner_text()


def test_the_microphone_is_listened_to_with_the_keyboard(start: Start, visit: Any) -> None:
    running = start()
    page = visit(running.port)
    page.keyboard.press("r")
    wait_until(page, lambda: "SPEAKER_00" in page.locator("#speaking").inner_text())
    assert page.locator("#listen").get_attribute("aria-pressed") == "true"
    wait_until(page, lambda: page.locator("#clock").inner_text() == "0:03")
    assert is_drawn(page, "#live-timeline")
    page.keyboard.press("r")
    links = page.locator("#live-downloads a")
    wait_until(page, links.count)
    samples, rate_hz = soundfile.read(io.BytesIO(downloaded(page, links.first)))
    assert rate_hz == 16000
    assert len(samples) >= 3 * rate_hz
    assert np.abs(samples).max() > 0.01, "the track is silent"
    turns = downloaded(page, page.locator("#live-downloads").get_by_text("RTTM")).decode()
    assert turns.startswith("SPEAKER live 1 ")
    assert page.locator("#live-speakers audio").count() == page.locator("#live-speakers li").count()
    assert page.locator("#listen").get_attribute("aria-pressed") == "false"


def watch_sockets(page: Any) -> None:
    """Keep the sockets that a page opens in `sockets`, so that a test can break them."""
    page.evaluate(
        """() => {
            window.sockets = [];
            const Own = window.WebSocket;
            window.WebSocket = class extends Own { constructor(...a) { super(...a); window.sockets.push(this); } };
        }"""
    )


def test_the_microphone_goes_on_after_a_break(start: Start, visit: Any, spoken: Path) -> None:
    """What is heard before and after the break is as far apart as in the file: nothing is lost or comes twice."""
    running = start()
    page = visit(running.port)
    watch_sockets(page)
    page.click("#listen")
    wait_until(page, lambda: page.locator("#clock").inner_text() == "0:02")
    page.evaluate("sockets[0].onmessage = null")  # what the server says now gets lost
    page.wait_for_timeout(1500)
    page.evaluate("sockets[0].close()")
    wait_until(page, lambda: page.evaluate("sockets.length") == 2)
    wait_until(page, lambda: page.locator("#clock").inner_text() == "0:05")
    page.click("#listen")
    links = page.locator("#live-downloads a")
    wait_until(page, links.count)
    tracks = [link for link in links.all() if ".wav" in link.inner_text()]
    heard = sum(
        soundfile.read(io.BytesIO(downloaded(page, link)))[0] for link in tracks
    )  # which is the mixture
    assert len(heard) >= 5 * 16000
    said = soxr.resample(soundfile.read(spoken)[0], RATE_HZ, 16000)

    def place_of(second: float) -> int:
        part = heard[round(second * 16000) :][:8000]
        size = len(said) + len(part)
        likeness = np.fft.irfft(np.fft.rfft(said, size) * np.conj(np.fft.rfft(part, size)), size)[: len(said)]
        assert likeness.max() > 10 * np.median(np.abs(likeness))
        return int(likeness.argmax())

    assert place_of(4.4) - place_of(0.6) == pytest.approx(3.8 * 16000, abs=480)


def test_the_microphone_goes_on_after_breaks_that_are_far_apart(start: Start, visit: Any) -> None:
    running = start()
    page = visit(running.port)
    watch_sockets(page)
    page.click("#listen")
    wait_until(page, lambda: page.locator("#clock").inner_text() == "0:02")
    page.evaluate("sockets[0].close(4408)")  # as a server does that heard nothing for a while
    wait_until(page, lambda: page.locator("#clock").inner_text() == "0:05")
    page.evaluate("(now => { Date.now = () => now.call(Date) + 600_000; })(Date.now)")  # ten minutes later
    page.evaluate("sockets[1].close()")
    wait_until(page, lambda: page.locator("#clock").inner_text() == "0:08")
    assert page.evaluate("sockets.length") == 3
    assert not page.locator("#error").is_visible()


def test_a_token_is_asked_for_and_kept(start: Start, visit: Any, noise: Path) -> None:
    running = start(token="a token that nobody guesses")
    page = visit(running.port)
    page.locator("#ask-token").wait_for(state="visible")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.locator("#ask-token").wait_for(state="hidden")
    page.set_input_files("#file", noise)
    page.locator("#ask-token").wait_for(state="visible")
    page.fill("#token", "a token that nobody guesses")
    page.keyboard.press("Enter")
    wait_until(page, lambda: page.locator(".job audio").count())
    assert downloaded(page, page.locator(".job").get_by_text("RTTM")).startswith(b"SPEAKER")


def test_help_and_colours_by_keys(start: Start, visit: Any) -> None:
    page = visit(start().port)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
