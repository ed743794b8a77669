"""The jobs of one server or of several, in SQLite or PostgreSQL: what was asked, and how far it is.

Every change is one statement, so that it happens whole or not at all whenever a process is killed, and two servers
never take the same job. Times are seconds since 1970.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from pixit.ownership import cannot_be_written
from pixit.types import PixitError, one_line

STATES = ("uploading", "queued", "running", "done", "failed", "deleted")
UPLOADING, QUEUED, RUNNING, DONE, FAILED, DELETED = STATES
LEASE_S = 60.0
"""A server that has not been heard of for so long is taken for dead, and its jobs are queued again."""
ATTEMPTS = 3
"""How often a job is begun, if the servers that are at it die."""

_metadata = MetaData()
_jobs = Table(
    "pixit_jobs",
    _metadata,
    Column("id", String(32), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("options", Text, nullable=False),
    Column("created_s", Double, nullable=False),
    Column("finished_s", Double),
    Column("owner", String(200)),
    Column("heard_s", Double),
    Column("attempts", Integer, nullable=False),
    Column("step", String(40)),
    Column("completed", Integer),
    Column("total", Integer),
    Column("error", Text),
    Column("summary", Text),
)


@dataclass(frozen=True)
class StoredJob:
    """A job as it is stored.

    `options` are what was asked; `step`, `completed` and `total` the progress; `summary` tells what came of it.
    """

    id: str
    state: str
    options: dict[str, Any]
    created_s: float
    finished_s: float | None
    owner: str | None
    attempts: int
    step: str | None
    completed: int | None
    total: int | None
    error: str | None
    summary: dict[str, Any] | None


class StorageError(PixitError):
    """The database does not answer; it may do so later."""


class Storage:
    """The table of the jobs.

    Parameters
    ----------
    address
        ``"sqlite:///FILE"`` or ``"postgresql://USER:PASSWORD@HOST/DATABASE"``; the table is made if need be.
    owner
        Name of this server, the same after a restart.

    Raises
    ------
    PixitError
        If the database cannot be opened.
    """

    def __init__(self, address: str, owner: str) -> None:
        self.owner = owner
        kind = address.partition(":")[0]
        if kind not in ("sqlite", "postgresql"):
            raise PixitError(
                f"--storage: found {one_line(kind, 40)!r}; expected sqlite:///FILE or postgresql://…"
            )
        # the driver that the extra names
        address = address.replace("postgresql:", "postgresql+psycopg:", 1)
        try:
            self._engine = create_engine(address)
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _prepare_sqlite)
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
        except (SQLAlchemyError, ValueError) as error:
            reason = one_line(getattr(error, "orig", None) or error, 120)
            raise PixitError(f"--storage {kind}: cannot be opened ({reason}); check its address") from None

    @classmethod
    def in_folder(cls, folder: Path, owner: str) -> Storage:
        """Open the database in a folder; it, and what SQLite puts beside it, is for its user alone."""
        try:
            os.close(os.open(folder / "jobs.sqlite", os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise cannot_be_written(folder, error) from None
        return cls(f"sqlite:///{folder / 'jobs.sqlite'}", owner)

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = one_line(getattr(error, "orig", None) or error, 120)
            raise StorageError(f"the database does not answer ({reason})") from None

    def add(self, job_id: str, options: Mapping[str, Any]) -> None:
        """Add a job whose recording is still on its way."""
        row = {"id": job_id, "state": UPLOADING, "options": json.dumps(dict(options)), "attempts": 0}
        row |= {"created_s": time.time(), "owner": self.owner, "heard_s": time.time()}
        with self._change() as connection:
            connection.execute(insert(_jobs).values(row))

    def queue(self, job_id: str) -> None:
        """Let a job whose recording is there wait for its turn."""
        with self._change() as connection:
            mine = and_(_jobs.c.id == job_id, _jobs.c.state == UPLOADING)
            connection.execute(update(_jobs).where(mine).values(state=QUEUED, owner=None, heard_s=None))

    def get(self, job_id: str) -> StoredJob | None:
        """Return a job that clients may know of; None if there is none."""
        shown = and_(_jobs.c.id == job_id, _jobs.c.state.not_in([UPLOADING, DELETED]))
        with self._change() as connection:
            row = connection.execute(select(_jobs).where(shown)).one_or_none()
        return None if row is None else _job_of(row)

    def count(self) -> dict[str, int]:
        """Return the number of jobs in each state, zero where there are none (any more)."""
        with self._change() as connection:
            rows = connection.execute(select(_jobs.c.state, func.count()).group_by(_jobs.c.state)).all()
        return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in rows}

    def place(self, job: StoredJob) -> int:
        """Return how many jobs go before a waiting one."""
        earlier = and_(_jobs.c.state == QUEUED, _jobs.c.created_s < job.created_s)
        with self._change() as connection:
            return int(connection.execute(select(func.count()).where(earlier)).scalar_one())

    def claim(self) -> StoredJob | None:
        """Take the job that has waited for longest; None if none waits, or another server was quicker."""
        first = (
            select(_jobs.c.id).where(_jobs.c.state == QUEUED).order_by(_jobs.c.created_s, _jobs.c.id).limit(1)
        )
        free = and_(_jobs.c.id == first.scalar_subquery(), _jobs.c.state == QUEUED)
        changes = {"state": RUNNING, "owner": self.owner, "heard_s": time.time(), "step": None}
        changes |= {"attempts": _jobs.c.attempts + 1, "completed": None, "total": None}
        with self._change() as connection:
            row = connection.execute(update(_jobs).where(free).values(changes).returning(_jobs)).one_or_none()
        return None if row is None else _job_of(row)

    def report(self, job_id: str, step: str, completed: int, total: int) -> None:
        """Note how far a job is."""
        with self._change() as connection:
            values = {"step": step[:40], "completed": completed, "total": total}
            connection.execute(update(_jobs).where(self._mine(job_id)).values(values))

    def finish(self, job_id: str, summary: Mapping[str, Any] | None, error: str | None = None) -> bool:
        """Note what came of a job; False if it is not this server's any more."""
        values = {
            "state": FAILED if error else DONE,
            "finished_s": time.time(),
            "error": error,
            "owner": None,
        }
        values["summary"] = None if summary is None else json.dumps(dict(summary))
        with self._change() as connection:
            return bool(connection.execute(update(_jobs).where(self._mine(job_id)).values(values)).rowcount)

    def put_back(self, job_id: str) -> None:
        """Queue a job again that this server began and stops in an orderly way: it counts as not begun."""
        values = {"state": QUEUED, "owner": None, "attempts": _jobs.c.attempts - 1, "step": None}
        with self._change() as connection:
            connection.execute(update(_jobs).where(self._mine(job_id)).values(values))

    def _mine(self, job_id: str) -> Any:
        return and_(_jobs.c.id == job_id, _jobs.c.state == RUNNING, _jobs.c.owner == self.owner)

    def beat(self) -> None:
        """Tell the other servers that this one lives."""
        with self._change() as connection:
            mine = and_(_jobs.c.state.in_([RUNNING, UPLOADING]), _jobs.c.owner == self.owner)
            connection.execute(update(_jobs).where(mine).values(heard_s=time.time()))

    def recover(self, at_work: Collection[str] = (), is_start: bool = False) -> None:
        """Queue again what dead servers had begun, and what this one has begun and is not `at_work` with.

        A job with which servers died too often has failed. Of half an upload nothing stays; at its start, a server
        counts its own among them.
        """
        silent = and_(_jobs.c.heard_s < time.time() - LEASE_S, _jobs.c.owner != self.owner)
        mine = _jobs.c.owner == self.owner
        dead = or_(silent, and_(mine, _jobs.c.id.not_in(list(at_work))))
        begun = and_(_jobs.c.state == RUNNING, dead)
        message = f"the server died {ATTEMPTS} times while it was at it"
        failed = {"state": FAILED, "error": message, "owner": None, "finished_s": time.time()}
        with self._change() as connection:
            hopeless = and_(begun, _jobs.c.attempts >= ATTEMPTS)
            connection.execute(update(_jobs).where(hopeless).values(failed))
            connection.execute(update(_jobs).where(begun).values(state=QUEUED, owner=None, step=None))
            half = and_(_jobs.c.state == UPLOADING, or_(silent, mine) if is_start else silent)
            connection.execute(update(_jobs).where(half).values(state=DELETED, owner=None))

    def expire(self, keep_s: float) -> None:
        """Delete jobs that were finished longer ago than `keep_s`."""
        finished = and_(_jobs.c.state.in_([DONE, FAILED]), _jobs.c.finished_s < time.time() - keep_s)
        with self._change() as connection:
            connection.execute(update(_jobs).where(finished).values(state=DELETED))

    def delete(self, job_id: str) -> bool:
        """Delete a job: clients see it no more, its files go with `deleted`; False if there is none."""
        shown = and_(_jobs.c.id == job_id, _jobs.c.state != DELETED)
        with self._change() as connection:
            return bool(connection.execute(update(_jobs).where(shown).values(state=DELETED)).rowcount)

    def deleted(self) -> list[str]:
        """Return the jobs whose files this server has to remove: none that another server is at."""
        free = or_(
            _jobs.c.owner.is_(None), _jobs.c.owner == self.owner, _jobs.c.heard_s < time.time() - LEASE_S
        )
        with self._change() as connection:
            rows = connection.execute(select(_jobs.c.id).where(_jobs.c.state == DELETED, free)).all()
        return [row[0] for row in rows]

    def forget(self, job_ids: Collection[str]) -> None:
        """Remove jobs whose files are gone."""
        with self._change() as connection:
            connection.execute(delete(_jobs).where(_jobs.c.id.in_(list(job_ids))))

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for writers
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _job_of(row: Row[Any]) -> StoredJob:
    found = dict(row._mapping)
    found.pop("heard_s")
    found["options"] = json.loads(found["options"])
    found["summary"] = None if found["summary"] is None else json.loads(found["summary"])
    return StoredJob(**found)
