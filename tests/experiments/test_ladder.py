"""The ladder: each rung takes away the error of its own task, and of no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from pixit.experiments.ladder import climb, read_cases
from pixit.formats.rttm import rttm_line
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.types import FrameGrid, LocalOutput, PixitError, Turn

RATE_HZ, SPLIT_HZ = 1000, 250
TURNS = [Turn(0.5, 4.5, "low"), Turn(4.0, 8.0, "high"), Turn(8.5, 12.0, "low"), Turn(11.0, 14.5, "high")]


class Bands:
    """Separates a low from a high voice; its activities hang on after each turn if it is `slow`."""

    sample_rate_hz, num_speakers, window_samples = RATE_HZ, 2, 2000
    frame_grid = FrameGrid(step_samples=20, size_samples=20)

    def __init__(self, slow: bool) -> None:
        self.slow, self.rng = slow, np.random.default_rng(0)

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 20

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        spectrum = torch.fft.rfft(waveforms[:, 0])
        low = torch.arange(spectrum.shape[-1]) < SPLIT_HZ * 2
        sources = torch.stack([torch.fft.irfft(spectrum * low), torch.fft.irfft(spectrum * ~low)], dim=1)
        power = sources.unflatten(-1, (-1, 20)).square().mean(-1)
        active = power > 1e-3
        if self.slow:
            active = torch.nn.functional.max_pool1d(active.float(), 41, 1, 20) > 0
        for row in range(len(sources)):  # any order
            order = torch.from_numpy(self.rng.permutation(2))
            sources[row], active[row] = sources[row][order], active[row][order]
        return LocalOutput(torch.where(active, 6.0, -6.0), sources)


class Ears:
    """Hears which band it is, or, if it is deaf, something of its own."""

    sample_rate_hz, embedding_size, clustering_threshold = RATE_HZ, 4, 0.5

    def __init__(self, deaf: bool) -> None:
        self.deaf, self.rng = deaf, np.random.default_rng(1)

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        power = torch.fft.rfft(waveforms).abs().square()
        is_high = power[:, SPLIT_HZ * 2 :].sum(1) > power[:, : SPLIT_HZ * 2].sum(1)
        numbers = self.rng.integers(0, 2, len(waveforms)) if self.deaf else is_high.numpy().astype(int)
        return torch.from_numpy(np.eye(4, dtype=np.float32)[numbers])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording ``talk.wav``, its RTTM, and its sources."""
    folder = tmp_path_factory.mktemp("ladder")
    rng = np.random.default_rng(2)
    spectrum = np.fft.rfft(rng.standard_normal(15 * RATE_HZ))
    cut = len(spectrum) // 2
    voices = {"low": spectrum * (np.arange(len(spectrum)) < cut - 300)}
    voices["high"] = spectrum * (np.arange(len(spectrum)) >= cut + 300)
    mixture = np.zeros(15 * RATE_HZ)
    (folder / "sources" / "talk").mkdir(parents=True)
    for name, values in voices.items():
        talking = np.zeros(15 * RATE_HZ)
        for turn in TURNS:
            if turn.speaker == name:
                talking[int(turn.start_s * RATE_HZ) : int(turn.end_s * RATE_HZ)] = 0.1
        source = np.fft.irfft(values) * talking
        mixture += source
        soundfile.write(folder / "sources" / "talk" / f"{name}.wav", source, RATE_HZ, "FLOAT")
    soundfile.write(folder / "talk.wav", mixture, RATE_HZ, "FLOAT")
    (folder / "talk.rttm").write_text("\n".join(rttm_line("talk", turn) for turn in TURNS) + "\n")
    return folder


def ladder_of(folder: Path, slow: bool, deaf: bool) -> dict[str, dict[str, float]]:
    separator = Separator(Bands(slow), Ears(deaf), SeparationSettings(step_s=0.5), device="cpu")
    cases, notes = read_cases([folder / "talk.wav"], folder / "talk.rttm", folder / "sources")
    assert notes == []
    seen: list[str] = []
    scores = climb(separator, cases, lambda rung, trial: seen.append(rung))
    rows = {row["rung"]: dict(row) for row in scores.table().rows}
    assert seen == list(rows)
    return rows


def test_a_good_system_has_nothing_to_gain(folder: Path) -> None:
    rows = ladder_of(folder, slow=False, deaf=False)
    assert all(row["der_percent"] < 3 for row in rows.values())
    assert all(row["overlap_gain_db"] > 10 for row in rows.values())
    assert all((row["speakers"], row["found"]) == (2, 2) for row in rows.values())


def test_what_the_clustering_loses_the_oracle_speakers_give_back(folder: Path) -> None:
    rows = ladder_of(folder, slow=False, deaf=True)
    assert rows["as it is"]["confusion_percent"] > 10
    assert rows["oracle activities"]["confusion_percent"] > 10
    assert rows["oracle speakers"]["der_percent"] < 3
    assert rows["oracle activities and speakers"]["der_percent"] < 3


def test_what_the_activities_lose_the_oracle_activities_give_back(folder: Path) -> None:
    rows = ladder_of(folder, slow=True, deaf=False)
    assert rows["as it is"]["false_alarm_percent"] > 5
    assert rows["oracle speakers"]["false_alarm_percent"] > 5
    assert rows["oracle activities"]["der_percent"] < 3


def test_a_recording_without_reference_is_named(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", np.zeros(100), RATE_HZ)
    with pytest.raises(PixitError, match="other"):
        read_cases([tmp_path / "other.wav"], folder / "talk.rttm")
