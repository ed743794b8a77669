"""Artificial speech and turn-taking to simulate from."""

from __future__ import annotations

import numpy as np
import pytest

from pixit.simulation.pool import SpeakerPool
from pixit.simulation.rooms import NoiseBank, RoomBank
from pixit.simulation.simulate import Ingredients
from pixit.simulation.turntaking import TurnTaking
from pixit.types import Turn

NUM_SPEAKERS = 6
RATE_HZ = 8000


def _utterance(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    """6 s of a buzzing voice with pauses of 0.1 to 0.8 s."""
    time_s = np.arange(6 * RATE_HZ) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * h * time_s) / h for h in range(1, 12))
    start = 0
    while start < len(time_s):
        pause = start + round(rng.uniform(0.4, 1.5) * RATE_HZ)
        start = pause + round(rng.uniform(0.1, 0.8) * RATE_HZ)
        buzz[pause:start] = 0
    return (0.1 * buzz + 1e-5 * rng.standard_normal(len(time_s))).astype(np.float32)


def _turns(rng: np.random.Generator) -> list[Turn]:
    turns = []
    for speaker in "ABCD":
        time_s = rng.uniform(0, 5)
        while time_s < 300:
            end_s = time_s + rng.uniform(0.3, 4)
            turns.append(Turn(float(time_s), float(end_s), speaker))
            time_s = end_s + rng.uniform(0.5, 8)
    return turns


@pytest.fixture(scope="session")
def ingredients() -> Ingredients:
    """Six artificial speakers at 8 kHz, two meetings' turn-taking, four rooms, four noises."""
    rng = np.random.default_rng(0)
    speech = {f"speaker{i}": [_utterance(90 + 31 * i, rng) for _ in range(2)] for i in range(NUM_SPEAKERS)}
    return Ingredients(
        SpeakerPool.from_utterances(speech, RATE_HZ),
        TurnTaking({"m": _turns(rng), "n": _turns(rng)}),
        RoomBank(num_rooms=4, positions_per_room=4, sample_rate_hz=RATE_HZ),
        NoiseBank(num_generated=4),
    )
