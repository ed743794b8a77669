"""Streams: in any blocks the same, causal, exact to the sample, and as good as a recording where they may wait."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import pixit
from pixit.audio import MemoryAudio
from pixit.config import read_yaml
from pixit.pipeline.live import Update, join_updates
from pixit.pipeline.live_hearing import Heard
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import FrameGrid, LocalOutput, PixitError

Blocks = Iterator[NDArray[Any]]
RATE_HZ = 1000


SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "stream_for_hours.py"
FAKES = runpy.run_path(str(SCRIPT))
Halves, Sign = FAKES["Halves"], FAKES["Sign"]
"""Two people, in the upper and the lower half of the samples' range, at 1 kHz, in windows of 2 s; their voices."""


def make(**options: Any) -> StreamingSeparator:
    where = {key: options.pop(key) for key in ("sample_rate_hz", "channel") if key in options}
    settings = StreamingSettings(**{"step_s": 0.5, **options})
    return StreamingSeparator(Halves(), Sign(), settings, device="cpu", **where)


def make_sound(seconds: float, rate_hz: int = RATE_HZ, seed: int = 0) -> NDArray[np.float32]:
    """Two people in turn, a second each, with some overlap and noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    upper = (time_s % 3 < 1.6) * rng.uniform(0.1, 0.5, len(time_s))
    lower = (time_s % 3 > 1.4) * rng.uniform(0.1, 0.5, len(time_s))
    choice = rng.random(len(time_s)) < np.where(upper * lower > 0, 0.5, upper > 0)
    return np.where(choice, upper, -lower).astype(np.float32)


def cut(sound: NDArray[Any], rng: np.random.Generator, most: int) -> Blocks:
    """Cut into blocks of random sizes, 0 and 1 among them."""
    position = 0
    while position < len(sound):
        size = int(rng.choice([0, 1, int(rng.integers(0, most))], p=[0.1, 0.2, 0.7]))
        yield sound[position : position + size]
        position += size


def run(stream: StreamingSeparator, blocks: Blocks | list[NDArray[Any]]) -> Update:
    """Push all and finish; check that what comes is contiguous, and return it as one."""
    updates = [stream.push(block) for block in blocks]
    updates.append(stream.finish())
    position, seen = 0, 0
    for update in updates:
        assert update.start_samples == position
        assert update.speakers[:seen] == updates[-1].speakers[:seen]
        assert tuple(update.tracks) == update.speakers
        for track in update.tracks.values():
            assert track.dtype == np.float32
            assert track.shape == (update.end_samples - update.start_samples,)
        position, seen = update.end_samples, len(update.speakers)
    return join_updates(updates)


def assert_same(found: Update, expected: Update) -> None:
    assert found.turns == expected.turns
    assert (found.start_samples, found.end_samples, found.speakers, found.gaps) == (
        *(expected.start_samples, expected.end_samples, expected.speakers, expected.gaps),
    )
    for name, track in expected.tracks.items():
        np.testing.assert_array_equal(found.tracks[name], track)


# --- blocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency_s", [0.5, 1.23, 2.0])
@pytest.mark.parametrize("kind", ["float32", "int16", "two channels", "8 kHz", "1.5 kHz, second channel"])
def test_blocks_of_any_size_and_restarts_give_the_same_bits(kind: str, latency_s: float) -> None:
    rate_hz = {"8 kHz": 8000, "1.5 kHz, second channel": 1500}.get(kind, RATE_HZ)
    sound: NDArray[Any] = make_sound(9.123, rate_hz)
    if kind == "int16":
        sound = (sound * 32767).astype(np.int16)
    if "channel" in kind:
        sound = np.stack([0.5 * sound[::-1], sound], axis=1)
    channel = 1 if "second" in kind else None
    new = partial(make, latency_s=latency_s, sample_rate_hz=rate_hz, channel=channel)
    expected = run(new(), [sound])
    assert len(expected.turns) > 8
    assert len(expected.speakers) == 2
    reference = MemoryAudio(np.atleast_2d(sound.astype(np.float32).T), rate_hz, RATE_HZ)
    assert expected.end_samples == reference.num_samples
    for seed in range(3):
        rng = np.random.default_rng(seed)
        assert_same(run(new(), cut(sound, rng, rate_hz)), expected)
        stream, updates = new(), []
        for block in cut(sound, rng, rate_hz):
            updates.append(stream.push(block))
            if rng.random() < 0.3:
                stream = StreamingSeparator.from_state(stream.state(), stream.model, stream.embedder, "cpu")
        assert_same(join_updates([*updates, stream.finish()]), expected)


def test_single_samples_give_the_same_bits() -> None:
    sound = make_sound(2.345)
    assert_same(run(make(), [sound[n : n + 1] for n in range(len(sound))]), run(make(), [sound]))


def test_sixteen_bits_are_their_floats() -> None:
    sound = (make_sound(4) * 32767).astype(np.int16)
    assert_same(run(make(), [sound]), run(make(), [sound.astype(np.float64) / 32768]))


def test_windows_heard_together_alone_or_in_threads_are_the_same() -> None:
    sound = make_sound(6)
    stream, expected = make(), run(make(), [sound])
    windows = stream.feed(sound)
    with ThreadPoolExecutor(4) as pool:
        heard = [one for found in pool.map(stream.hear, [[window] for window in windows]) for one in found]
    for one, other in zip(heard, stream.hear(windows), strict=True):
        for name in ("activities", "sources", "vectors"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    update = stream.take(heard)
    assert_same(join_updates([update, stream.take(stream.hear(stream.end()))]), expected)


def test_windows_are_taken_in_order() -> None:
    stream = make()
    heard = stream.hear(stream.feed(make_sound(2)))
    with pytest.raises(ValueError, match="window 1 is taken, expected 0"):
        stream.take(heard[1:])
    with pytest.raises(PixitError, match="take all windows first"):
        stream.state()
    stream.take(heard)
    assert stream.state()


# --- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency_s", [0.5, 0.8, 2.0])
def test_a_sample_is_given_out_when_its_latency_is_over(latency_s: float) -> None:
    stream, step, latency = make(latency_s=latency_s), 500, round(latency_s * RATE_HZ)
    for number in range(1, 13):
        before = stream.push(make_sound(0.499))
        update = stream.push(make_sound(0.001))
        assert update.end_samples == max(0, number * step - latency + step)
        assert before.start_samples == before.end_samples == update.start_samples


@pytest.mark.parametrize("length", [0, 1, 499, 500, 501, 1999, 2000, 2001, 6000])
@pytest.mark.parametrize("latency_s", [0.5, 2.0])
def test_tracks_are_as_long_as_the_stream(length: int, latency_s: float) -> None:
    found = run(make(latency_s=latency_s), [make_sound(10)[:length]])
    assert (found.start_samples, found.end_samples) == (0, length)
    assert all(0 <= turn.start_s < (turn.end_s or 99) <= max(99, length) for turn in found.turns)


def test_silence_has_no_speakers() -> None:
    found = run(make(), [np.zeros(5000)])
    assert found == Update(0, 5000, {})


def test_nothing_that_comes_later_changes_what_was_given() -> None:
    one, other = make_sound(8), make_sound(8, seed=1)
    other[:5000] = one[:5000]
    first, second = make(latency_s=1.0), make(latency_s=1.0)
    found = [stream.push(sound[:5000]) for stream, sound in ((first, one), (second, other))]
    assert_same(*found)
    assert found[0].end_samples == 4500


def test_what_a_model_hears_before_the_stream_and_after_it_counts_for_nothing() -> None:
    class Chatter(Halves):
        """Hears everybody everywhere."""

        def forward(self, waveforms: Tensor) -> LocalOutput:
            output = super().forward(waveforms)
            return LocalOutput(torch.full_like(output.activity_logits, 9), output.sources)

    settings = StreamingSettings.model_validate({"step_s": 0.5, "local_turns": {"pause_s": None}})
    stream = StreamingSeparator(Chatter(), Sign(), settings, device="cpu")
    windows = stream.feed(make_sound(1.2)) + stream.end()
    for window, heard in zip(windows, stream.hear(windows), strict=True):
        times = window.start_samples + np.arange(100) * 20 + 10
        inside = (times >= 0) & (times < 1200)
        assert heard.activities is not None
        assert (heard.activities[:2, inside] > 0.9).all()
        assert not heard.activities[:, ~inside].any()


# --- speakers -------------------------------------------------------------------------------------------


@dataclass
class Oracle:
    """Knows the sources of a conversation, and gives those of each window of a stream in random order."""

    truth: Any
    step_samples: int
    num_speakers: int = 3
    sample_rate_hz: int = RATE_HZ
    window_samples: int = 2000
    frame_grid: FrameGrid = Halves.frame_grid
    num_seen: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 20

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        (mixture,) = waveforms[:, 0].numpy()
        self.num_seen += 1
        end = self.num_seen * self.step_samples + self.window_samples
        around = ((0, 0), (self.window_samples, self.window_samples))
        sources = np.pad(self.truth.sources, around)[:, end - self.window_samples : end]
        talking = np.pad(self.truth.talking, around)[:, end - self.window_samples : end]
        np.testing.assert_allclose(mixture, sources.sum(axis=0), atol=1e-5)  # it is the window it should be
        loudest = np.argsort(-talking.sum(axis=1), kind="stable")[: self.num_speakers]
        places = self.rng.permutation(self.num_speakers)[: len(loudest)]
        found = np.zeros((self.num_speakers, self.window_samples), np.float32)
        active = np.zeros((self.num_speakers, 100), bool)
        for place, speaker in zip(places, loudest, strict=True):
            found[place] = self.rng.choice([-1, 1]) * np.exp(self.rng.normal()) * sources[speaker]
            active[place] = talking[speaker, 10::20]
        return LocalOutput(torch.from_numpy(np.where(active, 8.0, -8.0))[None], torch.from_numpy(found)[None])


def stream_known(oracle: Any, truth: Any, **settings: Any) -> Update:
    model = Oracle(truth, 500)
    chosen = StreamingSettings(**{"step_s": 0.5, **settings})
    return run(StreamingSeparator(model, oracle.Embedder(), chosen, device="cpu"), [truth.mixture])


def match(found: Update, truth: Any) -> list[int]:
    """Return the speaker of the truth of each track."""
    names = [int(np.argmax(np.abs(truth.sources @ track))) for track in found.tracks.values()]
    assert len(set(names)) == len(names)
    return names


@pytest.mark.parametrize("keep_room", [True, False])
def test_with_the_latency_of_a_window_known_sources_come_back(oracle: Any, keep_room: bool) -> None:
    truth = oracle.conversation(3, 40)
    stitching = {"keep_room": keep_room, "leakage_removal_db": 0}
    found = stream_known(oracle, truth, stitching=stitching)
    assert found.end_samples == truth.num_samples
    names = match(found, truth)
    assert names == [0, 1, 2]  # in the order of their first words
    for speaker, track in zip(names, found.tracks.values(), strict=True):
        # each is unknown until there is enough speech: about the first window
        first = int(truth.talking[speaker].argmax())
        error = np.abs(track - truth.sources[speaker])
        assert error[first + 2000 :].max() < 2e-3, speaker
    np.testing.assert_allclose(sum(found.tracks.values())[2000:], truth.mixture[2000:], atol=2e-3)


@pytest.mark.parametrize("latency_s", [0.5, 1.0, 2.0])
def test_turns_are_those_of_the_conversation(oracle: Any, latency_s: float) -> None:
    truth = oracle.conversation(3, 60)
    found = stream_known(oracle, truth, latency_s=latency_s)
    heard = np.zeros(truth.talking.shape, bool)
    for turn in found.turns:
        if turn.kind == "closed":
            speaker = match(found, truth)[found.speakers.index(turn.speaker)]
            heard[speaker, round(turn.start_s * RATE_HZ) : round(turn.end_s * RATE_HZ)] = True
    wrong = (heard != truth.talking)[:, 6000:].sum() / truth.talking[:, 6000:].sum()
    assert wrong < 0.05


def test_opened_turns_close_in_order(oracle: Any) -> None:
    found = stream_known(oracle, oracle.conversation(4, 60), latency_s=0.5)
    for speaker in found.speakers:
        own = [turn for turn in found.turns if turn.speaker == speaker]
        assert [turn.kind for turn in own] == ["opened", "closed"] * (len(own) // 2)
        for opened, closed in zip(own[::2], own[1::2], strict=True):
            assert opened.start_s == closed.start_s < closed.end_s
            assert opened.end_s is None


def test_tracks_have_sound_where_there_are_turns_and_are_turned_down_elsewhere(oracle: Any) -> None:
    truth = oracle.conversation(3, 40)
    found = stream_known(oracle, truth, stitching={"collar_s": 0.0})
    plain = stream_known(oracle, truth, stitching={"leakage_removal_db": 0, "collar_s": 0.0})
    for name, track in found.tracks.items():
        gate = np.zeros(truth.num_samples, bool)
        for turn in found.turns:
            if turn.speaker == name and turn.kind == "closed":
                gate[round(turn.start_s * RATE_HZ) + 20 : round(turn.end_s * RATE_HZ) - 20] = True
        np.testing.assert_allclose(track[gate], plain.tracks[name][gate], atol=1e-6)


def test_who_returns_after_an_hour_keeps_the_name_and_who_is_new_was_silent() -> None:
    upper, lower = np.abs(make_sound(5)) + 0.1, -np.abs(make_sound(5)) - 0.1
    stream = make(step_s=1.0)
    updates = [stream.push(upper)]
    for _ in range(60):
        updates.append(stream.push(np.zeros(60 * RATE_HZ, np.int16)))
    updates += [stream.push(lower), stream.push(upper), stream.finish()]
    assert [update.speakers for update in updates] == [
        *[("SPEAKER_00",)] * 61,
        *[("SPEAKER_00", "SPEAKER_01")] * 3,
    ]
    found = join_updates(updates)
    track = found.tracks["SPEAKER_01"]
    assert not track[: 3605 * RATE_HZ - 1000].any()
    assert np.abs(track[3606 * RATE_HZ : 3609 * RATE_HZ]).mean() > 0.1
    assert [turn.speaker for turn in found.turns if turn.kind == "closed"] == [
        *("SPEAKER_00", "SPEAKER_01", "SPEAKER_00")
    ]


class Loud(torch.nn.Module):
    """Hears one person, whoever makes sound, in frames and windows of odd sizes."""

    sample_rate_hz, num_speakers = RATE_HZ, 1

    def __init__(self, window: int, grid: FrameGrid) -> None:
        super().__init__()
        self.window_samples, self.frame_grid = window, grid

    def num_frames(self, num_samples: int) -> int:
        grid = self.frame_grid
        return (num_samples - 2 * grid.start_samples - grid.size_samples) // grid.step_samples + 1

    def forward(self, waveforms: Tensor) -> LocalOutput:
        grid, count = self.frame_grid, self.num_frames(self.window_samples)
        centres = [round(grid.centre_samples(n)) for n in range(count)]
        loud = torch.nn.functional.max_pool1d(waveforms.abs(), 31, 1, 15) > 0.05
        inside = [min(max(centre, 0), self.window_samples - 1) for centre in centres]
        return LocalOutput(torch.where(loud[:, :, inside], 8.0, -8.0), waveforms)


@pytest.mark.parametrize("latency_s", [0.3, 0.7, 1.003])
@pytest.mark.parametrize(
    "grid", [FrameGrid(7, 31, 0), FrameGrid(16, 32, -16), FrameGrid(20, 5, 0), FrameGrid(9, 9, 0)]
)
def test_windows_and_frames_may_have_odd_sizes(grid: FrameGrid, latency_s: float) -> None:
    """Every moment from the first words on comes out as it went in, and turns are where the sound is."""
    sound = np.abs(make_sound(13.217)) + 0.1
    talks = np.arange(len(sound)) % 3000 < 2000
    sound *= talks
    settings = StreamingSettings(step_s=0.3, latency_s=latency_s, stitching={"leakage_removal_db": 0})
    stream = StreamingSeparator(Loud(1003, grid), Sign(), settings, device="cpu")
    found = run(stream, list(cut(sound, np.random.default_rng(0), 700)))
    assert found.end_samples == len(sound)
    sure = np.arange(len(sound)) >= 1000
    if latency_s == 0.3:  # a window takes less than that for no speech, and there is one window only
        sure &= ~talks | (np.arange(len(sound)) % 3000 >= 150)
    np.testing.assert_allclose(found.tracks["SPEAKER_00"][sure], sound[sure], atol=1e-3)
    closed = [turn for turn in found.turns if turn.kind == "closed"]
    assert len(closed) == 5
    near_s = 2 * grid.step_samples / RATE_HZ + 0.02 + 0.15 * (latency_s == 0.3)
    for number, turn in enumerate(closed[1:], start=1):
        assert turn.start_s == pytest.approx(3 * number, abs=near_s)
        assert turn.end_s == pytest.approx(min(3 * number + 2, 13.217), abs=near_s)


# --- windows without time -------------------------------------------------------------------------------


def test_skipped_windows_leave_no_gap_while_others_cover_the_time_and_a_marked_one_else() -> None:
    stream, sound = make(latency_s=1.0), make_sound(10)
    windows = stream.feed(sound)
    skipped = {3, 5, 7, 11, 12, 13}
    heard = [Heard(w) if w.index in skipped else stream.hear([w])[0] for w in windows]
    found = join_updates([stream.take(heard), stream.finish()])
    # window 10 ends at 5.5 s, and 14, at 7.5 s, has the last second before that to give
    assert found.gaps == ((5500, 6500),)
    assert found.end_samples == 10_000
    for track in found.tracks.values():
        assert not track[5500:6500].any()
        assert track[5000:5500].any() or track[6500:7000].any()


# --- what must not be pushed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.array([1e300]), "NaN or infinite"),
        (np.array([1e11]), "scale it down"),
        (np.array([1, 2], np.int32), "a block of int32"),
        (np.array([True]), "a block of bool"),
        (np.array([1j]), "a block of complex128"),
        (["a"], "a block of <U1"),
        (b"\0\0", "a block of"),
        ([[1.0], [1.0, 2.0]], "a block of object"),
        (None, "a block of object"),
        (np.float32(1), "shape ()"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.zeros((2, 16000)), "transpose it"),
        (np.zeros((5, 0)), "0 channels"),
        (np.zeros((5, 3)), "3 channels in a stream of 1"),
    ],
)
def test_bad_blocks_are_errors_that_change_nothing(block: Any, message: str) -> None:
    sound = make_sound(5)
    stream = make()
    updates = [stream.push(sound[:1234])]
    state = stream.state()
    with pytest.raises(PixitError, match=message):
        stream.push(block)
    assert stream.state() == state
    assert_same(join_updates([*updates, stream.push(sound[1234:]), stream.finish()]), run(make(), [sound]))


def test_a_channel_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PixitError, match="none of number 2"):
        make(channel=2).push(np.zeros((10, 2)))
    with pytest.raises(PixitError, match="channel -1"):
        make(channel=-1)


@pytest.mark.parametrize("rate_hz", [0, 5, 16000.5, "16000", True, 10**9])
def test_rates_that_are_none_are_errors(rate_hz: Any) -> None:
    with pytest.raises(PixitError, match="sample rate"):
        make(sample_rate_hz=rate_hz)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latency_s": 0.4}, "latency of 0.4 s; expected the step, 0.5 s, to the window, 2 s"),
        ({"latency_s": 2.5}, "latency of 2.5 s"),
        ({"step_s": 3.0}, "does not fit a window"),
    ],
)
def test_steps_and_latencies_that_do_not_fit_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PixitError, match=message):
        make(**settings)


def test_what_needs_the_whole_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="decides by threshold"):
        StreamingSettings(activity={"decision": "count"})
    with pytest.raises(ValueError, match="levels of each window"):
        StreamingSettings(stitching={"levels": "track"})


def test_a_model_of_nan_is_told() -> None:
    class Broken(Halves):
        def forward(self, waveforms: Tensor) -> LocalOutput:
            output = super().forward(waveforms)
            return LocalOutput(output.activity_logits, output.sources * np.nan)

    stream = StreamingSeparator(Broken(), Sign(), device="cpu")
    with pytest.raises(PixitError, match="NaN or infinite sources"):
        stream.push(make_sound(1))


def test_networks_have_to_fit() -> None:
    class Other(Sign):
        sample_rate_hz = 8000

    with pytest.raises(PixitError, match="the embedder takes 8000 Hz and the model 1000 Hz"):
        StreamingSeparator(Halves(), Other(), device="cpu")
    diarizer = Halves()
    diarizer.separates = False
    with pytest.raises(PixitError, match="diarizes only"):
        StreamingSeparator(diarizer, Sign(), device="cpu")


# --- ends and restarts ----------------------------------------------------------------------------------


def test_after_the_end_only_reset_goes_on() -> None:
    sound = make_sound(5)
    stream = make()
    expected = run(stream, [sound])
    for call in (partial(stream.push, sound), stream.finish, stream.end):
        with pytest.raises(PixitError, match="has ended"):
            call()
    with pytest.raises(PixitError, match="before the end"):
        stream.state()
    stream.reset()
    assert_same(run(stream, [sound]), expected)


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "text", "other networks", "no numbers", "other kinds", "NaN", "fewer speakers"]
)
def test_a_state_that_is_none_is_an_error(damage: str) -> None:
    stream = make()
    stream.push(make_sound(3))
    state, model = stream.state(), Halves()
    with np.load(io.BytesIO(state)) as file:
        arrays = dict(file)
    if damage == "other kinds":
        arrays["windows.recent"] = arrays["windows.recent"][:-1]
    if damage == "NaN":
        arrays["stitcher.sample_sums"][0, 0] = np.nan
    if damage == "fewer speakers":
        arrays["clustering.heard"] = arrays["clustering.heard"][:-1]
    file = io.BytesIO()
    np.savez(file, **arrays)
    if damage in ("other kinds", "NaN", "fewer speakers"):
        state = file.getvalue()
    if damage == "other networks":
        model.window_samples = 3000
    changed = {
        "cut": state[:-500],
        "empty": b"",
        "text": b"hello",
        "no numbers": state.replace(b"about", b"abort"),
    }
    with pytest.raises(PixitError, match="state of a stream"):
        StreamingSeparator.from_state(changed.get(damage, state), model, Sign(), "cpu")


def test_the_public_name_loads_the_bundled_networks() -> None:
    stream = pixit.StreamingSeparator.from_pretrained(
        device="cpu", settings={"latency_s": 1.0}, sample_rate_hz=8000
    )
    assert (stream.sample_rate_hz, stream.rate_hz, stream.latency_samples) == (8000, 16000, 16000)
    assert stream.settings.activity.min_duration_off_s == 0.35  # as the bundled separator has it
    shipped = read_yaml(Path(pixit.__file__).parent / "bundled" / "streaming.yaml")["clustering"]
    assert (
        stream.settings.clustering.delta_new == shipped["delta_new"] != stream.embedder.clustering_threshold
    )
    with pytest.raises(PixitError, match="latency_z"):
        pixit.StreamingSeparator.from_pretrained(settings={"latency_z": 1})


def test_a_folder_may_have_settings_of_streams(tiny_separator: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_separator, folder)
    (folder / "streaming.yaml").write_text("step_s: 0.25\nclustering: {delta_new: 0.31, tau_active: 0.6}\n")
    found = StreamingSeparator.from_pretrained(folder, device="cpu").settings
    assert (found.step_s, found.clustering.delta_new, found.clustering.tau_active) == (0.25, 0.31, 0.6)
    asked = {"clustering": {"tau_active": 0.7}}
    found = StreamingSeparator.from_pretrained(folder, device="cpu", settings=asked).settings
    assert (found.clustering.delta_new, found.clustering.tau_active) == (0.31, 0.7)
    # the distance is that of the embedder that came with it
    other = StreamingSeparator.from_pretrained(folder, folder / "embedder", device="cpu")
    assert other.settings.clustering.delta_new == other.embedder.clustering_threshold


# --- for ever -------------------------------------------------------------------------------------------


def test_memory_and_state_do_not_grow() -> None:
    """In most of an hour; the script does a day as well."""
    done = subprocess.run([sys.executable, SCRIPT, "0.75"], capture_output=True, text=True, check=True)
    memory, _, states, turns = np.array(json.loads(done.stdout)).T
    assert set(turns[1:]) == {60}
    assert np.ptp(states[2:]) < 100  # digits of counts
    assert memory[-1] - memory[10] < 5e6
    assert memory.max() < 500e6
