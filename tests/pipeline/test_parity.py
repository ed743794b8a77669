"""The same window outputs and embeddings as pyannote.audio's SpeechSeparation: the same turns and tracks.

What it makes of them is recorded by `scripts/make_golden_pipeline.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pixit.pipeline.cluster import ClusteringSettings
from pixit.pipeline.methods import cluster_by_centroids
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.results import Separation
from pixit.types import FrameGrid, LocalOutput

GOLDEN = Path(__file__).parent / "golden" / "pipeline.npz"
RATE_HZ, STEP, FRAME_S = 1000, 410, 0.02
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "threshold": {"onset": 0.63},
    "pauses": {"min_duration_off_s": 0.25},
    "large": {"threshold": 0.5, "min_cluster_size": 12},
    "average": {"linkage": "average", "threshold": 0.3},
    "fine": {"threshold": 0.3, "min_cluster_size": 2},
    "two": {"num_speakers": 2},
    "five": {"num_speakers": 5},
    "collar": {"collar_s": 0.1},
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


class Replay:
    """A model that gives what was recorded, window by window."""

    sample_rate_hz, num_speakers, window_samples = RATE_HZ, 3, 2000
    frame_grid = FrameGrid(step_samples=20, size_samples=20)

    def __init__(self, golden: dict[str, np.ndarray]) -> None:
        self.activities, self.sources = golden["activities"], golden["sources"]
        self.num_seen = 0

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 20

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        windows = slice(self.num_seen, self.num_seen + len(waveforms))
        self.num_seen += len(waveforms)
        logits = torch.from_numpy(self.activities[windows]).double().logit().float()
        return LocalOutput(logits.mT, torch.from_numpy(self.sources[windows]).mT)


class ReplayedVoices:
    """An embedder that gives what was recorded for those who are active."""

    sample_rate_hz, embedding_size, clustering_threshold = RATE_HZ, 8, 0.7

    def __init__(self, golden: dict[str, np.ndarray], onset: float) -> None:
        self.left = golden["embeddings"][(golden["activities"] > onset).any(axis=1)]

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        given, self.left = np.split(self.left, [len(waveforms)])
        return torch.from_numpy(given)


def separate(golden: dict[str, np.ndarray], num_speakers: int | None = None, **changes: Any) -> Separation:
    given = {"onset": 0.5, "min_duration_off_s": 0.0, "linkage": "centroid"}
    given |= {"min_cluster_size": 4, "threshold": 0.8, "collar_s": 0.32} | changes
    onset = given["onset"]
    settings = SeparationSettings.model_validate(
        {
            "step_s": STEP / RATE_HZ,
            "windows": "regular",
            "activity": {
                **{
                    "decision": "count",
                    "onset": onset,
                    "offset": onset,
                    "min_local_s": 0,
                    "min_duration_on_s": 0,
                },
                "min_duration_off_s": given["min_duration_off_s"],
            },
            "embedding": {"signal": "mixture"},
            "clustering": {
                "method": "agglomerative",
                **{key: given[key] for key in ("linkage", "min_cluster_size", "threshold")},
            },
            "stitching": {
                **{"keep_room": False, "levels": "track", "absent": "silence", "taper": "hamming"},
                **{"leakage_removal_db": 200, "collar_s": given["collar_s"]},
            },
        }
    )
    separator = Separator(Replay(golden), ReplayedVoices(golden, onset), settings, device="cpu")
    audio = {"waveform": golden["mixture"][None], "sample_rate": RATE_HZ, "uri": "x"}
    return separator(audio, num_speakers=num_speakers)


def lay(turns: list[tuple[float, float, int]], num_frames: int) -> np.ndarray:
    """Turns on frames, bool (N, F)."""
    table = np.zeros((1 + max(number for *_, number in turns), num_frames), bool)
    for start_s, end_s, number in turns:
        table[number, round(start_s / FRAME_S) : round(end_s / FRAME_S)] = True
    return table


@pytest.mark.parametrize("case", CASES)
def test_turns_are_those_of_pyannote(golden: dict[str, np.ndarray], case: str) -> None:
    """To half a frame: its boundaries are in the middle of frames, ours between them."""
    result = separate(golden, **CASES[case])
    numbers = {name: number for number, name in enumerate(result.speakers)}
    found = result.diarization.itertracks(yield_label=True)
    ours = lay([(s.start, s.end, numbers[label]) for s, _, label in found], 765)
    shifted = golden[f"{case}_turns"] - [FRAME_S / 2, FRAME_S / 2, 0]
    theirs = lay([(start, end, int(number)) for start, end, number in shifted], 765)
    assert len(ours) == len(theirs)
    rows, columns = linear_sum_assignment(ours.astype(float) @ theirs.T, maximize=True)
    is_equal = ours[rows] == theirs[columns]
    assert is_equal.all(axis=0).mean() >= 0.995


def test_tracks_are_those_of_pyannote_but_for_their_edges(golden: dict[str, np.ndarray]) -> None:
    """At a true level, as long as the recording, and as loud at its ends: there theirs fade."""
    result = separate(golden | {"embeddings": golden["sure_embeddings"]})
    ours = np.stack([track.read() for track in result.tracks.values()])
    theirs = golden["sure_tracks"].astype(float)[:, : result.num_samples]
    edge = slice(2000, -2000)
    correlation = np.corrcoef(np.vstack([ours[:, edge], theirs[:, edge]]))[: len(ours), len(ours) :]
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    assert correlation[rows, columns].min() > 0.999
    assert ours.shape[1] == len(golden["mixture"])
    assert np.abs(ours).max() <= 1.01 * np.abs(golden["mixture"]).max()


def cluster_by_vbx(
    golden: dict[str, np.ndarray], folder: Path, num_speakers: int | None = None
) -> np.ndarray:
    np.savez(folder / "xvec_transform.npz", **_part(golden, "transform_"))
    np.savez(folder / "plda.npz", **_part(golden, "plda_"))
    settings = ClusteringSettings(method="vbx", threshold=0.6, fa=0.4, fb=0.5, plda=str(folder))
    active = golden["activities"] > 0.5
    solo = (active & (active.sum(axis=2, keepdims=True) == 1)).mean(axis=1)
    vectors = np.where(active.any(axis=1)[..., None], golden["embeddings"], np.nan)
    return cluster_by_centroids(vectors, solo.astype(np.float32), settings, num_speakers or 1, num_speakers)


def test_vbx_clusters_as_in_pyannote(golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = cluster_by_vbx(golden, tmp_path)
    theirs = np.where(golden["vbx"] < 0, -1, golden["vbx"])
    pairs = set(zip(found.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # but for the numbers
    assert found.max() >= 2


def test_vbx_gives_the_number_of_speakers_that_is_asked_for(
    golden: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for count in (2, 4):
        assert set(cluster_by_vbx(golden, tmp_path, count).ravel().tolist()) - {-1} == set(range(count))


def _part(golden: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
