from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from pixit.cli import cli
from pixit.data.check import DatabaseReport, check_database
from pixit.types import PixitError

pytest.importorskip("pyannote.database")

NAME = "Small.SpeakerDiarization.words"
YML = """
Databases:
  Small: audio/{uri}.wav
Protocols:
  Small:
    SpeakerDiarization:
      words:
        scope: database
        train: {uri: train.lst, annotation: "rttm/{uri}.rttm", annotated: "uem/{uri}.uem"}
        test: {uri: test.lst, annotation: "rttm/{uri}.rttm", annotated: "uem/{uri}.uem"}
"""
RATE_HZ = 8000
DURATION_S = 6


def rttm(uri: str, *turns: tuple[float, float, str]) -> str:
    return "".join(
        f"SPEAKER {uri} 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n" for start, length, who in turns
    )


def write_audio(
    path: Path, duration_s: float = DURATION_S, rate_hz: int = RATE_HZ, channels: int = 1
) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((round(duration_s * rate_hz), channels)), rate_hz)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sound database: three recordings of 6 s to train on, one to test on."""
    for name in ("audio", "rttm", "uem"):
        (tmp_path / name).mkdir()
    (tmp_path / "database.yml").write_text(YML)
    for uri in ("one", "two", "three", "four"):
        write_audio(tmp_path / "audio" / f"{uri}.wav")
        (tmp_path / "rttm" / f"{uri}.rttm").write_text(
            rttm(uri, (1.0, 2.0, f"{uri}-a"), (2.0, 3.0, f"{uri}-b"))
        )
        (tmp_path / "uem" / f"{uri}.uem").write_text(f"{uri} 1 0.000 6.000\n")
    (tmp_path / "train.lst").write_text("one\ntwo\nthree\n")
    (tmp_path / "test.lst").write_text("four\n")
    return tmp_path


def check(folder: Path, **options: object) -> DatabaseReport:
    return check_database(folder / "database.yml", **options)  # type: ignore[arg-type]


def findings_of(report: DatabaseReport) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.subset, finding.uri) for finding in report.findings]


def test_a_sound_database(small: Path) -> None:
    report = check(small)
    assert report.findings == []
    train, test = report.subsets
    assert (train.protocol, train.subset, train.num_files, len(train.speakers)) == (NAME, "train", 3, 6)
    assert (train.audio_s, train.annotated_s, train.speech_s, train.overlap_s) == pytest.approx(
        (18, 18, 12, 3)
    )
    assert (test.num_files, test.speech_s, test.speakers) == (1, pytest.approx(4), {"four-a", "four-b"})


def test_all_is_found_at_once(small: Path) -> None:
    """One mistake in each recording, and one more that no earlier one may hide."""
    (small / "audio" / "one.wav").unlink()
    (small / "rttm" / "two.rttm").write_text("")
    (small / "rttm" / "three.rttm").unlink()
    (small / "uem" / "four.uem").write_text("four 1 0.000 9.000\n")
    report = check(small)
    assert findings_of(report) == [
        ("error", "train", "one"),
        ("error", "train", "two"),
        ("error", "train", "three"),
        ("error", "test", "four"),
    ]
    messages = [finding.message for finding in report.findings]
    assert "Could not find file" in messages[0]
    assert "nobody speaks" in messages[1]
    assert "three.rttm" in messages[2]
    assert "annotated stretch ends 3.000 s after the audio, which lasts 6.000 s" in messages[3]
    assert report.subsets[0].num_files == 3


def only_finding(report: DatabaseReport, severity: str, uri: str = "one") -> str:
    (finding,) = report.findings
    assert (finding.severity, finding.uri) == (severity, uri)
    return finding.message


def test_no_audio_at_all(small: Path) -> None:
    shutil.rmtree(small / "audio")
    assert findings_of(check(small)) == [
        ("error", s, u)
        for s, u in zip(["train"] * 3 + ["test"], ["one", "two", "three", "four"], strict=True)
    ]


def test_audio_that_is_none(small: Path) -> None:
    (small / "audio" / "one.wav").write_text("not audio")
    assert "not audio" in only_finding(check(small), "error")
    (small / "audio" / "one.wav").write_bytes(b"")
    assert "empty file" in only_finding(check(small), "error")


def test_truncated_wav(small: Path) -> None:
    path = small / "audio" / "one.wav"
    path.write_bytes(path.read_bytes()[:30_000])
    assert "truncated" in only_finding(check(small), "error")


def test_truncated_flac_is_found_by_its_end(small: Path) -> None:
    (small / "database.yml").write_text(
        YML.replace("audio/{uri}.wav", '["audio/{uri}.wav", "audio/{uri}.flac"]')
    )
    (small / "audio" / "one.wav").unlink()
    flac = small / "audio" / "one.flac"
    write_audio(flac)
    assert check(small).findings == []
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size * 2 // 3])
    assert "truncated or damaged" in only_finding(check(small), "error")


def test_damage_in_the_middle_and_silence_need_full(small: Path) -> None:
    samples = np.full(DURATION_S * RATE_HZ, 0.1, np.float32)
    samples[3 * RATE_HZ] = np.nan
    soundfile.write(small / "audio" / "one.wav", samples, RATE_HZ, "FLOAT")
    soundfile.write(small / "audio" / "four.wav", np.zeros_like(samples), RATE_HZ)
    assert check(small).findings == []
    report = check(small, full=True)
    assert findings_of(report) == [("error", "train", "one"), ("warning", "test", "four")]
    assert "3.000 s" in report.findings[0].message
    assert "digital silence" in report.findings[1].message


def test_two_files_for_one_recording(small: Path) -> None:
    (small / "database.yml").write_text(
        YML.replace("audio/{uri}.wav", '["audio/{uri}.wav", "audio/{uri}.flac"]')
    )
    write_audio(small / "audio" / "one.flac")
    assert "more than one" in only_finding(check(small), "error")


@pytest.mark.parametrize(
    ("end_s", "severity"), [(6.01, None), (6.3, "warning"), (6.6, "error"), (60.0, "error")]
)
def test_annotation_that_outlasts_the_audio(small: Path, end_s: float, severity: str | None) -> None:
    (small / "rttm" / "one.rttm").write_text(rttm("one", (1.0, end_s - 1, "one-a")))
    (small / "uem" / "one.uem").write_text("one 1 0.000 100.000\n")
    findings = [f for f in check(small).findings if "stretch" not in f.message]
    assert [finding.severity for finding in findings] == ([] if severity is None else [severity])
    if severity:
        assert f"annotation ends {end_s - 6:.3f} s after the audio" in findings[0].message


def test_a_turn_that_the_uem_cuts_off_is_still_overlong(small: Path) -> None:
    """pyannote.database would hide it: it cuts turns to what is annotated."""
    (small / "rttm" / "one.rttm").write_text(rttm("one", (1.0, 1.0, "one-a"), (50.0, 1.0, "one-a")))
    report = check(small)
    assert findings_of(report) == [("error", "train", "one"), ("warning", "train", "one")]
    assert "1.000 s of speech lie outside" in report.findings[1].message


def test_uem_without_the_recording(small: Path) -> None:
    (small / "uem" / "one.uem").write_text("other 1 0 6\n")
    assert "UEM has no line" in only_finding(check(small), "error")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("SPEAKER one 1 x 2 <NA> <NA> a <NA> <NA>\n", "one.rttm:1: expected 'SPEAKER uri 1 start"),
        ("SPEAKER one 1 1 inf <NA> <NA> a <NA> <NA>\n", "one.rttm:1: "),
        (
            "SPEAKER one 1 1 2 <NA> <NA> a <NA> <NA>\nSPEAKER one 1 nan 2 <NA> <NA> a <NA> <NA>\n",
            "one.rttm:2",
        ),
        ("SPEAKER one 1 1 2 <NA> <NA> a b <NA> <NA>\n", "without spaces in names, found 'SPEAKER one"),
        ("SPEAKER one 1 1 2 <NA> <NA> <NA> <NA> <NA>\n", "no speaker"),
        ("SPEAKER one 1 -1 2 <NA> <NA> a <NA> <NA>\n", "before the recording"),
        ("SPEAKER two 1 1 2 <NA> <NA> a <NA> <NA>\n", "nobody speaks"),
        ("SPEAKER one 1 1 0 <NA> <NA> a <NA> <NA>\n", "nobody speaks"),
    ],
)
def test_odd_annotation(small: Path, lines: str, problem: str) -> None:
    (small / "rttm" / "one.rttm").write_text(lines)
    findings = check(small).findings
    assert {(finding.severity, finding.uri) for finding in findings if problem in finding.message} == {
        ("error", "one")
    }


def test_odd_annotation_of_all_recordings_in_one_file(small: Path) -> None:
    (small / "database.yml").write_text(YML.replace("rttm/{uri}.rttm", "all.rttm"))
    (small / "all.rttm").write_text(rttm("one", (1.0, 2.0, "a"), (float("nan"), 2.0, "a")))
    findings = check(small).findings
    assert [(f.severity, f.subset) for f in findings] == [("error", "train"), ("error", "test")]
    assert all("all.rttm:2: expected 'SPEAKER" in finding.message for finding in findings)


def test_speakers_who_overlap_with_themselves(small: Path) -> None:
    (small / "rttm" / "one.rttm").write_text(rttm("one", (1.0, 2.0, "a"), (2.5, 2.0, "a"), (1.0, 2.0, "b")))
    report = check(small)
    assert "by 0.500 s" in only_finding(report, "warning")
    assert report.subsets[0].overlap_s == pytest.approx(2.0 + 1.0 + 1.0)  # a with themselves is no overlap


def test_rates_and_channels_unlike_most(small: Path) -> None:
    write_audio(small / "audio" / "one.wav", rate_hz=16000)
    write_audio(small / "audio" / "four.wav", channels=2)
    report = check(small)
    assert findings_of(report) == [("warning", "train", "one"), ("warning", "test", "four")]
    assert "16000 Hz, but 3 of 4 files have 8000 Hz" in report.findings[0].message
    assert "2 channels, but 3 of 4 files have 1" in report.findings[1].message
    report = check(small, sample_rate_hz=16000, subset="train")
    assert findings_of(report) == [("error", "train", "two"), ("error", "train", "three")]
    assert "8000 Hz, expected 16000 Hz" in report.findings[0].message


def test_recordings_that_are_listed_twice(small: Path) -> None:
    (small / "train.lst").write_text("one\ntwo\none\n")
    (small / "test.lst").write_text("two\nfour\n")
    report = check(small)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [(e.subset, e.uri) for e in errors] == [("train", "one"), ("test", "two")]
    assert "more than once" in errors[0].message
    assert "in train too" in errors[1].message


def test_one_file_under_two_names(small: Path) -> None:
    (small / "audio" / "four.wav").unlink()
    (small / "audio" / "four.wav").symlink_to(small / "audio" / "one.wav")
    assert "is the audio of one too" in only_finding(check(small), "warning", "four")


def test_speakers_that_subsets_share(small: Path) -> None:
    (small / "rttm" / "four.rttm").write_text(rttm("four", (1.0, 2.0, "one-a")))
    report = check(small)
    assert "1 of its speakers are in train too: one-a" in only_finding(report, "info", "")
    (small / "database.yml").write_text(YML.replace("scope: database", "scope: file"))
    report = check(small)
    assert report.findings == []  # names hold for a file
    assert "four/one-a" in report.subsets[1].speakers


def test_a_subset_that_cannot_be_read_does_not_hide_the_other(small: Path) -> None:
    (small / "train.lst").unlink()
    (small / "audio" / "four.wav").unlink()
    report = check(small)
    assert findings_of(report) == [("error", "train", ""), ("error", "test", "four")]
    assert "train.lst" in report.findings[0].message
    (small / "train.lst").write_text("\n")
    assert "lists no recording" in check(small).findings[0].message


def test_reference_sources(small: Path) -> None:
    (small / "database.yml").write_text(
        YML.replace('"uem/{uri}.uem"}', '"uem/{uri}.uem", references: references.map}')
    )
    (small / "references.map").write_text(
        "".join(f"{u} references/{u}\n" for u in ("one", "two", "three", "four"))
    )
    for uri in ("one", "two", "three", "four"):
        (small / "references" / uri).mkdir(parents=True)
        for speaker in "ab":
            write_audio(small / "references" / uri / f"{uri}-{speaker}.wav")
    assert check(small).findings == []
    (small / "references" / "one" / "one-b.wav").unlink()
    assert "no reference source" in only_finding(check(small), "error")


def test_a_meta_protocol(small: Path) -> None:
    meta = f"  X:\n    SpeakerDiarization:\n      all:\n        train: {{{NAME}: [train, test]}}\n"
    (small / "database.yml").write_text(YML + meta)
    (small / "audio" / "four.wav").unlink()
    report = check(small, protocol="X.SpeakerDiarization.all")
    assert findings_of(report) == [("error", "train", "four")]
    assert report.subsets[0].num_files == 4
    assert [found.protocol for found in check(small).subsets] == [NAME, NAME]


def test_progress_is_told(small: Path) -> None:
    steps: list[tuple[int, int]] = []
    check(small, hook=lambda name, _, total, completed: steps.append((completed, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"protocol": "Small.SpeakerDiarization.word"}, "did you mean"),
        ({"subset": "dev"}, "expected one of train"),
        ({"subset": "development"}, "no protocol has a subset 'development'"),
    ],
)
def test_wrong_names(small: Path, options: dict[str, str], problem: str) -> None:
    with pytest.raises(PixitError, match=problem):
        check(small, **options)


# --- the command line -----------------------------------------------------------------------------------


def test_the_command_tells_and_ends_with_2(small: Path) -> None:
    (small / "audio" / "one.wav").unlink()
    table = small / "findings.csv"
    result = CliRunner().invoke(cli, ["data", "check", str(small / "database.yml"), "-o", str(table)])
    assert result.exit_code == 2
    assert "1 error, 0 warnings, 0 infos" in result.output
    assert f"error  {NAME}.train  one  one: audio: Could not find file" in result.output
    assert "overlap (% of speech)" in result.output
    (row,) = csv.DictReader(table.open())
    assert (row["severity"], row["protocol"], row["subset"], row["uri"]) == ("error", NAME, "train", "one")


def test_the_command_on_a_sound_database(small: Path) -> None:
    arguments = [
        "data",
        "check",
        str(small / "database.yml"),
        "--protocol",
        NAME,
        "--subset",
        "test",
        "--full",
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0
    assert f"{NAME}.test" in result.output
    assert "train" not in result.output
    quiet = CliRunner().invoke(cli, [*arguments, "--quiet", "-o", str(small / "findings.json")])
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert json.loads((small / "findings.json").read_text())["rows"] == []


def test_infos_and_warnings_are_no_failure(small: Path) -> None:
    write_audio(small / "audio" / "one.wav", rate_hz=16000)
    assert CliRunner().invoke(cli, ["data", "check", str(small / "database.yml")]).exit_code == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "no such file"), ("Protocols: {}\n", "no protocol"), ("a: [b\n", "database.yml")],
)
def test_a_wrong_database(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "database.yml"
    if text is not None:
        path.write_text(text)
    result = CliRunner().invoke(cli, ["data", "check", str(path)])
    assert result.exit_code == 2
    assert problem in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.real
def test_the_real_clips_are_sound(shared_data: Path) -> None:
    report = check_database(shared_data / "ami" / "database.yml", full=True, sample_rate_hz=16000)
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    assert [found.num_files for found in report.subsets] == [10, 2]


def test_a_template_that_cannot_be_filled_is_a_finding(small: Path) -> None:
    (small / "database.yml").write_text(YML.replace("audio/{uri}.wav", "audio/{url}.wav"))
    report = check_database(small / "database.yml")
    errors = [finding.message for finding in report.findings if finding.severity == "error"]
    assert len(errors) >= 4
    assert all("the template of 'Small' in the section Databases cannot be filled" in one for one in errors)
