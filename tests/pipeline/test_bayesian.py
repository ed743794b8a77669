"""Incremental clustering by probabilities, beside those of the normal distributions that it stands on."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from pixit.audio import MemoryAudio
from pixit.pipeline.bayesian import BayesianClustering, Beliefs
from pixit.pipeline.diarize import ActivitySettings
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.pipeline.incremental import IncrementalSettings
from pixit.pipeline.live import Update, join_updates
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.spool import Geometry
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import FrameGrid, PixitError, Plda

SIZE = 4
PLDA = Plda(np.zeros(SIZE), np.zeros(SIZE), 2 * np.eye(SIZE), np.full(SIZE, 4.0))
GEOMETRY = Geometry(1000, 100_000, 197, 2000, 500, FrameGrid(20, 20, 0), 100)
ANN, BOB, CAT, DAN = np.eye(SIZE, dtype=np.float32)
ALL, NOBODY = ~np.eye(3, dtype=bool), np.zeros((3, 3), bool)


def make(known: KnownSpeakers | None = None, **settings: float) -> BayesianClustering:
    chosen = IncrementalSettings.model_validate({"evidence": 4, "min_new_s": 1.0, **settings})
    return BayesianClustering(chosen, ActivitySettings(), PLDA, GEOMETRY, known)


def talk(*seconds: float) -> NDArray[np.float32]:
    """Return activities (K, F) of local speakers who talk for so long in a window of 2 s."""
    return np.stack([np.where(np.arange(100) * 0.02 < one, 1.0, 0.0) for one in seconds]).astype(np.float32)


def log_density(vectors: NDArray[np.float64], spreads: list[float], variance: float) -> float:
    """Return that of numbers (n,) around one mean that nobody knows: a normal distribution of all together."""
    covariance = np.full((len(vectors), len(vectors)), variance) + np.diag(spreads)
    return float(multivariate_normal(np.zeros(len(vectors)), covariance).logpdf(vectors))


@given(st.integers(0, 4), st.integers(0, 1000), st.floats(0.2, 5))
def test_odds_are_those_of_all_embeddings_together(count: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    variances = rng.uniform(0.1, 6, 3)
    heard, new = rng.normal(0, 2, (count, 3)), rng.normal(0, 2, 3)
    beliefs = Beliefs(variances, np.zeros(0), np.zeros((0, 3)))
    beliefs.add(0.0, np.ones(3))
    for vector in heard:
        beliefs.learn(0, 1.0, vector)
    expected = 0.0
    for own, one, variance in zip(heard.T, new, variances, strict=True):
        together = log_density(np.append(own, one), [*np.ones(count), spread], variance)
        before = log_density(own, [1.0] * count, variance) if count else 0.0
        expected += together - before - log_density(np.array([one]), [spread], variance)
    assert beliefs.log_odds(new, spread)[0] == pytest.approx(expected, abs=1e-9)


def test_who_returns_after_an_hour_is_known() -> None:
    clustering = make()
    assert clustering.assign(talk(2, 0), np.stack([ANN, BOB])).tolist() == [0, -1]
    for _ in range(7200):
        assert clustering.assign(talk(0, 2), np.stack([CAT, BOB])).tolist() == [-1, 1]
    assert clustering.assign(talk(2, 1.5), np.stack([BOB, ANN])).tolist() == [1, 0]
    assert clustering.num_speakers == 2


def test_what_is_heard_makes_a_belief_surer() -> None:
    """Somebody rather like Ann may be her after a second of her, but not after many."""
    like = np.float32([0.5, 0.866, 0, 0])
    clustering = make()
    clustering.assign(talk(1), ANN[None])
    assert clustering.assign(talk(1), like[None]).tolist() == [0]
    clustering = make()
    for _ in range(30):
        clustering.assign(talk(2), ANN[None])
    assert clustering.assign(talk(1), like[None]).tolist() == [1]


def test_of_a_few_words_less_can_be_said() -> None:
    """The same embedding, of little speech, is taken for somebody known; of much speech it is somebody new."""
    like = np.float32([0.55, 0.835, 0, 0])
    for seconds, expected in ((1.0, 0), (2.0, 1)):
        clustering = make(short_s=1)
        for _ in range(5):
            clustering.assign(talk(2), ANN[None])
        assert clustering.assign(talk(seconds), like[None]).tolist() == [expected]


def test_a_few_words_begin_no_speaker_and_teach_nobody() -> None:
    clustering = make()
    assert clustering.assign(talk(0.5), ANN[None]).tolist() == [-1]
    clustering.assign(talk(2), ANN[None])
    before = clustering.state()["sums"].copy()
    assert clustering.assign(talk(0.5), BOB[None]).tolist() == [0]  # the only one there is
    assert clustering.assign(talk(0.3), ANN[None]).tolist() == [0]
    np.testing.assert_array_equal(clustering.state()["sums"], before)


def test_turns_of_one_output_may_be_one_speaker_or_several() -> None:
    clustering = make()
    assert clustering.assign(talk(2, 1.5, 1), np.stack([ANN, BOB, ANN]), NOBODY).tolist() == [0, 1, 0]
    assert clustering.assign(talk(2, 1.5, 1), np.stack([BOB, BOB, CAT]), NOBODY).tolist() == [1, 1, 2]


def test_who_talks_at_the_same_time_is_somebody_else_unless_that_is_absurd() -> None:
    clustering = make(split_log_odds=6, new_log_odds=-3)
    for _ in range(3):
        clustering.assign(talk(2, 2, 0), np.stack([ANN, BOB, ANN]), ALL)
    between = (ANN + 0.9 * BOB) / np.sqrt(1.81)
    assert clustering.assign(talk(2, 1.8, 0), np.stack([ANN, between, ANN]), ALL).tolist() == [0, 1, -1]
    # both parts of a voice that the model has split
    assert clustering.assign(talk(2, 1.8, 0), np.stack([ANN, ANN, ANN]), ALL).tolist() == [0, 0, -1]
    # without being told, all are different people
    assert clustering.assign(talk(2, 1.8), np.stack([ANN, between])).tolist() == [0, 1]


def test_no_more_than_the_most_speakers() -> None:
    clustering = make(max_speakers=2)
    assert clustering.assign(talk(2, 2, 2), np.stack([ANN, BOB, CAT]), NOBODY).max() == 1
    assert clustering.num_speakers == 2


def test_those_known_before_have_to_be_heard() -> None:
    known = KnownSpeakers(("Ann", "Bob"), np.stack([ANN, BOB]), np.float32([30, 30]), "")
    clustering = make(known)
    assert (clustering.num_speakers, clustering.heard.tolist()) == (2, [False, False])
    assert clustering.assign(talk(0.5), CAT[None]).tolist() == [-1]
    assert clustering.assign(talk(2), CAT[None]).tolist() == [2]
    assert clustering.assign(talk(0.5), BOB[None]).tolist() == [1]  # from the first word on
    assert clustering.heard.tolist() == [False, True, True]


def test_of_those_known_before_no_more_are_heard_than_there_may_be() -> None:
    known = KnownSpeakers(("Ann", "Bob"), np.stack([ANN, BOB]), np.float32([30, 30]), "")
    clustering = make(known, max_speakers=1)
    assert clustering.assign(talk(2, 1.9, 1.8), np.stack([ANN, BOB, CAT]), NOBODY).tolist() == [0, 0, 0]
    assert clustering.num_speakers == 2


def test_vectors_of_zeros_and_nan_do_no_harm() -> None:
    clustering = make()
    clustering.assign(talk(2, 2), np.stack([np.zeros(SIZE), np.full(SIZE, np.nan)]))
    clustering.assign(talk(2, 2), np.stack([ANN, np.zeros(SIZE)]))
    assert np.isfinite(clustering.state()["sums"]).all()


# --- in streams -------------------------------------------------------------------------------------------

FAKES = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "stream_for_hours.py"))


class Knowing(FAKES["Sign"]):  # type: ignore[misc]
    """Embeds the sign, and knows how that varies."""

    plda = PLDA


def stream_of(embedder: Any, **clustering: Any) -> StreamingSeparator:
    settings = StreamingSettings.model_validate({"step_s": 0.5, "clustering": clustering})
    return StreamingSeparator(FAKES["Halves"](), embedder, settings, "cpu")


@cache
def sound() -> NDArray[np.float32]:
    """Return two people in turn, a second and a half each."""
    rng = np.random.default_rng(0)
    times = np.arange(20_000) / 1000
    samples: NDArray[np.float32] = np.where(times % 3 < 1.5, 1, -1) * rng.uniform(0.1, 0.5, len(times))
    return samples.astype(np.float32)


def test_an_embedder_with_a_plda_decides_by_it() -> None:
    stream = stream_of(Knowing())
    assert stream.settings.clustering.method == "plda"
    update = join_updates([stream.push(sound()), stream.finish()])
    assert update.speakers == ("SPEAKER_00", "SPEAKER_01")
    for name, sign in zip(update.speakers, (1, -1), strict=True):
        own = sign * sound() > 0
        np.testing.assert_allclose(
            update.tracks[name][3000:][own[3000:]], sound()[3000:][own[3000:]], atol=1e-3
        )
    plain = stream_of(Knowing(), method="cosine")
    assert (
        plain.settings.clustering.method == stream_of(FAKES["Sign"]()).settings.clustering.method == "cosine"
    )
    with pytest.raises(PixitError, match=r"clustering\.method=plda: the embedder has no PLDA"):
        stream_of(FAKES["Sign"](), method="plda")


def test_blocks_of_any_size_and_restarts_give_the_same_bits() -> None:
    whole = stream_of(Knowing())
    expected = join_updates([whole.push(sound()), whole.finish()])
    assert len(expected.turns) > 8
    for seed in range(3):
        rng, stream, updates, position = np.random.default_rng(seed), stream_of(Knowing()), list[Update](), 0
        while position < len(sound()):
            size = int(rng.integers(0, 1500))
            updates.append(stream.push(sound()[position : position + size]))
            position += size
            if rng.random() < 0.3:
                stream = StreamingSeparator.from_state(stream.state(), stream.model, stream.embedder, "cpu")
        found = join_updates([*updates, stream.finish()])
        assert (found.turns, found.speakers) == (expected.turns, expected.speakers)
        for name, track in expected.tracks.items():
            np.testing.assert_array_equal(found.tracks[name], track)


def test_a_state_is_of_one_embedder() -> None:
    class Ears(torch.nn.Linear):
        sample_rate_hz, embedding_size, clustering_threshold = 1000, 4, 0.6

        def forward(self, waveforms: Any, weights: Any = None) -> Any:
            return super().forward(waveforms[:, :1])

    stream = stream_of(Ears(1, 4))
    StreamingSeparator.from_state(stream.state(), stream.model, stream.embedder, "cpu")
    with pytest.raises(PixitError, match="state of a stream: of other networks"):
        StreamingSeparator.from_state(stream.state(), stream.model, Ears(1, 4), "cpu")


def test_a_state_is_of_one_way_of_clustering() -> None:
    stream = stream_of(Knowing())
    stream.push(sound()[:5000])
    with pytest.raises(PixitError, match="the embedder has no PLDA"):
        StreamingSeparator.from_state(stream.state(), stream.model, FAKES["Sign"](), "cpu")


def test_voices_enrolled_before_are_named(tmp_path: Path) -> None:
    voice = MemoryAudio(np.abs(sound())[None], 1000)
    settings = StreamingSettings.model_validate({"step_s": 0.5})
    stream = StreamingSeparator(FAKES["Halves"](), Knowing(), settings, "cpu", known_speakers={"Ann": voice})
    update = join_updates([stream.push(sound()), stream.finish()])
    assert update.speakers == ("Ann", "SPEAKER_01")
