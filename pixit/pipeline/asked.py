"""What is asked of a recording beside the settings: checked before it is heard, and part of how a result was made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from pixit.formats.rttm import rttm_line
from pixit.pipeline.channels import ChannelSettings
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.types import PixitError, Turn

MOST_SPEAKERS = 10_000
"""More are not asked for."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a recording.

    Parameters
    ----------
    num_speakers, min_speakers, max_speakers
        What is known about the number of speakers.
    channels
        How a channel is told from the others, where each is of one talker.
    reference
        Who really spoke when, where the clustering is to know it.
    known
        Voices to be found again.

    Raises
    ------
    PixitError
        If the numbers contradict each other.
    """

    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    channels: ChannelSettings | None = None
    reference: list[Turn] | None = None
    known: KnownSpeakers | None = None

    def __post_init__(self) -> None:
        check_num_speakers(*self.numbers)
        for name in ("num_speakers", "min_speakers", "max_speakers"):  # NumPy's, too
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else int(number))

    @property
    def numbers(self) -> tuple[int | None, int | None, int | None]:
        """The numbers of speakers, as they were given."""
        return self.num_speakers, self.min_speakers, self.max_speakers

    @property
    def bounds(self) -> tuple[int, int | None]:
        """Fewest and most speakers."""
        return check_num_speakers(*self.numbers)

    def describe(self) -> dict[str, Any]:
        """Return it as a result's request says it: only what is unusual beside the numbers, as older results do."""
        told: dict[str, Any] = dict(
            zip(("num_speakers", "min_speakers", "max_speakers"), self.numbers, strict=True)
        )
        if self.channels is not None:
            told["channels_are_speakers"] = self.channels.model_dump(mode="json")
        if self.reference is not None:
            lines = "\n".join(rttm_line("", turn) for turn in self.reference)
            told["reference_sha256"] = hashlib.sha256(lines.encode()).hexdigest()
        if self.known is not None:
            told["known_speakers_sha256"] = self.known.sha256
        return told


def check_num_speakers(
    num_speakers: int | None, min_speakers: int | None, max_speakers: int | None
) -> tuple[int, int | None]:
    """Return the bounds on the number of speakers; a PixitError if they contradict each other."""
    named = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
    for name, number in named.items():
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, Integral) or number > MOST_SPEAKERS:
            raise PixitError(f"{name}: expected a whole number of at most {MOST_SPEAKERS}, found {number!r}")
    if num_speakers is not None:
        if min_speakers not in (None, num_speakers) or max_speakers not in (None, num_speakers):
            raise PixitError(
                f"num_speakers={num_speakers}: give either it or min_speakers and max_speakers, not both"
            )
        min_speakers = max_speakers = num_speakers
    low = 1 if min_speakers is None else min_speakers
    if low < 1 or (max_speakers is not None and max_speakers < low):
        raise PixitError(
            f"number of speakers between {low} and {max_speakers}: expected at least 1, the lower bound first"
        )
    return low, max_speakers
