"""Jobs in a database: taken once, queued again after a death, gone when their time is over."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pixit.serve import storage as module
from pixit.serve.metrics import Metrics
from pixit.serve.storage import ATTEMPTS, DONE, FAILED, QUEUED, RUNNING, STATES, Storage, StorageError
from pixit.types import PixitError


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    found: str = request.getfixturevalue("postgresql")
    return found


@pytest.fixture
def storage(address: str) -> Storage:
    opened = Storage(address, "one")
    with opened._change() as connection:
        connection.execute(module._jobs.delete())
    return opened


def add(storage: Storage, *names: str) -> None:
    for name in names:
        storage.add(name, {"num_speakers": 2})
        storage.queue(name)


def test_a_job_goes_its_way(storage: Storage) -> None:
    storage.add("a", {"num_speakers": 2})
    assert storage.get("a") is None  # half an upload is nobody's business
    assert storage.claim() is None
    storage.queue("a")
    add(storage, "b")
    waiting = storage.get("b")
    assert waiting is not None
    assert (waiting.state, storage.place(waiting), waiting.options) == (QUEUED, 1, {"num_speakers": 2})
    claimed = storage.claim()
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.owner, claimed.attempts) == ("a", RUNNING, "one", 1)
    storage.report("a", "segmentation", 3, 10)
    found = storage.get("a")
    assert found is not None
    assert (found.step, found.completed, found.total) == ("segmentation", 3, 10)
    assert storage.finish("a", {"speakers": []})
    assert storage.finish("b", None, "never begun") is False
    found = storage.get("a")
    assert found is not None
    assert (found.state, found.summary, found.owner) == (DONE, {"speakers": []}, None)
    assert storage.count() == dict.fromkeys(STATES, 0) | {QUEUED: 1, DONE: 1}


def test_metrics_forget_what_is_over(storage: Storage) -> None:
    metrics = Metrics(storage.count, dict)
    storage.add("a", {})
    assert b'pixit_jobs{state="uploading"} 1.0' in metrics.render()
    storage.delete("a")
    assert b'pixit_jobs{state="deleted"} 1.0' in metrics.render()
    storage.forget(["a"])
    counts = metrics.render()
    for state in STATES:
        assert f'pixit_jobs{{state="{state}"}} 0.0'.encode() in counts


def test_the_oldest_is_taken_first_and_each_once_by_many(storage: Storage, address: str) -> None:
    names = [f"job{number:02d}" for number in range(30)]
    add(storage, *names)
    taken: dict[str, list[str]] = {}

    def work(owner: str) -> None:
        own = Storage(address, owner)
        mine = taken.setdefault(owner, [])
        for _ in range(60):
            if (job := own.claim()) is not None:
                mine.append(job.id)
        own.close()

    threads = [threading.Thread(target=work, args=(owner,)) for owner in ("x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job for jobs in taken.values() for job in jobs) == names
    assert all(jobs == sorted(jobs) for jobs in taken.values())


def test_after_a_death_jobs_are_queued_again_but_not_for_ever(storage: Storage, address: str) -> None:
    add(storage, "a", "b")
    storage.add("half", {})
    for attempt in range(1, ATTEMPTS + 1):
        job = storage.claim()
        assert job is not None
        assert (job.id, job.attempts) == ("a", attempt)
        storage = Storage(address, "one")  # as after kill -9
        storage.recover(is_start=True)
    found = storage.get("a")
    assert found is not None
    assert found.state == FAILED
    assert "died" in (found.error or "")
    assert storage.deleted() == ["half"]
    job = storage.claim()
    assert job is not None
    assert job.id == "b"


def test_a_job_of_another_server_is_taken_over_only_when_that_is_silent(
    storage: Storage, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(storage, "a")
    storage.claim()
    other = Storage(address, "two")
    other.recover(is_start=True)
    other.recover()
    assert other.claim() is None
    storage.recover(at_work=["a"])
    assert other.claim() is None
    storage.recover()  # it is not at work with it any more
    job = storage.claim()
    assert job is not None
    assert (job.id, job.attempts) == ("a", 2)
    monkeypatch.setattr(module, "LEASE_S", -1.0)
    storage.beat()
    other.recover()
    job = other.claim()
    assert job is not None
    assert (job.id, job.owner) == ("a", "two")
    assert not storage.finish("a", {}), "it is not the first one's any more"
    storage.report("a", "segmentation", 1, 2)
    found = other.get("a")
    assert found is not None
    assert found.step is None


def test_what_is_put_back_counts_as_not_begun(storage: Storage) -> None:
    add(storage, "a")
    for _ in range(ATTEMPTS + 2):
        job = storage.claim()
        assert job is not None
        assert job.attempts == 1
        storage.put_back("a")


def test_what_is_deleted_or_expired_is_gone_for_clients_and_then_forgotten(storage: Storage) -> None:
    add(storage, "a", "b", "c")
    storage.claim()
    storage.finish("a", {})
    storage.expire(keep_s=60)
    assert storage.get("a") is not None
    storage.expire(keep_s=-1)
    assert storage.get("a") is None
    assert storage.delete("b")
    assert not storage.delete("b")
    assert not storage.delete("nobody")
    assert storage.get("b") is None
    job = storage.claim()
    assert job is not None
    assert job.id == "c", "what is deleted is not begun"
    assert sorted(storage.deleted()) == ["a", "b"]
    storage.forget(["a"])
    assert storage.deleted() == ["b"]


@pytest.mark.parametrize("address", ["oracle://here", "nonsense", "sqlite:////no/such/folder/jobs.sqlite"])
def test_a_database_that_cannot_be_opened_is_one_line(address: str) -> None:
    with pytest.raises(PixitError, match="--storage") as caught:
        Storage(address, "one")
    assert "\n" not in str(caught.value)


def test_a_database_that_goes_away_is_told_as_such_and_comes_back(tmp_path: Path) -> None:
    storage = Storage(f"sqlite:///{tmp_path / 'jobs.sqlite'}", "one")
    add(storage, "a")
    with storage._change() as connection:
        connection.exec_driver_sql("ALTER TABLE pixit_jobs RENAME TO elsewhere")
    with pytest.raises(StorageError, match="does not answer"):
        storage.claim()
    with pytest.raises(StorageError, match="does not answer"):
        storage.get("a")
    with storage._change() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO pixit_jobs")
    assert storage.claim() is not None


def test_the_database_is_for_its_user_alone(tmp_path: Path) -> None:
    storage = Storage.in_folder(tmp_path, "test")
    storage.add("a", {})
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "jobs.sqlite-wal" in modes
