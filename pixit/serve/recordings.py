"""Jobs by HTTP: a recording is uploaded, its job asked after, its results fetched, all of it deleted."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from pixit.files import write_all
from pixit.serve.guard import key_of
from pixit.serve.jobs import JobOptions, Jobs
from pixit.serve.limits import Refusal, ServeSettings
from pixit.serve.results import MEDIA_TYPES, Results
from pixit.serve.storage import DONE, FAILED, QUEUED, RUNNING, StoredJob
from pixit.types import PixitError, one_line

JOB_ID = re.compile("[0-9a-f]{32}")
SPARE_BYTES = 256 << 20
"""What is left free on the disk, for results."""
INTERACTIVE = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "sandbox allow-scripts allow-downloads allow-modals"
)
"""Policy of a report: it carries its scripts, and may reach nothing, not even this server."""


class Recordings:
    """Answers the requests about jobs.

    Parameters
    ----------
    settings, jobs, results, token
        What is allowed; who does the work; what comes of it; what makes keys.
    """

    def __init__(self, settings: ServeSettings, jobs: Jobs, results: Results, token: str | None) -> None:
        self._settings, self._jobs, self._results, self._token = settings, jobs, results, token
        self._storage = jobs.storage

    async def create(self, request: Request) -> Response:
        """``POST /v1/recordings``: take a recording to disk, and queue its job."""
        options = parse_options(dict(request.query_params))
        self._check_length(request.headers.get("content-length"))
        counts = await asyncio.to_thread(self._storage.count)
        if counts[QUEUED] + counts.get("uploading", 0) >= self._settings.max_queue:
            raise Refusal(503, "busy", "too many jobs wait; try again later", {"Retry-After": "60"})
        job_id = await asyncio.to_thread(self._jobs.begin, options)
        try:
            await self._receive(request, self._jobs.recording_of(job_id))
            await asyncio.to_thread(self._jobs.queue, job_id)
        except BaseException:  # half a recording is none
            self._jobs.delete(job_id)
            raise
        return JSONResponse(await self._describe(job_id), 202, {"Location": f"/v1/jobs/{job_id}"})

    def _check_length(self, stated: str | None) -> None:
        most = self._settings.max_upload_bytes
        size = int(stated) if stated is not None and stated.isdecimal() else 0
        if size > most:
            raise Refusal(413, "too_large", f"a recording has at most {most} bytes", {"Connection": "close"})
        if shutil.disk_usage(self._settings.folder).free < (size or most) + SPARE_BYTES:
            raise Refusal(507, "disk_full", "the server's disk is too full for more recordings")

    async def _receive(self, request: Request, path: Path) -> None:
        """Write the body of a request into a file, as it comes."""
        most, size = self._settings.max_upload_bytes, 0
        chunks = request.stream()
        with path.open("xb", buffering=0) as file:
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(chunks, b""), self._settings.idle_s)
                except TimeoutError:
                    raise Refusal(
                        408, "idle", "the recording does not go on", {"Connection": "close"}
                    ) from None
                except ClientDisconnect:
                    raise Refusal(400, "broken", "the recording was cut off") from None
                if not chunk:
                    break
                size += len(chunk)
                if size > most:
                    raise Refusal(
                        413, "too_large", f"a recording has at most {most} bytes", {"Connection": "close"}
                    )
                try:
                    await asyncio.to_thread(write_all, file, chunk)
                except OSError:
                    raise Refusal(
                        507, "disk_full", "the server's disk is full", {"Connection": "close"}
                    ) from None
        if not size:
            raise Refusal(400, "empty", "found no recording; expected the bytes of an audio file as the body")

    async def show(self, request: Request) -> Response:
        """``GET /v1/jobs/ID``: tell how far a job is."""
        return JSONResponse(await self._describe(request.path_params["job_id"]))

    async def remove(self, request: Request) -> Response:
        """``DELETE /v1/jobs/ID``: stop a job and remove its recording and results."""
        job = await self._find(request.path_params["job_id"])
        await asyncio.to_thread(self._jobs.delete, job.id)
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        """``GET /v1/jobs/ID/NAME``: send a result."""
        job = await self._finished(request.path_params["job_id"])
        name = request.path_params["name"]
        path = await self._results.find(job, name)
        return self._send(path, f"result{path.suffix}" if name != "timeline" else path.name, name == "report")

    async def track(self, request: Request) -> Response:
        """``GET /v1/jobs/ID/tracks/SPEAKER``: send a track."""
        job = await self._finished(request.path_params["job_id"])
        path = await self._results.track(job, request.path_params["speaker"])
        return self._send(path, path.name, False)

    def _send(self, path: Path, name: str, is_page: bool) -> Response:
        if not path.is_file():  # deleted since
            raise Refusal(404, "not_found", "the result is not there any more")
        headers = {"Content-Security-Policy": INTERACTIVE} if is_page else {}
        headers["Cache-Control"] = "private, no-store"
        kind = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        disposition = "inline" if is_page else "attachment"
        return FileResponse(path, 200, headers, kind, filename=name, content_disposition_type=disposition)

    async def _find(self, job_id: str) -> StoredJob:
        job = await asyncio.to_thread(self._storage.get, job_id) if JOB_ID.fullmatch(job_id) else None
        if job is None:
            raise Refusal(404, "not_found", "there is no such job, or it was deleted or has expired")
        return job

    async def _finished(self, job_id: str) -> StoredJob:
        job = await self._find(job_id)
        if job.state != DONE:
            reason = f"the job is {job.state}" + (f": {job.error}" if job.error else "")
            raise Refusal(409, "not_done", f"there is no result, {reason}")
        return job

    async def _describe(self, job_id: str) -> dict[str, Any]:
        job = await self._find(job_id)
        shown: dict[str, Any] = {"id": job.id, "state": job.state, "options": job.options}
        shown |= {"created_s": job.created_s, "finished_s": job.finished_s, "error": job.error}
        if job.state == QUEUED:
            shown["place"] = await asyncio.to_thread(self._storage.place, job)
        if job.state == RUNNING and job.step is not None:
            shown["progress"] = {"step": job.step, "completed": job.completed, "total": job.total}
        if job.state in (DONE, FAILED) and job.finished_s is not None:
            shown["expires_s"] = job.finished_s + self._settings.keep_s
        if job.state == DONE and job.summary is not None:
            shown["result"] = job.summary | {"links": self._links(job)}
        return shown

    def _links(self, job: StoredJob) -> dict[str, Any]:
        key = key_of(job.id, self._token)
        place, end = f"/v1/jobs/{job.id}", "" if key is None else f"?key={key}"
        names = ("rttm", "json", "timeline", "report", "zip")
        tracks = (job.summary or {})["tracks"]
        links: dict[str, Any] = {name: f"{place}/{name}{end}" for name in names}
        links["tracks"] = {name: f"{place}/tracks/{quote(name, safe='')}{end}" for name in tracks}
        return links


def parse_options(given: dict[str, str]) -> JobOptions:
    """Read what is asked of a job from a query; a Refusal if it is not what it should be."""
    values: dict[str, Any] = {}
    for name, text in given.items():
        values[name] = int(text) if re.fullmatch(r"-?\d{1,9}", text) else text
        if text in ("true", "false") and name in ("channels_are_speakers", "tracks"):
            values[name] = text == "true"
    try:
        return JobOptions.model_validate(values)
    except PixitError as error:
        raise Refusal(400, "bad_options", str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        expected = ", ".join(JobOptions.model_fields)
        reason = f"{'.'.join(map(str, first['loc'][:1]))}: {one_line(first['msg'])}"
        raise Refusal(400, "bad_options", f"{one_line(reason)}; expected some of {expected}") from None
