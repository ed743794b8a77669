"""What is asked of a recording: numbers that make sense, and requests that say all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pixit.pipeline.asked import Asked, check_num_speakers
from pixit.pipeline.channels import ChannelSettings
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.types import PixitError, Turn


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), (1, None)),
        ((3, None, None), (3, 3)),
        ((3, 3, 3), (3, 3)),
        ((None, 2, None), (2, None)),
        ((None, None, 4), (1, 4)),
        ((None, 2, 2), (2, 2)),
    ],
)
def test_bounds_that_make_sense(given: tuple[int | None, ...], expected: tuple[int, int | None]) -> None:
    assert check_num_speakers(*given) == expected


@pytest.mark.parametrize(
    "given", [(0, None, None), (None, 0, None), (None, None, 0), (None, 3, 2), (2, 1, None), (2, None, 3)]
)
def test_bounds_that_make_none(given: tuple[int | None, ...]) -> None:
    with pytest.raises(PixitError, match="speakers"):
        check_num_speakers(*given)


@pytest.mark.parametrize("number", ["2", 2.0, True, [2]])
def test_numbers_of_speakers_are_whole_numbers(number: Any) -> None:
    with pytest.raises(PixitError, match=r"num_speakers: expected a whole number of at most .*, found"):
        check_num_speakers(number, None, None)
    assert check_num_speakers(np.int64(2), None, None) == (2, 2)


def test_all_that_is_asked_is_in_the_request() -> None:
    plain = {"num_speakers": 2, "min_speakers": None, "max_speakers": None}
    assert Asked(2).describe() == plain
    known = KnownSpeakers(("Ann",), np.ones((1, 4), np.float32), np.ones(1, np.float32), "abc")
    more = [
        Asked(2, channels=ChannelSettings()),
        Asked(2, reference=[]),
        Asked(2, reference=[Turn(0.0, 1.0, "Ann")]),
        Asked(2, known=known),
    ]
    told = [asked.describe() for asked in more]
    assert all(plain.items() < one.items() for one in told)
    assert all(told.count(one) == 1 for one in told)
    with pytest.raises(PixitError, match="not both"):
        Asked(2, 3)
