"""Activities to speech and turns, against slow and simple references."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.pipeline.activity import ActivitySettings, decide, find_solo, find_speech


def decide_slowly(activity: list[float], frame_s: float, s: ActivitySettings) -> list[bool]:
    """One frame at a time: spread from every frame at the onset to its neighbours at the offset."""
    talking = [a >= s.onset for a in activity]
    for _ in activity:
        for i in range(len(activity)):
            beside = [talking[j] for j in (i - 1, i + 1) if 0 <= j < len(activity)]
            if activity[i] >= s.offset and any(beside):
                talking[i] = True
    for value, least_s in ((False, s.min_duration_off_s), (True, s.min_duration_on_s)):
        i = 0
        while i < len(talking):
            j = i
            while j < len(talking) and talking[j] == talking[i]:
                j += 1
            inner = i > 0 and j < len(talking)
            if talking[i] == value and (j - i) * frame_s < least_s and (value or inner):
                talking[i:j] = [not value] * (j - i)
            i = j
    return talking


@settings(max_examples=300, deadline=None)
@given(
    activity=st.lists(st.sampled_from([0.0, 0.2, 0.45, 0.5, 0.8, 1.0]), max_size=40),
    onset=st.sampled_from([0.3, 0.5, 0.7]),
    offset=st.sampled_from([0.2, 0.3, 0.45]),
    on=st.sampled_from([0.0, 0.02, 0.03, 0.1]),
    off=st.sampled_from([0.0, 0.02, 0.03, 0.1]),
)
def test_decide_equals_the_slow_reference(
    activity: list[float], onset: float, offset: float, on: float, off: float
) -> None:
    s = ActivitySettings(onset=onset, offset=min(offset, onset), min_duration_on_s=on, min_duration_off_s=off)
    found = decide(np.array(activity, np.float32), 0.01, s)
    # the reference in single precision, as thresholds met exactly must be met in both
    expected = decide_slowly([float(np.float32(a)) + 1e-7 for a in activity], 0.01, s)
    assert found.tolist() == expected


@given(
    rows=st.lists(
        st.lists(st.sampled_from([0.0, 0.35, 0.45, 0.55, 1.0]), min_size=9, max_size=9), max_size=4
    ),
    onset=st.sampled_from([0.3, 0.4, 0.5, 0.6]),
)
def test_each_row_of_speech_is_decided_for_itself(rows: list[list[float]], onset: float) -> None:
    s = ActivitySettings(onset=onset, offset=0.4, min_duration_on_s=0, min_duration_off_s=0)
    found = find_speech(np.array(rows, np.float32).reshape(-1, 9), s)
    expected = [decide_slowly(row, 0.01, s.model_copy(update={"offset": min(0.4, onset)})) for row in rows]
    assert found.tolist() == expected


def test_solo_is_speech_of_one() -> None:
    found = find_solo(np.array([[True, True, False], [False, True, False]]))
    assert found.tolist() == [[True, False, False], [False, False, False]]
