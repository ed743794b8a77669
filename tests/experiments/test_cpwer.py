from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from pixit.audio import Samples
from pixit.cli import cli
from pixit.evaluation.word_errors import ErrorCounts
from pixit.experiments.comparison import bootstrap_difference, compare_attributions
from pixit.experiments.cpwer import load_sessions, run_cpwer, select_references
from pixit.formats.transcripts import write_transcript
from pixit.formats.utterances import Utterance
from pixit.ownership import claim
from pixit.pipeline.separate import Separator
from pixit.transcription.transcribe import Transcriber
from pixit.types import PixitError

REPOSITORY = Path(__file__).resolve().parents[2]


def counted(errors: int, length: int) -> ErrorCounts:
    return ErrorCounts(substitutions=errors, length=length)


def says(session: str, speaker: str, words: str, start_s: float = 0.0) -> Utterance:
    return Utterance(session, speaker, start_s, start_s + 1, words)


# --- the bootstrap --------------------------------------------------------------------------------------

sessions = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60)), min_size=2, max_size=9
)


@given(sessions)
@settings(deadline=None, max_examples=30)
def test_the_interval_holds_the_difference_and_knows_its_sign(drawn: list[tuple[int, int, int]]) -> None:
    first = [counted(one, length) for one, _, length in drawn]
    second = [counted(other, length) for _, other, length in drawn]
    found = bootstrap_difference(first, second)
    assert found is not None
    assert found.interval is not None
    total = sum(length for *_, length in drawn)
    assert found.points == pytest.approx(100 * sum(one - other for one, other, _ in drawn) / total)
    each = [100 * (one - other) / length for one, other, length in drawn]
    low, high = found.interval
    assert min(each) - 1e-9 <= low <= high <= max(each) + 1e-9
    swapped = bootstrap_difference(second, first)
    assert swapped is not None
    assert swapped.interval == pytest.approx((-high, -low), abs=1e-9)


def test_the_interval_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(3)
    one, other, length = rng.integers(0, 40, 12), rng.integers(0, 40, 12), rng.integers(30, 60, 12)
    found = bootstrap_difference(
        [counted(int(e), int(n)) for e, n in zip(one, length, strict=True)],
        [counted(int(e), int(n)) for e, n in zip(other, length, strict=True)],
    )
    expected = bootstrap(
        (one, other, length),
        lambda a, b, n, axis=-1: 100 * (a.sum(axis) - b.sum(axis)) / n.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found is not None
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1.0)


def test_the_seed_decides() -> None:
    first, second = (
        [counted(3, 10), counted(5, 11), counted(0, 7)],
        [counted(4, 10), counted(1, 11), counted(3, 7)],
    )
    assert bootstrap_difference(first, second, 1) == bootstrap_difference(first, second, 1)


def test_where_there_is_no_interval() -> None:
    single = bootstrap_difference([counted(1, 10)], [counted(3, 10)])
    assert single is not None
    assert (single.points, single.interval) == (-20.0, None)
    assert bootstrap_difference([counted(1, 0)], [counted(3, 0)]) is None
    assert bootstrap_difference([None, counted(1, 2)], [counted(3, 1), counted(1, 2)]) is None
    empty_session = bootstrap_difference([counted(2, 0), counted(1, 10)], [counted(0, 0), counted(3, 10)])
    assert empty_session is not None
    assert np.isfinite(empty_session.interval).all()


# --- the comparison -------------------------------------------------------------------------------------


def test_cpwer_is_that_of_meeteval() -> None:
    from meeteval.wer import cp_word_error_rate

    reference = [says("s", "ann", "the cat sat"), says("s", "bob", "on the mat", 1)]
    found = [says("s", "1", "on a mat"), says("s", "0", "the cat sat down"), says("s", "2", "what", 2)]
    expected = cp_word_error_rate(
        {"ann": "the cat sat", "bob": "on the mat"}, {"1": "on a mat", "0": "the cat sat down", "2": "what"}
    )
    comparison = compare_attributions(reference, {"separation": found}, "none")
    total = comparison.scores["separation"].total("cpwer")
    assert total is not None
    assert (total.errors, total.length) == (expected.errors, expected.length)
    assert (total.substitutions, total.deletions, total.insertions) == (1, 0, 2), "all streams are charged"
    assert comparison.difference is None
    assert "difference" not in comparison.table().render("csv")


def test_the_table_shows_both_side_by_side() -> None:
    reference = [says("a", "x", "one two"), says("b", "x", "three four")]
    separation = [says("a", "0", "one two"), says("c", "0", "from another recording")]
    diarization = [says("a", "0", "one six"), says("b", "0", "three four five")]
    comparison = compare_attributions(
        reference, {"separation": separation, "diarization": diarization}, "none"
    )
    rows = json.loads(comparison.table().render("json"))["rows"]
    assert [row["session"] for row in rows] == ["a", "b", "TOTAL"]
    assert [row["separation_percent"] for row in rows] == [0, 100, 50]
    assert [row["diarization_percent"] for row in rows] == [50, 50, 50]
    assert [row["difference"] for row in rows] == [-50, 50, 0]
    assert rows[-1]["separation_deletions"] == 2
    assert (rows[-1]["diarization_substitutions"], rows[-1]["diarization_insertions"]) == (1, 1)
    assert (rows[-1]["difference_low"], rows[-1]["difference_high"]) == (-50, 50)
    assert any(
        note.startswith("separation: not in the hypothesis") and note.endswith("b")
        for note in comparison.notes
    )
    assert "95% bootstrap interval over 2 sessions" in comparison.table().title


def test_nobody_was_heard() -> None:
    comparison = compare_attributions(
        [says("a", "x", "one two")], {"separation": [], "diarization": []}, "none"
    )
    assert comparison.difference is not None
    assert comparison.difference.points == 0


def test_references_are_restricted_to_what_is_annotated() -> None:
    given_all = [
        says("a", "x", "early", 0),
        says("a", "y", "late", 7),
        says("b", "x", "all", 3),
        says("c", "x", "no"),
    ]
    kept, _ = select_references(given_all, ["b", "a"], {"a": [(0.0, 0.4), (7.5, 9.0)]})
    assert [u.words for u in kept] == ["all", "late"], "an utterance is where its middle is"
    (silent,), _ = select_references(given_all, ["a"], {"a": [(20.0, 30.0)]})
    assert (silent.session, silent.words) == ("a", "")
    with pytest.raises(PixitError, match="no session d"):
        select_references(given_all, ["a", "d"], {})
    timeless = [Utterance("a", "x", float("nan"), float("nan"), "words")]
    assert select_references(timeless, ["a"], {}) == (timeless, [])
    with pytest.raises(PixitError, match="no times"):
        select_references(timeless, ["a"], {"a": [(0, 1)]})


# --- the experiment -------------------------------------------------------------------------------------


class Echo:
    """Hears a word wherever it is asked, and counts."""

    heard = 0

    def __call__(self, samples: Samples, sample_rate_hz: int) -> str:
        type(self).heard += 1
        return "word"


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "meeting.flac"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings of 6 s, one of them annotated in part, and their references."""
    speech, rate_hz = soundfile.read(EXAMPLE)
    for name, start_s in (("one", 15), ("two", 4)):
        soundfile.write(tmp_path / f"{name}.wav", speech[start_s * rate_hz :][: 6 * rate_hz], rate_hz)
        lines = f"SPEAKER {name} 1 0.0 3.0 <NA> <NA> ann <NA> <NA>\n"
        with (tmp_path / "all.rttm").open("a") as file:
            file.write(lines)
    (tmp_path / "all.lst").write_text("one\ntwo\n")
    (tmp_path / "all.uem").write_text("one 1 0.0 3.0\ntwo 1 0.0 6.0\n")
    (tmp_path / "database.yml").write_text(
        "Databases: {Tiny: '{uri}.wav'}\n"
        "Protocols: {Tiny: {SpeakerDiarization: {p: {scope: file, "
        "test: {uri: all.lst, annotation: all.rttm, annotated: all.uem}}}}}\n"
    )
    write_transcript(
        tmp_path / "ref.stm",
        [says("one", "ann", "word"), says("one", "ann", "late", 5), says("two", "x", "word")],
    )
    Echo.heard = 0
    monkeypatch.setattr("pixit.transcription.recognizers.load_recognizer", lambda *_: Echo())
    return tmp_path


def run_cpwer_command(folder: Path, *arguments: object) -> Result:
    given = [
        "--database",
        folder / "database.yml",
        "--references",
        folder / "ref.stm",
        "--work",
        folder / "work",
    ]
    command = ["evaluate", "cpwer", *given, *arguments]
    return CliRunner().invoke(cli, list(map(str, command)), catch_exceptions=False)


def test_the_experiment_end_to_end(corpus: Path) -> None:
    table = corpus / "table.json"
    done = run_cpwer_command(corpus, "-o", table, "--normalizer", "none")
    assert done.exit_code == 0, done.output
    rows = json.loads(table.read_text())["rows"]
    assert [row["session"] for row in rows] == ["one", "two", "TOTAL"]
    assert [row["length"] for row in rows] == [1, 1, 2], "what is not annotated does not count"
    assert "difference: separation − diarization" in done.output
    for attribution in ("separation", "diarization"):
        assert (corpus / "work" / attribution / "one.seglst.json").exists()
        transcript = json.loads((corpus / "work" / attribution / "one.seglst.json").read_text())
        assert all(segment["end_time"] <= 3.0 for segment in transcript)

    heard, tracks = Echo.heard, corpus / "work" / "separated" / "one" / "one.json"
    written = tracks.stat().st_mtime_ns
    again = run_cpwer_command(corpus, "--quiet", "--attribution", "separation", "--format", "csv")
    assert again.exit_code == 0
    assert again.output.splitlines()[0].startswith("session,length,separation_percent")
    assert (Echo.heard, tracks.stat().st_mtime_ns) == (heard, written), "nothing is done twice"

    other = run_cpwer_command(corpus, "--num-speakers", 1)
    assert other.exit_code == 2
    assert "other settings (num_speakers: None, asked for 1)" in other.output
    other = run_cpwer_command(corpus, "--set", "transcription.padding_s=0.5")
    assert other.exit_code == 2
    assert "something else (transcription)" in other.output


def test_the_experiment_from_python(corpus: Path) -> None:
    sessions = load_sessions(corpus / "ref.stm", corpus / "database.yml")
    separator, lines = Separator.from_pretrained(device="cpu", settings={"step_s": 5.0}), []
    settings = ["separation.step_s=5.0"]
    given = sessions, separator, Transcriber(Echo()), corpus / "work"
    comparison = run_cpwer(*given, normalizer="none", tell=lines.append)
    heard = Echo.heard
    assert [line.split(": ")[0] for line in lines] == ["one"] * 3 + ["two"] * 3
    assert run_cpwer(*given, normalizer="none") == comparison
    assert Echo.heard == heard, "nothing is done twice"
    done = run_cpwer_command(
        corpus, "--normalizer", "none", "--format", "json", "--quiet", "--set", *settings
    )
    assert json.loads(done.output)["rows"] == comparison.table().values()
    assert Echo.heard == heard, "the command does the same"


def test_a_recording_left_to_another_process_is_paired_with_its_own_result(corpus: Path) -> None:
    """It comes last, whatever its place among the recordings."""
    sessions = load_sessions(corpus / "ref.stm", corpus / "database.yml")
    separator = Separator.from_pretrained(device="cpu", settings={"step_s": 5.0})
    target = corpus / "work" / "separated" / "one"
    target.parent.mkdir(parents=True)
    lines: list[str] = []
    with ExitStack() as elsewhere:
        assert elsewhere.enter_context(claim(target))

        def tell(line: str) -> None:
            lines.append(line)
            elsewhere.close()  # the other process is done

        run_cpwer(sessions, separator, Transcriber(Echo()), corpus / "work", normalizer="none", tell=tell)
    assert [line.split(": ")[0] for line in lines] == ["two"] * 3 + ["one"] * 3
    for attribution in ("separation", "diarization"):
        (transcript,) = (corpus / "work" / attribution).glob("one*.json")
        assert {segment["session_id"] for segment in json.loads(transcript.read_text())} == {"one"}


def test_mistakes_are_told_before_the_work(corpus: Path) -> None:
    write_transcript(corpus / "few.stm", [says("one", "ann", "word")])
    wrong = [
        (["--references", corpus / "few.stm"], "no session two"),
        (["--references", corpus / "none.stm"], "none.stm"),
        (["--subset", "train"], "train"),
        (["--set", "transcription.pading_s=1"], "did you mean"),
        (["-o", corpus / "table.pdf"], "table.pdf"),
        (["--model", corpus / "nothing"], "nothing"),
    ]
    for arguments, message in wrong:
        done = run_cpwer_command(corpus, *arguments)
        assert done.exit_code == 2, arguments
        assert message in done.output
        assert done.output.strip().count("\n") == 0
    assert not (corpus / "work").exists()


def test_the_script_is_the_command() -> None:
    command = [sys.executable, "scripts/eval_cpwer.py", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    assert "--references" in done.stdout
