"""Word error rates equal those of MeetEval and jiwer, sums are of counts, and no session slips through."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.cli import cli
from pixit.evaluation.transcript import TranscriptScores, alignment_page, evaluate_transcript
from pixit.evaluation.word_errors import METRICS, ErrorCounts
from pixit.formats.transcripts import read_transcript, write_transcript
from pixit.formats.utterances import Utterance
from pixit.types import PixitError

meeteval_wer = pytest.importorskip("meeteval.wer")
ALL = tuple(METRICS)


def meeteval_directly(metric: str, reference: Path, hypothesis: Path, collar: str = "5") -> dict[str, Any]:
    """Session -> what MeetEval makes of the files, as its command line does."""
    function = {"greedy-orcwer": meeteval_wer.api.greedy_orcwer}.get(metric) or getattr(meeteval_wer, metric)
    collars = {"collar": Decimal(collar)} if metric.startswith("tc") else {}
    return dict(function([reference], [hypothesis], **collars))


def counts_of(rate: Any) -> ErrorCounts:
    return ErrorCounts(rate.substitutions, rate.deletions, rate.insertions, rate.length)


def said(session: str, speaker: str, start_s: float, words: str, length_s: float = 1.0) -> Utterance:
    return Utterance(session, speaker, start_s, start_s + length_s, words)


MEETING = [said("m", "A", 0, "a b c"), said("m", "B", 1, "d e"), said("m", "A", 2.5, "f")]


# --- equal to MeetEval ----------------------------------------------------------------------------------

TICKS = st.integers(0, 300)


@st.composite
def sides(draw: st.DrawFn) -> tuple[list[Utterance], list[Utterance]]:
    """Two sessions on both sides, utterances out of order, overlapping, empty and of no length."""

    def side(names: str) -> list[Utterance]:
        utterances = []
        for session in ("x", "y"):
            for _ in range(draw(st.integers(1, 5))):
                start, end = sorted((draw(TICKS), draw(TICKS)))
                words = draw(st.lists(st.sampled_from("abc"), max_size=4))
                speaker = draw(st.sampled_from(names))
                utterances.append(Utterance(session, speaker, start / 10, end / 10, " ".join(words)))
        return utterances

    return side("AB"), side("123")


@settings(max_examples=60, deadline=None)
@given(pair=sides(), collar=st.sampled_from(["0.1", "1", "5"]))
def test_every_metric_equals_meeteval_on_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[list[Utterance], list[Utterance]], collar: str
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    reference, hypothesis = folder / "ref.stm", folder / "hyp.stm"
    write_transcript(reference, pair[0])
    write_transcript(hypothesis, pair[1])
    scores = evaluate_transcript(reference, hypothesis, ALL, float(collar), normalizer="none")
    for metric in ALL:
        if metric == "wer":  # MeetEval's takes one utterance a session: below
            continue
        theirs = meeteval_directly(metric, reference, hypothesis, collar)
        assert {s.session: s.counts for s in scores.sessions[metric]} == {
            session: counts_of(rate) for session, rate in theirs.items()
        }
        assert scores.total(metric) == counts_of(meeteval_wer.combine_error_rates(theirs))
        for score in scores.sessions[metric]:
            if metric in ("cpwer", "tcpwer"):
                pairs = {(p.speaker, p.stream) for p in score.speakers}
                assert pairs == set(theirs[score.session].assignment)
                assert sum((p.counts for p in score.speakers), ErrorCounts()) == score.counts
            else:
                assert score.speakers == ()


@settings(max_examples=40, deadline=None)
@given(pair=sides().filter(lambda pair: any(u.words and u.session == "x" for u in pair[0])))
def test_wer_equals_meeteval_and_jiwer_on_all_words_in_order_of_time(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[list[Utterance], list[Utterance]]
) -> None:
    jiwer = pytest.importorskip("jiwer")
    folder = tmp_path_factory.mktemp("wer")
    texts = []
    for name, side in zip(("ref", "hyp"), pair, strict=True):
        utterances = sorted((u for u in side if u.session == "x"), key=lambda u: u.start_s)
        texts.append(" ".join(" ".join(u.words for u in utterances).split()))
        write_transcript(folder / f"{name}.stm", [Utterance("x", "all", 0.0, 1.0, texts[-1])])
    scores = evaluate_transcript(*pair, ["wer"], normalizer="none")
    counts = scores.sessions["wer"][0].counts
    assert counts is not None
    output = jiwer.process_words(*texts)
    assert counts.errors == output.substitutions + output.deletions + output.insertions
    assert counts.error_rate == pytest.approx(output.wer)
    assert counts == counts_of(meeteval_wer.sisower([folder / "ref.stm"], [folder / "hyp.stm"])["x"])


def test_ctm_of_each_speaker_equals_meeteval(tmp_path: Path) -> None:
    lines = {"one": [(0.0, "a"), (0.4, "b"), (2.5, "f")], "two": [(1.0, "d"), (1.5, "x")]}
    for speaker, words in lines.items():
        text = "".join(f"m 1 {start} 0.2 {word}\n" for start, word in words)
        (tmp_path / f"{speaker}.ctm").write_text(text, encoding="utf-8")
    write_transcript(tmp_path.parent / "ref_of_ctm.stm", MEETING)
    scores = evaluate_transcript(tmp_path.parent / "ref_of_ctm.stm", tmp_path, ["cpwer"], normalizer="none")
    theirs = meeteval_wer.cpwer([tmp_path.parent / "ref_of_ctm.stm"], sorted(tmp_path.glob("*.ctm")))["m"]
    (score,) = scores.sessions["cpwer"]
    assert score.counts == counts_of(theirs) == ErrorCounts(1, 1, 0, 6)
    assert [(p.speaker, p.stream) for p in score.speakers] == [("A", "one"), ("B", "two")]


# --- what each metric charges ---------------------------------------------------------------------------


def test_words_of_a_stream_without_speaker_are_insertions() -> None:
    hypothesis = [*MEETING, said("m", "C", 1, "x y")]
    scores = evaluate_transcript(MEETING, hypothesis, ALL, normalizer="none")
    for metric in ALL:
        assert scores.total(metric) == ErrorCounts(0, 0, 2, 6)
    assert scores.sessions["cpwer"][0].speakers[-1].speaker is None
    assert scores.sessions["cpwer"][0].speakers[-1].stream == "C"


def test_the_collar_is_in_seconds_and_only_of_timed_metrics() -> None:
    late = [said("m", u.speaker, u.start_s + 10, u.words) for u in MEETING]
    for collar_s, errors in ((20.0, 0), (0.5, 12)):
        scores = evaluate_transcript(MEETING, late, ["cpwer", "tcpwer"], collar_s, normalizer="none")
        totals = [scores.total(metric) for metric in ("cpwer", "tcpwer")]
        assert [total.errors for total in totals if total] == [0, errors]


def test_totals_are_of_counts_not_of_rates() -> None:
    reference = [said("long", "A", 0, "a " * 98), said("short", "A", 0, "a b")]
    hypothesis = [said("long", "A", 0, "a " * 98), said("short", "A", 0, "c d")]
    total = evaluate_transcript(reference, hypothesis, normalizer="none").total("cpwer")
    assert total is not None
    assert total.error_rate == 0.02


def test_sessions_on_one_side_only() -> None:
    reference = [*MEETING, said("gone", "A", 0, "p q")]
    hypothesis = [*MEETING, said("more", "A", 0, "r s t")]
    scores = evaluate_transcript(reference, hypothesis, ALL, normalizer="none")
    for metric in ALL:
        assert [s.session for s in scores.sessions[metric]] == ["gone", "m"]
        assert scores.total(metric) == ErrorCounts(0, 2, 0, 8)
    assert scores.notes == (
        "not in the hypothesis, all words are deletions: gone",
        "not in the reference, left out: more",
    )
    with pytest.raises(PixitError, match="no session in common: the reference has m, the hypothesis other"):
        evaluate_transcript(MEETING, [said("other", "A", 0, "a")], normalizer="none")


def test_nothing_recognised_is_all_deletions_and_nothing_said_has_no_rate(tmp_path: Path) -> None:
    for hypothesis in ([], [said("m", "1", 0, "")]):
        scores = evaluate_transcript(MEETING, hypothesis, ALL, normalizer="none")
        assert {scores.total(metric) for metric in ALL} == {ErrorCounts(0, 6, 0, 6)}
    silent = [said("m", "A", 0, "", length_s=0.0)]
    for hypothesis, errors in (([], 0), (MEETING, 6)):
        scores = evaluate_transcript(silent, hypothesis, ALL, normalizer="none")
        for metric in ALL:
            assert scores.total(metric) == ErrorCounts(0, 0, errors, 0)
        assert scores.table().cells()[-1][4] == "–"
    (tmp_path / "empty.stm").touch()
    with pytest.raises(PixitError, match=r"empty\.stm: holds no utterances"):
        evaluate_transcript(tmp_path / "empty.stm", MEETING)


def test_what_cannot_be_computed_is_told_and_not_summed() -> None:
    words = "a b c d e f g h " * 60
    large = [said("large", name, 0, words) for name in "ABCD"]
    scores = evaluate_transcript(
        [*MEETING, *large], [*MEETING, *large], ["orcwer", "mimower"], normalizer="none"
    )
    for metric in ("orcwer", "mimower"):
        assert [s.counts for s in scores.sessions[metric]] == [None, ErrorCounts(0, 0, 0, 6)]
        assert scores.total(metric) is None
    assert [note.split(":")[0] for note in scores.notes] == ["no ORC-WER of large", "no MIMO-WER of large"]
    crowd = [said("m", f"{number}", number, "a") for number in range(21)]
    scores = evaluate_transcript(crowd, crowd, ["cpwer"], normalizer="none")
    assert scores.total("cpwer") is None
    assert "more than 20 speakers" in scores.notes[0]


def test_order_without_times_is_that_of_the_file() -> None:
    untimed = [Utterance("m", u.speaker, math.nan, math.nan, u.words) for u in MEETING]
    scores = evaluate_transcript(untimed, MEETING, ["cpwer", "orcwer"], normalizer="none")
    assert scores.total("cpwer") == scores.total("orcwer") == ErrorCounts(0, 0, 0, 6)
    with pytest.raises(PixitError, match=r"the reference: .* without times; tcpwer, tcorcwer need them"):
        evaluate_transcript(untimed, MEETING, ["tcpwer"], normalizer="none")


# --- normalisation --------------------------------------------------------------------------------------


def test_whispers_normaliser_goes_over_both_texts() -> None:
    pytest.importorskip("whisper")
    reference = [said("m", "A", 0, "Um, it's twenty-one COLOURS."), said("m", "B", 2, "[laughs] Mhm.")]
    hypothesis = [said("m", "1", 0, "it is 21 colors")]
    scores = evaluate_transcript(reference, hypothesis)
    assert scores.normalizer == "whisper-english"
    assert scores.total("cpwer") == ErrorCounts(0, 0, 0, 4)
    assert [p.speaker for p in scores.sessions["cpwer"][0].speakers] == ["A", "B"]  # B lost all words
    raw = evaluate_transcript(reference, hypothesis, normalizer="none").total("cpwer")
    assert raw is not None
    assert raw.errors > 0


def test_any_function_is_a_normaliser() -> None:
    hypothesis = [said("m", u.speaker, u.start_s, u.words.upper()) for u in MEETING]
    assert evaluate_transcript(MEETING, hypothesis, normalizer=str.lower).total("cpwer") == ErrorCounts(
        length=6
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metrics": ["der"]}, r"unknown metrics \['der'\]"),
        ({"metrics": []}, "expected one or more"),
        ({"collar_s": -1.0}, "collar of -1.0 s"),
        ({"collar_s": math.nan}, "collar"),
        ({"normalizer": "klingon"}, "unknown text normaliser 'klingon'"),
    ],
)
def test_wrong_settings_are_errors(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PixitError, match=message):
        evaluate_transcript(MEETING, MEETING, **{"normalizer": "none", **wrong})


# --- command line ---------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", "transcript", *map(str, arguments)])


def test_the_command_line_prints_what_python_returns(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.stm", tmp_path / "hyp.json"
    write_transcript(reference, MEETING)
    write_transcript(hypothesis, [*MEETING[:2], said("m", "C", 9, "x"), said("new", "C", 0, "y")])
    arguments = [reference, hypothesis, "--metric", "cpwer", "--metric", "tcpwer", "--collar", 1]
    done = run(*arguments, "--normalizer", "none", "--format", "json", "--output", tmp_path / "scores.csv")
    assert done.exit_code == 0, done.output
    assert done.stderr == "pixit: warning: not in the reference, left out: new\n"
    printed = json.loads(done.stdout)
    scores = evaluate_transcript(reference, hypothesis, ["cpwer", "tcpwer"], 1.0, "none")
    assert printed == json.loads(scores.table().render("json"))
    assert printed["title"] == "Word error rates in %; text normaliser: none; collar of tcpWER: 1 s"
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8") == scores.table().render("csv")
    rows = {(row["metric"], row["session"], row["speaker"], row["stream"]) for row in printed["rows"]}
    assert {("cpWER", "m", None, None), ("cpWER", "m", None, "C"), ("tcpWER", "TOTAL", None, None)} <= rows
    short = run(*arguments, "--normalizer", "none", "--no-per-speaker", "--format", "csv").stdout.splitlines()
    assert short[1] == "m,cpWER,,,33.33333333333333,2,0,1,1,6"


def test_defaults_of_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("whisper")
    write_transcript(tmp_path / "m.srt", MEETING)
    done = run(tmp_path / "m.srt", tmp_path / "m.srt")
    assert done.exit_code == 0, done.output
    assert "text normaliser: whisper-english" in done.stdout
    assert {line.split()[1] for line in done.stdout.splitlines()[4:]} == {"cpWER"}


def test_wrong_input_is_one_line_and_status_2(tmp_path: Path) -> None:
    good = tmp_path / "ref.stm"
    write_transcript(good, MEETING)
    (tmp_path / "bad.stm").write_text("m 1 A x\n", encoding="utf-8")
    for arguments, message in (
        ((good, tmp_path / "bad.stm"), "bad.stm:1"),
        ((good, tmp_path / "none.stm"), "none.stm"),
        ((good, good, "--output", tmp_path / "x.pdf"), "unknown kind of table"),
        ((good, good, "--html", good / "x.html"), "cannot be written"),
        ((good, good, "--collar", "-1"), "collar"),
    ):
        done = run(*arguments, "--normalizer", "none")
        assert done.exit_code == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert run(good, good, "--metric", "bleu").exit_code == 2


# --- the page of aligned words --------------------------------------------------------------------------


def test_the_page_carries_all_it_needs(tmp_path: Path) -> None:
    pytest.importorskip("meeteval.viz")
    evil = [said("</script><b>", "A", 0, "</script> a"), *MEETING]
    page = alignment_page(evil, MEETING, "none")
    assert "</script> a" not in page
    assert "<option>&lt;/script&gt;&lt;b&gt;</option><option>m</option>" in page
    for loads in ('<script src="', '<link rel="stylesheet"', "cdn.jsdelivr.net"):
        assert loads not in page
    assert "d3js.org v7" in page
    with pytest.raises(PixitError, match="no session to show"):
        alignment_page([said("m", "A", 0, "")], [], "none")
    write_transcript(tmp_path / "m.stm", MEETING)
    arguments = [
        tmp_path / "m.stm",
        tmp_path / "m.stm",
        "--normalizer",
        "none",
        "--html",
        tmp_path / "page.html",
    ]
    done = CliRunner().invoke(cli, ["evaluate", "transcript", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_page_opens_in_a_browser_without_network(tmp_path: Path) -> None:
    pytest.importorskip("meeteval.viz")
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.is_file():
        pytest.skip("no chromium")
    page_file = tmp_path / "page.html"
    other = [said("n </script>", "A", 0, "</script> a")]
    page_file.write_text(alignment_page([*MEETING, *other], MEETING[:2], "none"), encoding="utf-8")
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page()
        page.context.set_offline(True)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(page_file.as_uri())
        page.wait_for_selector("#view canvas")
        assert "16.67%" in page.inner_text("#view")
        page.select_option("#session", "n </script>")
        page.wait_for_function("document.querySelector('#view').innerText.includes('100.00%')")
        browser.close()
    assert complaints == []


# --- real transcripts -----------------------------------------------------------------------------------


@pytest.mark.real
def test_a_damaged_real_transcript_equals_meeteval(shared_data: Path, tmp_path: Path) -> None:
    reference = shared_data / "telephone" / "sample.stm"
    rng = random.Random(0)
    damaged = []
    for utterance in read_transcript(reference):
        kept = [word for word in utterance.words.split() if rng.random() > 0.2]
        speaker = utterance.speaker if rng.random() > 0.2 else "third"
        damaged.append(said("sample", speaker, utterance.start_s + rng.random(), " ".join(kept)))
    write_transcript(tmp_path / "hyp.stm", damaged)
    metrics = [metric for metric in ALL if metric != "wer"]
    scores: TranscriptScores = evaluate_transcript(
        reference, tmp_path / "hyp.stm", metrics, normalizer="none"
    )
    for metric in metrics:
        theirs = meeteval_directly(metric, reference, tmp_path / "hyp.stm")["sample"]
        assert scores.total(metric) == counts_of(theirs)
        assert theirs.errors > 5


def test_the_page_finds_sessions_as_the_table_does() -> None:
    pytest.importorskip("meeteval.viz")
    mixed = [replace(one, session="m.Mix-Headset") for one in MEETING]
    assert alignment_page(MEETING, mixed, "none") == alignment_page(MEETING, MEETING, "none")
