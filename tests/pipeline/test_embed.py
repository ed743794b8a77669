"""What the embedder is given to hear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixit.pipeline.activity import ActivitySettings
from pixit.pipeline.embed import EmbeddingSettings, embed_speakers
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import FrameGrid
from pixit.windows import Window, cut_windows

GEOMETRY = Geometry(1000, 400, 3, 200, 100, FrameGrid(10, 10), 20)


class Recorder:
    """Remembers what it hears; the vector is the weighted mean of the signal, and the number of calls."""

    sample_rate_hz = 1000
    embedding_size = 2
    clustering_threshold = 0.6

    def __init__(self) -> None:
        self.heard: list[tuple[Tensor, Tensor]] = []

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        assert weights is not None
        self.heard += list(zip(waveforms, weights, strict=True))
        return torch.stack([waveforms.mean(1), weights.sum(1)], dim=1)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Spool]:
    """Three windows of two: alone, then overlapped for a half, then nobody."""
    activities = np.zeros((3, 2, 20), np.float32)
    activities[0, 0] = activities[1, 1] = 1
    activities[1, 0, 10:] = 0.9
    sources = np.arange(6, dtype=np.float32).reshape(3, 2, 1) * np.ones(200, np.float32)
    active = np.array([[True, False], [True, True], [False, False]])
    with Spool(GEOMETRY, 2, tmp_path) as spool:
        spool.append(activities, sources, active)
        yield spool


def windows() -> Iterator[Window]:
    return cut_windows([np.arange(400, dtype=np.float32)], 200, 100)


def embed(local: Spool, batch_size: int = 2, **settings: Any) -> tuple[Recorder, np.ndarray, np.ndarray]:
    recorder, counts = Recorder(), []
    vectors, speech_s = embed_speakers(
        recorder,
        local,
        windows(),
        EmbeddingSettings(**settings),
        ActivitySettings(),
        batch_size,
        torch.device("cpu"),
        lambda *count: counts.append(count),
    )
    assert counts[-1] == (3, 3)
    return recorder, vectors, speech_s


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_each_active_speaker_has_a_vector(local: Spool, batch_size: int) -> None:
    _, vectors, _ = embed(local, batch_size)
    np.testing.assert_array_equal(np.isnan(vectors).all(-1), ~local.active)
    np.testing.assert_allclose(vectors[local.active][:, 0], [0, 2, 3], rtol=1e-3)


def test_overlap_is_left_out_where_there_is_enough_without(local: Spool) -> None:
    _, vectors, speech_s = embed(local, exclude_overlap=True, min_solo_s=0.05)
    np.testing.assert_allclose(speech_s, [[0.2, 0], [0.1, 0.1], [0, 0]], rtol=1e-5)  # one has no solo
    np.testing.assert_allclose(vectors[local.active][:, 1], [20, 10, 10])
    _, _, speech_s = embed(local, exclude_overlap=True, min_solo_s=0.15)
    np.testing.assert_allclose(speech_s, [[0.2, 0], [0.1, 0.2], [0, 0]], rtol=1e-5)
    _, _, speech_s = embed(local, exclude_overlap=False)
    np.testing.assert_allclose(speech_s, [[0.2, 0], [0.1, 0.2], [0, 0]], rtol=1e-5)


def test_the_mixture_is_heard_with_the_activities_as_weights(local: Spool) -> None:
    recorder, _, _ = embed(local, signal="mixture", exclude_overlap=False)
    starts = [int(waveform[0]) for waveform, _ in recorder.heard]
    assert starts == [0, 100, 100]
    np.testing.assert_array_equal(recorder.heard[1][1], np.arange(20) >= 10)


def test_nobody_talks(tmp_path: Path) -> None:
    with Spool(GEOMETRY, 2, tmp_path) as spool:
        spool.append(
            np.zeros((3, 2, 20), np.float32), np.zeros((3, 2, 200), np.float32), np.zeros((3, 2), bool)
        )
        recorder, vectors, speech_s = embed(spool)
    assert recorder.heard == []
    assert np.isnan(vectors).all()
    assert not speech_s.any()
