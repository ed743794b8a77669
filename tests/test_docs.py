"""The documentation builds: strict links, API pages from the docstrings, nothing from the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

pytest.importorskip("mkdocs", reason="mkdocs is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; every proxy leads nowhere, so that what asks for the network fails."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_api_pages_are_filled_from_the_docstrings(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in (
        "pixit.Separator",
        "pixit.Separator.from_pretrained",
        "pixit.Separation.save",
        "pixit.load_model",
    ):
        assert f'id="{name}"' in page, name
    assert 'id="pixit.Separator.__call__"' in page
    assert "seconds from one window to the next" in page  # the description of a setting


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert site / "index.html" in pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="?([^"\s>]+)', text)
        loaded += re.findall(r'<link[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href="?([^"\s>]+)', text)
        assert not [target for target in loaded if re.match(r"(?:https?:)?//", target)], page


def test_pictures_come_with_the_site(site: Path) -> None:
    assert (site / "examples" / "timeline.png").stat().st_size > 10_000
    assert 'src="examples/timeline.png"' in (site / "index.html").read_text(encoding="utf-8")
