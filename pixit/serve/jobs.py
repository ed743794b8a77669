"""Recordings that were uploaded, separated one after the other by workers in processes of their own.

A server's folder holds ``jobs/ID`` for each job: the ``recording`` as it came, ``result/ID`` as `Separation.save`
writes it, and what was made of that when somebody asked for it. Names in it are the server's: nothing that a client
says becomes part of a path.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pixit.config import Settings
from pixit.diarized import Diarization
from pixit.files import write_text
from pixit.ownership import remove_leftovers
from pixit.pipeline.asked import check_num_speakers
from pixit.pipeline.batch import Job, Outcome
from pixit.pipeline.dispatch import Dispatcher
from pixit.pipeline.workers import Task, Workers
from pixit.results import Separation
from pixit.serve.limits import ServeSettings
from pixit.serve.logs import Log
from pixit.serve.storage import RUNNING, Storage, StorageError, StoredJob
from pixit.types import PixitError, one_line

RECORDING = "recording"
HOUSEKEEPING_S = 5.0
REPORT_S = 0.5
"""How often progress is noted."""
PAUSE_S = 5.0
"""How long nothing is tried after workers could not begin, or the database did not answer."""
MOST_SPEAKERS = 100


class JobOptions(Settings):
    """What a client may ask of a job."""

    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    channel: Literal["best", "mean"] | Annotated[int, Field(ge=0)] = "best"
    stream: int | None = Field(None, ge=0)
    channels_are_speakers: bool = False
    format: Literal["wav", "flac"] = "flac"
    tracks: bool = True

    @model_validator(mode="after")
    def _check(self) -> JobOptions:
        known = self.num_speakers, self.min_speakers, self.max_speakers
        check_num_speakers(*known)
        if any(number is not None and number > MOST_SPEAKERS for number in known):
            raise PixitError(f"expected at most {MOST_SPEAKERS} speakers")
        return self


class Jobs:
    """Takes jobs from the storage, has them done, and keeps house.

    Parameters
    ----------
    settings, storage, log
        What is allowed; where the jobs are; what happened.
    make_workers
        Makes those who separate, as `pixit.pipeline.workers.Workers`; again where none of them could begin. Whatever
        it raises at first is raised here.
    """

    def __init__(
        self, settings: ServeSettings, storage: Storage, make_workers: Callable[[], Workers], log: Log
    ) -> None:
        self.settings, self.storage = settings, storage
        self._make_workers, self._log = make_workers, log
        self._folder = settings.folder.resolve() / "jobs"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._told: dict[str, float] = {}
        self._at_work: set[str] = set()
        self._wake, self._ends = threading.Event(), threading.Event()
        self._kept_s = 0.0
        self._dispatcher: Dispatcher | None = self._make_dispatcher()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Queue again what this server had begun when it died, and begin."""
        self.storage.recover(is_start=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what can be finished in the time of grace, and put back the rest: the next start begins it again."""
        self._ends.set()
        self._wake.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def folder_of(self, job_id: str) -> Path:
        """Return the folder of a job that the storage knows."""
        return self._folder / job_id

    def recording_of(self, job_id: str) -> Path:
        """Return the file of a job's recording."""
        return self.folder_of(job_id) / RECORDING

    def result_of(self, job_id: str) -> Path:
        """Return the folder of a job's result."""
        return self.folder_of(job_id) / "result" / job_id

    def begin(self, options: JobOptions) -> str:
        """Make a job whose recording is on its way, and return its name."""
        job_id = secrets.token_hex(16)
        self.storage.add(job_id, options.model_dump(mode="json", exclude_defaults=True))
        self.folder_of(job_id).mkdir(mode=0o700)
        (self.folder_of(job_id) / "result").mkdir()
        return job_id

    def queue(self, job_id: str) -> None:
        """Queue a job whose recording is there."""
        self.storage.queue(job_id)
        self._wake.set()

    def delete(self, job_id: str) -> bool:
        """Delete a job; False if there is none."""
        is_deleted = self.storage.delete(job_id)
        self._kept_s = 0.0
        self._wake.set()
        return is_deleted

    def _make_dispatcher(self) -> Dispatcher:
        return Dispatcher(self._make_workers(), self._progressed, lambda _: None)

    def _work(self) -> None:
        while not self._ends.is_set():
            try:
                if self._dispatcher is None:
                    self._dispatcher = self._make_dispatcher()
                self._take(self._dispatcher)
                self._listen(self._dispatcher, 0.5)
                self._keep_house(self._dispatcher)
            except (StorageError, OSError) as error:  # that may pass: what is at work goes on
                self._log("jobs_wait", level="error", reason=one_line(error))
                self._ends.wait(PAUSE_S)
            except PixitError as error:  # no worker can begin
                self._log("workers_failed", level="error", reason=str(error))
                self._put_all_back()
                self._ends.wait(PAUSE_S)
        self._park()

    def _take(self, dispatcher: Dispatcher) -> None:
        while len(self._at_work) < dispatcher.workers.count:
            job = self.storage.claim()
            if job is None:
                return
            self._at_work.add(job.id)
            self._log("job_begins", job=job.id[:8], attempt=job.attempts)
            dispatcher.submit(Task(job.id, self.recording_of(job.id), self._job_of(job)))

    def _job_of(self, job: StoredJob) -> Job:
        options = JobOptions.model_validate(job.options)
        return Job(
            *(
                self.folder_of(job.id) / "result",
                options.num_speakers,
                options.min_speakers,
                options.max_speakers,
            ),
            channel=options.channel,
            format=options.format if options.tracks else None,
            overwrite=True,  # of what a killed server left
            stream=options.stream,
            channels_are_speakers=options.channels_are_speakers,
            known_speakers=None if options.channels_are_speakers else self.settings.known_speakers,
        )

    def _listen(self, dispatcher: Dispatcher, timeout_s: float) -> None:
        if not dispatcher.num_open:
            self._wake.wait(timeout_s)
            self._wake.clear()
        elif (outcome := dispatcher.next(timeout_s)) is not None:
            self._finish(outcome)

    def _progressed(self, step: str, _: Any, file: str, total: int, completed: int) -> None:
        now_s = time.monotonic()
        if completed == total or now_s - self._told.get(file, 0.0) >= REPORT_S:
            self._told[file] = now_s
            try:
                self.storage.report(file, step, completed, total)
            except StorageError as error:  # what else the workers have just said must not be lost with it
                self._log("progress_lost", level="warning", job=file[:8], reason=one_line(error))

    def _finish(self, outcome: Outcome) -> None:
        job_id = outcome.uri
        self._at_work.discard(job_id)
        self._told.pop(job_id, None)
        if outcome.result is not None:
            try:
                self._hide_paths_of_result(job_id)
            except (PixitError, OSError) as refused:  # of a full disk, say: other jobs go on
                outcome = replace(outcome, result=None, error=PixitError(str(refused)))
        if outcome.result is None:  # where it lies on this machine is nobody's business
            error = self._hide_paths(str(outcome.error), job_id)
            is_ours = self.storage.finish(job_id, None, error)
        else:
            summary = summarise(outcome.result, outcome.elapsed_s)
            summary["warnings"] = [self._hide_paths(warning, job_id) for warning in summary["warnings"]]
            is_ours = self.storage.finish(job_id, summary)
        if is_ours:
            state = "failed" if outcome.result is None else "done"
            self._log("job_ends", job=job_id[:8], state=state, elapsed_s=outcome.elapsed_s)

    def _hide_paths(self, text: str, job_id: str) -> str:
        for path in (str(self.recording_of(job_id)), str(self.folder_of(job_id)), job_id):
            text = text.replace(path, RECORDING)
        return text

    def _hide_paths_of_result(self, job_id: str) -> None:
        description = self.result_of(job_id) / f"{job_id}.json"
        text = description.read_text(encoding="utf-8")
        write_text(description, text.replace(str(self.recording_of(job_id)), RECORDING))

    def _keep_house(self, dispatcher: Dispatcher) -> None:
        if time.monotonic() - self._kept_s < HOUSEKEEPING_S:
            return
        self._kept_s = time.monotonic()
        self.storage.beat()
        self.storage.recover(self._at_work)
        self.storage.expire(self.settings.keep_s)
        for job_id in list(self._at_work):
            job = self.storage.get(job_id)
            if job is None or job.state != RUNNING or job.owner != self.storage.owner:
                dispatcher.drop(job_id)
                self._at_work.discard(job_id)
                self._told.pop(job_id, None)
        removed = [job_id for job_id in self.storage.deleted() if self._remove(job_id)]
        self.storage.forget(removed)

    def _remove(self, job_id: str) -> bool:
        folder = self.folder_of(job_id)
        shutil.rmtree(folder, ignore_errors=True)  # a worker that is just ending may still write into it
        return not folder.exists()

    def _put_all_back(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close()
        self._dispatcher = None
        for job_id in self._at_work:
            with suppress(StorageError):  # then they are recovered later
                self.storage.put_back(job_id)
            remove_leftovers(self.folder_of(job_id) / "result")
        self._at_work.clear()

    def _park(self) -> None:
        end_s = time.monotonic() + self.settings.grace_s
        try:
            while self._dispatcher and self._at_work and (left_s := end_s - time.monotonic()) > 0:
                self._listen(self._dispatcher, min(left_s, 0.5))
        except (PixitError, OSError) as error:
            self._log("workers_failed", level="error", reason=one_line(error))
        self._log("jobs_parked", count=len(self._at_work))
        self._put_all_back()


def summarise(result: Diarization, elapsed_s: float | None) -> dict[str, Any]:
    """Return what a client wants to know first of a result."""
    tracks = result.tracks if isinstance(result, Separation) else {}
    return {
        "duration_s": round(result.duration_s, 3),
        "sample_rate": result.sample_rate_hz,
        "speakers": result.speakers,
        "tracks": [speaker for speaker in result.speakers if speaker in tracks],
        "warnings": [
            warning.replace("--stream", "stream=") for warning in result.settings.get("warnings", ())
        ],
        "elapsed_s": None if elapsed_s is None else round(elapsed_s, 2),
    }
