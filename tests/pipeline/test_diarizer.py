"""Diarization without separation: the turns are those of a separation, and no sound is made or kept."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixit.diarized import Diarization
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.results import Separation
from pixit.types import LocalActivities, LocalDiarizer, PixitError


@pytest.fixture
def leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Point temporary files to a folder of their own; call it for what is there now."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: sorted(tmp_path.iterdir())


@dataclass
class Listener:
    """An oracle that only diarizes."""

    oracle: Any
    separates = False

    def __post_init__(self) -> None:
        self.sample_rate_hz, self.num_speakers = self.oracle.sample_rate_hz, self.oracle.num_speakers
        self.window_samples, self.frame_grid = self.oracle.window_samples, self.oracle.frame_grid
        self.num_frames = self.oracle.num_frames

    def __call__(self, waveforms: torch.Tensor) -> LocalActivities:
        return LocalActivities(self.oracle(waveforms).activity_logits)


def make_separator(
    oracle: Any, truth: Any, step_s: float = 0.5, only: bool = False, **settings: Any
) -> Separator:
    model = oracle.Model(truth, round(step_s * oracle.rate_hz))
    chosen = SeparationSettings(step_s=step_s, batch_size=3, **settings)
    return Separator(Listener(model) if only else model, oracle.Embedder(), chosen, device="cpu")


@pytest.mark.parametrize("signal", ["separated", "mixture"])
@pytest.mark.parametrize("bounds", [{}, {"num_speakers": 2}])
def test_the_turns_are_those_of_a_separation(
    oracle: Any, leftovers: Any, signal: str, bounds: dict[str, int]
) -> None:
    truth = oracle.conversation(3, 30, seed=2)
    separated = make_separator(oracle, truth, embedding={"signal": signal})(truth.audio, **bounds)
    diarized = make_separator(oracle, truth, embedding={"signal": signal}).diarize(truth.audio, **bounds)
    assert diarized.turns == separated.turns
    assert len(diarized.turns) > 5
    assert diarized.speakers == separated.speakers
    assert (diarized.num_samples, diarized.sample_rate_hz) == (
        separated.num_samples,
        separated.sample_rate_hz,
    )
    assert not isinstance(diarized, Separation)


def test_nothing_is_written(oracle: Any, leftovers: Any) -> None:
    truth = oracle.conversation(2, 10)
    seen: list[Any] = []
    steps: dict[str, list[int]] = {}

    def hook(step: str, _: Any, file: Any, total: int = 0, completed: int = 0) -> None:
        seen.extend(leftovers())
        steps.setdefault(step, []).append(completed)
        assert total in (0, 17)

    make_separator(oracle, truth).diarize(truth.audio, hook=hook)
    assert seen == []
    assert list(steps) == ["segmentation", "embeddings", "discrete_diarization"]
    assert steps["segmentation"] == steps["embeddings"] == [3, 6, 9, 12, 15, 17]


def test_a_model_without_sources_diarizes_by_the_mixture(oracle: Any) -> None:
    truth = oracle.conversation(3, 40, seed=4)
    separator = make_separator(oracle, truth, only=True)
    assert isinstance(separator.model, LocalDiarizer)
    assert separator.settings.embedding.signal == "mixture"  # and results say so
    found = separator.diarize(truth.audio)
    expected = make_separator(oracle, truth, embedding={"signal": "mixture"}).diarize(truth.audio)
    assert found.turns == expected.turns
    assert found.settings["separation"]["embedding"]["signal"] == "mixture"
    with pytest.raises(PixitError, match=r"^Listener: diarizes only.*pixit diarize$"):
        make_separator(oracle, truth, only=True)(truth.audio)


@pytest.mark.parametrize("only", [True, False])
def test_channels_that_are_speakers(oracle: Any, only: bool, leftovers: Any) -> None:
    truth = oracle.conversation(2, 20, seed=1)
    audio = truth.audio | {"waveform": truth.sources}

    class Deaf(oracle.Model):  # hears the channel, and not a mixture that it knows
        def _window(self, mixture: np.ndarray) -> Any:
            frames = mixture[: len(mixture) // 20 * 20].reshape(-1, 20)
            activities = np.zeros((3, len(frames)), bool)
            activities[0] = np.abs(frames).max(axis=1) > 1e-4
            return activities, np.zeros((3, len(mixture)), np.float32)

    def build(is_listener: bool) -> Separator:
        model = Deaf(truth, 500)
        settings = SeparationSettings(step_s=0.5)
        return Separator(Listener(model) if is_listener else model, oracle.Embedder(), settings, device="cpu")

    found = build(only).diarize(audio, channels_are_speakers=True)
    assert leftovers() == []
    separated = build(False)(audio, channels_are_speakers=True)
    assert found.turns == separated.turns
    assert (
        found.settings["speaker_channels"]
        == separated.settings["speaker_channels"]
        == {
            "SPEAKER_00": 0,
            "SPEAKER_01": 1,
        }
    )


def test_silence_has_no_speakers(oracle: Any) -> None:
    truth = oracle.Conversation(np.zeros((1, 4000), np.float32), np.zeros((1, 4000), bool))
    found = make_separator(oracle, truth, only=True).diarize(truth.audio)
    assert (found.turns, found.speakers) == ((), [])


def test_the_request_is_that_of_a_separation_but_for_the_tracks(oracle: Any) -> None:
    """A separation answers it, too; how tracks would be stitched does not matter."""
    truth = oracle.conversation(2, 6)
    request = make_separator(oracle, truth).diarize(truth.audio).settings["request"]
    other = (
        make_separator(oracle, truth, stitching={"keep_room": False}).diarize(truth.audio).settings["request"]
    )
    assert request == other
    of_tracks = make_separator(oracle, truth)(truth.audio).settings["request"]
    stitching = of_tracks["separation"].pop("stitching")
    assert stitching["keep_room"] is True
    assert of_tracks == request


def test_a_result_is_saved_and_loaded(oracle: Any, tmp_path: Path) -> None:
    truth = oracle.conversation(2, 8)
    found = make_separator(oracle, truth).diarize(truth.audio)
    folder = found.save(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["meeting.json", "meeting.rttm", "timeline.png"]
    assert type(Diarization.load(folder)) is Diarization
