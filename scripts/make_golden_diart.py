"""Record what diart's incremental clustering makes of random windows, as fixtures for the tests of ours.

Run from the root of the repository, with any Python from 3.11 on::

    python scripts/make_golden_diart.py

It makes a virtual environment of its own, in a temporary folder, and writes
``tests/pipeline/golden/diart_clustering.npz``. diart 0.9.2 does not import beside today's libraries; so its module of
clustering is imported alone, past the package's own ``__init__``, and torch, of which it needs the name of a type,
is stood in for.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import types
import venv
from importlib import import_module
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "pipeline" / "golden" / "diart_clustering.npz"
PACKAGES = ["numpy==2.4.6", "scipy==1.17.1", "pyannote.core==6.1.0"]
INSIDE = "PIXIT_GOLDEN_ENVIRONMENT"
NUM_SEQUENCES, NUM_WINDOWS, NUM_LOCAL, NUM_FRAMES, SIZE = 60, 30, 3, 4, 8
SETTINGS = [  # tau_active, rho_update, delta_new, max_speakers
    (0.6, 0.3, 1.0, 20),
    (0.5, 0.2, 0.6, 20),
    (0.507, 0.006, 1.057, 20),
    (0.3, 0.05, 0.2, 20),
    (0.6, 0.3, 0.6, 4),
    (0.5, 0.1, 0.4, 3),
]


def main() -> None:
    """Make the environment, and run this script in it."""
    if INSIDE in os.environ:
        record()
        return
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        for packages in (PACKAGES, ["--no-deps", "diart==0.9.2"]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        subprocess.run([python, __file__], env={**os.environ, INSIDE: "1"}, check=True)


def import_clustering() -> Any:
    """Import ``diart.blocks.clustering`` without what the packages above it import."""
    sys.modules["torch"] = types.ModuleType("torch")
    sys.modules["torch"].Tensor = object  # type: ignore[attr-defined]
    spec = importlib.util.find_spec("diart")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (place,) = spec.submodule_search_locations
    for name, folder in (("diart", Path(place)), ("diart.blocks", Path(place) / "blocks")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return import_module("diart.blocks.clustering")


class Tensor:
    """What the clustering asks of a tensor."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def detach(self) -> Tensor:
        """Return itself."""
        return self

    cpu = detach

    def numpy(self) -> Any:
        """Return the numbers."""
        return self.values


def record() -> None:
    """Write the fixture."""
    import numpy as np

    clustering = import_clustering()
    rng = np.random.default_rng(92)
    shape = NUM_SEQUENCES, NUM_WINDOWS, NUM_LOCAL
    activities = np.zeros((*shape, NUM_FRAMES), np.float32)
    vectors = np.zeros((*shape, SIZE), np.float32)
    speakers = np.full(shape, -1, np.int8)
    centroids = np.zeros((NUM_SEQUENCES, 20, SIZE))
    settings = np.array([SETTINGS[number % len(SETTINGS)] for number in range(NUM_SEQUENCES)])
    for number, (tau_active, rho_update, delta_new, most) in enumerate(settings):
        voices = rng.standard_normal((int(rng.integers(1, 21)), SIZE))
        noise, loudness = rng.uniform(0, 0.8), rng.uniform(0.3, 1)
        talkers = rng.integers(0, len(voices), (NUM_WINDOWS, NUM_LOCAL))
        own = voices[talkers] + noise * rng.standard_normal((NUM_WINDOWS, NUM_LOCAL, SIZE))
        own[rng.random((NUM_WINDOWS, NUM_LOCAL)) < 0.1] = np.nan
        vectors[number] = own
        heard = rng.uniform(0, loudness, (NUM_WINDOWS, NUM_LOCAL, NUM_FRAMES))
        heard[rng.random((NUM_WINDOWS, NUM_LOCAL)) < 0.3] *= 0.1  # who is silent
        activities[number] = heard
        online = clustering.OnlineSpeakerClustering(tau_active, rho_update, delta_new, "cosine", int(most))
        for window in range(NUM_WINDOWS):
            segmentation = types.SimpleNamespace(data=activities[number, window].T)
            found = online.identify(segmentation, Tensor(vectors[number, window]))
            for local, speaker in zip(*found.valid_assignments(), strict=True):
                speakers[number, window, local] = speaker
        centroids[number, : int(most)] = online.centers
    np.savez_compressed(
        GOLDEN,
        settings=settings,
        activities=activities,
        vectors=vectors,
        speakers=speakers,
        centroids=centroids,
    )
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes, up to {speakers.max() + 1} speakers")


if __name__ == "__main__":
    main()
