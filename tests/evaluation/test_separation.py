from __future__ import annotations

import itertools
import json
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.cli import cli
from pixit.evaluation.separation.evaluate import (
    evaluate_separation,
    find_sources,
    measure_separation,
    pair_recordings,
    separation_table,
)
from pixit.evaluation.separation.metrics import LIMIT_DB, Products, bss_eval, pesq, ratio_db, si_sdr, stoi
from pixit.evaluation.separation.score import RecordingScores, ScoringOptions, score_separation
from pixit.evaluation.separation.signals import TalkMasks
from pixit.evaluation.separation.statistics import measure_tracks
from pixit.results import Separation
from pixit.types import PixitError, Turn

Array = NDArray[Any]
RATE_HZ = 8000
SI_SDR = ScoringOptions(metrics=("si_sdr",))


def evaluate(*arguments: object) -> Result:
    given = ["evaluate", "separation", *map(str, arguments)]
    return CliRunner().invoke(cli, given, catch_exceptions=False)


def noise(seed: int, num_samples: int = 2 * RATE_HZ) -> Array:
    return np.random.default_rng(seed).normal(0, 0.05, num_samples)


def write_wav(path: Path, signal: Array, rate_hz: int = RATE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate_hz, "FLOAT")
    return path


def write_all(folder: Path, signals: dict[str, Array], rate_hz: int = RATE_HZ) -> dict[str, Path]:
    return {name: write_wav(folder / f"{name}.wav", signal, rate_hz) for name, signal in signals.items()}


def value(scores: RecordingScores, speaker: str, key: str, region: str = "whole") -> float:
    (found,) = [s for s in scores.speakers if s.speaker == speaker and s.region == region]
    return found.values[key]


# --- the scores against the field's libraries ------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(-60, 60), st.floats(0.1, 100), st.floats(-0.5, 0.5))
@settings(max_examples=25, deadline=None)
def test_si_sdr_is_that_of_torchmetrics(seed: int, level_db: float, gain: float, offset: float) -> None:
    import torch
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as oracle

    rng = np.random.default_rng(seed)
    reference = rng.normal(size=500) + offset
    estimate = gain * (reference + 10 ** (-level_db / 20) * rng.normal(size=500))
    expected = float(oracle(torch.from_numpy(estimate), torch.from_numpy(reference), zero_mean=True))
    assert si_sdr(estimate, reference) == pytest.approx(expected, abs=1e-6)  # torchmetrics adds an epsilon


@given(
    npst.arrays(np.float32, (4, 300), elements=st.floats(-1, 1, width=32)),
    st.lists(st.integers(0, 300), max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_products_do_not_depend_on_the_blocks(signals: Array, cuts: list[int]) -> None:
    products = Products(4)
    for start, stop in itertools.pairwise([0, *sorted(cuts), 300]):
        products.add(signals[:, start:stop])
    exact = signals.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    assert products.num_samples == 300
    np.testing.assert_allclose(products.raw, exact @ exact.T, atol=1e-9)
    np.testing.assert_allclose(products.centred, centred @ centred.T, atol=1e-9)
    for estimate, reference in itertools.permutations(range(4), 2):
        assert -LIMIT_DB <= products.si_sdr(estimate, reference) <= LIMIT_DB


def test_limits_of_decibels() -> None:
    signal = noise(0)
    assert si_sdr(3 * signal, signal) == LIMIT_DB
    assert si_sdr(0 * signal, signal) == si_sdr(signal, 0 * signal + 0.3) == -LIMIT_DB
    assert si_sdr(np.zeros(0), np.zeros(0)) == -LIMIT_DB
    assert ratio_db(0, 0) == ratio_db(0, 1) == -LIMIT_DB
    assert ratio_db(1, 0) == ratio_db(1, -1e-20) == LIMIT_DB
    assert ratio_db(100, 1) == pytest.approx(20)


@pytest.mark.real
def test_sdr_sir_sar_are_those_of_mir_eval(shared_data: Path) -> None:
    separation = pytest.importorskip("mir_eval.separation")
    references = real_speech(shared_data, 3, 6)
    mixing = np.eye(3) + 0.2 * np.random.default_rng(0).normal(size=(3, 3))
    estimates = mixing @ references + 0.002 * np.random.default_rng(1).normal(size=references.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it leaves mir_eval with 0.9
        expected = separation.bss_eval_sources(references, estimates, compute_permutation=False)
    scores = bss_eval(estimates, references)
    for found, oracle, tolerance in zip(scores.values(), expected[:3], (0.01, 0.2, 0.02), strict=True):
        assert found == pytest.approx(oracle.tolist(), abs=tolerance)


def test_bss_eval_has_no_nan() -> None:
    signals = np.stack([noise(0), noise(1)])
    assert bss_eval(signals[:1], signals[:1])["sir_db"] == [None]
    for estimates, references in [
        (signals, signals),
        (signals, signals[[0, 0]]),  # no two speakers: the equations are singular
        (signals[::-1], signals),
    ]:
        scores = bss_eval(estimates, references)
        assert np.isfinite([scores[key] for key in scores]).all()
    assert min(bss_eval(signals, signals)["sdr_db"]) > 60


@pytest.mark.real
@pytest.mark.parametrize(("rate_hz", "mode"), [(16000, "wb"), (8000, "nb"), (22050, "wb"), (11025, "nb")])
def test_pesq_and_stoi_are_those_of_their_packages(shared_data: Path, rate_hz: int, mode: str) -> None:
    import pesq as pesq_library
    import pystoi

    from pixit.audio import resample_blocks

    clean = real_speech(shared_data, 1, 4)[0].astype(np.float32)
    noisy = clean + np.random.default_rng(0).normal(0, 0.01, len(clean)).astype(np.float32)
    clean, noisy = (np.concatenate(list(resample_blocks([x], 16000, rate_hz))) for x in (clean, noisy))
    assert stoi(noisy, clean, rate_hz) == pytest.approx(pystoi.stoi(clean, noisy, rate_hz), abs=1e-6)
    at_hz = {"wb": 16000, "nb": 8000}[mode]
    both = [np.concatenate(list(resample_blocks([x], rate_hz, at_hz))) for x in (clean, noisy)]
    assert pesq(noisy, clean, rate_hz) == pytest.approx(pesq_library.pesq(at_hz, *both, mode))


def test_pesq_and_stoi_of_silence_are_not_defined() -> None:
    sound, silence = noise(0), np.zeros(2 * RATE_HZ)
    assert pesq(sound, silence, RATE_HZ) is None
    assert pesq(silence, sound, RATE_HZ) is None
    short = np.where(np.arange(len(sound)) < 400, sound, 0)
    assert stoi(sound, short, RATE_HZ) is None


def real_speech(shared_data: Path, num_speakers: int, seconds: int) -> Array:
    folders = sorted((shared_data / "librispeech" / "dev").iterdir())[:num_speakers]
    signals = []
    for folder in folders:
        files = (soundfile.read(path)[0] for path in sorted(folder.glob("*.flac")))
        signals.append(np.concatenate(list(files))[16000 : (seconds + 1) * 16000])
    return np.stack(signals)


# --- one recording ---------------------------------------------------------------------------------------


def test_tracks_find_their_speakers_as_brute_force_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    signals = rng.normal(0, 0.05, (4, RATE_HZ))
    estimates = rng.normal(size=(4, 4)) @ signals + rng.normal(0, 0.01, (4, RATE_HZ))
    references = write_all(tmp_path / "ref", dict(zip("abcd", signals, strict=True)))
    tracks = write_all(tmp_path / "est", dict(zip("wxyz", estimates, strict=True)))
    read = {name: soundfile.read(path)[0] for name, path in [*references.items(), *tracks.items()]}
    best = max(
        itertools.permutations("wxyz"),
        key=lambda order: sum(si_sdr(read[t], read[s]) for t, s in zip(order, "abcd", strict=True)),
    )
    scores = score_separation(references, tracks, options=SI_SDR)
    assert tuple(s.track for s in scores.speakers) == best
    mixture = sum(read[s] for s in "abcd")
    for speaker, track in zip("abcd", best, strict=True):
        expected = si_sdr(read[track], read[speaker])
        assert value(scores, speaker, "si_sdr_db") == pytest.approx(expected, abs=1e-6)
        gain = expected - si_sdr(np.asarray(mixture), read[speaker])
        assert value(scores, speaker, "si_sdr_improvement_db") == pytest.approx(gain, abs=1e-4)


def test_a_missing_track_is_charged_and_a_surplus_one_counted(tmp_path: Path) -> None:
    a, b, c = noise(0), noise(1), noise(2)
    references = write_all(tmp_path / "ref", {"a": a, "b": b})
    one = score_separation(references, write_all(tmp_path / "one", {"x": a}), options=SI_SDR)
    assert [s.track for s in one.speakers] == ["x", None]
    assert value(one, "b", "si_sdr_improvement_db") == 0
    assert value(one, "b", "si_sdr_db") == pytest.approx(si_sdr(a + b, b), abs=1e-3)
    # a silent track is no track: it is neither assigned nor surplus
    silent = score_separation(
        references, write_all(tmp_path / "silent", {"x": a, "y": 0 * a, "z": 0 * a}), options=SI_SDR
    )
    assert silent == one
    three = score_separation(
        references, write_all(tmp_path / "three", {"x": a, "y": b, "z": c}), options=SI_SDR
    )
    assert ([s.track for s in three.speakers], three.surplus) == (["x", "y"], ("z",))
    none = score_separation(references, {}, options=ScoringOptions(metrics=("si_sdr", "stoi")))
    assert [s.track for s in none.speakers] == [None, None]


def test_a_silent_reference_has_no_score(tmp_path: Path) -> None:
    references = write_all(tmp_path / "ref", {"a": noise(0), "mute": 0 * noise(0)})
    tracks = write_all(tmp_path / "est", {"x": noise(0), "y": noise(1)})
    scores = score_separation(references, tracks)
    assert [s.speaker for s in scores.speakers] == ["a"]
    assert scores.surplus == ("y",)
    assert "sir_db" not in scores.speakers[0].values  # nobody else interferes
    empty = score_separation({}, tracks)
    assert (empty.speakers, empty.surplus) == ((), ("x", "y"))
    assert score_separation({}, {}).speakers == ()


def test_segments_are_scored_where_the_reference_sounds(tmp_path: Path) -> None:
    """Three seconds, of which the speaker talks in the first and the last: the second, all noise, does not count."""
    talk = np.concatenate([noise(0, RATE_HZ), np.zeros(RATE_HZ), noise(1, RATE_HZ)])
    track = talk + 0.1 * noise(2, 3 * RATE_HZ)
    references = write_all(tmp_path / "ref", {"a": talk, "b": noise(3, 3 * RATE_HZ)})
    tracks = write_all(tmp_path / "est", {"x": track, "y": noise(3, 3 * RATE_HZ)})
    options = ScoringOptions(metrics=("sdr", "stoi"), segment_s=1.0)
    scores = score_separation(references, tracks, options=options)
    parts = [slice(0, RATE_HZ), slice(2 * RATE_HZ, 3 * RATE_HZ)]
    both = np.stack([talk, noise(3, 3 * RATE_HZ)]), np.stack([track, noise(3, 3 * RATE_HZ)])
    sdr = [bss_eval(both[1][:, part], both[0][:, part])["sdr_db"][0] for part in parts]
    assert value(scores, "a", "sdr_db") == pytest.approx(np.mean(np.array(sdr, float)), abs=1e-3)
    expected = np.mean([stoi(track[part], talk[part], RATE_HZ) or 0 for part in parts])
    assert value(scores, "a", "stoi") == pytest.approx(expected, abs=1e-4)
    assert set(scores.speakers[0].values) == {"sdr_db", "sir_db", "sar_db", "stoi"}


def test_regions_join_the_stretches_of_one_kind(tmp_path: Path) -> None:
    """Speaker a talks from 0 to 3 s, b from 2 to 4.5 s; in the overlap a's track is bad, b's track is silent."""
    a, b = noise(0, 5 * RATE_HZ), noise(1, 5 * RATE_HZ)
    a[3 * RATE_HZ :] = b[: 2 * RATE_HZ] = b[36000:] = 0
    overlap, alone = slice(2 * RATE_HZ, 3 * RATE_HZ), slice(0, 2 * RATE_HZ)
    heard_a, heard_b = a.copy(), b.copy()
    heard_a[overlap] += b[overlap]
    heard_b[overlap] = 0
    references = write_all(tmp_path / "ref", {"Anna B": a, "b": b})
    tracks = write_all(tmp_path / "est", {"x": heard_a, "y": heard_b})
    turns = [Turn(0, 2.5, "Anna_B"), Turn(2.2, 3, "Anna_B"), Turn(2, 4.5, "b"), Turn(4.5, 9, "stranger")]
    options = ScoringOptions(("whole", "overlap", "single"), ("si_sdr",), 1.3)
    scores = score_separation(references, tracks, turns=turns, options=options)
    assert value(scores, "Anna B", "si_sdr_db", "single") == LIMIT_DB
    expected = si_sdr(a[overlap] + b[overlap], a[overlap])
    assert value(scores, "Anna B", "si_sdr_db", "overlap") == pytest.approx(expected, abs=1e-4)
    lost = next(s for s in scores.speakers if (s.speaker, s.region) == ("b", "overlap"))
    assert (lost.track, lost.scored_s, lost.values["si_sdr_improvement_db"]) == (None, 1.0, 0)
    seconds = [s.scored_s for s in scores.speakers if s.region == "single"]
    assert seconds == [pytest.approx((alone.stop - alone.start) / RATE_HZ), 1.5]
    # a stranger talks into b's last half second: only 0.9 s of b alone are left, too little to be scored
    more = [*turns, Turn(3.9, 4.5, "stranger")]
    short = score_separation(references, tracks, turns=more, options=options)
    assert [s.speaker for s in short.speakers if s.region == "single"] == ["Anna B"]


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 20), st.sampled_from(["a", "b", "other"])), max_size=8
    )
)
@settings(max_examples=50, deadline=None)
def test_masks_are_those_of_a_boolean_timeline(drawn: list[tuple[int, int, str]]) -> None:
    turns = [Turn(start / 10, (start + length) / 10, speaker) for start, length, speaker in drawn]
    expected = {name: np.zeros(60, bool) for name in ("a", "b", "other")}
    for start, length, speaker in drawn:
        expected[speaker][start : start + length] = True
    masks = TalkMasks(turns, ["a", "b"], 10)
    found = np.concatenate([masks.read(start, min(start + 7, 60)) for start in range(0, 60, 7)], axis=1)
    np.testing.assert_array_equal(found[:2], [expected["a"], expected["b"]])
    np.testing.assert_array_equal(found[2:].any(axis=0), expected["other"])


def test_lengths_and_rates_that_differ(tmp_path: Path) -> None:
    a, b = noise(0, 4 * RATE_HZ), noise(1, 4 * RATE_HZ)
    references = write_all(tmp_path / "ref", {"a": a, "b": b[: 2 * RATE_HZ]})  # a reference may end early
    short = write_all(tmp_path / "est", {"x": a[: -RATE_HZ // 2], "y": np.append(b, noise(2, 100))})
    scores = score_separation(references, short, options=SI_SDR)
    padded = np.append(a[: -RATE_HZ // 2], np.zeros(RATE_HZ // 2))
    assert value(scores, "a", "si_sdr_db") == pytest.approx(si_sdr(padded, a), abs=1e-4)
    low = np.sin(2 * np.pi * 300 * np.arange(4 * 16000) / 16000) * np.hanning(4 * 16000)
    twice = write_all(tmp_path / "twice", {"x": low, "y": low[::-1]}, 16000)
    resampled = score_separation(write_all(tmp_path / "sine", {"a": low[::2]}), twice, options=SI_SDR)
    assert value(resampled, "a", "si_sdr_db") > 60
    with pytest.raises(PixitError, match=r"x\.wav: lasts 2\.00 s, but .*a\.wav 4\.00 s"):
        score_separation(references, write_all(tmp_path / "bad", {"x": a[: 2 * RATE_HZ]}))
    mixed = references | write_all(tmp_path / "mixed", {"c": a}, 16000)
    with pytest.raises(PixitError, match=r"c\.wav: has 16000 Hz, .*a\.wav 8000 Hz"):
        score_separation(mixed, {})


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 3):
        signals = {name: noise(seed, minutes * 60 * 1000) for seed, name in enumerate("ab")}
        references = write_all(tmp_path / f"ref{minutes}", signals, 1000)
        tracks = write_all(tmp_path / f"est{minutes}", signals, 1000)
        turns = [Turn(0, 40 * minutes, "a"), Turn(20 * minutes, 60 * minutes, "b")]
        tracemalloc.start()
        score_separation(
            references,
            tracks,
            turns=turns,
            options=ScoringOptions(("whole", "overlap"), ("si_sdr", "sdr"), 10),
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="unknown metric 'sisdr'; expected some of si_sdr, sdr"):
        ScoringOptions(metrics=("sisdr",))
    with pytest.raises(PixitError, match="unknown region"):
        ScoringOptions(regions=("solo",))
    for seconds in (0.0, float("nan")):
        with pytest.raises(PixitError, match="segments of"):
            ScoringOptions(segment_s=seconds)
    references = write_all(tmp_path / "ref", {"a": noise(0)})
    overlap = ScoringOptions(("overlap",), ("si_sdr",))
    with pytest.raises(PixitError, match="give the reference RTTM"):
        score_separation(references, {}, options=overlap)
    with pytest.raises(
        PixitError, match=r"no speaker of the RTTM \('z' …\) is one of the references \('a' …\)"
    ):
        score_separation(references, {}, turns=[Turn(0, 1, "z")], options=overlap)


# --- without references ----------------------------------------------------------------------------------


def test_tracks_are_measured_against_their_mixture(tmp_path: Path) -> None:
    a, b = noise(0, 4 * RATE_HZ), noise(1, 4 * RATE_HZ)
    a[2 * RATE_HZ :] = b[: 2 * RATE_HZ] = 0
    mixture = write_wav(tmp_path / "m.wav", a + b)
    tracks = write_all(tmp_path / "est", {"a": a, "b": b + 0.1 * a})
    turns = [Turn(0, 2, "a"), Turn(2, 4, "b")]
    found = measure_tracks(mixture, tracks, turns)
    power = float(np.mean((a + b) ** 2))
    expected = 10 * np.log10(float(np.mean((0.1 * a) ** 2)) / power)
    assert found.residual_db == pytest.approx(expected, abs=1e-3)
    assert found.fitted_residual_db < -90  # 0.9 of a and all of b sum to the mixture
    assert found.mixture.rms_dbfs == pytest.approx(10 * np.log10(power), abs=1e-4)
    assert found.tracks["b"].leakage_db == pytest.approx(-20, abs=1e-3)
    assert found.tracks["a"].leakage_db == -LIMIT_DB
    correlation = np.corrcoef(a, b + 0.1 * a)[0, 1]
    assert found.tracks["a"].crosstalk_db == pytest.approx(20 * np.log10(abs(correlation)), abs=0.01)
    assert measure_tracks(mixture, tracks).tracks["a"].leakage_db is None
    with pytest.raises(PixitError, match="give the RTTM that came with them"):
        measure_tracks(mixture, tracks, [Turn(0, 1, "z")])


def test_levels_and_clipping(tmp_path: Path) -> None:
    sine = np.sin(2 * np.pi * np.arange(RATE_HZ) / 80)
    found = measure_tracks(
        write_wav(tmp_path / "m.wav", sine), write_all(tmp_path, {"t": sine, "u": 0 * sine})
    )
    assert found.tracks["t"].rms_dbfs == pytest.approx(-3.0103, abs=1e-3)
    assert found.tracks["t"].peak_dbfs == pytest.approx(0, abs=1e-3)
    assert found.tracks["t"].clipped_samples == 200  # two peaks in each of a hundred periods
    assert (found.tracks["u"].rms_dbfs, found.tracks["u"].crosstalk_db) == (-LIMIT_DB, None)
    assert found.residual_db == -LIMIT_DB
    none = measure_tracks(tmp_path / "m.wav", {})
    assert (none.residual_db, none.tracks) == (0, {})
    silent = measure_tracks(write_wav(tmp_path / "s.wav", 0 * sine), {"t": tmp_path / "t.wav"})
    assert (silent.residual_db, silent.fitted_residual_db) == (LIMIT_DB, -LIMIT_DB)


# --- folders and tables ----------------------------------------------------------------------------------


def test_recordings_are_paired_by_name(tmp_path: Path) -> None:
    write_all(tmp_path / "ref" / "my meeting", {"a": noise(0)})
    write_all(tmp_path / "ref" / "second", {"a": noise(0)})
    write_all(tmp_path / "est" / "my_meeting", {"SPEAKER_00": noise(0)})
    write_all(tmp_path / "est" / "third", {"SPEAKER_00": noise(0)})
    (tmp_path / "est" / ".hidden").mkdir()
    references, estimates = find_sources(tmp_path / "ref"), find_sources(tmp_path / "est")
    pairs, notes = pair_recordings(references, estimates)
    assert [(p.recording, sorted(p.tracks)) for p in pairs] == [
        ("my meeting", ["SPEAKER_00"]),
        ("second", []),
    ]
    estimated = tmp_path / "est"
    assert notes == [
        f"taken for the same recording, by the names in {estimated}: my meeting = my_meeting",
        f"no reference in {tmp_path / 'ref'}, left out: third",
        f"no tracks in {estimated}, every speaker is missing: second",
    ]
    one = find_sources(tmp_path / "est" / "my_meeting")
    assert [p.recording for p in pair_recordings(references, one)[0]] == ["my meeting"]
    both = pair_recordings(find_sources(tmp_path / "ref" / "second"), one)[0]
    assert [(p.recording, len(p.tracks)) for p in both] == [("second", 1)]
    with pytest.raises(PixitError, match="no recording in common: references of my meeting, second, est"):
        pair_recordings(references, find_sources(tmp_path / "est" / "third"))


def test_folders_without_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="holds no sources"):
        find_sources(tmp_path)
    (tmp_path / "meeting.rttm").touch()  # the result of a silent recording
    assert find_sources(tmp_path).recordings == {tmp_path.name: {}}
    write_all(tmp_path, {"a": noise(0)})
    soundfile.write(tmp_path / "a.flac", noise(0), RATE_HZ)
    with pytest.raises(PixitError, match="one file each speaker"):
        find_sources(tmp_path)


def test_total_is_the_mean_of_all_speakers(tmp_path: Path) -> None:
    first = write_all(tmp_path / "1", {"a": noise(0), "b": noise(1), "c": noise(2)})
    second = write_all(tmp_path / "2", {"a": noise(3)})
    noisy = write_all(tmp_path / "3", {"x": noise(3) + noise(4), "y": noise(5)})
    scores = [
        score_separation(first, {}, options=SI_SDR, recording="one"),
        score_separation(second, noisy, options=SI_SDR, recording="two"),
    ]
    table = separation_table(scores, ["whole"], "title")
    speakers = [row["si_sdr_db"] for row in table.rows if row.get("speaker")]
    total = table.rows[-1]
    assert len(speakers) == 4
    assert total["si_sdr_db"] == pytest.approx(np.mean(speakers))
    assert (total["missing"], total["surplus"], total["scored_s"]) == (3, 1, 8.0)
    assert [column.key for column in table.columns if column.key.endswith("_db")] == [
        "si_sdr_db",
        "si_sdr_improvement_db",
    ]


# --- the command line ------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for uri, seed in (("m 1", 0), ("m2", 10)):
        a, b = noise(seed, 3 * RATE_HZ), noise(seed + 1, 3 * RATE_HZ)
        write_all(tmp_path / "ref" / uri, {"a": a, "b": b})
        write_all(tmp_path / "est" / uri.replace(" ", "_"), {"SPEAKER_00": b + 0.1 * a, "SPEAKER_01": a})
        write_wav(tmp_path / "audio" / f"{uri}.wav", a + b)
        name = uri.replace(" ", "_")
        (tmp_path / "est" / name / f"{name}.rttm").write_text(
            f"SPEAKER {name} 1 0 2 <NA> <NA> SPEAKER_01 <NA> <NA>\n"
            f"SPEAKER {name} 1 1 2 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
        )
    (tmp_path / "ref.rttm").write_text(
        "".join(
            f"SPEAKER {uri} 1 {start} 2.0 <NA> <NA> {speaker} <NA> <NA>\n"
            for uri in ("m_1", "m2")
            for start, speaker in ((0.0, "a"), (1.0, "b"))
        )
    )
    return tmp_path


def test_command_equals_the_functions(corpus: Path) -> None:
    given = [corpus / "ref", corpus / "est", "--mixture", corpus / "audio", "--rttm", corpus / "ref.rttm"]
    done = evaluate(*given, "--metrics", "SI-SDR,stoi", "-o", corpus / "scores.json")
    assert done.exit_code == 0, done.output
    rows = json.loads((corpus / "scores.json").read_text())["rows"]
    assert len(rows) == 2 * 3 * (2 + 1) + 3
    turns = [Turn(0.0, 2.0, "a"), Turn(1.0, 3.0, "b")]
    scores = score_separation(
        find_sources(corpus / "ref").recordings["m 1"],
        find_sources(corpus / "est").recordings["m_1"],
        corpus / "audio" / "m 1.wav",
        turns,
        ScoringOptions(("whole", "overlap", "single"), ("si_sdr", "stoi")),
    )
    for score in scores.speakers:
        key = ("m 1", score.speaker, score.region)
        (row,) = [r for r in rows if (r["recording"], r["speaker"], r["region"]) == key]
        assert {name: row[name] for name in score.values} == score.values
        assert row["track"] == {"a": "SPEAKER_01", "b": "SPEAKER_00"}[score.speaker]
    assert "TOTAL" in done.output
    whole = evaluate(*given, "--metrics", "si_sdr", "--region", "whole")
    assert "overlap" not in whole.output


def test_command_without_references(corpus: Path) -> None:
    done = evaluate("--no-reference", corpus / "audio", corpus / "est", "-o", corpus / "levels.csv")
    assert done.exit_code == 0, done.output
    header, *lines = (corpus / "levels.csv").read_text().splitlines()
    assert header.startswith("recording,track,residual_db")
    assert [line.split(",")[1] for line in lines] == ["SPEAKER_00", "SPEAKER_01", "(mixture)"] * 2
    one = evaluate("--no-reference", corpus / "audio" / "m 1.wav", corpus / "est" / "m_1")
    assert one.exit_code == 0
    assert "–" not in one.output.splitlines()[4].split()[-1]  # the leakage, by the RTTM in the folder


def test_recordings_on_one_side_are_told(corpus: Path) -> None:
    (corpus / "ref" / "m2").rename(corpus / "ref" / "m3")
    done = evaluate(corpus / "ref", corpus / "est", "--metrics", "si_sdr")
    assert done.exit_code == 0
    assert "left out: m2" in done.stderr
    assert "every speaker is missing: m3" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}/ref", "{0}/audio"], "no recording in common"),
        (["{0}/ref", "{0}/est", "--region", "overlap"], "give the reference RTTM"),
        (["{0}/ref", "{0}/est", "--metrics", "sdri"], "unknown metric 'sdri'"),
        (["{0}/ref", "{0}/est", "--segment", "0"], "segments of 0 s"),
        (
            ["{0}/ref", "{0}/est", "-o", "{0}/x.xlsx"],
            "unknown kind of table; expected a file named .txt, .csv",
        ),
        (["{0}/ref", "{0}/est", "--mixture", "{0}/audio/m2.wav"], "is one file for 2 recordings"),
        (["{0}/ref", "{0}/est", "--mixture", "{0}/ref"], "holds no recording 'm 1'"),
        (["{0}/ref", "{0}/est", "--rttm", "{0}/audio"], "holds no .rttm files"),
        (["{0}/ref", "{0}/est", "--rttm", "{0}/est/m2/m2.rttm"], "has no turns of m 1; found m2"),
        (["{0}/ref", "{0}/nothing"], "does not exist"),
        (["--no-reference", "{0}/audio", "{0}/est", "--region", "all"], "go with references"),
    ],
)
def test_wrong_input_is_told_in_one_line(corpus: Path, arguments: list[str], message: str) -> None:
    done = evaluate(*[argument.format(corpus) for argument in arguments])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not list(corpus.glob("x.*"))


def test_of_several_channels_that_is_compared_which_was_separated(tmp_path: Path) -> None:
    a, b = noise(0, 2 * RATE_HZ), noise(1, 2 * RATE_HZ)
    soundfile.write(
        tmp_path / "m.wav", np.stack([5 * noise(2, 2 * RATE_HZ), a + b], axis=1), RATE_HZ, "FLOAT"
    )
    files = write_all(tmp_path / "made", {"a": a, "b": b})
    diarization = Annotation(uri="m")
    diarization[Segment(0, 1), 0], diarization[Segment(1, 2), 1] = "a", "b"
    tracks = {name: Track.open(path) for name, path in files.items()}
    Separation("m", diarization, tracks, RATE_HZ, 2 * RATE_HZ, {"channel": 1}).save(tmp_path / "est")
    (measured,), notes = measure_separation(tmp_path / "m.wav", tmp_path / "est")
    assert measured.residual_db < -60
    assert not notes
    write_all(tmp_path / "ref" / "m", {"a": a, "b": b})
    whole, _ = evaluate_separation(tmp_path / "ref", tmp_path / "est", tmp_path / "m.wav", options=SI_SDR)
    summed, _ = evaluate_separation(tmp_path / "ref", tmp_path / "est", options=SI_SDR)
    key = "si_sdr_improvement_db"
    assert value(whole[0], "a", key) == pytest.approx(value(summed[0], "a", key), abs=0.1)
    (plain,), notes = measure_separation(tmp_path / "m.wav", tmp_path / "made")
    assert plain.residual_db > -1
    assert "has 2 channels, tracks are compared with their mean" in notes[0]


def test_a_stray_rttm_beside_results_is_no_recording(tmp_path: Path) -> None:
    write_all(tmp_path / "est" / "m", {"a": noise(0)})
    (tmp_path / "est" / "m.rttm").touch()
    assert find_sources(tmp_path / "est").recordings.keys() == {"m"}
