"""Record what pyannote.audio's pipeline makes of known window outputs, as fixtures for the tests of ours.

Run in an environment of its own (see CONTRIBUTING.md), from the root of the repository::

    pip install "pyannote.audio[separation]==4.0.7" torch==2.11.0 torchaudio==2.11.0
    python scripts/make_golden_pipeline.py

It writes ``tests/pipeline/golden/pipeline.npz``: activities, sources and embeddings of a made-up recording of 1 kHz,
which are given to SpeechSeparation in the place of networks, and the turns and tracks that come out for several
settings; and what VBx makes of the embeddings.
"""

from __future__ import annotations

import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.audio.core.plda import PLDA
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, VBxClustering
from pyannote.audio.pipelines.speech_separation import SpeechSeparation
from pyannote.core import SlidingWindow, SlidingWindowFeature
from pyannote.pipeline import Pipeline
from pyannote.pipeline.parameter import Categorical, ParamDict, Uniform

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "pipeline" / "golden" / "pipeline.npz"
RATE_HZ, WINDOW, STEP, FRAME = 1000, 2000, 410, 20
NUM_SAMPLES = 15_300
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "threshold": {"segmentation.threshold": 0.63},
    "pauses": {"segmentation.min_duration_off": 0.25},
    "large": {"clustering.threshold": 0.5, "clustering.min_cluster_size": 12},
    "average": {"clustering.method": "average", "clustering.threshold": 0.3},
    "fine": {"clustering.threshold": 0.3, "clustering.min_cluster_size": 2},
    "two": {"num_speakers": 2},
    "five": {"num_speakers": 5},
    "collar": {"separation.asr_collar": 0.1},
}
HYPER: dict[str, dict[str, Any]] = {
    "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
    "clustering": {"method": "centroid", "min_cluster_size": 4, "threshold": 0.8},
    "separation": {"leakage_removal": True, "asr_collar": 0.32},
}


def main() -> None:
    """Write the fixture."""
    outputs = make_outputs()
    found: dict[str, Any] = dict(outputs)
    for name, changes in CASES.items():
        hyper = {section: dict(values) for section, values in HYPER.items()}
        for key, value in changes.items():
            if key != "num_speakers":
                section, _, parameter = key.partition(".")
                hyper[section][parameter] = value
        diarization, sources = run(outputs, hyper, changes.get("num_speakers"))
        labels = diarization.labels()
        found[f"{name}_turns"] = np.array(
            [(s.start, s.end, labels.index(x)) for s, _, x in diarization.itertracks(yield_label=True)]
        )
    # with embeddings that are sure: two sources of a window that go to one speaker are no sum in pyannote.audio
    found["sure_embeddings"] = outputs["sure_embeddings"]
    _, sources = run(outputs | {"embeddings": outputs["sure_embeddings"]}, HYPER, None)
    found["sure_tracks"] = sources.data.T.astype(np.float16)
    found |= run_vbx(outputs)
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **found)


def make_outputs() -> dict[str, Any]:
    """Return activities (W, F, K), sources (W, T, K) and embeddings (W, K, D): four people, any order in a window."""
    rng = np.random.default_rng(5)
    num_windows = 1 + -(-(NUM_SAMPLES - WINDOW) // STEP)
    total = (num_windows - 1) * STEP + WINDOW
    voices = rng.standard_normal((4, total)).astype(np.float32) * np.array([[0.1], [0.3], [0.05], [0.2]])
    levels = np.stack([np.convolve(rng.standard_normal(total), np.hanning(1500), "same") for _ in range(4)])
    levels = levels / levels.std(axis=1, keepdims=True) - 0.5
    directions = np.eye(8)[:4] + 0.2
    num_frames = (WINDOW - FRAME) // FRAME + 1
    activities = np.zeros((num_windows, num_frames, 3), np.float32)
    sources = np.zeros((num_windows, WINDOW, 3), np.float32)
    embeddings, sure = np.zeros((2, num_windows, 3, 8), np.float32)
    for window in range(num_windows):
        start = window * STEP
        heard = levels[:, start : start + WINDOW]
        loudest = np.argsort(-(heard > 0).sum(axis=1))[:3]
        for place, person in zip(rng.permutation(3), loudest, strict=True):
            frames = heard[person, FRAME // 2 :: FRAME][:num_frames]
            activities[window, :, place] = 1 / (
                1 + np.exp(-3 * frames - 0.3 * rng.standard_normal(num_frames))
            )
            sources[window, :, place] = (voices[person] * (levels[person] > 0))[start : start + WINDOW]
            noise = rng.uniform(0.05, 0.5) * rng.standard_normal(8)
            embeddings[window, place] = rng.uniform(0.5, 4) * (directions[person] + noise)
            sure[window, place] = directions[person] + 0.1 * noise
    talking = sources.astype(np.float16).astype(np.float32)
    mixture = (voices * (levels > 0)).sum(axis=0)[:NUM_SAMPLES].astype(np.float32)
    names = "activities", "sources", "embeddings", "sure_embeddings", "mixture"
    return dict(zip(names, (activities, talking, embeddings, sure, mixture), strict=True))


class Replayed(SpeechSeparation):  # type: ignore[misc]
    """The pipeline behind its networks."""

    def __init__(self, outputs: dict[str, Any]) -> None:
        Pipeline.__init__(self)
        self.__dict__["_models"], self.__dict__["_inferences"] = {}, {}
        self.outputs = outputs
        self.klustering, self.embedding_exclude_overlap = "AgglomerativeClustering", True
        self.segmentation = ParamDict(threshold=Uniform(0.1, 0.9), min_duration_off=Uniform(0.0, 1.0))
        self.clustering = AgglomerativeClustering(metric="cosine")
        self.separation = ParamDict(leakage_removal=Categorical([True, False]), asr_collar=Uniform(0.0, 1.0))
        frames = SlidingWindow(start=0, duration=FRAME / RATE_HZ, step=FRAME / RATE_HZ)
        model = types.SimpleNamespace(
            specifications=[types.SimpleNamespace(powerset=False)],
            receptive_field=frames,
            num_frames=lambda samples: samples // FRAME,
        )
        self._segmentation = types.SimpleNamespace(model=model)
        self._audio = types.SimpleNamespace(sample_rate=RATE_HZ)

    def get_segmentations(self, file: Any, hook: Any = None) -> tuple[Any, Any]:
        """Return what is known."""
        windows = SlidingWindow(start=0, duration=WINDOW / RATE_HZ, step=STEP / RATE_HZ)
        kinds = self.outputs["activities"].copy(), self.outputs["sources"].copy()
        return tuple(SlidingWindowFeature(values, windows) for values in kinds)  # type: ignore[return-value]

    def get_embeddings(self, *_: Any, **__: Any) -> Any:
        """Return what is known."""
        return self.outputs["embeddings"].copy()


def run(outputs: dict[str, Any], hyper: dict[str, Any], num_speakers: int | None) -> Any:
    """Return diarization and sources."""
    pipeline = Replayed(outputs)
    pipeline.instantiate(hyper)
    return pipeline.apply({"uri": "x"}, num_speakers=num_speakers)


def run_vbx(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return a PLDA, embeddings, and the clusters that VBx finds."""
    rng = np.random.default_rng(7)
    transform = {
        "mean1": 0.1 * rng.standard_normal(8),
        "mean2": 0.1 * rng.standard_normal(6),
        "lda": rng.standard_normal((8, 6)),
    }
    plda = {
        "mu": 0.1 * rng.standard_normal(6),
        "tr": np.eye(6) + 0.3 * rng.standard_normal((6, 6)),
        "psi": np.sort(rng.uniform(3, 40, 6))[::-1],
    }
    with tempfile.TemporaryDirectory() as temporary:
        paths = [Path(temporary) / name for name in ("xvec_transform.npz", "plda.npz")]
        np.savez(paths[0], **transform)
        np.savez(paths[1], **plda)
        model = PLDA(*paths)
    binary = (outputs["activities"] > 0.5).astype(float)
    windows = SlidingWindow(start=0, duration=WINDOW / RATE_HZ, step=STEP / RATE_HZ)
    found = {f"transform_{key}": value for key, value in transform.items()}
    found |= {f"plda_{key}": value for key, value in plda.items()}
    clustering = VBxClustering(model)
    clustering.instantiate({"threshold": 0.6, "Fa": 0.4, "Fb": 0.5})
    segmentations = SlidingWindowFeature(binary, windows)
    bounds = {"min_clusters": 1, "max_clusters": np.inf}
    clusters, _, _ = clustering(outputs["embeddings"].astype(float), segmentations, **bounds)
    clusters[binary.sum(axis=1) == 0] = -1
    return found | {"vbx": clusters}


if __name__ == "__main__":
    main()
