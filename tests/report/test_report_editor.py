"""Corrections on the page, in a real browser: one page for all tests, brought back to its beginning for each."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.cli import cli
from pixit.formats.labelled import read_labelled
from pixit.formats.rttm import read_rttm
from pixit.formats.transcripts import read_transcript, write_transcript
from pixit.formats.utterances import Utterance
from pixit.results import Separation

RATE_HZ = 8000
SECONDS = 20
EVIL = "<img src=x onerror=alert(1)>"
TURNS = [
    (1.0, 4.0, "A"),
    (6.0, 8.0, "A"),
    (12.0, 15.0, "A"),
    (3.0, 5.5, "B"),
    (9.0, 11.0, "B"),
    (16.0, 18.0, EVIL),
]
WORDS = [
    Utterance("talk", "A", 1.0, 3.5, "Déjà vu"),
    Utterance("talk", "B", 3.2, 5.0, f"yes {EVIL}"),
    Utterance("talk", "A", 6.2, 7.8, "no deja"),
]
REFERENCE = [(1.0, 4.0, "X"), (6.5, 8.5, "X"), (12.0, 15.0, "X"), (3.0, 5.5, "Y"), (9.0, 11.0, "Y")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved result, with a transcript beside it; each track is noise of its own level."""
    folder = tmp_path_factory.mktemp("editor")
    rng = np.random.default_rng(0)
    diarization, tracks = Annotation(uri="talk"), {}
    for start_s, end_s, speaker in TURNS:
        diarization[Segment(start_s, end_s), speaker] = speaker
    for index, speaker in enumerate(["A", "B", EVIL]):
        level = 0.1 * (index + 1)
        samples = rng.uniform(-level, level, SECONDS * RATE_HZ)
        soundfile.write(folder / f"{index}.wav", samples, RATE_HZ, "PCM_16")
        tracks[speaker] = Track.open(folder / f"{index}.wav")
    result = Separation("talk", diarization, tracks, RATE_HZ, SECONDS * RATE_HZ)
    saved = result.save(folder / "separated")
    write_transcript(saved.parent / "talk.seglst.json", WORDS)
    return saved


@pytest.fixture(scope="module")
def page_file(saved: Path) -> Path:
    rttm = saved.parent / "reference.txt"
    lines = [f"SPEAKER talk 1 {a} {b - a} <NA> <NA> {who} <NA> <NA>\n" for a, b, who in REFERENCE]
    rttm.write_text("".join(lines))
    done = CliRunner().invoke(cli, ["report", str(saved), "--reference", str(rttm)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return saved.with_name("talk.html")


@pytest.fixture(scope="module")
def opened(chromium: Any, page_file: Path) -> Iterator[Any]:
    """The page; nothing must have been complained of, asked or loaded in all its tests."""
    with chromium.new_context(viewport={"width": 1300, "height": 900}) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto(page_file.as_uri())
        yield page
        page.wait_for_timeout(50)
        own = (page_file.as_uri(), "data:", "blob:")
        assert [line for line in complaints if not line.startswith(own)] == []


RESET = """() => {
    player.pause();
    player.part = null;
    while (turns.past.length) turns.undo();
    [turns.future, turns.saved] = [[], turns.state];
    document.activeElement.blur();
    find("#search").value = "";
    transcript.search("");
    player.setSpeed(1);
    editor.clear();
    view.show(0, data.duration);
    showTurns();
    seek(0);
    scrollTo(0, 0);
}"""


@pytest.fixture
def page(opened: Any) -> Any:
    opened.evaluate(RESET)
    return opened


def wait_until(page: Any, expression: str, timeout_s: float = 15) -> None:
    """Wait for an expression; the page's policy forbids what Playwright's own waiting does (eval)."""
    end_s = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end_s, f"{expression} has not come true"
        page.wait_for_timeout(20)


def turns(page: Any) -> list[tuple[float, float, str]]:
    found = page.evaluate("saving.list().map(({ start, end, speaker }) => [start, end, speaker])")
    return [tuple(turn) for turn in found]


def changed(*, without: list[int] = (), plus: list[tuple[float, float, str]] = ()) -> list[Any]:  # type: ignore[assignment]
    """Return the turns as they were at first, but for some, and others."""
    kept = [turn for index, turn in enumerate(TURNS) if index not in without]
    return sorted([*kept, *plus], key=lambda turn: turn[:2])


def place(page: Any, lane: int, time_s: float, y: float = 9) -> tuple[float, float]:
    """Return where a time is on the screen, on the strip of turns of a lane."""
    canvas = page.locator(f'.lane[data-lane="{lane}"] canvas')
    canvas.evaluate("(canvas) => canvas.scrollIntoView({ block: 'center' })")  # not below the tools
    box = canvas.bounding_box()
    start, span = page.evaluate("[view.start, view.span]")
    return box["x"] + (time_s - start) / span * box["width"], box["y"] + y


def drag(page: Any, lane: int, from_s: float, to_s: float, drop: bool = True) -> None:
    page.mouse.move(*place(page, lane, from_s))
    page.mouse.down()
    page.mouse.move(*place(page, lane, (from_s + to_s) / 2))
    page.mouse.move(*place(page, lane, to_s))
    if drop:
        page.mouse.up()


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def seek(page: Any, time_s: float) -> None:
    page.evaluate(f"seek({time_s})")


# --- correcting by pointer ------------------------------------------------------------------------------


def test_ends_are_dragged(page: Any) -> None:
    assert turns(page) == changed()
    drag(page, 1, 6.0, 5.0)
    assert turns(page)[2][:1] == (pytest.approx(5.0, abs=0.03),)
    drag(page, 1, 8.0, 14.0)  # not into the speaker's next turn
    start, end, _ = turns(page)[2]
    assert (start, end) == (pytest.approx(5.0, abs=0.03), 12.0)
    assert page.evaluate("turns.past.length") == 2, "each drag is one change"
    drag(page, 2, 5.5, 1.0)  # nor beyond its other end
    start, end, _ = next(turn for turn in turns(page) if turn[2] == "B")
    assert (start, end) == (3.0, 3.02)
    press(page, "u", "u", "u")
    assert turns(page) == changed()


def test_a_click_on_a_turn_plays_it_and_stops(page: Any) -> None:
    page.mouse.click(*place(page, 3, 17.9 - 0.2))
    assert page.evaluate("[editor.selected.lane, editor.selected.start, editor.selected.end]") == [3, 16, 18]
    wait_until(page, "player.playing && player.position > 16.2 && player.position < 18")
    page.evaluate("player.move(17.7)")
    wait_until(page, "!player.playing")
    assert page.evaluate("player.position") == 18
    press(page, "Enter")
    wait_until(page, "player.playing && player.position < 17")
    press(page, "l")
    page.mouse.click(*place(page, 1, 10.0, y=60))  # elsewhere the page seeks, and plays on
    wait_until(page, "player.position > 10.1 && player.playing && player.part === null")


def test_a_stretch_is_selected_and_becomes_a_turn(page: Any) -> None:
    page.keyboard.down("Shift")
    drag(page, 2, 13.0, 14.5)
    page.keyboard.up("Shift")
    assert page.locator("#band").bounding_box()["width"] > 50
    page.click("#add")
    new = [turn for turn in turns(page) if turn not in TURNS]
    assert new == [(pytest.approx(13.0, abs=0.03), pytest.approx(14.5, abs=0.03), "B")]
    page.click("#undo")
    assert turns(page) == changed()
    page.click("#redo")
    assert len(turns(page)) == len(TURNS) + 1


# --- correcting by key ----------------------------------------------------------------------------------


def test_the_keyboard_corrects_all(page: Any) -> None:
    press(page, "n", "n")  # A from 1 s, then B from 3 s
    assert page.evaluate("editor.selected.start") == 3
    assert "B, 0:03.0 to 0:05.5" in page.locator("#status").inner_text()
    press(page, "p")
    seek(page, 2)
    press(page, "s")
    assert turns(page) == changed(without=[0], plus=[(1.0, 2.0, "A"), (2.0, 4.0, "A")])
    press(page, "j")  # the second half with the next turn of the speaker
    assert turns(page) == changed(without=[0, 1], plus=[(1.0, 2.0, "A"), (2.0, 8.0, "A")])
    press(page, "Shift+J")
    assert turns(page) == changed(without=[0, 1], plus=[(1.0, 8.0, "A")])
    press(page, "Control+z", "Control+z", "Control+z")
    assert turns(page) == changed()
    press(page, "Control+Shift+z")
    assert len(turns(page)) == len(TURNS) + 1
    press(page, "u")

    seek(page, 9.5)
    press(page, "p", ".", ".")
    seek(page, 9.5)
    press(page, ",", "i")
    assert turns(page) == changed(without=[4], plus=[(9.45, 11.0, "B")])
    seek(page, 11.25)
    press(page, "o")
    assert turns(page) == changed(without=[4], plus=[(9.45, 11.25, "B")])
    press(page, "Delete")
    assert turns(page) == changed(without=[4])
    seek(page, 19.5)
    press(page, "a")
    assert turns(page) == changed(without=[4], plus=[(19.5, 20.0, "B")]), "not beyond the end"
    press(page, *"uuuu")
    assert turns(page) == changed()


def test_a_turn_is_given_to_another_with_its_words(page: Any) -> None:
    press(page, "n", "g")
    assert page.evaluate("document.activeElement.id") == "speaker"
    page.locator("#speaker").select_option("2")
    # A's 1 to 4 s and B's 3 to 5.5 s are one turn now
    assert turns(page) == changed(without=[0, 3], plus=[(1.0, 5.5, "B")])
    assert page.locator(".transcript b").all_text_contents() == ["B", "A"]
    page.evaluate("document.activeElement.blur()")
    press(page, "u")
    assert page.locator(".transcript b").all_text_contents() == ["A", "B", "A"]


def test_times_can_be_written(page: Any) -> None:
    press(page, "n")
    page.fill("#turn-end", "2.5")
    press(page, "Enter")
    assert turns(page)[0] == (1.0, 2.5, "A")
    page.fill("#turn-start", "7")  # beyond its end: as far as it goes
    press(page, "Tab")
    assert turns(page)[0] == (2.48, 2.5, "A")
    page.fill("#turn-start", "")
    press(page, "Tab")
    assert turns(page)[0] == (2.48, 2.5, "A")


def test_speakers_are_renamed(page: Any) -> None:
    press(page, "n", "r")
    page.keyboard.type("Ann Lee")
    press(page, "Enter")
    assert "try Ann_Lee" in page.locator("#status").inner_text()
    page.keyboard.press("Control+a")
    page.keyboard.type("b")
    press(page, "Enter")
    assert "Someone else is called b" in page.locator("#status").inner_text()
    page.keyboard.press("Control+a")
    page.keyboard.type("Änn")
    press(page, "Enter")
    assert page.locator(".lane h3 .name").all_inner_texts() == ["Mixture", "Änn", "B", EVIL]
    assert page.locator(".transcript b").first.text_content() == "Änn"
    assert page.locator("#speaker option").first.inner_text() == "Änn"
    assert page.get_by_label("Mute Änn", exact=True).count() == 1
    page.locator(f'.lane[data-lane="2"] .rename').click()  # noqa: F541
    page.keyboard.type("xx")
    press(page, "Escape")
    assert page.evaluate("turns.state.names[2]") == "B"
    page.evaluate("document.activeElement.blur()")
    press(page, "u")
    assert page.locator('.lane[data-lane="1"] .name').inner_text() == "A"


# --- what is saved is read back -------------------------------------------------------------------------


def save(page: Any, kind: str, folder: Path) -> Path:
    page.click("#save summary")
    with page.expect_download() as waiting:
        page.click(f'[data-save="{kind}"]')
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def edit(page: Any) -> list[tuple[float, float, str]]:
    """Rename A, split its first turn, and give the second to B."""
    page.evaluate("turns.rename(1, 'Ann')")
    press(page, "n")
    seek(page, 2.5)
    press(page, "s", "n", "n")
    page.locator("#speaker").select_option("2")
    page.evaluate("document.activeElement.blur()")
    named = [(a, b, "Ann" if who == "A" else who) for a, b, who in changed(without=[0, 1])]
    return sorted([*named, (1.0, 2.5, "Ann"), (2.5, 4.0, "Ann"), (6.0, 8.0, "B")])


def test_exports_are_read_back(page: Any, tmp_path: Path) -> None:
    expected = edit(page)
    assert turns(page) == expected
    assert page.evaluate("turns.state !== turns.saved")
    path = save(page, "rttm", tmp_path)
    assert path.name == "talk.rttm"
    (found,) = read_rttm(path).values()
    safe = {EVIL: "_img_src=x_onerror=alert(1)_"}
    assert [(t.start_s, t.end_s, t.speaker) for t in found] == [
        (a, pytest.approx(b), safe.get(who, who)) for a, b, who in expected
    ]
    assert page.evaluate("turns.state === turns.saved")

    labels = save(page, "labels", tmp_path)
    done = CliRunner().invoke(
        cli, ["export", str(path), "--to", "audacity", "-o", str(tmp_path / "by_pixit.labels.txt")]
    )
    assert done.exit_code == 0, done.output
    by_pixit = (tmp_path / "by_pixit.labels.txt").read_text()
    assert labels.read_text() == by_pixit.replace(safe[EVIL], EVIL)

    said = read_transcript(save(page, "seglst", tmp_path))
    assert [(u.session, u.speaker, u.start_s, u.end_s, u.words) for u in said] == [
        ("talk", "Ann", 1.0, 3.5, "Déjà vu"),
        ("talk", "B", 3.2, 5.0, f"yes {EVIL}"),
        ("talk", "B", 6.2, 7.8, "no deja"),
    ]
    assert read_labelled([tmp_path / "talk.seglst.json"])[0].utterances


def test_corrections_go_into_the_result(page: Any, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved.parent, tmp_path / "separated")
    expected = edit(page)
    path = save(page, "corrections", tmp_path)
    result = tmp_path / "separated" / "talk"
    done = CliRunner().invoke(cli, ["correct", str(result), str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    loaded = Separation.load(result)
    assert [(t.start_s, t.end_s, t.speaker) for t in loaded.turns] == expected
    assert loaded.speakers == ["Ann", "B", EVIL]
    said = read_transcript(result.parent / "talk.seglst.json")
    assert [u.speaker for u in said] == ["Ann", "B", "B"]
    # the page of the corrected result begins with them
    done = CliRunner().invoke(cli, ["report", str(result), "--sound", "none"], catch_exceptions=False)
    text = (result.parent / "talk.html").read_text(encoding="utf-8")
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    lanes = {lane["name"]: lane["turns"] for lane in data["lanes"]}
    assert lanes["Ann"] == [[a, b] for a, b, who in expected if who == "Ann"]
    assert data["made"] == page.evaluate("data.made")


def test_a_track_is_downloaded(page: Any, saved: Path, tmp_path: Path) -> None:
    with page.expect_download() as waiting:
        page.locator('.lane[data-lane="2"] .download').click()
    waiting.value.save_as(tmp_path / "x.wav")
    assert waiting.value.suggested_filename == "B.wav"
    found, rate_hz = soundfile.read(tmp_path / "x.wav", dtype="int16")
    expected, _ = soundfile.read(saved / "B.wav", dtype="int16")
    assert rate_hz == RATE_HZ
    assert np.abs(found.astype(int) - expected).max() <= 1


# --- finding --------------------------------------------------------------------------------------------


def test_links_to_times(page: Any) -> None:
    page.evaluate("location.hash = '#t=7.5'")
    wait_until(page, "player.position === 7.5")
    page.evaluate("location.hash = '#t=9,11'")
    wait_until(page, "player.position === 9")
    assert page.evaluate("[editor.selected.lane, editor.selected.turn.end]") == [2, 11], "it is B's turn"
    page.evaluate("location.hash = '#t=2,99'")
    wait_until(page, "player.position === 2")
    assert page.evaluate("[editor.selected.start, editor.selected.end, editor.selected.turn]") == [
        2,
        20,
        None,
    ]
    for nonsense in ("#t=x", "#t=", "#t=3,", "#u=4", "#t=9..9"):
        page.evaluate(f"location.hash = '{nonsense}'")
    page.wait_for_timeout(50)
    assert page.evaluate("player.position") == 2
    press(page, "Escape", "Home", "n")
    assert page.evaluate("location.hash") == "#t=1,4"


def test_the_transcript_is_searched(page: Any) -> None:
    press(page, "/")
    page.keyboard.type("DEJA")
    assert page.locator("#transcript output").inner_text() == "2 found"
    press(page, "Enter")
    assert page.evaluate("player.position") == 1
    press(page, "Enter")
    assert page.locator("#transcript output").inner_text() == "2 of 2"
    assert page.evaluate("player.position") == pytest.approx(6.2)
    assert page.locator(".transcript .here").all_inner_texts() == ["no deja"]
    press(page, "Shift+Enter")
    assert page.evaluate("player.position") == 1
    page.fill("#search", "<img")
    assert page.locator(".transcript .found").all_inner_texts() == [f"yes {EVIL}"]
    page.fill("#search", "nowhere")
    press(page, "Enter")
    assert page.locator("#transcript output").inner_text() == "0 found"


def test_errors_against_the_reference(page: Any) -> None:
    """Against boolean timelines in milliseconds."""

    def errors_by_hand(found: list[Any], name: str, truth: str) -> list[int]:
        own, true = np.zeros((2, SECONDS * 1000), bool)
        for a, b, who in found:
            own[round(a * 1000) : round(b * 1000)] |= who == name
        for a, b, who in REFERENCE:
            true[round(a * 1000) : round(b * 1000)] |= who == truth
        return [int((true & ~own).sum()), int((own & ~true).sum())]

    def errors(lane: int) -> list[int]:
        return page.evaluate(
            f"""["missed", "added"].map((kind) => Math.round(1000 * view.errorsOf({lane})
                .filter((error) => error.kind === kind).reduce((sum, {{ start, end }}) => sum + end - start, 0)))"""
        )

    text = page.locator('.lane[data-lane="1"] .errors')
    assert text.inner_text() == "missed 0.5 s · false alarm 0.5 s"
    press(page, "e")
    assert page.evaluate("[editor.selected.start, editor.selected.end]") == [6, 6.5]
    rng = np.random.default_rng(0)
    for lane, name, truth in ((1, "A", "X"), (2, "B", "Y")):
        page.evaluate(RESET)
        assert errors(lane) == errors_by_hand(TURNS, name, truth)
        for _ in range(4):
            start, length = rng.uniform(0, 18), rng.uniform(0.1, 4)
            page.evaluate(f"turns.add({lane}, {start}, {start + length})")
            press(page, *rng.choice(["n", "p", "Delete", "j", "u"], 3))
            assert errors(lane) == errors_by_hand(turns(page), name, truth)
    page.evaluate(RESET)
    seek(page, 6.6)
    press(page, "p")
    for key, time_s in (("i", 6.5), ("o", 8.5)):
        seek(page, time_s)
        press(page, key)
    assert text.inner_text() == "missed 0.0 s · false alarm 0.0 s"


# --- playing --------------------------------------------------------------------------------------------


def test_a_selection_is_looped(page: Any) -> None:
    page.evaluate("editor.selectTime(2, 2.3)")
    press(page, "l")
    assert page.locator("#loop").get_attribute("aria-pressed") == "true"
    seen = page.evaluate(
        """async () => {
            const seen = [];
            const end = performance.now() + 1500;
            while (performance.now() < end) {
                seen.push(player.position);
                await new Promise((done) => setTimeout(done, 20));
            }
            return seen;
        }"""
    )
    assert 2 <= min(seen) <= max(seen) <= 2.3
    assert sum(later < earlier for earlier, later in itertools.pairwise(seen)) >= 2
    press(page, "l")
    assert not page.evaluate("player.playing")


def test_speed(page: Any) -> None:
    press(page, ">", ">", ">")
    assert page.locator("#speed").input_value() == "2"
    press(page, " ")
    wait_until(page, "player.position > 0.3")
    ratio = page.evaluate(
        """async () => {
            const [time, position] = [performance.now(), player.position];
            await new Promise((done) => setTimeout(done, 1000));
            return (player.position - position) / (performance.now() - time) * 1000;
        }"""
    )
    assert ratio == pytest.approx(2, abs=0.2)
    press(page, "<", "<", "<", "<", "<", "<", "<")
    assert page.evaluate("player.speed") == 0.5
    press(page, " ")


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.5, 2])
def test_another_speed_keeps_the_pitch_and_the_time(page: Any, speed: float) -> None:
    rate_hz, seconds, hz = 8000, 2, 210
    times_s = np.arange(seconds * rate_hz) / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * hz * times_s) * (times_s > 1)  # begins in the middle
    out = np.asarray(
        page.evaluate(
            "([samples, speed, rate]) => Array.from(stretch(Float32Array.from(samples), speed, rate))",
            [tone.tolist(), speed, rate_hz],
        )
    )
    assert len(out) == round(len(tone) / speed)
    begins = np.flatnonzero(np.abs(out) > 0.1)[0] / rate_hz
    assert begins == pytest.approx(1 / speed, abs=0.04)
    heard = out[round((1 / speed + 0.1) * rate_hz) : -800]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * rate_hz / len(heard) == pytest.approx(hz, abs=4)
    assert np.sqrt(2 * np.mean(heard**2)) == pytest.approx(0.5, abs=0.03), "no piece cancels another"


# --- how it looks ---------------------------------------------------------------------------------------


def test_help_lists_every_key(page: Any) -> None:
    press(page, "?")
    shown = set("".join(page.locator("#help kbd").all_inner_texts()).lower())
    letters = {key for key in page.evaluate("Object.keys(keys)") if len(key) == 1 and key not in " =-?"}
    assert letters <= shown
    press(page, "a")  # keys of the page rest
    assert turns(page) == changed()
    press(page, "Escape")
    assert not page.evaluate("find('#help').open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_in_light_and_dark(chromium: Any, page_file: Path, scheme: str) -> None:
    viewport = {"width": 360, "height": 740}
    with chromium.new_context(
        viewport=viewport, color_scheme=scheme, has_touch=True, is_mobile=True
    ) as context:
        page = context.new_page()
        page.goto(page_file.as_uri() + "#t=1,4")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("editor.selected.turn.end") == 4
        sizes = page.evaluate(
            "[...document.querySelectorAll('.transport button, .transport select')]"
            ".filter((one) => one.checkVisibility()).map((one) => one.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 40, "large enough for a finger"
        page.locator("#save summary").tap()
        menu = page.locator("#save div").bounding_box()
        assert menu["x"] >= 0
        assert menu["x"] + menu["width"] <= 360
        colours = page.evaluate(
            "['--missed', '--added', '--reference', '--card'].map((name) => view.colour(`var(${name})`))"
        )
        assert len(set(colours)) == 4
        page.locator("#help-open").tap()
        assert page.locator("#help").bounding_box()["width"] <= 360


def test_only_what_is_visible_is_drawn(page: Any) -> None:
    """Two hours with five thousand turns: what is drawn does not grow with them."""
    drawn = page.evaluate(
        """() => {
            const lane = { ...data.lanes[1], kind: "track", turns: [] };
            for (let place = 0; place < 5000; place += 1) lane.turns.push([place * 1.44, place * 1.44 + 1.2]);
            const many = new Turns({ ...data, duration: 7200, lanes: [lane], words: [] });
            return [many.of(0).length, many.within(0, 3600, 3630).length, many.within(0, 7190, 8000).length];
        }"""
    )
    starts = np.arange(5000) * 1.44
    visible = [((starts < b) & (starts + 1.2 > a)).sum() for a, b in ((3600, 3630), (7190, 8000))]
    assert drawn == [5000, *visible]
