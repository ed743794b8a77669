"""Peak memory does not grow with the recording, but for small tables.

What may stay in memory, a minute of recording (a window every second, K = 3 local speakers, N = 2 speakers, 125
frames a second, embeddings of D = 8; B bytes):

    activities of all windows       60 · K · 625 frames · 1 B   112 kB
    speaker embeddings              60 · K · D · 4 B              6 kB
    mean activities, float16        7500 frames · N · 2 B        30 kB
    decisions, and where they meet  7500 · (2 N · 1 B + 8 B)     90 kB
                                                            ≈   0.24 MB

so 0.24 MB · 8 = 1.9 MB for 8 minutes more. One copy of the recording (mono float32, 8 kHz) would be 15 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 8000

CHILD = """
import json, resource, sys
import torch
torch.set_num_threads(1)
from pixit.pipeline.settings import SeparationSettings
from pixit.pipeline.separate import Separator
from pixit.types import FrameGrid, LocalOutput

class Halves:
    # hears two people, one in the upper and one in the lower half of the samples' range
    sample_rate_hz, num_speakers, window_samples = 8000, 3, 40000
    frame_grid = FrameGrid(64, 64)
    def num_frames(self, num_samples):
        return num_samples // 64
    def __call__(self, waveforms):
        sources = torch.cat([waveforms.clamp_min(0), waveforms.clamp_max(0), 0 * waveforms], dim=1)
        levels = sources.abs().unfold(2, 64, 64).mean(-1)
        return LocalOutput(400 * levels - 4, sources)

class Sign:
    sample_rate_hz, embedding_size, clustering_threshold = 8000, 8, 0.6
    def __call__(self, waveforms, weights=None):
        vectors = torch.zeros(len(waveforms), 8)
        vectors[:, 0], vectors[:, 1] = waveforms.clamp_min(0).sum(1), waveforms.clamp_max(0).sum(1).abs()
        return vectors

separator = Separator(Halves(), Sign(), SeparationSettings(step_s=1.0), device="cpu")
result = separator(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
tracks = [len(track) for track in result.tracks.values()]
print(json.dumps({"peak": peak, "tracks": tracks, "turns": len(result.diarization)}))
"""


def write_recording(path: Path, minutes: int) -> None:
    """Noise that comes and goes every other second: 30 turns a minute for each of two."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
        for _ in range(minutes):
            minute = rng.uniform(-0.3, 0.3, (30, 2 * RATE_HZ)).astype(np.float32)
            minute[:, :RATE_HZ] = 0
            file.write(minute.ravel())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_peak_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    peaks = {}
    for minutes in (2, 10):
        path = tmp_path / f"{minutes}.wav"
        write_recording(path, minutes)
        run = subprocess.run([sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True)
        report = json.loads(run.stdout)
        assert report["tracks"] == 2 * [minutes * 60 * RATE_HZ]
        assert report["turns"] == 30 * minutes
        peaks[minutes] = report["peak"]
    growth = peaks[10] - peaks[2]
    assert growth < 6e6, f"8 minutes more took {growth / 1e6:.1f} MB more"
