"""One recording in one call: as a separator does it that is loaded once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import pixit
from pixit.pipeline import call
from pixit.pipeline.separate import Separator

RATE_HZ = 16000


def test_separate_loads_a_separator_once(
    tiny_separator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    load = Separator.from_pretrained

    def count(*arguments: Any, **options: Any) -> Separator:
        loaded.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(Separator, "from_pretrained", count)
    call._load_once.cache_clear()
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 2 * RATE_HZ), RATE_HZ)
    settings = {"step_s": 0.25, "clustering": {"threshold": 0.7}}
    result = pixit.separate(path, num_speakers=2, model=tiny_separator, device="cpu", settings=settings)
    assert len(result.speakers) == 2
    assert (result.settings["separation"]["step_s"], result.uri) == (0.25, "a")
    expected = load(tiny_separator, device="cpu", settings=settings)(path, num_speakers=2)
    np.testing.assert_array_equal(result.sources.data, expected.sources.data)
    pixit.separate(path, 1, model=str(tiny_separator), device="cpu", settings=settings)
    assert len(loaded) == 1
    pixit.separate(path, model=tiny_separator, device="cpu")
    assert len(loaded) == 2
    call._load_once.cache_clear()


def test_separate_takes_the_bundled_networks(tmp_path: Path) -> None:
    examples = Path(__file__).resolve().parents[2] / "examples"
    shutil.copy(examples / "meeting.flac", tmp_path / "meeting.flac")
    result = pixit.separate(tmp_path / "meeting.flac", num_speakers=2, device="cpu", settings={"step_s": 5.0})
    assert result.settings["model"] == "bundled"
    assert result.speakers == ["SPEAKER_00", "SPEAKER_01"]
    call._load_once.cache_clear()
