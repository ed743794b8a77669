"""Networks that know the answer: they fulfil the protocols of `pixit.types` from known sources.

All of it runs at 1 kHz, so that a minute of recording is a matter of milliseconds. Each speaker's voice is noise in
a frequency band of its own, which the oracle embedder recognises, whatever its level and polarity.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.results import Separation
from pixit.types import FrameGrid, LocalOutput
from pixit.windows import window_start

REPOSITORY = Path(__file__).resolve().parents[2]
RATE_HZ = 1000
WINDOW = 2000
GRID = FrameGrid(step_samples=20, size_samples=20, start_samples=0)
BANDS_HZ = [(20, 80), (110, 170), (200, 260), (290, 350), (380, 440)]
"""Where each speaker's voice lies."""


@dataclass
class Conversation:
    """Known sources (N, T) and where each speaker talks, bool (N, T)."""

    sources: NDArray[np.float32]
    talking: NDArray[np.bool_]

    @property
    def mixture(self) -> NDArray[np.float32]:
        return self.sources.sum(axis=0)

    @property
    def num_samples(self) -> int:
        return self.sources.shape[1]

    @property
    def audio(self) -> dict[str, object]:
        """As `Separator` takes it."""
        return {"waveform": self.mixture[None], "sample_rate": RATE_HZ, "uri": "meeting"}


def make_voice(speaker: int, num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise in the band of a speaker, RMS 0.1."""
    spectrum = np.fft.rfft(rng.standard_normal(max(num_samples, 200)))
    frequencies = np.fft.rfftfreq(max(num_samples, 200), 1 / RATE_HZ)
    low, high = BANDS_HZ[speaker]
    voice = np.fft.irfft(
        np.where((frequencies >= low) & (frequencies < high), spectrum, 0), max(num_samples, 200)
    )
    return (0.1 * voice / voice.std()).astype(np.float32)[:num_samples]


def make_conversation(num_speakers: int, duration_s: float, seed: int = 0) -> Conversation:
    """Speakers in turn, each turn 1.5 to 3 s, with overlaps and pauses of up to 0.5 s; then all again."""
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * RATE_HZ)
    talking = np.zeros((num_speakers, num_samples), bool)
    position, number = 0, 0
    while position < num_samples:
        end = position + int(rng.integers(1500, 3000))
        talking[number % num_speakers, max(position, 0) : end] = True
        position = end + int(rng.integers(-500, 500))
        number += 1
    levels = rng.uniform(0.3, 1.5, num_speakers)[:, None].astype(np.float32)
    voices = np.stack([make_voice(speaker, num_samples, rng) for speaker in range(num_speakers)])
    return Conversation(levels * voices * talking, talking)


@dataclass
class OracleModel:
    """Knows the sources: gives those of a window in random order, at random levels and polarities.

    Windows are distinguished by counting: one instance serves one recording, in order.
    """

    truth: Conversation
    step_samples: int
    num_speakers: int = 3
    seed: int = 0
    free_scale: bool = True
    sample_rate_hz: int = RATE_HZ
    window_samples: int = WINDOW
    frame_grid: FrameGrid = GRID
    num_seen: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def num_frames(self, num_samples: int) -> int:
        return (num_samples - self.frame_grid.size_samples) // self.frame_grid.step_samples + 1

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        outputs = [self._window(waveform[0].numpy()) for waveform in waveforms]
        activities, sources = (torch.from_numpy(np.stack(rows)) for rows in zip(*outputs, strict=True))
        return LocalOutput(torch.where(activities, 8.0, -8.0), sources)

    def _window(self, mixture: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        start = window_start(
            self.num_seen,
            self.truth.num_samples,
            self.window_samples,
            self.step_samples,
            self.frame_grid.step_samples,
        )
        self.num_seen += 1
        stretch = slice(start, start + self.window_samples)
        missing = ((0, 0), (0, max(0, stretch.stop - self.truth.num_samples)))
        truth = np.pad(self.truth.sources[:, stretch], missing)
        talking = np.pad(self.truth.talking[:, stretch], missing)
        np.testing.assert_allclose(mixture, truth.sum(axis=0), atol=1e-5)  # it is the window it should be
        centres = np.arange(self.num_frames(self.window_samples)) * self.frame_grid.step_samples
        centres += self.frame_grid.size_samples // 2
        loudest = np.argsort(-talking.sum(axis=1), kind="stable")[: self.num_speakers]
        sources = self.rng.normal(0, 0.1, (self.num_speakers, self.window_samples)).astype(np.float32)
        activities = np.zeros((self.num_speakers, len(centres)), bool)
        for place, speaker in zip(self.rng.permutation(self.num_speakers), loudest, strict=False):
            activities[place] = talking[speaker, centres]
            scale = self.rng.choice([-1, 1]) * np.exp(self.rng.normal()) if self.free_scale else 1.0
            sources[place] = scale * truth[speaker]
        return activities, sources.astype(np.float32)


@dataclass
class OracleEmbedder:
    """Gives each voice a direction of its own, with some noise; what it hears is the loudest band
    where the weights let it listen."""

    embedding_size: int = 16
    clustering_threshold: float = 0.6
    noise: float = 0.05
    sample_rate_hz: int = RATE_HZ
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        if weights is not None:
            waveforms = (
                waveforms * torch.nn.functional.interpolate(weights[:, None], waveforms.shape[-1])[:, 0]
            )
        power = torch.fft.rfft(waveforms.double()).abs().square()
        frequencies = np.fft.rfftfreq(waveforms.shape[-1], 1 / self.sample_rate_hz)
        bands = [(frequencies >= low - 5) & (frequencies < high + 5) for low, high in BANDS_HZ]
        heard = torch.stack([power[:, torch.from_numpy(band)].sum(-1) for band in bands], dim=-1).argmax(-1)
        directions = np.eye(len(BANDS_HZ), self.embedding_size)[heard.numpy()]
        return torch.from_numpy(directions + self.noise * self.rng.standard_normal(directions.shape)).float()


@dataclass(frozen=True)
class Oracle:
    """What the tests need, in one fixture (test modules cannot import from here)."""

    rate_hz: int = RATE_HZ
    window: int = WINDOW
    grid: FrameGrid = GRID
    conversation: Callable[..., Conversation] = make_conversation
    voice: Callable[..., NDArray[np.float32]] = make_voice
    Conversation: type[Conversation] = Conversation
    Model: type[OracleModel] = OracleModel
    Embedder: type[OracleEmbedder] = OracleEmbedder

    def separate(self, truth: Conversation, step_s: float = 0.5, **kwargs: Any) -> Separation:
        """Separate a known conversation; settings and numbers of speakers are keyword arguments."""
        call = {
            key: kwargs.pop(key)
            for key in list(kwargs)
            if key.endswith("_speakers") or key in ("hook", "work_folder")
        }
        model = kwargs.pop("model", None) or OracleModel(truth, round(step_s * RATE_HZ))
        embedder = kwargs.pop("embedder", None) or OracleEmbedder()
        separator = Separator(model, embedder, SeparationSettings(step_s=step_s, **kwargs), device="cpu")
        return separator(truth.audio, **call)


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


MORTAL = """
import os, signal, time
from pathlib import Path

import torch

from pixit.pipeline.separate import Separator


class Mortal(Separator):
    def __call__(self, audio, *arguments, **options):
        with (self.log / "asked").open("a") as file:
            file.write(f"{audio.uri} {os.getpid()} {torch.get_num_threads()} {os.getppid()}\\n")
        while len((self.log / "loaded").read_text().split()) < self.together:
            time.sleep(0.02)
        result = super().__call__(audio, *arguments, **options)
        held = self.log / "held"
        if held.exists() and held.read_text() == str(os.getppid()):
            time.sleep(60.0)
            os._exit(1)  # nobody killed it
        mark = self.log / f"died over {audio.uri}"
        if audio.uri in self.deadly and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def load(folder, log, deadly=(), together=1, device="cpu"):
    separator = Mortal.from_pretrained(folder, device=device)
    separator.log, separator.deadly, separator.together = Path(log), deadly, together
    with (separator.log / "loaded").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return separator
"""


@pytest.fixture
def mortal(tmp_path: Path, tiny_separator: Path, monkeypatch: pytest.MonkeyPatch) -> Mortal:
    """Separators that keep a log, may rest, and whose processes may die: to be loaded by other processes."""
    log = tmp_path / "log"
    log.mkdir()
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "mortal.py").write_text(MORTAL)
    places = [tmp_path / "modules", REPOSITORY]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
    monkeypatch.syspath_prepend(places[0])
    monkeypatch.delitem(sys.modules, "mortal", raising=False)
    return Mortal(str(tiny_separator), log)


@dataclass(frozen=True)
class Mortal:
    """Makes such separators, and reads their log."""

    folder: str
    log: Path

    def load(self, **options: Any) -> Callable[..., Separator]:
        """Return what loads one, to be pickled.

        `deadly` are recordings over which its process dies, once; it begins when `together` are loaded.
        """
        loader: Callable[..., Separator] = import_module("mortal").load
        return partial(loader, self.folder, str(self.log), **options)

    def hold(self, parent: str) -> None:
        """Let the children of a process never finish a recording, so that they can be killed over it."""
        (self.log / "held").write_text(parent)

    def asked(self) -> list[list[str]]:
        """Return uri, process, threads and parent process of every separation that was begun."""
        return [line.split() for line in (self.log / "asked").read_text().splitlines()]

    def loaded(self) -> list[str]:
        """Return the processes in which networks were loaded."""
        return (self.log / "loaded").read_text().split()


@pytest.fixture
def noise(tmp_path: Path) -> Callable[[str], Path]:
    """Write two seconds of noise as ``NAME.wav``, different for each name."""

    def write(name: str) -> Path:
        path = tmp_path / "recordings" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        soundfile.write(path, rng.uniform(-0.1, 0.1, 32000), 16000)
        return path

    return write
