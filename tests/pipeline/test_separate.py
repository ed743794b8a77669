"""The whole pipeline with networks that know the answer: tracks and turns must be the true ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.core import Annotation, Segment, Timeline

from pixit.pipeline import provenance
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.pipeline.stitch import StitchingSettings
from pixit.types import LocalOutput, PixitError


def by_first_words(truth: Any) -> np.ndarray:
    """The true sources in the order in which the speakers begin."""
    return truth.sources[np.argsort(truth.talking.argmax(axis=1))]


def tracks_of(result: Any) -> np.ndarray:
    return np.stack([track.read() for track in result.tracks.values()])


def ratio_db(signal: np.ndarray, error: np.ndarray) -> float:
    return 10 * np.log10(np.square(signal).sum() / max(np.square(error).sum(), 1e-20))


def annotate(truth: Any, rate_hz: int) -> Annotation:
    annotation = Annotation()
    for speaker, talking in enumerate(truth.talking):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], talking, [False]])))
        for start, end in edges.reshape(-1, 2) / rate_hz:
            annotation[Segment(start, end), speaker] = f"person {speaker}"
    return annotation


# --- tracks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_speakers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("step_s", [0.3, 1.0])
def test_tracks_are_the_true_sources(oracle: Any, num_speakers: int, step_s: float) -> None:
    """Whatever order, level and polarity the model chose in each window."""
    truth = oracle.conversation(num_speakers, 30.7, seed=num_speakers)
    result = oracle.separate(truth, step_s)
    expected, found = by_first_words(truth), tracks_of(result)
    assert found.shape == expected.shape  # every speaker found, sample-exact
    for source, track in zip(expected, found, strict=True):
        assert ratio_db(source, source - track) > 40  # aligned, positive, at the true level
    assert ratio_db(truth.mixture, truth.mixture - found.sum(axis=0)) > 45


def test_labels_are_in_the_order_of_first_words(oracle: Any) -> None:
    result = oracle.separate(oracle.conversation(4, 40, seed=3))
    starts = [result.diarization.label_timeline(label)[0].start for label in result.tracks]
    assert list(result.tracks) == [f"SPEAKER_{n:02d}" for n in range(4)] == result.diarization.labels()
    assert starts == sorted(starts)


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.one_of(st.integers(1, 50), st.integers(1, 12_345)),
    step_s=st.sampled_from([0.02, 0.1, 0.37, 0.5, 1.99, 2.0]),
)
def test_tracks_are_as_long_as_any_recording(oracle: Any, num_samples: int, step_s: float) -> None:
    """Two who always talk, in a recording of any length: they sum to it, to its last sample."""
    rng = np.random.default_rng(num_samples)
    voices = np.stack([oracle.voice(speaker, num_samples, rng) for speaker in range(2)])
    truth = oracle.Conversation(voices, np.ones(voices.shape, bool))
    step_samples = max(1, round(step_s * 1000 / 20)) * 20
    model = oracle.Model(truth, step_samples)
    result = oracle.separate(truth, step_s, model=model, activity={"min_local_s": 0.0})
    assert result.num_samples == num_samples
    assert {track.num_samples for track in result.tracks.values()} <= {num_samples}
    if num_samples > 500 and len(result.tracks) == 2:
        error = truth.mixture - tracks_of(result).sum(axis=0)
        assert ratio_db(truth.mixture, error) > 45
    if num_samples > 2500:
        assert len(result.tracks) == 2


@pytest.mark.parametrize("step_s", [0.1, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("keep_room", [True, False])
def test_constant_noise_keeps_its_level_from_edge_to_edge(
    oracle: Any, step_s: float, keep_room: bool
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.choice([-0.1, 0.1], (1, 9_850)).astype(np.float32)  # every stretch has the same level
    truth = oracle.Conversation(noise, np.ones(noise.shape, bool))
    stitching = StitchingSettings(keep_room=keep_room)
    result = oracle.separate(truth, step_s, stitching=stitching, num_speakers=1)
    (track,) = tracks_of(result)
    levels = [np.sqrt(np.mean(np.square(tenth))) for tenth in np.split(track, range(100, 9_850, 100))]
    np.testing.assert_allclose(levels, 0.1, rtol=0.01)
    np.testing.assert_allclose(track, noise[0], atol=0.001)


def test_level_is_kept_where_only_some_windows_found_the_speaker(oracle: Any) -> None:
    """Every fourth window misses everybody: the track does not sink there."""
    noise = np.full((1, 10_000), 0.1, np.float32)
    truth = oracle.Conversation(noise, np.ones(noise.shape, bool))

    class Forgetful(oracle.Model):
        def _window(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            activities, sources = super()._window(mixture)
            return activities & (self.num_seen % 4 != 0), sources

    for consistency in (True, False):
        stitching = StitchingSettings(keep_room=consistency)
        result = oracle.separate(
            truth, 0.5, model=Forgetful(truth, 500), stitching=stitching, activity={"offset": 0.3}
        )
        np.testing.assert_allclose(tracks_of(result), noise, rtol=0.01)
        assert len(result.diarization) == 1


@pytest.mark.parametrize("removal_db", [0.0, 20.0, 60.0])
@pytest.mark.parametrize("collar_s", [0.0, 0.1, 0.5])
def test_sound_is_where_the_diarization_says(oracle: Any, removal_db: float, collar_s: float) -> None:
    """There is sound in every turn; beyond the collar it is turned down as far as asked for."""
    truth = oracle.conversation(3, 30, seed=5)

    class Leaky(oracle.Model):
        def _window(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            activities, sources = super()._window(mixture)
            return activities, sources + self.rng.normal(0, 0.01, sources.shape).astype(np.float32)

    result, untouched = (
        oracle.separate(
            truth,
            0.5,
            model=Leaky(truth, 500),
            stitching=StitchingSettings(leakage_removal_db=db, collar_s=collar_s),
        )
        for db in (removal_db, 0.0)
    )
    assert len(result.tracks) == 3
    for label, track in result.tracks.items():
        samples, leaky = track.read(), untouched.tracks[label].read()
        far = np.ones(len(samples), bool)
        for turn in result.diarization.label_timeline(label):
            start, end = round(turn.start * 1000), round(turn.end * 1000)
            for first in range(start, end - 50, 50):
                assert np.abs(samples[first : first + 50]).max() > 0.01
            margin = round((collar_s + 0.04) * 1000)  # the collar in whole frames, and the fade of one
            far[max(0, start - margin) : end + margin] = False
        assert far.any()
        assert np.abs(leaky[far]).max() > 0
        np.testing.assert_allclose(samples[far], leaky[far] * 10 ** (-removal_db / 20), rtol=1e-3, atol=1e-7)


def test_a_speaker_whose_source_is_silent_still_has_sound(oracle: Any) -> None:
    """The model hears a voice and separates nothing: mixture consistency gives the voice back."""
    noise = np.full((1, 6_000), 0.1, np.float32)
    truth = oracle.Conversation(noise, np.ones(noise.shape, bool))

    class Mute(oracle.Model):
        def __call__(self, waveforms: torch.Tensor) -> LocalOutput:
            output = super().__call__(waveforms)
            return LocalOutput(output.activity_logits, torch.zeros_like(output.sources))

    result = oracle.separate(truth, 0.5, model=Mute(truth, 500))
    np.testing.assert_allclose(tracks_of(result), noise, atol=1e-4)


def test_one_voice_in_two_outputs_stays_whole(oracle: Any) -> None:
    """The model spreads one voice over two outputs; asked for one speaker, both halves must be in the track."""
    rng = np.random.default_rng(0)
    noise = oracle.voice(0, 8_000, rng)[None]
    truth = oracle.Conversation(noise, np.ones(noise.shape, bool))

    class Split(oracle.Model):
        def _window(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            activities = np.ones((3, self.num_frames(self.window_samples)), bool)
            activities[2] = False
            share = self.rng.uniform(0.3, 0.7) * np.repeat([1, 0, 1, 0], self.window_samples // 4)
            return activities, np.stack([share * mixture, (1 - share) * mixture, 0 * mixture]).astype(
                np.float32
            )

    result = oracle.separate(truth, 0.5, model=Split(truth, 500), num_speakers=1)
    np.testing.assert_allclose(tracks_of(result), noise, atol=1e-3)


# --- who spoke when -----------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["separated", "mixture"])
def test_diarization_error_rate_against_the_truth(oracle: Any, signal: str) -> None:
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    truth = oracle.conversation(4, 60, seed=7)
    result = oracle.separate(truth, 0.5, embedding={"signal": signal})
    whole = Timeline([Segment(0, 60)])
    rate = metrics.DiarizationErrorRate()(annotate(truth, 1000), result.diarization, uem=whole)
    assert rate < 0.03  # frames of 20 ms, pauses up to 0.2 s filled


@pytest.mark.parametrize(("onset", "num_found"), [(0.3, 1), (0.4, 1), (0.5, 0), (0.6, 0)])
def test_one_onset_decides_everywhere(oracle: Any, onset: float, num_found: int) -> None:
    """A model that is never surer than 0.45: who accepts that finds its speaker, at the full level."""
    noise = np.full((1, 10_000), 0.1, np.float32)
    truth = oracle.Conversation(noise, np.ones(noise.shape, bool))

    class Unsure(oracle.Model):
        def __call__(self, waveforms: torch.Tensor) -> LocalOutput:
            output = super().__call__(waveforms)
            logits = torch.where(output.activity_logits > 0, np.log(0.45 / 0.55), -8.0)
            return LocalOutput(logits, output.sources)

    result = oracle.separate(truth, 0.5, model=Unsure(truth, 500), activity={"onset": onset})
    assert len(result.tracks) == num_found
    for track in result.tracks.values():
        np.testing.assert_allclose(track.read(), noise[0], rtol=0.01)


def test_turns_lie_within_the_recording(oracle: Any) -> None:
    result = oracle.separate(oracle.conversation(2, 13.377, seed=1))
    extent = result.diarization.get_timeline().extent()
    assert extent.start >= 0
    assert extent.end <= 13.377


@pytest.mark.parametrize("num_samples", [1_700, 2_000, 2_400])
def test_two_speakers_in_hardly_more_than_a_window(oracle: Any, num_samples: int) -> None:
    """In a short recording fewer windows hear each moment; speech must not count for less there."""
    rng = np.random.default_rng(0)
    talking = np.zeros((2, num_samples), bool)
    talking[0, :800], talking[1, 900:1700] = True, True
    voices = np.stack([oracle.voice(speaker, num_samples, rng) for speaker in range(2)])
    truth = oracle.Conversation(voices * talking, talking)
    result = oracle.separate(truth, 0.1, clustering={"min_speaker_s": 0.6, "min_speech_s": 0.5})
    assert [len(result.diarization.label_timeline(label)) for label in result.tracks] == [1, 1]


@pytest.mark.parametrize("bounds", [{"num_speakers": 2}, {"max_speakers": 2}])
def test_fewer_speakers_than_there_are(oracle: Any, bounds: dict[str, int]) -> None:
    assert len(oracle.separate(oracle.conversation(4, 30), **bounds).tracks) == 2


@pytest.mark.parametrize("bounds", [{"num_speakers": 4}, {"min_speakers": 4, "max_speakers": 6}])
def test_more_speakers_than_there_are(oracle: Any, bounds: dict[str, int]) -> None:
    result = oracle.separate(oracle.conversation(2, 30), **bounds)
    assert 2 <= len(result.tracks) <= 6
    assert {track.num_samples for track in result.tracks.values()} == {30_000}


@pytest.mark.parametrize("wanted", [3, 10, 1000])
def test_a_number_of_speakers_that_cannot_be_met_costs_no_speech(oracle: Any, wanted: int) -> None:
    """The most that can be distinguished, and a line that says so."""
    truth = oracle.conversation(2, 30)
    plain, asked = oracle.separate(truth), oracle.separate(truth, num_speakers=wanted)
    assert plain.settings["warnings"] == []
    assert 2 <= len(asked.tracks) <= wanted
    found = f"{len(asked.tracks)} of the {wanted} speakers asked for could be distinguished"
    assert asked.settings["warnings"] == ([found] if len(asked.tracks) < wanted else [])
    speech, kept = (r.diarization.get_timeline().support() for r in (plain, asked))
    assert kept.crop(speech).duration() > 0.98 * speech.duration()


def test_no_more_speakers_than_asked_for_is_no_warning(oracle: Any) -> None:
    for bounds in ({"num_speakers": 2}, {"min_speakers": 1, "max_speakers": 9}, {}):
        assert oracle.separate(oracle.conversation(3, 30), **bounds).settings["warnings"] == []


def test_the_clustering_threshold_is_the_embedders(oracle: Any) -> None:
    truth = oracle.conversation(3, 20)
    for threshold, num_found in ((0.6, 3), (1.9, 1)):
        embedder = oracle.Embedder(clustering_threshold=threshold)
        result = oracle.separate(truth, embedder=embedder)
        assert len(result.tracks) == num_found
        assert result.settings["separation"]["clustering"]["threshold"] == threshold
        own = oracle.separate(truth, embedder=embedder, clustering={"threshold": 0.5})
        assert own.settings["separation"]["clustering"]["threshold"] == 0.5
        assert len(own.tracks) == 3


@pytest.mark.parametrize("num_samples", [2_010, 2_490, 3_999, 9_850])
def test_what_is_said_last_is_heard_by_a_whole_window(oracle: Any, num_samples: int) -> None:
    """The last window ends with the recording: hardly any zeros follow, and turns and tracks stay aligned."""
    truth = oracle.conversation(2, num_samples / 1000, seed=4)
    silent: list[int] = []

    class Watched(oracle.Model):
        def _window(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            silent.append(len(mixture) - 1 - int(np.flatnonzero(mixture)[-1]))
            return super()._window(mixture)

    truth.sources += 1e-4  # so that zeros are those of the padding
    result = oracle.separate(truth, 0.9, model=Watched(truth, 900), clustering={"min_speaker_s": 0})
    assert max(silent) < 20  # less than a frame
    turns = annotate(truth, 1000).get_timeline().support()
    found = result.diarization.get_timeline().support()
    assert abs(found.extent().end - turns.extent().end) < 0.03


@pytest.mark.parametrize(
    "bounds",
    [
        {"num_speakers": 0},
        {"num_speakers": -1},
        {"num_speakers": 2, "max_speakers": 3},
        {"min_speakers": 3, "max_speakers": 2},
        {"max_speakers": 0},
    ],
)
def test_contradicting_numbers_of_speakers(oracle: Any, bounds: dict[str, int]) -> None:
    with pytest.raises(PixitError, match="speakers"):
        oracle.separate(oracle.conversation(2, 5), **bounds)


@pytest.mark.parametrize("amplitude", [0.0, 1e-6])
@pytest.mark.parametrize("num_samples", [1, 1_500, 7_777])
def test_silence_has_no_speakers_even_if_the_model_hears_some(
    oracle: Any, amplitude: float, num_samples: int
) -> None:
    rng = np.random.default_rng(0)
    silence = rng.uniform(-amplitude, amplitude, (1, num_samples)).astype(np.float32)
    truth = oracle.Conversation(silence, np.ones(silence.shape, bool))
    result = oracle.separate(truth, 0.5)
    assert result.tracks == {}
    assert len(result.diarization) == 0
    assert result.sources.data.shape == (num_samples, 0)


def test_nobody_talks(oracle: Any) -> None:
    truth = oracle.conversation(2, 10)
    truth.talking[:] = False
    assert oracle.separate(truth).tracks == {}


# --- robustness ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["sources", "activities"])
def test_a_model_that_gives_nan_is_named(oracle: Any, what: str, leftovers: Any) -> None:
    truth = oracle.conversation(2, 10)

    class Broken(oracle.Model):
        def __call__(self, waveforms: torch.Tensor) -> LocalOutput:
            output = super().__call__(waveforms)
            broken = output.sources if what == "sources" else output.activity_logits
            broken[-1, 0, 3] = torch.nan
            return output

    with pytest.raises(PixitError, match=f"model gives NaN or infinite {what}"):
        oracle.separate(truth, model=Broken(truth, 500))
    assert leftovers() == []


def test_batch_size_does_not_matter(oracle: Any) -> None:
    truth = oracle.conversation(3, 20, seed=2)
    one, seven = (oracle.separate(truth, batch_size=size) for size in (1, 7))
    assert one.diarization == seven.diarization
    np.testing.assert_allclose(tracks_of(one), tracks_of(seven), atol=1e-5)


def test_on_a_cpu_windows_come_one_by_one(oracle: Any) -> None:
    truth = oracle.conversation(1, 5)
    for asked, taken in ((None, 1), (3, 3)):
        sizes: list[int] = []

        class Counting(oracle.Model):
            def __call__(self, waveforms: torch.Tensor, sizes: list[int] = sizes) -> LocalOutput:
                sizes.append(len(waveforms))
                return super().__call__(waveforms)

        oracle.separate(truth, model=Counting(truth, 500), batch_size=asked)
        assert max(sizes) == taken


def test_model_and_embedder_must_share_a_sample_rate(oracle: Any) -> None:
    embedder = oracle.Embedder(sample_rate_hz=8000)
    with pytest.raises(PixitError, match="8000 Hz"):
        Separator(oracle.Model(oracle.conversation(1, 1), 500), embedder, device="cpu")


def test_unknown_device(oracle: Any) -> None:
    model = oracle.Model(oracle.conversation(1, 1), 500)
    with pytest.raises(PixitError, match="device 'abacus'"):
        Separator(model, oracle.Embedder(), device="abacus")


def test_a_step_beyond_the_window_is_refused(oracle: Any, leftovers: Any) -> None:
    with pytest.raises(PixitError, match="step"):
        oracle.separate(oracle.conversation(2, 5), step_s=3.0)
    assert leftovers() == []


# --- progress and interruption ------------------------------------------------------------------------


def test_hook_is_that_of_pyannote(oracle: Any) -> None:
    """As pyannote.audio's ProgressHook takes it: steps in order, counts that rise to the total."""
    calls: list[tuple[str, Any, Any, Any]] = []

    def hook(
        step_name: str,
        step_artifact: Any,
        file: Any = None,
        total: int | None = None,
        completed: int | None = None,
    ) -> None:
        calls.append((step_name, step_artifact, total, completed))
        assert file["uri"] == "meeting"

    result = oracle.separate(oracle.conversation(2, 10), batch_size=3, hook=hook)
    steps = list(dict.fromkeys(step for step, *_ in calls))
    assert steps == ["segmentation", "embeddings", "separations", "discrete_diarization"]
    for step in steps[:3]:
        completed = [count for name, _, _, count in calls if name == step]
        assert {total for name, _, total, _ in calls if name == step} == {17}  # 2 s windows every 0.5 s
        assert completed == sorted(set(completed))
        assert completed[-1] == 17
    assert calls[-1][1:] == (result.diarization, None, None)


@pytest.fixture
def leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Point temporary files to a folder of their own; call it for what is there now."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: sorted(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["segmentation", "embeddings", "separations", "discrete_diarization"])
def test_an_interruption_leaves_nothing_behind(oracle: Any, leftovers: Any, step: str) -> None:
    seen = []

    def hook(step_name: str, *_: Any, **__: Any) -> None:
        seen.append(leftovers())
        if step_name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        oracle.separate(oracle.conversation(2, 10), hook=hook)
    assert seen[0] != []
    assert leftovers() == []


def test_tracks_vanish_with_the_result(oracle: Any, leftovers: Any) -> None:
    result = oracle.separate(oracle.conversation(2, 10))
    track = result.tracks["SPEAKER_01"]
    assert len(leftovers()) == 1
    del result
    assert track.read().any()  # a track may outlive the result
    del track
    assert leftovers() == []


def test_temporary_files_lie_where_they_are_asked_to(oracle: Any, leftovers: Any, tmp_path: Path) -> None:
    work, seen = tmp_path / "out", []
    work.mkdir()

    def hook(*_: Any, **__: Any) -> None:
        seen.extend(p.name for p in work.iterdir())

    result = oracle.separate(oracle.conversation(2, 10), hook=hook, work_folder=work)
    assert seen
    assert all(name.startswith(".pixit-") for name in seen)
    assert leftovers() == [work]
    assert len(list(work.iterdir())) == 1  # the tracks
    del result
    assert list(work.iterdir()) == []
    with pytest.raises(PixitError, match="nowhere: cannot be made or written"):
        oracle.separate(oracle.conversation(2, 10), work_folder=tmp_path / "nowhere")


def test_weights_and_files_are_hashed_once(
    oracle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Any] = []
    for name in ("weights_hash", "file_hash"):
        function = getattr(provenance, name)
        monkeypatch.setattr(
            provenance,
            name,
            lambda what, own=function: hashed.append(what) or own(what),  # type: ignore[func-returns-value]
        )
    truth = oracle.conversation(2, 5)
    path = tmp_path / "a.wav"
    soundfile.write(path, truth.mixture, 1000, "FLOAT")

    class Network(torch.nn.Module):
        sample_rate_hz, num_speakers, window_samples, frame_grid = 1000, 1, 2000, oracle.grid

        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

        def num_frames(self, num_samples: int) -> int:
            return num_samples // 20

        def forward(self, waveforms: torch.Tensor) -> LocalOutput:
            return LocalOutput(torch.full((len(waveforms), 1, 100), 3.0), self.gain * waveforms)

    network = Network()
    separator = Separator(network, oracle.Embedder(), device="cpu")
    first, again = (separator(path).settings["request"] for _ in range(2))
    assert first == again
    assert first["model_sha256"] is not None
    assert hashed == [network, path]
    with torch.no_grad():
        network.gain.mul_(2)
    changed = separator(path).settings["request"]
    assert changed["model_sha256"] != first["model_sha256"]
    network.load_state_dict({"gain": torch.ones(1)})
    assert separator(path).settings["request"] == first
    network.gain = torch.nn.Parameter(2 * torch.ones(1))
    assert separator(path).settings["request"] == changed
    assert hashed == [network, path, network, network, network]
    soundfile.write(path, -truth.mixture, 1000, "FLOAT")
    assert separator(path).settings["request"]["source_sha256"] != first["source_sha256"]
    assert hashed[5:] == [path]


def test_the_best_channel_is_separated_and_named(oracle: Any) -> None:
    truth = oracle.conversation(2, 10)
    both = np.stack([np.zeros_like(truth.mixture), truth.mixture])
    for asked, taken, level in ((None, 1, 1.0), ("best", 1, 1.0), (1, 1, 1.0), ("mean", "mean", 0.5)):
        scaled = oracle.Conversation(level * truth.sources, truth.talking)
        separator = Separator(oracle.Model(scaled, 1000), oracle.Embedder(), device="cpu")
        result = separator({"waveform": both, "sample_rate": 1000}, channel=asked)
        assert result.settings["channel"] == taken
        assert result.settings["request"]["call"]["channel"] == (asked if asked is not None else "best")
        assert ratio_db(level * truth.mixture, level * truth.mixture - tracks_of(result).sum(axis=0)) > 20


def test_full_disk_is_foreseen(oracle: Any, leftovers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = tempfile.gettempdir()
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    with pytest.raises(PixitError, match=r"has 1.0 kB free, the separation needs some") as error:
        oracle.separate(oracle.conversation(2, 10))
    assert str(error.value).startswith(usage)
    assert leftovers() == []


def test_no_folder_for_temporary_files(oracle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(PixitError, match="TMPDIR"):
        oracle.separate(oracle.conversation(2, 10))


def test_settings_are_told_with_the_result(oracle: Any) -> None:
    result = oracle.separate(oracle.conversation(2, 5), batch_size=4)
    assert SeparationSettings(**result.settings["separation"]).batch_size == 4
    assert result.settings["source"] == "meeting"
    request = result.settings["request"]
    assert request["source_sha256"] is None  # no file
    assert "batch_size" not in request["separation"]
