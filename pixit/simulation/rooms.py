"""Rooms, simulated and measured, and the noise in them.

A room is linear, so a mixture stays the sum of its reference sources and its noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from pixit.audio import Samples, open_audio
from pixit.files import ARRAY_ERRORS, check_file, whole_file
from pixit.simulation.pool import find_audio
from pixit.types import PixitError, one_line

SPEED_OF_SOUND_M_S = 343.0
EARLY_S = 0.05  # direct sound and first reflections, which the ear takes as one
LEAD_SAMPLES = 40  # room responses begin so many samples before the direct sound (fractional delay)
WALL_DISTANCE_M = 0.4
TAIL_S = 0.06  # from here on reflections are so dense that noise stands for them
MAX_IMAGE_ORDER = 12  # all images that arrive before TAIL_S, even in the lowest room (12 × 2.4 m is 84 ms)
LONGEST_RESPONSE_S = 1.0  # of a measured one: the rest of a hall's tail is left out


@dataclass(frozen=True)
class Filter:
    """A finite impulse response whose direct sound lies at sample `lead_samples`."""

    response: Samples
    lead_samples: int

    def __call__(self, signal: Samples) -> Samples:
        """Filter `signal` (T,) -> (T,), aligned with it."""
        filtered = scipy.signal.oaconvolve(signal, self.response)
        return filtered[self.lead_samples : self.lead_samples + len(signal)].astype(np.float32, copy=False)

    def then(self, other: Filter | None) -> Filter:
        """Return the filter that does this one and then `other`."""
        if other is None:
            return self
        response = np.convolve(self.response, other.response).astype(np.float32)
        return Filter(response, self.lead_samples + other.lead_samples)


class RoomBank:
    """Impulse responses of random meeting rooms, from speakers to one microphone in each.

    Shoebox rooms by the image-source method (Allen and Berkley, 1979) as in pyroomacoustics, continued by a
    diffuse tail: noise that decays by 60 dB in RT60. Each response is scaled to unit energy in its early part
    (direct sound and 50 ms), so that a room leaves the level of speech about where it was.

    Parameters
    ----------
    num_rooms, positions_per_room
        Rooms of the bank, and places of speakers in each.
    seed
        Seed of all that is random here.
    sample_rate_hz, rt60_s
        Rate of the responses, and range of their reverberation times.
    cache
        ``.npz`` file that keeps the responses from one run to the next; none to keep nothing.
    measured
        Further rooms, of responses that `measured_rooms` has read.

    Raises
    ------
    PixitError
        If pyroomacoustics is not installed, or `cache` holds something else.
    """

    def __init__(
        self,
        num_rooms: int = 40,
        positions_per_room: int = 4,
        seed: int = 0,
        sample_rate_hz: int = 16000,
        rt60_s: tuple[float, float] = (0.15, 0.6),
        cache: Path | None = None,
        measured: Sequence[list[Filter]] = (),
    ) -> None:
        self.measured = list(measured)
        self.num_rooms, self.positions_per_room, self.seed = num_rooms, positions_per_room, seed
        self.sample_rate_hz, self.rt60_s, self.cache = sample_rate_hz, rt60_s, cache
        self._rooms: list[list[Filter]] | None = None

    def prepare(self) -> list[list[Filter]]:
        """Compute the filters of all rooms, or read them from the cache, unless done: one list a room."""
        if self._rooms is None:
            if self.cache and self.cache.exists():
                simulated = self._read(self.cache)
            else:
                rng = np.random.default_rng(self.seed)
                simulated = [self._compute_room(rng) for _ in range(self.num_rooms)]
                if self.cache:
                    arrays: dict[str, Any] = {"key": np.array(self._key())}
                    for i, room in enumerate(simulated):
                        arrays |= {f"{i}-{j}": place.response for j, place in enumerate(room)}
                    with whole_file(self.cache) as new, new.open("wb") as file:
                        np.savez(file, **arrays)
            self._rooms = simulated + self.measured
        return self._rooms

    def draw(self, num_speakers: int, rng: np.random.Generator) -> list[Filter]:
        """Draw a room and places in it for `num_speakers`; places are shared only where there are too few."""
        rooms = self.prepare()
        room = rooms[rng.integers(len(rooms))]
        places = rng.choice(len(room), num_speakers, replace=num_speakers > len(room))
        return [room[place] for place in places]

    def _compute_room(self, rng: np.random.Generator) -> list[Filter]:
        try:
            import pyroomacoustics
        except ImportError:
            raise PixitError(
                "reverberation needs pyroomacoustics, which is not installed; "
                "pip install 'pixit-audio[train]', or set reverb_probability to 0"
            ) from None
        size_m = rng.uniform([3.0, 3.0, 2.4], [9.0, 7.0, 3.5])
        rt60_s = rng.uniform(*self.rt60_s)
        # Sabine's formula has no solution for a dry large room: full absorption is the driest there is.
        surface_m2 = 2 * (size_m[0] * size_m[1] + size_m[1] * size_m[2] + size_m[0] * size_m[2])
        absorption = min(0.161 * size_m.prod() / (surface_m2 * rt60_s), 0.95)
        walls = pyroomacoustics.Material(absorption)
        room = pyroomacoustics.ShoeBox(
            size_m, fs=self.sample_rate_hz, materials=walls, max_order=MAX_IMAGE_ORDER
        )
        near_m, far_m = [WALL_DISTANCE_M] * 2, size_m[:2] - WALL_DISTANCE_M
        microphone_m = rng.uniform([*near_m, WALL_DISTANCE_M], [*far_m, 1.2])
        room.add_microphone(microphone_m)
        places_m = [rng.uniform([*near_m, 1.0], [*far_m, 1.8]) for _ in range(self.positions_per_room)]
        for place_m in places_m:
            room.add_source(place_m)
        room.compute_rir()
        return [
            self._finish(response, float(np.linalg.norm(place_m - microphone_m)), rt60_s, rng)
            for response, place_m in zip(room.rir[0], places_m, strict=True)
        ]

    def _finish(
        self, response: NDArray[np.floating], distance_m: float, rt60_s: float, rng: np.random.Generator
    ) -> Filter:
        """Align a response to its direct sound, add the diffuse tail and scale the early part to one."""
        # pyroomacoustics puts the direct sound at distance / c plus half its fractional-delay filter, which
        # is LEAD_SAMPLES: cutting the travel time off leaves the direct sound at LEAD_SAMPLES.
        travel_samples = round(distance_m / SPEED_OF_SOUND_M_S * self.sample_rate_hz)
        num_samples = round(rt60_s * self.sample_rate_hz) + LEAD_SAMPLES
        aligned = np.zeros(num_samples)
        images = response[travel_samples : travel_samples + num_samples]
        aligned[: len(images)] = images
        decay = 10 ** (-3 * np.arange(num_samples) / (rt60_s * self.sample_rate_hz))
        start = round(TAIL_S * self.sample_rate_hz) + LEAD_SAMPLES
        before = slice(start - round(0.02 * self.sample_rate_hz), start)
        level = np.sqrt(np.mean((aligned[before] / decay[before]) ** 2))
        aligned[start:] = rng.standard_normal(num_samples - start) * decay[start:] * level
        return _with_early_energy_of_one(aligned, LEAD_SAMPLES, self.sample_rate_hz)

    def _key(self) -> str:
        return repr((self.num_rooms, self.positions_per_room, self.seed, self.sample_rate_hz, self.rt60_s))

    def _read(self, cache: Path) -> list[list[Filter]]:
        check_file(cache, "a cache of rooms")
        try:
            with np.load(cache) as arrays:
                if str(arrays["key"]) != self._key():
                    raise PixitError(
                        f"{cache}: holds rooms of other settings {arrays['key']}; "
                        f"expected {self._key()}; delete it or name another file"
                    )
                return [
                    [Filter(arrays[f"{i}-{j}"], LEAD_SAMPLES) for j in range(self.positions_per_room)]
                    for i in range(self.num_rooms)
                ]
        except ARRAY_ERRORS as error:
            raise PixitError(
                f"{cache}: is not a cache of rooms ({one_line(error)}); delete it or name another file"
            ) from None


def measured_rooms(places: Iterable[Path | str], sample_rate_hz: int) -> list[list[Filter]]:
    """Read measured room responses from files, or folders of them: the filters of each room.

    A response stands in a file; several of one room (places of the speaker, or of the microphone) have the
    same name but for an ending ``_c0``, ``_c1``, …. The direct sound is the highest peak; what comes after
    one second is left out.

    Raises
    ------
    PixitError
        If a file cannot be read, or is silent.
    """
    rooms: dict[str, list[Filter]] = {}
    for path in (path for place in places for path in find_audio(Path(place))):
        response = open_audio(path, sample_rate_hz).read().astype(np.float64)
        peak = int(np.abs(response).argmax()) if len(response) else 0
        if len(response) == 0 or response[peak] == 0:
            raise PixitError(f"{path}: is silent, expected the response of a room")
        lead = min(peak, LEAD_SAMPLES)
        response = response[peak - lead : peak + round(LONGEST_RESPONSE_S * sample_rate_hz)]
        fade = response[len(response) * 9 // 10 :]
        fade *= np.linspace(1, 0, len(fade))  # a cut tail would click
        name = str(path.with_name(re.sub(r"_c\d+$", "", path.stem)))
        rooms.setdefault(name, []).append(_with_early_energy_of_one(response, lead, sample_rate_hz))
    return list(rooms.values())


def _with_early_energy_of_one(
    response: NDArray[np.float64], lead_samples: int, sample_rate_hz: int
) -> Filter:
    """Return a filter that leaves the level of speech about where it was."""
    early = response[: lead_samples + round(EARLY_S * sample_rate_hz)]
    return Filter((response / np.sqrt(np.sum(early**2))).astype(np.float32), lead_samples)


class NoiseBank:
    """Background noises at unit level: recorded ones, and coloured noise of random spectral tilt.

    Parameters
    ----------
    recorded
        Mono signals at the rate in use; silent ones are left out.
    num_generated, seed
        Generated noises; their power falls with frequency as f^-tilt, tilt between 0 (white) and 2 (brown).
    """

    def __init__(self, recorded: Iterable[Samples] = (), num_generated: int = 12, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        noises = [np.asarray(noise, dtype=np.float32) for noise in recorded]
        noises += [coloured_noise(1 << 19, rng.uniform(0, 2), rng) for _ in range(num_generated)]
        levels = [float(np.sqrt(np.mean(np.square(noise, dtype=np.float64)))) for noise in noises]
        self.noises = [noise / level for noise, level in zip(noises, levels, strict=True) if level > 0]
        if not self.noises:
            raise PixitError(
                "no noise to add: expected recorded noises that are not silent or num_generated > 0"
            )

    def draw(self, lengths: Sequence[int], rng: np.random.Generator) -> list[Samples]:
        """Cut stretches of `lengths` samples out of one random noise, from random places, wrapping around."""
        noise = self.noises[rng.integers(len(self.noises))]
        stretches = []
        for length in lengths:
            start = int(rng.integers(len(noise)))
            wraps = start + length > len(noise)
            places = np.arange(start, start + length) % len(noise) if wraps else slice(start, start + length)
            stretches.append(noise[places])
        return stretches


def read_noises(places: Iterable[Path | str], sample_rate_hz: int) -> list[Samples]:
    """Read recordings of noise; a `PixitError` if a folder holds none."""
    noises = []
    for place in places:
        if not (files := find_audio(Path(place))):
            raise PixitError(f"{place}: holds no recordings of noise; expected .flac, .wav or .mp3 files")
        noises += [open_audio(path, sample_rate_hz).read() for path in files]
    return noises


def coloured_noise(num_samples: int, tilt: float, rng: np.random.Generator) -> Samples:
    """Return noise (T,) whose power falls as f^-tilt (0 white, 1 pink, 2 brown) above 1/400 of its rate."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.fft.rfftfreq(num_samples)  # cycles a sample: 1/400 is 40 Hz at 16 kHz
    spectrum *= np.maximum(frequencies, 1 / 400) ** (-tilt / 2)
    spectrum[0] = 0
    return np.fft.irfft(spectrum, num_samples).astype(np.float32)
