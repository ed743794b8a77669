"""The page in a real browser: Debian's Chromium, without a window, driven by Playwright."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.formats.utterances import Utterance
from pixit.report.page import write_report
from pixit.results import Separation
from pixit.types import Turn

RATE_HZ = 16000
SECONDS = 24
TURNS = {"SPEAKER_00": (0.0, 12.0), "<b>Bob</b>": (12.0, 24.0)}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Separation:
    """Two speakers, noise each, one after the other; the mixture is not their sum, so that the two differ."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    annotation, tracks = Annotation(uri="talk"), {}
    for index, (speaker, (start_s, end_s)) in enumerate(TURNS.items()):
        signal = np.zeros(SECONDS * RATE_HZ)
        start, end = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
        signal[start:end] = 0.2 * rng.standard_normal(end - start)
        soundfile.write(folder / f"{index}.wav", np.clip(signal, -1, 1), RATE_HZ, "PCM_16")
        annotation[Segment(start_s, end_s), speaker] = speaker
        tracks[speaker] = Track.open(folder / f"{index}.wav")
    signal = 0.05 * rng.standard_normal(SECONDS * RATE_HZ)
    soundfile.write(folder / "talk.wav", signal, RATE_HZ, "PCM_16")
    settings = {"source": str(folder / "talk.wav"), "channel": "mean"}
    return Separation("talk", annotation, tracks, RATE_HZ, SECONDS * RATE_HZ, settings)


@pytest.fixture(scope="module")
def page_file(spoken: Separation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = tmp_path_factory.mktemp("page") / "scores.json"
    scores.write_text(json.dumps({"title": "DER", "rows": [{"recording": "talk", "der": 12.5}]}))
    return write_report(
        spoken,
        scores.with_name("page.html"),
        reference=[Turn(0, 11, "A"), Turn(13, 20, "B"), Turn(1, 2, "C")],
        scores=[scores],
        transcript=[
            Utterance("talk", "A", 0.5, 2.0, "hello"),
            Utterance("talk", "A", 2.0, 3.0, "there"),
            Utterance("talk", "B", 14.0, 15.0, "<i>bye</i>"),
        ],
    )


@pytest.fixture
def page(chromium: Any, page_file: Path) -> Iterator[Any]:
    """The page, opened; at the end nothing must have been complained of or loaded."""
    with chromium.new_context(viewport={"width": 1300, "height": 900}) as context:
        opened = context.new_page()
        complaints: list[str] = []
        loaded: list[str] = []
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("dialog", lambda dialog: complaints.append(dialog.message))
        opened.on("request", lambda request: loaded.append(request.url))
        opened.goto(page_file.as_uri())
        yield opened
        assert complaints == []
        assert [url for url in loaded if not url.startswith("data:")] == [page_file.as_uri()]


def wait_until(page: Any, expression: str, timeout_s: float = 15) -> None:
    """Wait for an expression; the page's policy forbids what Playwright's own waiting does (eval)."""
    end_s = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end_s, f"{expression} has not come true"
        page.wait_for_timeout(20)


def levels(page: Any) -> list[float]:
    return page.evaluate("player.lanes.map((_, index) => player.level(index))")


def position(page: Any) -> float:
    return page.evaluate("player.position")


def test_it_plays_and_the_cursor_moves(page: Any) -> None:
    assert position(page) == 0
    before = page.locator("#cursor").bounding_box()["x"]
    page.click("#play")
    wait_until(page, "player.position > 1")
    assert page.locator("#play").get_attribute("aria-label") == "Pause"
    mixture, first, second = levels(page)
    assert mixture > 0.05
    assert first == second == 0
    assert page.locator("#cursor").bounding_box()["x"] > before + 20
    page.keyboard.press(" ")  # the button has no focus after a click: the space bar plays and pauses
    stopped = position(page)
    page.wait_for_timeout(200)
    assert position(page) == stopped
    assert page.locator("#play").get_attribute("aria-label") == "Play"


def test_the_clock_keeps_real_time(page: Any) -> None:
    page.keyboard.press(" ")
    wait_until(page, "player.position > 0.2")
    drift_s = page.evaluate(
        """async () => {
            const [time, position] = [performance.now(), player.position];
            await new Promise((done) => setTimeout(done, 2000));
            return player.position - position - (performance.now() - time) / 1000;
        }"""
    )
    assert abs(drift_s) < 0.2


def test_a_click_seeks(page: Any) -> None:
    box = page.locator('.lane[data-lane="1"] canvas').bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert position(page) == pytest.approx(SECONDS / 2, abs=0.1)
    box = page.locator("#overview canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 10)
    assert position(page) == pytest.approx(SECONDS / 4, abs=0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 10)
    page.mouse.up()
    assert position(page) == pytest.approx(SECONDS * 0.75, abs=0.1)


def test_solo_and_mute_say_what_is_heard(page: Any) -> None:
    lane = page.locator('.lane[data-lane="1"]')
    page.keyboard.press(" ")
    lane.locator(".solo").click()
    wait_until(page, "player.level(1) > 0.2 && player.level(0) < 0.01")
    assert lane.locator(".solo").get_attribute("aria-pressed") == "true"
    lane.locator(".solo").click()
    wait_until(page, "player.level(0) > 0.02 && player.level(1) < 0.01")
    lane.locator(".mute").click()  # the tracks are muted at first
    wait_until(page, "player.level(0) > 0.02 && player.level(1) > 0.2")
    page.locator('.lane[data-lane="0"] .mute').click()
    wait_until(page, "player.level(0) < 0.01 && player.level(1) > 0.2")


def test_seeking_while_it_plays_goes_on_from_there(page: Any) -> None:
    page.keyboard.press("2")  # the second speaker, silent in the first half
    page.keyboard.press(" ")
    wait_until(page, "player.position > 0.3")
    assert max(levels(page)) == 0
    page.evaluate("seek(19.5)")  # the clip that ends at 20 s, and the next
    wait_until(page, "player.position > 19.6 && player.level(2) > 0.2")
    wait_until(page, "player.position > 20.3 && player.level(2) > 0.2")
    page.evaluate("seek(1)")  # nothing of what was started before goes on
    wait_until(page, "player.position > 1.3")
    assert max(levels(page)) == 0
    page.evaluate("seek(15)")
    wait_until(page, "player.level(2) > 0.2")
    page.keyboard.press(" ")
    page.wait_for_timeout(200)
    assert max(levels(page)) == 0


def test_it_stops_at_the_end_and_begins_again(page: Any) -> None:
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    assert position(page) == SECONDS - 1
    page.keyboard.press(" ")
    wait_until(page, "!player.playing")
    assert position(page) == SECONDS
    page.keyboard.press(" ")
    wait_until(page, "player.playing && player.position > 0.1 && player.position < 5")


def test_the_keyboard_does_it_all(page: Any) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert position(page) == 11
    page.keyboard.press("ArrowLeft")
    assert position(page) == 6
    page.keyboard.press("Home")
    assert position(page) == 0
    page.keyboard.press("1")
    assert page.evaluate("player.lanes.map((lane) => lane.solo)") == [False, True, False]
    page.keyboard.press("2")
    assert page.evaluate("player.lanes.map((lane) => lane.solo)") == [False, False, True]
    page.keyboard.press("2")
    page.keyboard.press("Shift+1")
    assert page.evaluate("player.lanes.map((lane) => player.audible(lane))") == [True, True, False]
    page.keyboard.press("9")  # there is no such track
    page.keyboard.press("m")
    assert page.locator("#mute").get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("player.volume") == pytest.approx(0.95)
    page.keyboard.press("+")
    assert page.evaluate("view.span") == SECONDS / 2
    page.keyboard.press("f")
    assert page.evaluate("view.span") == SECONDS


def test_all_controls_can_be_reached_and_have_names(page: Any) -> None:
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
                const now = document.activeElement;
                const title = document.getElementById(now.getAttribute("aria-labelledby"));
                const name = now.getAttribute("aria-label") ?? title?.innerText ?? now.innerText ?? "";
                return [now === document.body ? null : name.trim(), getComputedStyle(now).outlineStyle];
            }"""
        )
        if name is None:
            break
        assert name
        assert outline == "solid"
        seen.append(name)
    for expected in ("Play", "Volume", "Position", "Mute Mixture", "Solo SPEAKER_00", "Volume of <b>Bob</b>"):
        assert expected in seen
    page.locator("#zoom-in").focus()
    page.keyboard.press(" ")  # a button with focus is pressed by the space bar
    assert page.evaluate("view.span") == SECONDS / 2
    assert not page.evaluate("player.playing")


def test_words_are_marked_and_lead_to_their_place(page: Any) -> None:
    page.get_by_text("<i>bye</i>").click()
    assert position(page) == 14
    assert page.locator(".transcript .now").all_inner_texts() == ["<i>bye</i>"]
    page.locator("[data-seek]").first.click()
    assert position(page) == 0.5
    assert page.locator(".transcript .now").all_inner_texts() == ["hello"]
    assert len(page.locator(".transcript li").all()) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(chromium: Any, page_file: Path, scheme: str) -> None:
    def brightness(opened: Any, script: str) -> float:
        numbers = opened.evaluate(f"{script}.match(/[\\d.]+/g).slice(0, 3).map(Number)")
        return sum(numbers) / 3 / 255

    paper = "getComputedStyle(document.body).backgroundColor"
    with chromium.new_context(color_scheme=scheme) as context:
        opened = context.new_page()
        opened.goto(page_file.as_uri())
        first = brightness(opened, paper)
        assert first < 0.2 if scheme == "dark" else first > 0.8
        ink = brightness(opened, "getComputedStyle(document.body).color")
        assert abs(first - ink) > 0.6
        opened.click("#theme")
        second = brightness(opened, paper)
        assert abs(first - second) > 0.6


def test_pictures_are_drawn(page: Any) -> None:
    wait_until(page, "Boolean(view.rows[1].spectrum.ready.get('whole0'))")
    page.wait_for_timeout(100)
    colours = page.evaluate(
        """() => {
            const canvas = document.querySelector('.lane[data-lane="1"] canvas');
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const halves = [new Set(), new Set()];
            for (let index = 0; index < pixels.length; index += 4) {
                const half = (index / 4) % canvas.width < canvas.width / 2 ? 0 : 1;
                halves[half].add(pixels.slice(index, index + 4).join());
            }
            return halves.map((half) => half.size);
        }"""
    )
    assert colours[0] > 200  # the speaker talks in the first half
    assert colours[1] < colours[0] / 2


def test_it_fits_a_telephone(chromium: Any, page_file: Path) -> None:
    with chromium.new_context(viewport={"width": 360, "height": 740}) as context:
        opened = context.new_page()
        opened.goto(page_file.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360
        assert opened.locator(".lane canvas").first.bounding_box()["width"] > 300


RENDER = """async (seconds) => {
    const rate = data.sampleRate;
    const shift = 320; // so that nothing is late
    window.AudioContext = function () { return new OfflineAudioContext(1, seconds * rate + shift, rate); };
    player.prepare();
    player.playing = true;
    player.startedAt = shift / rate;
    await Promise.all(clips[0].map((_, index) => index * data.clip < seconds && player.start(0, index)));
    const rendered = await player.context.startRendering();
    return Array.from(rendered.getChannelData(0).slice(shift));
}"""


@pytest.mark.parametrize("sound", ["flac", "opus"])
def test_clips_join_without_a_seam(chromium: Any, spoken: Separation, tmp_path: Path, sound: str) -> None:
    """What is heard of the mixture is the mixture: every sample with flac, in step with it with opus."""
    rough = np.random.default_rng(1).standard_normal(SECONDS * RATE_HZ)
    expected = 0.1 * np.convolve(rough, np.hanning(12), "same")  # noise below some 2 kHz
    soundfile.write(tmp_path / "noise.wav", expected, RATE_HZ, "PCM_16")
    path = write_report(spoken, tmp_path / "page.html", audio=tmp_path / "noise.wav", sound=sound)
    opened = chromium.new_page()
    opened.goto(path.as_uri())
    heard = np.asarray(opened.evaluate(RENDER, SECONDS))
    opened.close()
    assert len(heard) == len(expected)
    if sound == "flac":
        assert np.abs(heard - np.clip(expected, -1, 1)).max() < 2 / 32768
        return
    found = [find_lag(heard, expected, round(at_s * RATE_HZ)) for at_s in (1, 9.85, 10, 19.85, 20, 23)]
    assert len({lag for lag, _ in found}) == 1  # before and after a seam
    assert abs(found[0][0]) <= RATE_HZ // 2000
    assert min(similarity for _, similarity in found) > 0.8
    steps = np.abs(np.diff(heard))
    assert steps[10 * RATE_HZ - 20 : 10 * RATE_HZ + 20].max() < steps.max()  # no click


def find_lag(heard: np.ndarray, expected: np.ndarray, start: int) -> tuple[int, float]:
    """Return by how many samples a stretch of 0.1 s comes later, and how alike (1) it is then."""
    wanted = expected[start : start + RATE_HZ // 10]
    stretches = {lag: heard[start + lag :][: len(wanted)] for lag in range(-100, 101)}
    lag = max(stretches, key=lambda lag: float(wanted @ stretches[lag]))
    norm = np.linalg.norm(wanted) * np.linalg.norm(stretches[lag])
    return lag, float(wanted @ stretches[lag] / norm)
