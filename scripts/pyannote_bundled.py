"""pixit's bundled networks inside a pipeline of pyannote.audio; runs in the environment of pyannote.audio.

Of pixit only the networks are imported: its pipeline is what is compared with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from pyannote.audio import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.pipelines import SpeechSeparation
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLED = REPOSITORY / "pixit" / "bundled"
PARAMETERS: dict[str, dict[str, Any]] = {
    "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
    "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.6},
    "separation": {"leakage_removal": True, "asr_collar": 0.32},
}


class Separation(Model):
    """Our local model as one of pyannote.audio."""

    def __init__(self, network: Any) -> None:
        super().__init__(sample_rate=network.sample_rate_hz)
        self.network = network
        common = {
            "resolution": Resolution.FRAME,
            "duration": network.window_samples / network.sample_rate_hz,
            "classes": [f"speaker#{number}" for number in range(network.num_speakers)],
        }
        self.specifications = (
            Specifications(problem=Problem.MULTI_LABEL_CLASSIFICATION, permutation_invariant=True, **common),
            Specifications(problem=Problem.MONO_LABEL_CLASSIFICATION, **common),
        )

    @property
    def dimension(self) -> int:
        return 1

    # Frames as pyannote.audio lays them, side by side from the first sample on: half a frame later than ours, which
    # are padded at both ends; its sums of windows expect no frame outside of them.
    def num_frames(self, num_samples: int) -> int:
        return int(num_samples // self.network.frame_grid.step_samples)

    def receptive_field_size(self, num_frames: int = 1) -> int:
        return int(num_frames * self.network.frame_grid.step_samples)

    def receptive_field_center(self, frame: int = 0) -> int:
        return int((frame + 0.5) * self.network.frame_grid.step_samples)

    def forward(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.network(waveforms)
        return output.activities.mT[:, : self.num_frames(waveforms.shape[-1])], output.sources.mT


class Voice(Model):
    """Our speaker embedder as one of pyannote.audio."""

    def __init__(self, network: Any) -> None:
        super().__init__(sample_rate=network.sample_rate_hz)
        self.network = network
        self.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, classes=None
        )

    @property
    def dimension(self) -> int:
        return int(self.network.embedding_size)

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        vectors: torch.Tensor = self.network(waveforms[:, 0], weights)
        return vectors


def load(folder: Path, kind: Any) -> Any:
    """Return a network of ours from its folder, without pixit's readers."""
    config = json.loads((folder / "config.json").read_text())
    network = kind(**config["config"])
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def bundled_pipeline() -> SpeechSeparation:
    """Return pyannote.audio's separation pipeline, at its defaults, around the bundled networks."""
    sys.path.insert(0, str(REPOSITORY))
    from pixit.models.embedders.resnet import SpeakerEncoder
    from pixit.models.totatonet import ToTaToNet

    model = Separation(load(BUNDLED / "model", ToTaToNet))
    pipeline = SpeechSeparation(
        segmentation=model, embedding=Voice(load(BUNDLED / "embedder", SpeakerEncoder))
    )
    return pipeline.instantiate(PARAMETERS)
