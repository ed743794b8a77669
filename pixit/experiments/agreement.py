"""How far two diarizations of a recording say the same: of two systems with the same networks, for example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pixit.types import Turn

PAPER_FRAME_S = 0.008
"""Of the activities of the paper's network."""


def agreement(
    ours: Sequence[Turn], theirs: Sequence[Turn], length_s: float, frame_s: float = PAPER_FRAME_S
) -> tuple[float, list[tuple[str, str]]]:
    """Return the share of the time for which two diarizations say the same of everybody, and who is whom.

    Speakers are mapped one to one as fits best, and a boundary may be a frame off: networks of random weights change
    their mind every few frames, and two implementations need not round alike.

    Examples
    --------
    >>> share, pairs = agreement([Turn(0.0, 4.0, "a")], [Turn(0.0, 3.0, "x"), Turn(3.0, 4.0, "y")], 4.0)
    >>> round(share, 2), pairs
    (0.75, [('a', 'x')])
    """
    names = [list(dict.fromkeys(turn.speaker for turn in turns)) for turns in (ours, theirs)]
    size = max(map(len, names))
    tables = [
        _lay(turns, own, size, round(length_s / frame_s), frame_s)
        for turns, own in zip((ours, theirs), names, strict=True)
    ]
    mine, other = tables
    rows, columns = linear_sum_assignment(mine.astype(float) @ other.T, maximize=True)
    same = _equal_within_a_frame(mine[rows], other[columns]).all(axis=0)
    pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if r < len(names[0]) and c < len(names[1])]
    return float(same.mean()), [(names[0][row], names[1][column]) for row, column in pairs]


def _lay(
    turns: Sequence[Turn], names: Sequence[str], size: int, num_frames: int, frame_s: float
) -> NDArray[np.bool_]:
    """Return turns on frames, a row each speaker and as many rows as `size`."""
    table = np.zeros((size, num_frames), bool)
    for turn in turns:
        table[names.index(turn.speaker), round(turn.start_s / frame_s) : round(turn.end_s / frame_s)] = True
    return table


def _equal_within_a_frame(mine: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where both agree, or would with a boundary moved by a frame, (N, F)."""
    found = mine == other
    for one, two in ((mine, other), (other, mine)):
        for shift in (-1, 1):
            moved = np.roll(one, shift, axis=1)
            found |= (moved == two) & (moved != one)
    return found
