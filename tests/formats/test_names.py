"""Which recording is which: equal names, other spellings, AMI's devices; never a guess."""

from __future__ import annotations

import pytest

from pixit.formats.names import match_names, some
from pixit.types import PixitError


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("meeting", "meeting.wav"),
        ("meeting.FLAC", "meeting"),
        ("my meeting", "my_meeting"),
        ("corpus/dev/meeting.wav", "meeting"),
        ("C:\\audio\\my meeting.m4a", "my_meeting"),
        ("EN2002a", "EN2002a.Mix-Headset"),
        ("EN2002a.Array1-01", "EN2002a"),
        ("2021.05.01", "2021.05.01.wav"),
    ],
)
def test_other_spellings_are_found_and_told(wanted: str, given: str) -> None:
    found, notes = match_names([wanted], [given, "other"], "HYP")
    assert found == {wanted: given}
    assert notes == [f"taken for the same recording, by the names in HYP: {wanted} = {given}"]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [("meeting1", "meeting10"), ("2021.05.01", "2021.05.02"), ("a", "A"), ("m.Mix-Headset", "m.Array1-01")],
)
def test_other_recordings_are_not_found(wanted: str, given: str) -> None:
    assert match_names([wanted], [given], "HYP") == ({}, [])


def test_equal_names_come_first_and_keep_their_order() -> None:
    assert match_names(["b", "a"], ["a", "a.wav", "b", "b.x"], "HYP") == ({"b": "b", "a": "a"}, [])
    found, _ = match_names(["m", "m.x"], ["m.x", "m.y"], "HYP")  # m.x is taken
    assert found == {"m": "m.y", "m.x": "m.x"}


def test_what_could_be_two_recordings_is_an_error() -> None:
    with pytest.raises(PixitError, match=r"m could be m\.Array1-01, m\.Mix-Headset of HYP; keep one of them"):
        match_names(["m"], ["m.Mix-Headset", "m.Array1-01"], "HYP")
    with pytest.raises(PixitError, match=r"m of HYP could be a/m, b/m"):
        match_names(["a/m", "b/m"], ["m"], "HYP")


def test_long_lists_are_cut() -> None:
    assert some([]) == ""
    assert some("abcde") == "a, b, c, d, e"
    assert some("abcdefg") == "a, b, c, d, e and 2 more"
