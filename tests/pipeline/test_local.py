"""Levels, signs and silence of the sources of a window; and what the embedder is given to hear."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixit.pipeline.compute import Compute, batches
from pixit.pipeline.diarize import ActivitySettings
from pixit.pipeline.local import EmbeddingSettings, count_talk, embed_speakers, restore_levels
from pixit.pipeline.spool import Geometry, Spool
from pixit.types import FrameGrid
from pixit.windows import Window, cut_windows, num_windows


def noises(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def all_active(sources: Tensor) -> Tensor:
    return torch.ones(sources.shape[:2], dtype=torch.bool)


@settings(max_examples=50, deadline=None)
@given(
    scales=st.lists(
        st.tuples(st.sampled_from([-1, 1]), st.floats(-5, 5)).map(lambda s: s[0] * 10 ** s[1]),
        min_size=3,
        max_size=3,
    ),
    level=st.sampled_from([1e-4, 1.0, 1e2]),
)
def test_level_and_polarity_come_back(scales: list[float], level: float) -> None:
    truth = level * noises(2, 3, 4000)
    found = restore_levels(
        truth * torch.tensor(scales)[:, None], truth.sum(1), torch.ones(2, 3, dtype=torch.bool)
    )
    torch.testing.assert_close(found, truth, atol=0.01 * level, rtol=0)


def test_silent_speakers_are_zero_and_take_no_part() -> None:
    truth = noises(1, 3, 4000)
    active = torch.tensor([[True, False, True]])
    mixture = truth[:, 0] + truth[:, 2]
    found = restore_levels(-3 * truth, mixture, active)
    assert not found[:, 1].any()
    torch.testing.assert_close(found[:, [0, 2]], truth[:, [0, 2]], atol=0.01, rtol=0)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-3])
def test_equal_sources_share_the_mixture(factor: float) -> None:
    """Collinear sources have no unique solution: what counts is a bounded one that sums to the mixture."""
    voice = noises(1, 1, 4000)
    found = restore_levels(
        torch.cat([voice, factor * voice], dim=1), voice[:, 0], all_active(voice).repeat(1, 2)
    )
    torch.testing.assert_close(found.sum(1), voice[:, 0], atol=0.01, rtol=0)
    assert found.abs().max() <= voice.abs().max()
    torch.testing.assert_close(found[:, 0], found[:, 1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-12, 1e-6])
def test_near_silence_is_not_amplified(level: float) -> None:
    mixture = level * noises(1, 4000, seed=1)
    found = restore_levels(noises(1, 2, 4000), mixture, torch.ones(1, 2, dtype=torch.bool))
    assert found.isfinite().all()
    assert (found.norm(dim=-1) <= 1.001 * mixture.norm()).all()


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-18, 1e-6, 1e6, 1e15])
def test_sources_at_any_level_give_finite_ones(level: float) -> None:
    mixture = noises(1, 4000)
    found = restore_levels(
        torch.stack([level * mixture, 0 * mixture], dim=1), mixture, torch.ones(1, 2, dtype=torch.bool)
    )
    assert found.isfinite().all()
    assert found.norm(dim=-1).max() <= 1.001 * mixture.norm()
    if level >= 1e-6:
        torch.testing.assert_close(found[:, 0], mixture, atol=0.01, rtol=0)


def test_windows_of_a_batch_do_not_touch_each_other() -> None:
    sources, mixtures = noises(5, 3, 1000), noises(5, 1000, seed=1)
    mixtures[2], sources[3] = 0, 0
    active = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    together = restore_levels(sources, mixtures, active)
    for index in range(5):
        one = slice(index, index + 1)
        alone = restore_levels(sources[one], mixtures[one], active[one])
        torch.testing.assert_close(together[one], alone, atol=1e-6, rtol=1e-5)


def test_batches() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []


@settings(max_examples=50)
@given(
    num_samples=st.integers(1, 3000),
    step=st.sampled_from([10, 30, 50, 100, 200]),
    edges=st.lists(st.integers(0, 3000), min_size=2, max_size=8, unique=True).map(sorted),
)
def test_talk_is_counted_in_seconds_of_the_recording(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, step: int, edges: list[int]
) -> None:
    """However many windows hear a moment, and whichever output the speaker is in."""
    talking = np.zeros(3200, np.float32)
    for start, end in itertools.pairwise(edges[: len(edges) // 2 * 2]):
        talking[start:end] = 1
    talking[num_samples:] = 0
    count = num_windows(num_samples, 200, step)
    geometry = Geometry(1000, num_samples, count, 200, step, FrameGrid(10, 10), 20)
    with Spool(geometry, 2, tmp_path_factory.getbasetemp()) as spool:
        for window in range(count):
            start = 10 * geometry.start_frames(window)
            activities = np.zeros((1, 2, 20), np.float32)
            activities[0, window % 2] = talking[start + 5 : start + 205 : 10]
            spool.append(activities, np.ones((1, 2, 200), np.float32), activities.any(axis=-1))
        found = count_talk(spool, ActivitySettings())
    assert found.sum() == pytest.approx(0.01 * talking[5::10].sum(), abs=1e-4)


# --- embedding ----------------------------------------------------------------------------------------

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
        Compute(torch.device("cpu"), batch_size),
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


def test_windows_without_sound_are_not_given_to_the_model(oracle: Any) -> None:
    truth = oracle.conversation(2, 9)
    truth.sources[:, 3000:8000], truth.talking[:, 3000:8000] = 0, False
    heard: list[float] = []

    class Model(oracle.Model):  # type: ignore[misc,name-defined]
        def _window(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            heard.append(float(np.abs(mixture).max()))
            self.num_seen = [n for n in range(100) if n not in skipped][len(heard) - 1]
            return super()._window(mixture)  # type: ignore[no-any-return]

    skipped = [6, 7, 8, 9, 10, 11, 12]  # of 2 s, each half a second after the one before it
    result = oracle.separate(truth, model=Model(truth, 500))
    assert min(heard) > 0
    assert len(heard) == 15 - len(skipped)
    assert not any(3.1 < turn.start_s < 7.8 for turn in result.turns)
