"""DER and JER against pyannote.metrics, md-eval's rules counted on a grid, and the rules of missing recordings."""

from __future__ import annotations

import csv
import itertools
import json
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyannote.metrics")

from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm, load_uem
from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

from pixit.cli import cli
from pixit.evaluation.diarization import DiarizationCounts, evaluate_diarization
from pixit.formats.rttm import read_rttm, rttm_line
from pixit.types import PixitError, Turn

pytestmark = pytest.mark.filterwarnings("ignore:'uem' was approximated")

END = 30  # grid points of a random recording; a grid point is 1/4 s
SCALE_S = 0.25


def turns_of(speakers: str) -> st.SearchStrategy[list[Turn]]:
    """Turns on the grid, of zero length too, overlapping as they may."""
    turn = st.tuples(st.integers(0, END), st.integers(0, 8), st.sampled_from(speakers))
    return st.lists(turn, max_size=7).map(
        lambda found: [Turn(a * SCALE_S, (a + n) * SCALE_S, who) for a, n, who in found]
    )


REGIONS = st.none() | st.lists(
    st.tuples(st.integers(0, END), st.integers(1, 20)), min_size=1, max_size=3
).map(lambda found: [(a * SCALE_S, (a + n) * SCALE_S) for a, n in found])


def annotation_of(turns: list[Turn]) -> Annotation:
    annotation = Annotation(uri="m")
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    return annotation


def uem_of(regions: list[tuple[float, float]] | None) -> Timeline | None:
    return None if regions is None else Timeline([Segment(*region) for region in regions])


# --- equal to pyannote.metrics --------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(turns_of("ABC"), turns_of("ABXY"), REGIONS, st.sampled_from([0.0, 0.25, 0.5, 0.7]), st.booleans())
def test_counts_are_those_of_pyannote_metrics(
    reference: list[Turn],
    hypothesis: list[Turn],
    regions: list[tuple[float, float]] | None,
    collar: float,
    skip_overlap: bool,
) -> None:
    uem = None if regions is None else {"m": regions}
    (counts,) = evaluate_diarization(
        {"m": reference}, {"m": hypothesis}, uem, collar, skip_overlap
    ).recordings.values()
    both = annotation_of(reference), annotation_of(hypothesis)
    der = DiarizationErrorRate(collar=collar, skip_overlap=skip_overlap)
    jer = JaccardErrorRate(collar=collar, skip_overlap=skip_overlap)
    parts = der(*both, uem=uem_of(regions), detailed=True)
    assert_same(counts, parts, jer(*both, uem=uem_of(regions)))


def assert_same(counts: DiarizationCounts, parts: dict[str, float], jer: float) -> None:
    close = partial(pytest.approx, rel=1e-9, abs=1e-9)
    assert counts.jer == close(jer)
    assert counts.der == close(parts["diarization error rate"])
    assert counts.total_s == close(parts["total"])
    assert counts.correct_s == close(parts["correct"])
    assert counts.false_alarm_s == close(parts["false alarm"])
    assert counts.missed_s == close(parts["missed detection"])
    assert counts.confusion_s == close(parts["confusion"])


def random_turns(rng: np.random.Generator, number: int, speakers: int, overlap: float) -> list[Turn]:
    """Turns of many speakers, in milliseconds; some of one speaker at once."""
    starts_s = np.cumsum(rng.exponential(1.0, number))
    lengths_s = rng.exponential(overlap, number) + 0.01
    names = rng.integers(speakers, size=number)
    return [
        Turn(round(float(start_s), 3), round(float(start_s + length_s), 3), f"s{name}")
        for start_s, length_s, name in zip(starts_s, lengths_s, names, strict=True)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_long_recordings_of_many_speakers_are_counted_as_in_pyannote_metrics(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of few edges, so that they do not fall on what matters; with more than 26 speakers and UEM."""
    monkeypatch.setattr("pixit.evaluation.counting.BLOCK_EDGES", 37)
    rng = np.random.default_rng(seed)
    reference, hypothesis = random_turns(rng, 120, 30, 2.0), random_turns(rng, 120, 34, 1.5)
    regions = [(5.0, 40.25), (40.25, 60.0), (71.3, 200.0)] if seed % 2 else None
    options = {"collar": [0.0, 0.3, 0.5][seed % 3], "skip_overlap": seed > 3}
    uem = None if regions is None else {"m": regions}
    counts = evaluate_diarization({"m": reference}, {"m": hypothesis}, uem, **options).total
    both, area = (annotation_of(reference), annotation_of(hypothesis)), uem_of(regions)
    if area is not None:
        area = area.support()
    parts = DiarizationErrorRate(**options)(*both, uem=area, detailed=True)
    assert_same(counts, parts, JaccardErrorRate(**options)(*both, uem=area))


def test_fifty_thousand_turns_take_seconds() -> None:
    """pyannote.metrics took more than two minutes."""
    rng = np.random.default_rng(0)
    reference, hypothesis = (random_turns(rng, 50_000, 8, 1.0) for _ in range(2))
    started_s = time.process_time()
    counts = evaluate_diarization({"m": reference}, {"m": hypothesis}, collar=0.25).total
    assert time.process_time() - started_s < 10
    assert counts.total_s == pytest.approx(counts.correct_s + counts.missed_s + counts.confusion_s)


def jittered(path: Path, target: Path, seed: int) -> None:
    """Write a hypothesis: turns lost, moved, and given to others; names of files as AMI's."""
    rng = random.Random(seed)
    lines = []
    for uri, turns in read_rttm(path).items():
        for turn in turns:
            start_s = max(0.0, turn.start_s + rng.gauss(0, 0.3))
            length_s = max(0.01, turn.end_s - turn.start_s + rng.gauss(0, 0.3))
            speaker = rng.choice([turn.speaker] * 8 + ["X", "Y"])
            if rng.random() > 0.05:
                moved = Turn(round(start_s, 3), round(start_s + length_s, 3), speaker)
                lines.append(rttm_line(f"{uri}.Mix-Headset", moved) + "\n")
    target.write_text("".join(lines))


@pytest.mark.real
def test_real_meetings_give_the_digits_of_pyannote_metrics(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ami" / "annotations"
    names = ("ES2011a", "IB4002", "TS3004a")
    (tmp_path / "ref").mkdir()
    (tmp_path / "hyp" / "deep").mkdir(parents=True)
    der, jer = DiarizationErrorRate(collar=0.5), JaccardErrorRate(collar=0.5)
    for seed, name in enumerate(names):
        source = folder / "only_words" / "rttms" / "dev" / f"{name}.rttm"
        (tmp_path / "ref" / source.name).write_bytes(source.read_bytes())
        target = tmp_path / "hyp" / "deep" / f"{name}.Mix-Headset.rttm"
        jittered(source, target, seed)
        (reference,), (hypothesis,) = load_rttm(source).values(), load_rttm(target).values()
        uem = load_uem(folder / "uems" / "dev" / f"{name}.uem")[name]
        der(reference, hypothesis, uem=uem)
        jer(reference, hypothesis, uem=uem)
    done = run(
        *(tmp_path / "ref", tmp_path / "hyp", "--uem", folder / "uems", "--collar", "0.5"),
        *("-o", tmp_path / "scores.csv"),
    )
    assert done.exit_code == 0, done.output
    report = der.report()
    for number, row in enumerate(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())):
        expected = report.iloc[number]
        names_of = {"der": "diarization error rate", "missed": "missed detection"}
        for part in ("der", "false_alarm", "missed", "confusion"):
            name = names_of.get(part, part.replace("_", " "))
            assert float(row[f"{part}_percent"]) == pytest.approx(expected[name, "%"], rel=1e-9)
        jer_percent = jer.report().iloc[number]["jaccard error rate", "%"]
        assert float(row["jer_percent"]) == pytest.approx(jer_percent, rel=1e-9)
        assert f"{expected['diarization error rate', '%']:.2f}" in done.stdout
    assert number == len(names)


# --- md-eval, counted on a grid -------------------------------------------------------------------------


def labels_at(turns: list[Turn], point: int) -> Counter[str]:
    time_s = (point + 0.5) * SCALE_S
    return Counter(turn.speaker for turn in turns if turn.start_s < time_s < turn.end_s)


def by_md_eval(
    reference: list[Turn],
    hypothesis: list[Turn],
    regions: list[tuple[float, float]],
    collar_points: int,
    skip_overlap: bool,
) -> tuple[float, float, float, set[float]]:
    """Count total, false alarm, missed; and confusion for each of the equally good assignments of speakers."""
    edges = {
        round(t / SCALE_S)
        for turn in reference
        if turn.end_s > turn.start_s
        for t in (turn.start_s, turn.end_s)
    }
    evaluated = [
        (p, set(labels_at(reference, p)), set(labels_at(hypothesis, p)))
        for p in range(2 * END)
        if any(a < (p + 0.5) * SCALE_S < b for a, b in regions)
    ]
    scored = [
        (r, h)
        for p, r, h in evaluated
        if not any(edge - collar_points <= p < edge + collar_points for edge in edges)
        and not (skip_overlap and labels_at(reference, p).total() > 1)
    ]
    speakers = sorted({turn.speaker for turn in reference})
    found = sorted({turn.speaker for turn in hypothesis})
    padded = [*found, *(f"nobody {n}" for n in range(len(speakers)))]
    maps = [
        dict(zip(speakers, order, strict=True)) for order in itertools.permutations(padded, len(speakers))
    ]
    agreement = [sum(1 for _, r, h in evaluated for s in r if map_[s] in h) for map_ in maps]
    confusions = {
        sum(min(len(r), len(h)) - sum(map_[s] in h for s in r) for r, h in scored) * SCALE_S
        for map_, agreed in zip(maps, agreement, strict=True)
        if agreed == max(agreement)
    }
    total = sum(len(r) for r, _ in scored) * SCALE_S
    false_alarm = sum(max(len(h) - len(r), 0) for r, h in scored) * SCALE_S
    missed = sum(max(len(r) - len(h), 0) for r, h in scored) * SCALE_S
    return total, false_alarm, missed, confusions


@settings(max_examples=150, deadline=None)
@given(
    turns_of("ABC"),
    turns_of("ABX"),
    REGIONS.filter(lambda r: r is not None),
    st.integers(0, 3),
    st.booleans(),
)
def test_md_eval_is_counted_on_a_grid(
    reference: list[Turn],
    hypothesis: list[Turn],
    regions: list[tuple[float, float]],
    collar_points: int,
    skip_overlap: bool,
) -> None:
    scores = evaluate_diarization(
        {"m": reference},
        {"m": hypothesis},
        {"m": regions},
        collar_points * SCALE_S,
        skip_overlap,
        convention="md-eval",
    )
    total, false_alarm, missed, confusions = by_md_eval(
        reference, hypothesis, regions, collar_points, skip_overlap
    )
    counts = scores.total
    assert counts.total_s == pytest.approx(total)
    assert counts.false_alarm_s == pytest.approx(false_alarm)
    assert counts.missed_s == pytest.approx(missed)
    assert any(counts.confusion_s == pytest.approx(confusion) for confusion in confusions)


def test_the_collar_is_the_whole_width_or_that_of_each_side() -> None:
    reference = {"m": [Turn(10, 20, "A")]}
    hypothesis = {"m": [Turn(9, 21, "X")]}
    expected = {("pyannote", 0.0): (10, 2), ("pyannote", 1.0): (9, 1), ("md-eval", 1.0): (8, 0)}
    for (convention, collar), (total_s, false_alarm_s) in expected.items():
        scores = evaluate_diarization(reference, hypothesis, None, collar, convention=convention)
        assert (scores.total.total_s, scores.total.false_alarm_s) == (total_s, false_alarm_s)
    assert "collar 1 s on each side of a boundary (md-eval)" in scores.title
    half = evaluate_diarization(reference, hypothesis, None, 1.0).title
    assert "collar 0.5 s on each side of a boundary (pyannote)" in half


def test_md_eval_assigns_speakers_before_it_cuts_collars() -> None:
    """X agrees with A mostly near boundaries; within them nothing agrees with A but Y."""
    reference = {"m": [*(Turn(t, t + 2, "A") for t in range(0, 30, 5)), Turn(40, 50, "A")]}
    hypothesis = {"m": [*(Turn(t, t + 2, "X") for t in range(0, 30, 5)), Turn(40, 50, "Y")]}
    confusion_s = {
        convention: evaluate_diarization(
            reference, hypothesis, None, collar, False, convention
        ).total.confusion_s
        for convention, collar in (("pyannote", 2.0), ("md-eval", 1.0))
    }
    assert confusion_s == {"pyannote": 0.0, "md-eval": 8.0}


def test_turns_of_one_speaker_at_once() -> None:
    reference = {"m": [Turn(0, 10, "A"), Turn(5, 10, "A")]}
    hypothesis = {"m": [Turn(0, 10, "A")]}
    scores = evaluate_diarization(reference, hypothesis)
    assert (scores.total.total_s, scores.total.missed_s) == (15, 5)
    assert scores.notes == ("turns of the same speaker overlap and count twice, as in pyannote.metrics: m",)
    scores = evaluate_diarization(reference, hypothesis, convention="md-eval")
    assert (scores.total.total_s, scores.total.missed_s, scores.notes) == (10, 0, ())


# --- sums, and recordings on one side -------------------------------------------------------------------

MEETING = [Turn(0, 4, "A"), Turn(4, 6, "B")]


def test_totals_are_of_sums_not_of_ratios() -> None:
    reference = {"long": [Turn(0, 98, "A")], "short": [Turn(0, 2, "A")]}
    hypothesis = {"long": [Turn(0, 98, "X")], "short": []}
    scores = evaluate_diarization(reference, hypothesis)
    assert [counts.der for counts in scores.recordings.values()] == [0, 1]
    assert scores.total.der == 0.02
    assert scores.total.jer == 0.5
    assert (scores.total.reference_speakers, scores.total.hypothesis_speakers) == (2, 1)


COUNTS = st.builds(
    DiarizationCounts, *[st.integers(0, 1000).map(float)] * 7, st.integers(0, 9), st.integers(0, 9)
)


@given(COUNTS, COUNTS, COUNTS)
def test_counts_add_up(a: DiarizationCounts, b: DiarizationCounts, c: DiarizationCounts) -> None:
    assert (a + b) + c == a + (b + c) == sum([c, b, a], start=DiarizationCounts())


def test_recordings_on_one_side_only() -> None:
    scores = evaluate_diarization({"m": MEETING, "gone": [Turn(0, 3, "A")]}, {"more": MEETING, "m": MEETING})
    assert list(scores.recordings) == ["m", "gone"]
    gone = scores.recordings["gone"]
    assert (gone.missed_s, gone.total_s, gone.der, gone.jer) == (3, 3, 1, 1)
    assert scores.total.der == pytest.approx(3 / 9)
    assert scores.notes == (
        "not in the hypothesis, all speech is missed: gone",
        "not in the reference, left out: more",
    )


def test_nothing_in_common_is_an_error_but_silence_is_a_result() -> None:
    with pytest.raises(PixitError, match="no recording in common: the reference has m, the hypothesis other"):
        evaluate_diarization({"m": MEETING}, {"other": MEETING})
    for hypothesis in ({}, {"other": []}, {"m": []}):
        scores = evaluate_diarization({"m": MEETING}, hypothesis)
        assert scores.total.der == 1
        assert scores.notes == (
            () if "m" in hypothesis else ("not in the hypothesis, all speech is missed: m",)
        )
    with pytest.raises(PixitError, match="the reference holds no recordings"):
        evaluate_diarization({}, {"m": MEETING})


def test_recordings_without_reference_speech() -> None:
    scores = evaluate_diarization({"m": [], "n": [], "p": MEETING}, {"m": MEETING, "n": [], "p": MEETING})
    assert [counts.der for counts in scores.recordings.values()] == [1, 0, 0]
    assert scores.total.der == pytest.approx(6 / 6)
    assert scores.notes == ("no reference speech is scored; DER is 100 % with any false alarm, else 0: m, n",)
    cells = scores.table().cells()
    assert cells[1] == ["m", "100.00", "–", "–", "–", "100.00", "0.00", "0", "2"]


def test_what_the_uem_lacks_is_left_out() -> None:
    both = {"m": MEETING, "n": MEETING}
    scores = evaluate_diarization(both, both, {"m.wav": [(0, 5), (3, 5), (9, 9)], "x": [(0, 1)]})
    assert {name: counts.total_s for name, counts in scores.recordings.items()} == {"m": 5}
    assert scores.notes[1] == "not in the UEM, left out: n"
    with pytest.raises(PixitError, match="the UEM holds none of the recordings: it has x, expected m, n"):
        evaluate_diarization(both, both, {"x": [(0, 1)]})
    nothing = evaluate_diarization(both, both, {"m": [], "n": [(50, 60)]})
    assert nothing.total.total_s == 0


def test_only_what_is_annotated_is_scored() -> None:
    both, annotated = {"m": MEETING, "n": MEETING}, {"m": [(0.0, 2.0), (4.0, 5.0)], "n": [(0.0, 6.0)]}
    whole = evaluate_diarization(both, both, annotated=annotated)
    assert [counts.total_s for counts in whole.recordings.values()] == [3, 6]
    assert "scored in the regions of the UEM" in whole.title
    cut = evaluate_diarization(both, both, {"m": [(1.0, 9.0)]}, annotated=annotated)
    assert {name: counts.total_s for name, counts in cut.recordings.items()} == {"m": 2}
    assert cut.notes == ("not in the UEM, left out: n",)


def test_turns_without_length_and_beyond_the_uem_are_no_speakers() -> None:
    reference = {"m": [*MEETING, Turn(1, 1, "C"), Turn(20, 30, "D")]}
    scores = evaluate_diarization(reference, {"m": MEETING}, {"m": [(0, 10)]})
    assert scores.total.reference_speakers == scores.total.hypothesis_speakers == 2
    assert scores.total.der == 0


def test_annotations_and_timelines_are_taken_too() -> None:
    annotation, uem = annotation_of(MEETING), {"m": Timeline([Segment(1, 5)])}
    scores = evaluate_diarization({"m": annotation}, {"m": annotation}, uem)
    assert scores.total.total_s == 4
    assert annotation == annotation_of(MEETING)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"collar": -0.1}, "collar of -0.1 s: expected 0 or more"),
        ({"collar": float("nan")}, "collar of nan s"),
        ({"collar": float("inf")}, "collar of inf s"),
        ({"convention": "nist"}, "unknown convention 'nist'; expected one of pyannote, md-eval"),
    ],
)
def test_wrong_options_are_errors(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PixitError, match=message):
        evaluate_diarization({"m": MEETING}, {"m": MEETING}, **wrong)


# --- command line ---------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", "diarization", *map(str, arguments)])


def rttm(path: Path, recordings: dict[str, list[Turn]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [rttm_line(uri, turn) + "\n" for uri, turns in recordings.items() for turn in turns]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_the_command_line_prints_what_python_returns(tmp_path: Path) -> None:
    reference = rttm(tmp_path / "the ref.rttm", {"m": MEETING, "n": [Turn(0, 3, "A")]})
    rttm(tmp_path / "separated" / "m" / "m.rttm", {"m": [Turn(0, 6, "S"), Turn(1, 2, "T")]})
    rttm(tmp_path / "separated" / "n" / "n.rttm", {})
    (tmp_path / "separated" / "n" / "n.json").write_text("{}")
    uem = tmp_path / "all.uem"
    uem.write_text("m 1 0 7\nn 1 0 7\n")
    arguments = [reference, tmp_path / "separated", "--uem", uem, "--collar", "0.5", "--skip-overlap"]
    outputs = [tmp_path / f"scores{ending}" for ending in (".csv", ".json", ".md", ".txt")]
    done = run(*arguments, "--format", "json", *(a for output in outputs for a in ("-o", output)))
    assert done.exit_code == 0, done.output
    scores = evaluate_diarization(reference, tmp_path / "separated", uem, 0.5, True)
    table = scores.table()
    assert json.loads(done.stdout) == json.loads(table.render("json"))
    formats = ("csv", "json", "markdown", "text")
    assert [output.read_text() for output in outputs] == [table.render(format) for format in formats]
    assert done.stderr == ""
    assert "overlap skipped" in table.title
    assert run(*arguments).stdout == table.render()
    each_side = run(*arguments[:-2], "0.25", "--collar-convention", "md-eval", "--format", "csv")
    expected = evaluate_diarization(reference, tmp_path / "separated", uem, 0.25, convention="md-eval")
    assert each_side.stdout == expected.table().render("csv")


def test_without_uem_the_title_says_what_is_scored(tmp_path: Path) -> None:
    path = rttm(tmp_path / "m.rttm", {"m": MEETING})
    done = run(path, path)
    assert "no UEM: scored from the first to the last turn of reference and hypothesis" in done.stdout
    assert done.stdout.splitlines()[-1].split()[:6] == ["TOTAL", *["0.00"] * 5]


def test_warnings_are_lines_of_their_own(tmp_path: Path) -> None:
    reference = rttm(tmp_path / "ref.rttm", {"m": MEETING, "n": MEETING})
    hypothesis = rttm(tmp_path / "hyp.rttm", {"m": MEETING, "x": MEETING})
    done = run(reference, hypothesis, "--format", "csv")
    assert done.exit_code == 0
    assert done.stdout.startswith("recording,der_percent,")
    assert done.stderr.splitlines() == [
        "pixit: warning: not in the hypothesis, all speech is missed: n",
        "pixit: warning: not in the reference, left out: x",
    ]


def test_wrong_input_is_told_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    good = rttm(tmp_path / "good.rttm", {"m": MEETING})
    bad = tmp_path / "scores.txt"
    bad.write_text("recording DER\n")
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out.csv"
    cases = {
        ("missing.rttm", good): "missing.rttm: cannot be read as an RTTM file",
        (good, bad): "scores.txt:1: expected 'SPEAKER",
        (good, tmp_path / "empty"): "holds no .rttm files",
        (good, good, "--uem", bad): "scores.txt:1: expected 'uri 1 start end'",
        (good, good, "--collar", "-1"): "expected 0 or more seconds",
        (good, good, "-o", tmp_path / "x.pdf"): "unknown kind of table",
        (good, "--database", tmp_path / "no.yml"): "no.yml: no such file",
    }
    for arguments, message in cases.items():
        done = run(*arguments, "-o", output)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert message in done.stderr, arguments
        assert done.stderr.count("\n") == 1, arguments
    for paths in ([], [good], [good, good, good], [good, good, "--protocol", "X"]):
        done = run(*paths, "-o", output)
        assert done.exit_code == 2, paths
        assert "expected" in done.stderr, paths
    assert not output.exists()


def test_a_protocol_gives_reference_and_uem(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for uri in ("m.1", "quiet"):
        soundfile.write(tmp_path / f"{uri}.wav", np.zeros(8000 * 7, np.float32), 8000)
    rttm(tmp_path / "test.rttm", {"m.1": [Turn(0, 4, "A"), Turn(4, 6.5, "B")]})
    (tmp_path / "test.uem").write_text("m.1 1 1 6\nquiet 1 0 7\n")
    (tmp_path / "test.lst").write_text("m.1\nquiet\n")
    (tmp_path / "database.yml").write_text(
        "Databases:\n  D: ./{uri}.wav\nProtocols:\n  D:\n    SpeakerDiarization:\n      P:\n        scope: file\n"
        "        test:\n          uri: test.lst\n          annotation: test.rttm\n          annotated: test.uem\n"
    )
    rttm(tmp_path / "separated" / "m.1" / "m.1.rttm", {"m.1": [Turn(0, 7, "S")]})
    rttm(tmp_path / "separated" / "quiet" / "quiet.rttm", {"quiet": [Turn(0, 1, "S")]})
    database = ["--database", tmp_path / "database.yml", "--protocol", "D.SpeakerDiarization.P"]
    done = run(tmp_path / "separated", *database, "--format", "json")
    assert done.exit_code == 0, done.output
    first, quiet, total = json.loads(done.stdout)["rows"]
    assert (first["total_s"], first["correct_s"], first["confusion_s"], first["missed_s"]) == (5, 3, 2, 0)
    assert (quiet["der_percent"], quiet["false_alarm_percent"], quiet["false_alarm_s"]) == (100, None, 1)
    assert total["der_percent"] == 60
    (tmp_path / "other.uem").write_text("m.1 1 0 2\n")
    done = run(tmp_path / "separated", *database, "--uem", tmp_path / "other.uem", "--format", "csv")
    assert done.stdout.splitlines()[-1].startswith("TOTAL,0.0,0.0,0.0,0.0,0.0,1.0,")  # from 1 s to 2 s
    assert done.stderr == "pixit: warning: not in the UEM, left out: quiet\n"


@pytest.mark.real
def test_the_clips_of_ami_as_protocol(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyannote.database")
    clips = shared_data / "ami" / "clips"
    done = run(
        *(clips / "development.rttm", "--database", shared_data / "ami" / "database.yml"),
        *("--subset", "development", "--format", "csv"),
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("TOTAL,0.0,0.0,0.0,0.0,0.0,")


def test_what_the_uem_has_alone_is_told() -> None:
    turns = {"a": [Turn(0, 1, "x")]}
    scores = evaluate_diarization(turns, turns, {"a": [(0.0, 1.0)], "other": [(0.0, 1.0)]})
    assert any("in the UEM alone, left out: other" in note for note in scores.notes)
