"""Rooms and noise against closed forms; rooms against pyroomacoustics' own measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pixit.simulation.rooms import (
    EARLY_S,
    LEAD_SAMPLES,
    Filter,
    NoiseBank,
    RoomBank,
    coloured_noise,
    measured_rooms,
)
from pixit.types import PixitError

RATE_HZ = 16000


@pytest.fixture(scope="module")
def bank() -> RoomBank:
    return RoomBank(num_rooms=6, positions_per_room=3, seed=1)


@pytest.mark.parametrize("num_samples", [1, 30, 1000])
def test_convolve_is_the_aligned_sum_of_delayed_copies(num_samples: int) -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(num_samples).astype(np.float32)
    response = rng.standard_normal(50).astype(np.float32)
    expected = np.zeros(num_samples + 100)
    for delay, tap in enumerate(response):
        expected[delay : delay + num_samples] += tap * signal
    np.testing.assert_allclose(Filter(response, 7)(signal), expected[7 : 7 + num_samples], atol=1e-5)


def test_filters_in_a_row_are_one_filter() -> None:
    rng = np.random.default_rng(0)
    signal = np.pad(rng.standard_normal(500), 100).astype(np.float32)
    first = Filter(rng.standard_normal(30).astype(np.float32), 5)
    second = Filter(rng.standard_normal(20).astype(np.float32), 3)
    np.testing.assert_allclose(first.then(second)(signal), second(first(signal)), atol=1e-4)
    assert first.then(None) is first


def test_direct_sound_is_first_and_strongest_and_early_part_has_unit_energy(bank: RoomBank) -> None:
    for room in bank.prepare():
        for path in room:
            assert path.lead_samples == LEAD_SAMPLES
            assert np.abs(path.response[: LEAD_SAMPLES - 1]).max() < np.abs(path.response).max()
            early = path.response[: LEAD_SAMPLES + round(EARLY_S * RATE_HZ)]
            assert np.sum(early**2) == pytest.approx(1, rel=1e-4)
    nearest = [path.response.argmax() for room in bank.prepare() for path in room]
    assert np.median(nearest) == pytest.approx(LEAD_SAMPLES, abs=1)


def test_reverberation_time_is_what_was_asked() -> None:
    experimental = pytest.importorskip("pyroomacoustics.experimental")
    for wanted_s in (0.2, 0.5):
        rooms = RoomBank(num_rooms=3, positions_per_room=1, seed=3, rt60_s=(wanted_s, wanted_s)).prepare()
        measured_s = [experimental.measure_rt60(room[0].response, RATE_HZ, decay_db=30) for room in rooms]
        assert np.median(measured_s) == pytest.approx(wanted_s, rel=0.2)


def test_room_leaves_timing_and_level_of_a_source(bank: RoomBank) -> None:
    click = np.zeros(4000, dtype=np.float32)
    click[1000] = 1
    image = bank.draw(1, np.random.default_rng(0))[0](click)
    assert len(image) == len(click)
    assert np.sum(image[:1000] ** 2) < 0.1 * np.sum(image**2)
    assert np.sum(image[990 : 1000 + round(EARLY_S * RATE_HZ)] ** 2) == pytest.approx(1, abs=0.1)


def test_bank_depends_on_its_seed_only() -> None:
    one, same, other = (RoomBank(2, 2, seed=seed).prepare()[1][1].response for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert len(one) != len(other) or not np.array_equal(one, other)


def test_speakers_of_a_room_sit_at_different_places(bank: RoomBank) -> None:
    drawn = bank.draw(3, np.random.default_rng(0))
    assert len({id(path) for path in drawn}) == 3
    assert len(bank.draw(5, np.random.default_rng(0))) == 5  # more than places: shared


def test_bank_is_cached(tmp_path) -> None:
    cache = tmp_path / "rooms.npz"
    computed = RoomBank(2, 2, seed=5, cache=cache).prepare()
    read = RoomBank(2, 2, seed=5, cache=cache).prepare()
    for room, same in zip(computed, read, strict=True):
        for path, same_path in zip(room, same, strict=True):
            np.testing.assert_array_equal(path.response, same_path.response)
    with pytest.raises(PixitError, match="other settings"):
        RoomBank(3, 2, seed=5, cache=cache).prepare()
    for damaged in (b"no archive", cache.read_bytes()[:500], b""):
        cache.write_bytes(damaged)
        with pytest.raises(PixitError, match="not a cache of rooms"):
            RoomBank(2, 2, seed=5, cache=cache).prepare()
    with pytest.raises(PixitError, match="cannot be written"):
        RoomBank(1, 1, cache=cache / "rooms.npz").prepare()


def test_measured_responses_are_aligned_and_of_one_room_by_their_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, delay in (("hall_c0", 320), ("hall_c1", 500), ("cellar", 7)):
        response = np.zeros(delay + 2 * RATE_HZ)
        response[delay] = 0.5
        response[delay + 1000 :] = 0.001 * rng.standard_normal(len(response) - delay - 1000)
        soundfile.write(tmp_path / f"{name}.flac", response, RATE_HZ)
    cellar, hall = measured_rooms([tmp_path], RATE_HZ)
    assert (len(cellar), len(hall)) == (1, 2)
    speech = rng.standard_normal(4000).astype(np.float32)
    for path in (*cellar, *hall):
        assert len(path.response) <= RATE_HZ + LEAD_SAMPLES
        heard = path(speech)
        np.testing.assert_allclose(heard[:1000], speech[:1000], atol=1e-3)  # the direct sound, in its place
        assert not np.allclose(heard[1000:], speech[1000:], atol=1e-3)  # and what comes after it


def test_measured_rooms_join_the_simulated_ones() -> None:
    measured = [[Filter(np.ones(1, np.float32), 0)]]
    bank = RoomBank(num_rooms=2, positions_per_room=1, measured=measured)
    rng = np.random.default_rng(0)
    drawn = [len(bank.draw(1, rng)[0].response) for _ in range(60)]
    assert 5 < drawn.count(1) < 40


def test_a_silent_response_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "dead.wav", np.zeros(100), RATE_HZ)
    with pytest.raises(PixitError, match=r"dead\.wav: is silent"):
        measured_rooms([tmp_path], RATE_HZ)


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_tilt(tilt: float) -> None:
    noise = coloured_noise(1 << 16, tilt, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequencies = np.fft.rfftfreq(len(noise))
    low, high = (power[(frequencies > f) & (frequencies < 1.2 * f)].mean() for f in (0.01, 0.4))
    assert 10 * np.log10(low / high) == pytest.approx(tilt * 10 * np.log10(40), abs=1.0)


def test_noises_have_unit_level_and_wrap_around() -> None:
    recorded = np.array([0.1, -0.1, 0.1, -0.1, 0.1], dtype=np.float32)
    bank = NoiseBank([recorded, np.zeros(9, dtype=np.float32)], num_generated=0)
    long, short = bank.draw([12, 3], np.random.default_rng(0))
    assert len(long) == 12
    assert len(short) == 3
    np.testing.assert_allclose(np.abs(long), 1, rtol=1e-5)
    np.testing.assert_array_equal(long[5:], long[:-5])
    with pytest.raises(PixitError, match="no noise"):
        NoiseBank([np.zeros(9, dtype=np.float32)], num_generated=0)
