"""Recordings shared out among workers: here such that do as they are told, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixit.ownership import claim
from pixit.pipeline.batch import Job
from pixit.pipeline.dispatch import Dispatcher, share_out
from pixit.pipeline.separate import Separator
from pixit.pipeline.workers import Event, Finished, Lost, Progressed, Ready, Task, Unfit, perform
from pixit.results import Separation
from pixit.types import PixitError

Write = Callable[[str], Path]


class Obedient:
    """Workers that do what they are given as soon as they are listened to; over `deadly` recordings they die."""

    advice = "do something"

    def __init__(self, separator: Separator | None, count: int = 2, deadly: dict[str, int] | None = None):
        self.separator, self.count, self.deadly = separator, count, deadly or {}
        self.events: list[Event] = []
        self.given: list[tuple[int, Task]] = []
        self.begun: list[str] = []
        self.num_started, self.most_at_work, self.is_stopped = 0, 0, False

    def start(self) -> int:
        self.num_started += 1
        self.events.append(Ready(self.num_started))
        return self.num_started

    def give(self, worker: int, task: Task) -> None:
        assert worker not in dict(self.given), "it has one already"
        self.given.append((worker, task))
        self.most_at_work = max(self.most_at_work, len(self.given))

    def listen(self, timeout_s: float | None = None) -> list[Event]:
        if not self.events and self.given:
            worker, task = self.given.pop(0)
            self.begun.append(task.uri)
            if self.deadly.get(task.uri, 0) > 0:
                self.deadly[task.uri] -= 1
                return [Lost(worker, "its worker was killed")]
            told: list[Event] = []
            finished = perform(self.separator, task, worker, told.append)  # type: ignore[arg-type]
            return [*told, finished]
        events, self.events = self.events, []
        return events

    def end(self, worker: int) -> None:
        self.given = [(number, task) for number, task in self.given if number != worker]
        self.events.append(Lost(worker, "its worker was ended"))

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def separator(tiny_separator: Path) -> Separator:
    return Separator.from_pretrained(tiny_separator, device="cpu")


def test_each_recording_is_done_once_and_what_is_done_stays(
    separator: Separator, noise: Write, tmp_path: Path
) -> None:
    paths, out = [noise(name) for name in "abc"], tmp_path / "out"
    heard: dict[tuple[Any, str], list[tuple[int, int]]] = {}

    def hook(step: str, artifact: Any, file: Any = None, total: int = 0, completed: int = 0) -> None:
        heard.setdefault((file, step), []).append((completed, total))

    workers = Obedient(separator)
    outcomes = list(share_out(workers, paths, Job(out), hook))
    assert sorted(workers.begun) == sorted(outcome.uri for outcome in outcomes) == ["a", "b", "c"]
    assert (workers.num_started, workers.most_at_work, workers.is_stopped) == (2, 2, True)
    for outcome in outcomes:
        assert outcome.error is None
        assert outcome.elapsed_s is not None
        assert outcome.path in paths
        assert outcome.result is not None
        assert outcome.result.speakers == Separation.load(out / outcome.uri).speakers
    assert heard[None, "recordings"] == [(0, 3), (1, 3), (2, 3)]
    assert all(heard[name, "segmentation"] for name in "abc")
    again = list(share_out(Obedient(separator), [*paths, noise("d")], Job(out)))
    assert {outcome.uri: outcome.elapsed_s is None for outcome in again} == {
        **dict.fromkeys("abc", True),
        "d": False,
    }


def test_results_are_those_of_one_process(separator: Separator, noise: Write, tmp_path: Path) -> None:
    path = noise("a")
    job = Job(tmp_path / "out", num_speakers=1, channel=0, format="flac")
    (outcome,) = share_out(Obedient(separator), [path], job)
    assert outcome.result is not None
    alone = Separation.load(separator(path, num_speakers=1, channel=0).save(tmp_path / "alone"))
    assert outcome.result.diarization == alone.diarization
    assert outcome.result.settings["request"] == alone.settings["request"]
    assert [track.path.suffix for track in outcome.result.tracks.values()] == [".flac"]


def test_no_more_workers_are_started_than_there_are_recordings(
    separator: Separator, noise: Write, tmp_path: Path
) -> None:
    workers = Obedient(separator, count=9)
    list(share_out(workers, [noise("a"), noise("b")], Job(tmp_path / "out")))
    assert workers.num_started == 2


def test_a_recording_whose_worker_dies_is_begun_once_more_and_the_others_go_on(
    separator: Separator, noise: Write, tmp_path: Path
) -> None:
    workers, said = Obedient(separator, deadly={"a": 1, "b": 9}), list[str]()
    outcomes = list(share_out(workers, [noise(n) for n in "abcd"], Job(tmp_path / "out"), say=said.append))
    errors = {outcome.uri: outcome.error for outcome in outcomes}
    assert sorted(workers.begun) == ["a", "a", "b", "b", "c", "d"]
    assert [name for name, error in sorted(errors.items()) if error is None] == ["a", "c", "d"]
    assert str(errors["b"]) == (f"{noise('b')}: its worker was killed, for the second time; do something")
    assert said == [f"{noise(n)}: its worker was killed; it is begun once more" for n in "ab"]
    assert workers.num_started == 2 + 2  # after the last death there is work left for one only


def test_bad_recordings_are_outcomes(separator: Separator, noise: Write, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    outcomes = share_out(Obedient(separator), [bad, tmp_path / "no.wav", noise("a")], Job(tmp_path / "out"))
    found = {outcome.uri: outcome for outcome in outcomes}
    assert "bad.wav: is an empty file" in str(found["bad"].error)
    assert "no.wav: cannot be read" in str(found["no"].error)
    assert found["a"].error is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_a_full_disk_is_the_error_of_one_recording(
    separator: Separator, noise: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Separator, "__call__", full)
    (outcome,) = share_out(Obedient(separator), [noise("a")], Job(tmp_path / "out"))
    assert "a.wav: temporary files: No space left on device" in str(outcome.error)


def test_an_output_that_a_worker_cannot_write_is_the_error_of_its_recordings(
    separator: Separator, noise: Write, tmp_path: Path
) -> None:
    told = perform(separator, Task("a", noise("a"), Job(tmp_path / "nowhere")), 1, [].append)
    assert "nowhere: cannot be written (No such file or directory)" in str(told.error)


def test_what_another_run_is_at_comes_last(separator: Separator, noise: Write, tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    out.mkdir()
    paths = [noise(name) for name in "abc"]
    with claim(out / "a"):
        outcomes = share_out(Obedient(separator, count=1), paths, Job(out, overwrite=True), say=said.append)
        assert [next(outcomes).uri for _ in range(2)] == ["b", "c"]
        separator(paths[0]).save(out)
    (last,) = outcomes
    assert (last.uri, last.elapsed_s, last.error) == ("a", None, None)  # not made again
    assert [line.split(": ")[1] for line in said] == ["another process is separating it; left to that one"]


def test_networks_that_cannot_be_loaded_end_it_all(noise: Write, tmp_path: Path) -> None:
    class Ignorant(Obedient):
        def start(self) -> int:
            number = super().start()
            self.events = [Unfit(number, "model: no such folder")]
            return number

    workers = Ignorant(None)
    with pytest.raises(PixitError, match=r"^model: no such folder$"):
        list(share_out(workers, [noise("a")], Job(tmp_path / "out")))
    assert workers.is_stopped
    assert not (tmp_path / "out").exists()


def test_workers_that_die_before_they_begin_are_not_started_for_ever(noise: Write, tmp_path: Path) -> None:
    class Stillborn(Obedient):
        def start(self) -> int:
            number = super().start()
            self.events = [Lost(number, "its worker was killed")]
            return number

    workers = Stillborn(None, count=1)
    with pytest.raises(PixitError, match=r"^no worker begins: its worker was killed; do something$"):
        list(share_out(workers, [noise("a")], Job(tmp_path / "out")))
    assert workers.num_started == 3


def test_workers_end_when_nobody_asks_any_more(separator: Separator, noise: Write, tmp_path: Path) -> None:
    workers = Obedient(separator)
    outcomes = share_out(workers, [noise("a"), noise("b")], Job(tmp_path / "out"))
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert workers.is_stopped


def test_a_result_that_is_not_where_it_should_be_is_told(noise: Write, tmp_path: Path) -> None:
    """As on a cluster whose machines do not share the folder of the results."""
    workers = Obedient(None)
    workers.listen = _once(Finished(1, elapsed_s=1.0), workers.listen)  # type: ignore[method-assign]
    (outcome,) = share_out(workers, [noise("a")], Job(tmp_path / "out"))
    assert str(tmp_path / "out" / "a") in str(outcome.error)
    assert outcome.result is None


def _once(event: Event, otherwise: Callable[..., list[Event]]) -> Callable[..., list[Event]]:
    calls = []

    def listen(timeout_s: float | None = None) -> list[Event]:
        calls.append(timeout_s)
        return [event] if len(calls) == 2 else otherwise(timeout_s)

    return listen


def test_single_recordings_can_be_submitted_as_they_come(
    separator: Separator, noise: Write, tmp_path: Path
) -> None:
    """As a server does: each with a job of its own."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    dispatcher = Dispatcher(Obedient(separator))
    assert dispatcher.next(timeout_s=0.0) is None
    dispatcher.submit(Task("one", noise("a"), Job(tmp_path / "first", num_speakers=1)))
    assert dispatcher.next(timeout_s=0.0) is None  # not yet: a worker has been started
    first = dispatcher.next()
    dispatcher.submit(Task("two", noise("a"), Job(tmp_path / "second", num_speakers=2)))
    assert (dispatcher.num_open, first and first.folder) == (1, tmp_path / "first" / "one")
    second = dispatcher.next()
    assert second is not None
    assert second.result is not None
    assert len(second.result.speakers) == 2
    assert dispatcher.num_open == 0


def test_progress_is_told_now_and_then_but_the_end_always(
    noise: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progressed] = []

    def busy(separator: Any, uri: str, path: Path, job: Job, hook: Any, wait: bool) -> None:
        for completed in range(1001):
            hook("segmentation", None, file=uri, total=1000, completed=completed)
        hook("discrete_diarization", None)

    monkeypatch.setattr("pixit.pipeline.workers.separate_unclaimed", busy)
    task = Task("a", tmp_path / "a.wav", Job(tmp_path))
    assert perform(None, task, 7, told.append) == Finished(7, is_elsewhere=True)  # type: ignore[arg-type]
    assert len(told) < 100
    assert told[-1] == Progressed(7, "segmentation", 1000, 1000)


def test_what_is_given_up_has_no_outcome_and_the_others_are_done(
    separator: Separator, noise: Write, tmp_path: Path
) -> None:
    """One is at work, one waits, one is not known; the worker of the first is ended, and nobody takes it for dead."""
    said: list[str] = []
    workers = Obedient(separator, count=1)
    dispatcher = Dispatcher(workers, say=said.append)
    (tmp_path / "out").mkdir()
    for name in "abc":
        dispatcher.submit(Task(name, noise(name), Job(tmp_path / "out")))
    assert dispatcher.next(0.0) is None  # a worker is ready
    dispatcher._hand_out()
    for name in ("a", "b", "nobody"):
        dispatcher.drop(name)
    outcome = dispatcher.next()
    assert outcome is not None
    assert (outcome.uri, outcome.error) == ("c", None)
    assert (dispatcher.num_open, dispatcher.next(), said) == (0, None, [])
    assert (workers.num_started, workers.begun) == (2, ["c"])
