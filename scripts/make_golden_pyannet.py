"""Record what pyannote.audio's PyanNet computes, as a fixture for the tests of ours.

Run in an environment of its own (see CONTRIBUTING.md), from the root of the repository::

    pip install pyannote.audio==4.0.7 torch==2.11.0 torchaudio==2.11.0
    python scripts/make_golden_pyannet.py

It writes ``tests/models/golden/pyannet.npz``, without any download: the scores of two noises, and for powersets
which speakers talk, by networks whose weights `fill` makes of their names. The cases are those of
``tests/models/test_pyannet.py``.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.utils.powerset import Powerset

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "models" / "golden" / "pyannet.npz"
CASES: dict[str, tuple[int, int | None, dict[str, Any]]] = {
    "segmentation-3.0": (3, 2, {"lstm": {"num_layers": 4}}),
    "segmentation": (4, None, {"lstm": {"num_layers": 2, "monolithic": False}}),
    "other": (
        2,
        2,
        {"sincnet": {"stride": 5}, "lstm": {"bidirectional": False}, "linear": {"num_layers": 0}},
    ),
}


def main() -> None:
    """Write the fixture."""
    waveforms = make_input()
    found: dict[str, Any] = {"waveforms": waveforms.numpy()}
    for name, (num_speakers, most, parts) in CASES.items():
        network = PyanNet(**parts)
        network.specifications = Specifications(
            problem=Problem.MULTI_LABEL_CLASSIFICATION if most is None else Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=10.0,
            classes=[f"speaker#{number + 1}" for number in range(num_speakers)],
            powerset_max_classes=most,
            permutation_invariant=True,
        )
        network.build()
        with torch.inference_mode():
            scores = fill(network)(waveforms)
            found[f"{name}/scores"] = scores.numpy()
            print(f"{name}: standard deviation {scores.std():.3f}")
            if most is not None:
                multilabel = Powerset(num_speakers, most)(scores)
                found[f"{name}/multilabel"] = multilabel.numpy()
                print(f"  talking: {multilabel.mean((0, 1)).tolist()}")
    np.savez_compressed(GOLDEN, **found)


def make_input() -> torch.Tensor:
    """Return waveforms (2, 1, T): noise whose level and colour change, so that scores do."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 1, 12_000))
    noise[..., 4000:8000] = np.cumsum(noise[..., 4000:8000], axis=-1) / 30
    noise[..., 9000:] *= 0.05
    return torch.from_numpy((0.1 * noise).astype(np.float16).astype(np.float32))


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Change every weight by random numbers that depend on its name alone."""
    for name, tensor in network.named_parameters():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape))
        scale = 20.0 if name.endswith("_hz_") else 0.1
        start = tensor.detach().numpy() if name.endswith("_hz_") else float("norm1d" in name)
        tensor.data = torch.from_numpy(np.asarray(start + scale * values)).float()
    return network.eval()


if __name__ == "__main__":
    main()
