"""`pixit tune`: a study finds what is wrong, goes on where it ended, and is shared by processes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner, Result
from pyannote.core import Annotation

from pixit.cli import cli
from pixit.config import load_settings
from pixit.evaluation.diarization import DiarizationCounts, evaluate_diarization
from pixit.experiments import subjects
from pixit.experiments.references import find_references
from pixit.experiments.subjects import OFFLINE, OfflineSubject, Range, StreamingSubject
from pixit.experiments.tuning import Tuned, tune
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings, StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import PixitError, Plda, Turn
from script_files import load_script

optuna = pytest.importorskip("optuna")

WRONG = {
    "step_s": 0.5,
    "activity": {"onset": 0.7, "offset": 0.7},
    "clustering": {"threshold": 1.9, "min_speech_s": 0.3},
}
"""Everybody is one speaker, and quiet beginnings and ends of turns are lost."""


@pytest.fixture
def separator(talks: Any) -> Separator:
    return Separator(talks.Unsure(), talks.Ears(), SeparationSettings.model_validate(WRONG), device="cpu")


@pytest.mark.parametrize("refined", [True, False])
def test_what_is_tuned_depends_on_how_is_clustered(talks: Any, tmp_path: Path, refined: bool) -> None:
    class Ears(talks.Ears):  # type: ignore[misc]
        plda = Plda(np.zeros(2), np.zeros(2), np.eye(2), np.ones(2))

    wanted = SeparationSettings.model_validate({"clustering": {"refined": refined}})
    knowing = Separator(talks.Unsure(), Ears(), wanted, device="cpu")
    subject = OfflineSubject(knowing, talks.recordings, tmp_path)
    assert ("clustering.fa" in subject.ranges) == ("clustering.fb" in subject.ranges) == refined
    assert "clustering.min_cluster_size" not in subject.ranges


@pytest.mark.parametrize("method", ["plda", "cosine"])
def test_what_is_tuned_of_streams_depends_on_how_is_clustered(
    talks: Any, tmp_path: Path, method: str
) -> None:
    class Ears(talks.Ears):  # type: ignore[misc]
        plda = Plda(np.zeros(2), np.zeros(2), np.eye(2), np.ones(2))

    wanted = StreamingSettings.model_validate({"clustering": {"method": method}})
    stream = StreamingSeparator(talks.Unsure(), Ears(), wanted, device="cpu")
    subject = StreamingSubject(stream, talks.recordings, tmp_path, ["clustering.short_s"])
    taken = {"plda": {"new_log_odds", "evidence", "min_new_s", "min_learn_s", "split_log_odds"}}
    expected = taken.get(method, {"rho_update", "delta_new"}) | {"tau_active"}
    assert subject.ranges.keys() == {f"clustering.{name}" for name in expected}


def errors(separator: Separator, talks: Any, **changes: Any) -> DiarizationCounts:
    """Count the errors of a separator with other settings, by the networks themselves."""
    tree = separator.settings.model_dump()
    for key, value in changes.items():
        section, name = key.split(".")
        tree[section][name] = value
    live = Separator(talks.Unsure(), talks.Ears(), SeparationSettings.model_validate(tree), device="cpu")
    truth = {each.uri: each.turns for each in talks.recordings}
    whole = {each.uri: each.annotated for each in talks.recordings}
    found = {each.uri: live.diarize(each.audio).diarization for each in talks.recordings}
    return evaluate_diarization(truth, found, annotated=whole).total


@pytest.mark.parametrize("metric", ["der", "jer"])
def test_the_best_settings_are_found_and_are_as_good_as_told(
    separator: Separator, talks: Any, tmp_path: Path, metric: Any
) -> None:
    subject = OfflineSubject(separator, talks.recordings, tmp_path)
    found = tune(subject, talks.recordings, 30, metric, seed=0)
    assert found.num_trials == 30
    assert found.before == errors(separator, talks)
    assert getattr(found.after, metric) < 0.5 * getattr(found.before, metric)
    assert found.after == errors(separator, talks, **found.values)
    assert found.values["clustering.threshold"] < 1.2
    assert set(found.values) == set(subject.ranges)
    assert separator.model.num_heard == 2 * 37  # type: ignore[attr-defined]  # the windows of both, once


def test_what_is_fixed_stays(separator: Separator, talks: Any, tmp_path: Path) -> None:
    fixed = ["activity.onset", "activity.offset", "clustering.min_speech_s"]
    subject = OfflineSubject(separator, talks.recordings, tmp_path, fixed)
    found = tune(subject, talks.recordings, 8, seed=1)
    assert not set(fixed) & set(found.values)
    assert found.after.der < found.before.der


def test_nothing_better_is_nothing_changed(separator: Separator, talks: Any, tmp_path: Path) -> None:
    """With the ranges around what is worst, the settings stay as they are."""
    subject = OfflineSubject(separator, talks.recordings[:1], tmp_path, list(OFFLINE))
    subject.ranges = {"activity.min_duration_on_s": Range(50.0, 60.0)}
    found = tune(subject, talks.recordings[:1], 3, seed=0)
    assert (found.values, found.before) == ({}, found.after)
    found.save(tmp_path / "best.yaml", {"step_s": 0.5})
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"step_s": 0.5}


def test_a_study_goes_on_where_it_ended(
    separator: Separator, talks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is heard twice."""
    place = f"sqlite:///{tmp_path / 'study.db'}"
    told: list[int] = []

    def run(num_trials: int, **more: Any) -> Tuned:
        subject = OfflineSubject(separator, talks.recordings, tmp_path / "heard")
        return tune(
            subject, talks.recordings, num_trials, storage=place, tell=lambda n, _: told.append(n), **more
        )

    first = run(4, seed=0)
    monkeypatch.setattr(subjects, "hear", lambda *_, **__: 1 / 0)
    assert (run(4), told) == (first, [0, 1, 2, 3])
    second = run(7, seed=0)
    tried = optuna.load_study(study_name="pixit", storage=place).get_trials()
    assert len({str(trial.params) for trial in tried}) == 7  # the same seed, and nothing drawn again
    assert (second.num_trials, told) == (7, [0, 1, 2, 3, 4, 5, 6])
    assert second.after.der <= first.after.der
    assert run(1000, timeout_s=0.0).num_trials <= 8


def test_a_seed_makes_the_same_trials(separator: Separator, talks: Any, tmp_path: Path) -> None:
    def values(seed: int) -> dict[str, float]:
        subject = OfflineSubject(separator, talks.recordings, tmp_path)
        return dict(tune(subject, talks.recordings, 3, seed=seed).values)

    assert values(1) == values(1) != values(2)


def test_a_study_of_something_else_is_refused(separator: Separator, talks: Any, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'study.db'}"
    subject = OfflineSubject(separator, talks.recordings, tmp_path)
    tune(subject, talks.recordings, 1, storage=place)
    for recordings, metric in ((talks.recordings[:1], "der"), (talks.recordings, "jer")):
        other = OfflineSubject(separator, recordings, tmp_path)
        with pytest.raises(PixitError, match="is of other recordings"):
            tune(other, recordings, 1, metric, storage=place)  # type: ignore[arg-type]
    assert tune(subject, talks.recordings, 1, "jer", storage=place, study="another").num_trials == 1


def test_what_cannot_be_done_is_said_before_the_work(
    separator: Separator, talks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = OfflineSubject(separator, talks.recordings, tmp_path)
    with pytest.raises(PixitError, match="cannot be used"):
        tune(subject, talks.recordings, 1, storage="nonsense")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(PixitError, match=r"pip install 'pixit-audio\[tune\]'"):
        tune(subject, talks.recordings, 1)
    assert separator.model.num_heard == 0  # type: ignore[attr-defined]


def test_after_ctrl_c_a_study_goes_on(separator: Separator, talks: Any, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'study.db'}"
    subject = OfflineSubject(separator, talks.recordings, tmp_path)

    def interrupt(*_: Any) -> Annotation:
        raise KeyboardInterrupt

    def stop(number: int, found: Tuned) -> None:
        if number == 1:
            subject.decide = interrupt  # type: ignore[method-assign]  # amid the next trial

    with pytest.raises(KeyboardInterrupt):
        tune(subject, talks.recordings, 5, storage=place, tell=stop, seed=0)
    again = OfflineSubject(separator, talks.recordings, tmp_path)
    assert tune(again, talks.recordings, 5, storage=place).num_trials == 5
    (study,) = optuna.get_all_study_summaries(storage=place)
    assert study.n_trials == 6  # and the one that was interrupted


@pytest.mark.parametrize(
    "storage",
    ["sqlite:////no/such/folder/study.db", "nonsense", "postgresql://nobody@127.0.0.1:1/x", "no://x"],
)
def test_a_database_that_cannot_be_reached_is_told_in_a_line(
    separator: Separator, talks: Any, tmp_path: Path, storage: str
) -> None:
    subject = OfflineSubject(separator, talks.recordings[:1], tmp_path)
    with pytest.raises(PixitError, match=r"^--storage .*: cannot be used .*; expected sqlite:///") as caught:
        tune(subject, talks.recordings[:1], 1, storage=storage)
    assert "\n" not in str(caught.value)


def test_the_truth_is_not_tuned(separator: Separator, talks: Any, tmp_path: Path) -> None:
    oracle = separator.settings.clustering.model_copy(update={"method": "oracle"})
    separator.settings = separator.settings.model_copy(update={"clustering": oracle})
    with pytest.raises(PixitError, match="oracle: cannot be tuned"):
        OfflineSubject(separator, talks.recordings, tmp_path)


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def run(talks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``pixit``, whose networks are those of the tests."""

    def load(model: Any, embedder: Any, device: str = "cpu", settings: Any = None) -> Separator:
        chosen = SeparationSettings.model_validate(settings or {})
        return Separator(talks.Unsure(), talks.Ears(), chosen, device="cpu")

    def load_stream(model: Any, embedder: Any, device: str, settings: Any) -> StreamingSeparator:
        chosen = StreamingSettings.model_validate(settings)
        return StreamingSeparator(talks.Unsure(), talks.Ears(), chosen, device="cpu")

    monkeypatch.setattr(Separator, "from_pretrained", load)
    monkeypatch.setattr(StreamingSeparator, "from_pretrained", load_stream)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)

    return invoke


def test_the_command_writes_what_separate_and_diarize_read(
    run: Callable[..., Result], talks: Any, tmp_path: Path
) -> None:
    given = ["--recordings", str(talks.folder / "audio"), "--references", str(talks.folder / "rttm")]
    (tmp_path / "start.yaml").write_text(yaml.safe_dump(WRONG))
    done = run(
        *("tune", *given, "--settings", "start.yaml", "--set", "activity.min_local_s=0.1", "--trials", "10"),
        *("--seed", "0", "--format", "csv"),
    )
    assert done.exit_code == 0, done.output
    header, before, after = done.stdout.splitlines()
    row = dict(zip(header.split(","), after.split(","), strict=True))
    assert float(row["der_percent"]) < 0.5 * float(before.split(",")[1])
    written = load_settings(SeparationSettings, tmp_path / "best.yaml")
    assert (written.step_s, written.activity.min_local_s) == (0.5, 0.1)
    for command, folder in (("diarize", "diarized"), ("separate", "separated")):
        assert run(command, str(talks.folder / "audio"), "--settings", "best.yaml").exit_code == 0
        whole = {each.uri: each.annotated for each in talks.recordings}
        found = evaluate_diarization(talks.folder / "rttm", tmp_path / folder, annotated=whole).total
        assert 100 * found.der == pytest.approx(float(row["der_percent"]), abs=0.1)  # RTTM has milliseconds
    assert sorted(path.name for path in (tmp_path / "tuning").iterdir()) == ["heard", "study.db"]
    assert run("diarize", str(talks.folder / "audio"), "--settings", "missing.yaml").exit_code == 2


def test_the_command_tunes_streams(run: Callable[..., Result], talks: Any, tmp_path: Path) -> None:
    """And what it tells is what a stream with these settings makes of the recordings."""
    given = ["--recordings", str(talks.folder / "audio"), "--references", str(talks.folder / "rttm")]
    wrong = ["--set", "step_s=0.5", "--set", "activity.min_local_s=0.1"]
    (tmp_path / "start.yaml").write_text("clustering: {rho_update: 0.58}\n")
    options = ["--settings", "start.yaml", *wrong, "--trials", "10", "--seed", "0", "--format", "csv"]
    done = run("tune", *given, "--streaming", *options, "-o", "live.yaml")
    assert done.exit_code == 0, done.output
    header, before, after = done.stdout.splitlines()
    row = dict(zip(header.split(","), after.split(","), strict=True))
    assert float(row["der_percent"]) < 0.7 * float(before.split(",")[1])
    settings = load_settings(StreamingSettings, tmp_path / "live.yaml")
    assert settings.clustering.rho_update < 0.58
    assert set(settings.clustering.model_fields_set) == {"tau_active", "rho_update", "delta_new"}
    found = {}
    for each in talks.recordings:
        stream = StreamingSeparator(talks.Unsure(), talks.Ears(), settings, device="cpu")
        samples, _ = soundfile.read(each.audio)
        updates = [stream.push(block) for block in np.array_split(samples, 7)]
        updates.append(stream.finish())
        told = [turn for update in updates for turn in update.turns if turn.kind == "closed"]
        found[each.uri] = [Turn(turn.start_s, turn.end_s or 0.0, turn.speaker) for turn in told]
    truth = {each.uri: each.turns for each in talks.recordings}
    whole = {each.uri: each.annotated for each in talks.recordings}
    expected = evaluate_diarization(truth, found, annotated=whole).total
    assert float(row["der_percent"]) == pytest.approx(100 * expected.der)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "neither recordings nor a database"),
        (["--recordings", "AUDIO", "--database", "x.yml"], "both recordings and a database"),
        (["--recordings", "AUDIO"], "no references"),
        (["--recordings", "AUDIO", "--references", "RTTM/one.rttm"], "has no turns of two"),
        (["--recordings", "AUDIO", "--references", "RTTM", "--set", "clustering.method=kmeans"], "be tuned"),
        (["--recordings", "AUDIO", "--references", "RTTM", "--storage", "x"], "--storage x: cannot be used"),
    ],
)
def test_what_is_missing_is_told_in_a_line(
    run: Callable[..., Result], talks: Any, arguments: list[str], told: str
) -> None:
    places = {"AUDIO": str(talks.folder / "audio"), "RTTM": str(talks.folder / "rttm")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    done = run("tune", *arguments)
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_protocol_gives_the_recordings(run: Callable[..., Result], talks: Any, tmp_path: Path) -> None:
    """Of the subset that is asked for."""
    pytest.importorskip("pyannote.database")
    rttm = "".join(path.read_text() for path in sorted((talks.folder / "rttm").iterdir()))
    (tmp_path / "all.rttm").write_text(rttm)
    (tmp_path / "all.lst").write_text("one\ntwo\n")
    (tmp_path / "first.lst").write_text("one\n")
    subsets = {
        name: {"uri": f"{uris}.lst", "annotation": "all.rttm"}
        for name, uris in (("development", "all"), ("test", "first"))
    }
    tree = {
        "Databases": {"Talks": f"{talks.folder}/audio/{{uri}}.wav"},
        "Protocols": {"Talks": {"SpeakerDiarization": {"both": subsets}}},
    }
    (tmp_path / "database.yml").write_text(yaml.safe_dump(tree))
    for subset, speakers in (("development", "4"), ("test", "2")):
        more = ["--subset", subset, "--study", subset, "--trials", "1", "--format", "csv"]
        done = run("tune", "--database", "database.yml", *more)
        header, before, _ = done.stdout.splitlines()
        row = dict(zip(header.split(","), before.split(","), strict=True))
        assert row["reference_speakers"] == speakers


def test_a_uem_says_what_counts(run: Callable[..., Result], talks: Any, tmp_path: Path) -> None:
    (tmp_path / "some.uem").write_text("one 1 2.0 9.0\n")
    given = ["--recordings", str(talks.folder / "audio"), "--references", str(talks.folder / "rttm")]
    done = run("tune", *given, "--uem", "some.uem", "--trials", "1", "--format", "csv")
    spoken = sum(
        max(0.0, min(turn.end_s, 9.0) - max(turn.start_s, 2.0)) for turn in talks.recordings[0].turns
    )
    header, _, after = done.stdout.splitlines()
    row = dict(zip(header.split(","), after.split(","), strict=True))
    assert float(row["total_s"]) == pytest.approx(spoken, abs=1e-3)


# --- several processes, one study -------------------------------------------------------------------------

WORKER = """
import importlib.util, sys
from pathlib import Path
from pixit.experiments.references import find_references
from pixit.experiments.subjects import OfflineSubject, StreamingSubject
from pixit.experiments.tuning import tune
from pixit.pipeline.settings import SeparationSettings
from pixit.pipeline.separate import Separator

spec = importlib.util.spec_from_file_location("networks", sys.argv[1])
networks = importlib.util.module_from_spec(spec)
sys.modules["networks"] = networks
spec.loader.exec_module(networks)
folder, work, place = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
recordings, _ = find_references([folder / "audio"], folder / "rttm")
settings = SeparationSettings.model_validate({"step_s": 0.5, "clustering": {"min_speech_s": 0.3}})
model = networks.Unsure()
subject = OfflineSubject(Separator(model, networks.Ears(), settings, device="cpu"), recordings, work)
subject.hear()
print(model.num_heard, flush=True)
tune(subject, recordings, 16, storage=place, tell=lambda number, found: print(number))
"""


def check_sharing(talks: Any, tmp_path: Path, place: str) -> None:
    """Check that another process hears nothing again, and that both make the trials of one study."""
    settings = SeparationSettings.model_validate({"step_s": 0.5, "clustering": {"min_speech_s": 0.3}})
    separator = Separator(talks.Unsure(), talks.Ears(), settings, device="cpu")
    recordings, _ = find_references([talks.folder / "audio"], talks.folder / "rttm")
    subject = OfflineSubject(separator, recordings, tmp_path / "heard")
    subject.hear()
    networks = Path(__file__).with_name("conftest.py")
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(networks), str(talks.folder), str(tmp_path / "heard"), place],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "0\n"
        own: list[int] = []
        found = tune(subject, recordings, 16, storage=place, tell=lambda number, _: own.append(number))
        other = [int(line) for line in worker.communicate(timeout=60)[0].split()]
    assert worker.returncode == 0
    assert own
    assert other
    assert sorted(own + other) == list(range(len(own + other)))
    assert 16 <= len(own + other) <= 17  # one may be at its last when the other ends
    assert found.num_trials >= 16


@pytest.mark.slow
def test_two_processes_share_a_study_in_a_file(talks: Any, tmp_path: Path) -> None:
    check_sharing(talks, tmp_path, f"sqlite:///{tmp_path / 'study.db'}")


@pytest.fixture
def postgres() -> Iterator[str]:
    """A server of its own, where Debian's package is installed; it does not run as root."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not places:
        pytest.skip("PostgreSQL is not installed")
    user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="pixit-postgres-"))
    if os.getuid() == 0:
        user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}
        shutil.chown(folder, "postgres")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    data, tools = folder / "data", places[-1].parent
    quiet: dict[str, Any] = {"cwd": folder, "capture_output": True, "check": True, "timeout": 60, **user}
    subprocess.run([tools / "initdb", "-D", data, "-U", "pixit", "-A", "trust", "--no-sync"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    # its output is not captured: the server would hold the pipe
    started = {**quiet, "capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [tools / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"], **started
    )
    try:
        yield f"postgresql://pixit@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_two_processes_share_a_study_in_postgresql(talks: Any, tmp_path: Path, postgres: str) -> None:
    check_sharing(talks, tmp_path, postgres)


def test_settings_are_compared_side_by_side(talks: Any, separator: Separator, tmp_path: Path) -> None:
    """`scripts/compare_settings.py` counts what the networks themselves would have given."""
    script = load_script("scripts/compare_settings.py")
    recordings = list(talks.recordings)
    subject = OfflineSubject(separator, recordings, tmp_path / "heard", script.THRESHOLDS)
    subject.hear()
    rows = [script.score(subject, recordings, {"clustering.threshold": value}) for value in (1.9, 0.7)]
    for row, threshold in zip(rows, (1.9, 0.7), strict=True):
        expected = errors(separator, talks, **{"clustering.threshold": threshold})
        assert row["der_percent"] == pytest.approx(100 * expected.der)
    assert [row["right_percent"] for row in rows] == [0, 100]
