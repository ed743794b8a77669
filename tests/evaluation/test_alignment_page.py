"""The page of aligned words carries all it needs and opens from disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pixit.cli import cli
from pixit.evaluation.alignment_page import alignment_page
from pixit.formats.transcripts import Utterance, write_transcript
from pixit.types import PixitError

pytest.importorskip("meeteval.viz")


def said(session: str, start_s: float, speaker: str, words: str) -> Utterance:
    return Utterance(session, speaker, start_s, start_s + 1.0, words)


MEETING = [said("m", 0, "A", "a b c"), said("m", 1, "B", "d e"), said("m", 2.5, "A", "f")]


def test_the_page_carries_all_it_needs(tmp_path: Path) -> None:
    evil = [said("</script><b>", 0, "A", "</script> a"), *MEETING]
    page = alignment_page(evil, MEETING, "none")
    assert "</script> a" not in page
    assert "<option>&lt;/script&gt;&lt;b&gt;</option><option>m</option>" in page
    for loads in ('<script src="', '<link rel="stylesheet"', "cdn.jsdelivr.net"):
        assert loads not in page
    assert "d3js.org v7" in page
    with pytest.raises(PixitError, match="no session to show"):
        alignment_page([said("m", 0, "A", "")], [], "none")
    write_transcript(tmp_path / "m.stm", MEETING)
    arguments = [
        tmp_path / "m.stm",
        tmp_path / "m.stm",
        "--normalizer",
        "none",
        "--html",
        tmp_path / "page.html",
    ]
    done = CliRunner().invoke(cli, ["evaluate", "transcript", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_page_opens_in_a_browser_without_network(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.is_file():
        pytest.skip("no chromium")
    page_file = tmp_path / "page.html"
    other = [said("n </script>", 0, "A", "</script> a")]
    page_file.write_text(alignment_page([*MEETING, *other], MEETING[:2], "none"), encoding="utf-8")
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page()
        page.context.set_offline(True)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(page_file.as_uri())
        page.wait_for_selector("#view canvas")
        assert "16.67%" in page.inner_text("#view")
        page.select_option("#session", "n </script>")
        page.wait_for_function("document.querySelector('#view').innerText.includes('100.00%')")
        browser.close()
    assert complaints == []
