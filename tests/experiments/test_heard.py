"""What the networks said once is worth as much as the networks: the same turns, with any settings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation

from pixit.experiments.heard import Heard, hear
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.types import PixitError

PAIRS = [(0.3, 0.2), (0.5, 0.4), (0.5, 0.5), (0.7, 0.2)]
WAYS: dict[str, dict[str, Any]] = {
    "average": {"clustering": {"min_speech_s": 0.3}},
    "mixture": {"embedding": {"signal": "mixture"}, "clustering": {"threshold": 0.3}},
    "count": {"activity": {"decision": "count"}, "clustering": {"method": "agglomerative", "threshold": 0.2}},
    "regular": {"windows": "regular", "step_s": 0.73},
}


def turns_of(diarization: Annotation) -> list[tuple[float, float, str]]:
    return sorted((s.start, s.end, name) for s, _, name in diarization.itertracks(yield_label=True))


def settings_of(way: str, **activity: float) -> SeparationSettings:
    tree = {"step_s": 0.5, "batch_size": 3} | WAYS[way]
    return SeparationSettings.model_validate(tree | {"activity": tree.get("activity", {}) | activity})


@pytest.mark.parametrize("way", WAYS)
def test_turns_are_those_of_the_networks(talks: Any, way: str) -> None:
    embedder = talks.Masks if way == "mixture" else talks.Ears
    separator = Separator(talks.Unsure(), embedder(), settings_of(way), device="cpu")
    path = talks.recordings[0].audio
    heard = hear(separator, separator.open(path), PAIRS, lambda done, total: None)
    different = set()
    for (onset, offset), gap in itertools.product(PAIRS, (0.0, 0.5)):
        chosen = settings_of(way, onset=onset, offset=offset, min_duration_off_s=gap)
        live = Separator(talks.Unsure(), embedder(), chosen, device="cpu")
        expected = turns_of(live.diarize(path).diarization)
        assert turns_of(heard.decide(live.settings)) == expected
        different.add(tuple(expected))
    assert len(different) >= 4  # settings matter


def test_the_networks_hear_everything_once(talks: Any) -> None:
    model, embedder = talks.Unsure(), talks.Ears()
    separator = Separator(model, embedder, settings_of("average"), device="cpu")
    recording = separator.open(talks.recordings[0].audio)
    heard = hear(separator, recording, PAIRS, lambda done, total: None)
    assert model.num_heard == heard.geometry.num_windows
    num_vectors = sum(int((rows >= 0).sum()) for rows in heard.rows)
    assert len(heard.vectors) <= embedder.num_heard < num_vectors  # some had the same weights


def test_an_offset_above_the_onset_is_the_onset(talks: Any) -> None:
    separator = Separator(talks.Unsure(), talks.Ears(), settings_of("average"), device="cpu")
    heard = hear(separator, separator.open(talks.recordings[0].audio), [(0.5, 0.5)], lambda *_: None)
    above = settings_of("average", onset=0.5, offset=0.9).model_copy(
        update={"clustering": separator.settings.clustering}
    )
    assert turns_of(heard.decide(above))


def test_it_is_saved_whole_and_a_damaged_file_is_named(talks: Any, tmp_path: Path) -> None:
    separator = Separator(talks.Unsure(), talks.Ears(), settings_of("average"), device="cpu")
    heard = hear(separator, separator.open(talks.recordings[1].audio), PAIRS, lambda done, total: None)
    heard.save(tmp_path / "heard.npz")
    again = Heard.load(tmp_path / "heard.npz")
    assert (again.uri, again.geometry, again.thresholds) == (heard.uri, heard.geometry, heard.thresholds)
    assert turns_of(again.decide(separator.settings)) == turns_of(heard.decide(separator.settings))
    whole = (tmp_path / "heard.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"nothing"):
        (tmp_path / "heard.npz").write_bytes(damaged)
        with pytest.raises(PixitError, match=r"heard\.npz: cannot be read .* remove it"):
            Heard.load(tmp_path / "heard.npz")


@pytest.mark.parametrize("length", [1, 5000])
def test_silence_is_heard_too(talks: Any, tmp_path: Path, length: int) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(length), 1000)
    separator = Separator(talks.Unsure(), talks.Ears(), settings_of("average"), device="cpu")
    heard = hear(separator, separator.open(tmp_path / "silence.wav"), PAIRS, lambda done, total: None)
    assert len(heard.vectors) == 0
    assert not heard.decide(separator.settings)
