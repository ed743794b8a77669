"""Simulated meetings: the mixture is the sum, the labels follow the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixit.config import load_settings
from pixit.simulation.simulate import Ingredients, MeetingSettings, Scene, perform, simulate_meeting
from pixit.simulation.voices import SPEECH_DBFS
from pixit.types import PixitError

DRY = MeetingSettings(
    duration_s=30,
    min_talk_s=1,
    reverb_probability=0,
    noise_probability=0,
    speed_probability=0,
    channel_probability=0,
    level_spread_db=0,
)
FULL = MeetingSettings(duration_s=30, min_talk_s=1, channel_probability=1, reverb_probability=1)


def _active(turns, speaker: str, num_samples: int, rate_hz: int) -> np.ndarray:
    active = np.zeros(num_samples, dtype=bool)
    for turn in turns:
        if turn.speaker == speaker:
            active[round(turn.start_s * rate_hz) : round(turn.end_s * rate_hz)] = True
    return active


@pytest.mark.parametrize("settings", [DRY, FULL], ids=["dry", "full"])
def test_mixture_is_the_sum_of_references_and_noise(ingredients: Ingredients, settings) -> None:
    for seed in range(4):
        meeting = simulate_meeting(ingredients, settings, np.random.default_rng(seed))
        total = meeting.references.sum(axis=0, dtype=np.float64) + meeting.noise
        np.testing.assert_allclose(total, meeting.mixture, atol=1e-6)
        assert meeting.mixture.shape == (240000,)
        assert meeting.references.shape == (len(meeting.speakers), 240000)
        assert meeting.mixture.dtype == meeting.references.dtype == np.float32
        assert 2 <= len(set(meeting.speakers)) == len(meeting.speakers) <= 4
        assert np.abs(meeting.references).max() <= 1
        assert -31 < 20 * np.log10(np.abs(meeting.mixture).max()) < -0.9
        assert settings is FULL or not meeting.noise.any()


def test_turns_are_where_the_references_sound(ingredients: Ingredients) -> None:
    meeting = simulate_meeting(ingredients, DRY, np.random.default_rng(1))
    for speaker, reference in zip(meeting.speakers, meeting.references, strict=True):
        active = _active(meeting.turns, speaker, len(reference), meeting.sample_rate_hz)
        assert active.any()
        outside, inside = np.mean(reference[~active] ** 2), np.mean(reference[active] ** 2)
        assert outside < 1e-3 * inside
    assert list(meeting.turns) == sorted(meeting.turns, key=lambda turn: turn.start_s)
    assert all(0 <= turn.start_s < turn.end_s <= 30 for turn in meeting.turns)


def test_turns_stay_right_with_another_speed_in_a_room(ingredients: Ingredients) -> None:
    settings = FULL.model_copy(update={"speed_probability": 1.0, "speed": (1.1, 1.1)})
    meeting = simulate_meeting(ingredients, settings, np.random.default_rng(2))
    for speaker, reference in zip(meeting.speakers, meeting.references, strict=True):
        active = _active(meeting.turns, speaker, len(reference), meeting.sample_rate_hz)
        energy = reference**2  # only the reverberation lies outside
        assert energy[active].sum() > 0.85 * energy.sum()
        # The label starts with the sound: shifted by 0.2 s either way it fits worse.
        later, earlier = np.roll(active, 1600), np.roll(active, -1600)
        assert energy[active].sum() > max(energy[later].sum(), energy[earlier].sum())


def test_turn_taking_is_that_of_the_source(ingredients: Ingredients) -> None:
    """The share of overlap and of silence is as in excerpts of the real turns, but for the pauses of read speech."""
    settings = DRY.model_copy(update={"num_speakers": (4, 4), "duration_s": 60.0})
    simulated, source = [], []
    for seed in range(12):
        meeting = simulate_meeting(ingredients, settings, np.random.default_rng(seed))
        rows = [_active(meeting.turns, name, 60 * 8000, 8000) for name in meeting.speakers]
        simulated.append(np.sum(rows, axis=0)[::80])
        excerpt = ingredients.turn_taking.excerpt(4, 60, np.random.default_rng(100 + seed), 1)
        times_s = np.arange(0, 60, 0.01)
        source.append(
            sum(((turns[:, :1] <= times_s) & (times_s < turns[:, 1:])).any(axis=0) for turns in excerpt)
        )
    # Read pauses over 0.3 s are no speech: each speaker talks so much less than his turns.
    kept = np.mean(simulated) / np.mean(source)
    assert 0.75 < kept < 1.02
    overlap = [np.mean(np.concatenate(counts) >= 2) for counts in (simulated, source)]
    assert kept**2 - 0.12 < overlap[0] / overlap[1] < 1.1


def test_same_seed_same_meeting(ingredients: Ingredients) -> None:
    one, same, other = (
        simulate_meeting(ingredients, FULL, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(one.mixture, same.mixture)
    np.testing.assert_array_equal(one.references, same.references)
    assert one.turns == same.turns
    assert one.turns != other.turns


def test_levels_and_snr_are_as_asked(ingredients: Ingredients) -> None:
    settings = DRY.model_copy(
        update={"level_spread_db": 6.0, "noise_probability": 1.0, "snr_db": (20.0, 20.0)}
    )
    levels_db, noise_db = [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        scene = Scene.draw(ingredients, 2, settings, rng)
        voice = ingredients.pool.voices[seed % len(ingredients.pool)]
        turns = np.array([[0, 80000]])
        image, speech = perform(voice, turns, 80000, scene.parts[0], 8000, rng)
        active = np.concatenate([image[start:end] for start, end in speech])
        levels_db.append(10 * np.log10(np.mean(active**2)) - SPEECH_DBFS)
        noise = scene.draw_noise(1, 80000, rng)[0]
        noise_db.append(10 * np.log10(np.mean(noise**2)) - SPEECH_DBFS)
    assert -7.5 < min(levels_db) < -1
    assert 1 < max(levels_db) < 6.5
    np.testing.assert_allclose(noise_db, -20, atol=1.5)  # a short stretch of brown noise strays


def test_all_speakers_share_a_room(ingredients: Ingredients) -> None:
    assert ingredients.rooms is not None
    settings = FULL.model_copy(update={"channel_probability": 0.0})
    rooms = [{id(path) for path in room} for room in ingredients.rooms.prepare()]
    for seed in range(8):
        scene = Scene.draw(ingredients, 3, settings, np.random.default_rng(seed))
        places = {id(part.path) for part in scene.parts}
        assert len(places) == 3
        assert sum(places <= room for room in rooms) == 1


def test_each_voice_may_have_a_timbre_of_its_own(ingredients: Ingredients) -> None:
    changed = DRY.model_copy(update={"timbre_probability": 1.0})
    scene = Scene.draw(ingredients, 2, changed, np.random.default_rng(0))
    first, second = scene.parts
    assert first.path is not None
    assert second.path is not None
    assert not np.allclose(first.path.response, second.path.response)
    assert 0.85 <= min(first.formants, second.formants) < max(first.formants, second.formants) <= 1.2
    plain = Scene.draw(ingredients, 2, DRY, np.random.default_rng(0)).parts
    assert all(part.path is None and part.formants == 1 for part in plain)
    voice, turns = ingredients.pool.voices[0], np.array([[0, 16000]])
    images = [
        perform(voice, turns, 16000, part, 8000, np.random.default_rng(0))[0] for part in (first, second)
    ]
    assert np.corrcoef(*images)[0, 1] < 0.99


def test_rooms_and_noises_may_be_left_out(ingredients: Ingredients) -> None:
    bare = Ingredients(ingredients.pool, ingredients.turn_taking)
    meeting = simulate_meeting(bare, FULL, np.random.default_rng(0))
    assert not meeting.noise.any()


@pytest.mark.parametrize(
    "override",
    [
        "snr_db=[20,10]",
        "num_speakers=[4,2]",
        "num_speakers=[0,2]",
        "speed=[-1,1]",
        "peak_dbfs=[-3,1]",
        "duration_s=0",
    ],
)
def test_settings_out_of_range_are_told(override: str) -> None:
    with pytest.raises(PixitError, match=override.split("=")[0]):
        load_settings(MeetingSettings, overrides=[override])


def test_impossible_meetings_are_told(ingredients: Ingredients) -> None:
    with pytest.raises(PixitError, match="9 speakers asked for, but the pool has 6"):
        simulate_meeting(
            ingredients, DRY.model_copy(update={"num_speakers": (9, 9)}), np.random.default_rng(0)
        )
    with pytest.raises(PixitError, match="ask for shorter meetings"):
        simulate_meeting(ingredients, DRY.model_copy(update={"duration_s": 1000.0}), np.random.default_rng(0))


def test_a_folder_without_noise_is_told(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="holds no recordings of noise"):
        Ingredients.from_folders([tmp_path], [], [tmp_path])
