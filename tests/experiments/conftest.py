"""Two voices, low and high, at 1 kHz, and networks that know them but are not sure of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from pixit.formats.rttm import rttm_line
from pixit.types import FrameGrid, LocalOutput, Recording, Turn

RATE_HZ, SPLIT_HZ, FRAME = 1000, 250, 20


class Unsure:
    """Separates a low from a high voice; the louder a frame is, the surer it is that somebody talks."""

    sample_rate_hz, num_speakers, window_samples = RATE_HZ, 2, 2000
    frame_grid = FrameGrid(step_samples=FRAME, size_samples=FRAME)

    def __init__(self) -> None:
        self.num_heard = 0

    def num_frames(self, num_samples: int) -> int:
        return num_samples // FRAME

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        self.num_heard += len(waveforms)
        spectrum = torch.fft.rfft(waveforms[:, 0])
        low = torch.arange(spectrum.shape[-1]) < SPLIT_HZ * 2
        sources = torch.stack([torch.fft.irfft(spectrum * low), torch.fft.irfft(spectrum * ~low)], dim=1)
        power = sources.unflatten(-1, (-1, FRAME)).square().mean(-1)
        return LocalOutput(2 * torch.log10(power / 1e-3 + 1e-6), sources)


class Ears:
    """Hears where the middle of a voice's spectrum lies."""

    sample_rate_hz, embedding_size, clustering_threshold = RATE_HZ, 2, 0.5

    def __init__(self) -> None:
        self.num_heard = 0

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        assert weights is not None
        self.num_heard += len(waveforms)
        weights = torch.nn.functional.interpolate(weights[:, None], waveforms.shape[-1])[:, 0]
        power = torch.fft.rfft(waveforms * weights).abs().square()
        places = torch.linspace(0, np.pi, power.shape[-1])
        angle = (power * places).sum(-1) / power.sum(-1).clamp_min(1e-12)
        return torch.stack([angle.cos(), angle.sin()], dim=-1).float()


class Masks(Ears):
    """Hears a waveform once for all who talk in it."""

    def embed_masks(self, waveforms: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        return self(torch.repeat_interleave(waveforms, counts, dim=0), weights)


@dataclass(frozen=True)
class Talks:
    """Recordings of both voices, ``folder/audio`` and ``folder/rttm``."""

    folder: Path
    recordings: tuple[Recording, ...]
    Unsure: type[Unsure] = Unsure
    Ears: type[Ears] = Ears
    Masks: type[Masks] = Masks


def write_talk(folder: Path, name: str, seed: int) -> Recording:
    """Write a recording in which the voices talk in turns, now and then both."""
    rng = np.random.default_rng(seed)
    turns, position = [], 0.3
    while position < 16:
        length = float(rng.uniform(0.6, 3.0))
        turns.append(Turn(round(position, 3), round(position + length, 3), ("low", "high")[len(turns) % 2]))
        position += length + float(rng.uniform(-0.4, 0.7))
    spectrum = np.fft.rfft(rng.standard_normal(20 * RATE_HZ))
    is_low = np.arange(len(spectrum)) < len(spectrum) // 2
    mixture = rng.normal(0, 0.003, 20 * RATE_HZ)
    for name_of, part in (("low", is_low), ("high", ~is_low)):
        loudness = np.zeros(20 * RATE_HZ)
        for turn in turns:
            if turn.speaker == name_of:
                inside = slice(int(turn.start_s * RATE_HZ), int(turn.end_s * RATE_HZ))
                loudness[inside] = 0.1 * np.hanning(inside.stop - inside.start) ** 0.5
        mixture += np.fft.irfft(spectrum * part) * loudness
    for place in ("audio", "rttm"):
        (folder / place).mkdir(exist_ok=True)
    path = folder / "audio" / f"{name}.wav"
    soundfile.write(path, mixture, RATE_HZ, subtype="PCM_24")
    lines = "".join(rttm_line(name, turn) + "\n" for turn in turns)
    (folder / "rttm" / f"{name}.rttm").write_text(lines)
    return Recording(name, path, tuple(turns), ((0.0, 20.0),))


@pytest.fixture(scope="session")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Talks:
    folder = tmp_path_factory.mktemp("talks")
    return Talks(folder, (write_talk(folder, "one", 0), write_talk(folder, "two", 1)))
