"""What clients can fetch of a finished job: files of its result, and what is made of that once somebody asks."""

from __future__ import annotations

import asyncio
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from pixit.files import whole_file
from pixit.results import Separation
from pixit.serve.jobs import Jobs
from pixit.serve.limits import Refusal
from pixit.serve.logs import Log
from pixit.serve.storage import StoredJob
from pixit.types import PixitError, one_line

MEDIA_TYPES = {
    ".rttm": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".html": "text/html; charset=utf-8",
    ".zip": "application/zip",
}
MAKING = 2
"""How many reports and archives are made at a time."""


class Results:
    """Finds and makes what clients fetch.

    Parameters
    ----------
    jobs, log
        Whose results these are; what happened.
    """

    def __init__(self, jobs: Jobs, log: Log) -> None:
        self._jobs, self._log = jobs, log
        self._making: dict[Path, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(MAKING)

    async def find(self, job: StoredJob, name: str) -> Path:
        """Return the file that a client calls ``rttm``, ``json``, ``timeline``, ``report`` or ``zip``.

        Raises
        ------
        Refusal
            If there is no such result, or it cannot be made.
        """
        result, folder = self._jobs.result_of(job.id), self._jobs.folder_of(job.id)
        there = {"rttm": f"{job.id}.rttm", "json": f"{job.id}.json", "timeline": "timeline.png"}
        if name in there:
            return result / there[name]
        if name == "report":
            return await self._make(folder / "report.html", lambda path: write_report(result, path))
        if name == "zip":
            return await self._make(
                folder / "result.zip", lambda path: asyncio.to_thread(write_zip, result, path)
            )
        raise Refusal(
            404, "not_found", "there is no such result; expected rttm, json, timeline, report or zip"
        )

    async def track(self, job: StoredJob, speaker: str) -> Path:
        """Return the track of a speaker, by the name that the job's description tells."""
        if speaker in (job.summary or {}).get("tracks", ()):
            found = await asyncio.to_thread(Separation.load, self._jobs.result_of(job.id))
            return found.tracks[speaker].path
        raise Refusal(404, "not_found", "there is no track of this name; the job's description lists them")

    async def _make(self, path: Path, make: Callable[[Path], object]) -> Path:
        """Make a file once, whoever asks meanwhile."""
        if not path.exists():
            task = self._making.get(path)
            if task is None:
                task = self._making[path] = asyncio.create_task(self._make_in_turn(path, make))
                task.add_done_callback(lambda _: self._making.pop(path, None))
            await asyncio.shield(task)
        return path

    async def _make_in_turn(self, path: Path, make: Callable[[Path], object]) -> None:
        async with self._places:
            try:
                await make(path)  # type: ignore[misc]
            except (PixitError, OSError) as error:
                self._log("result_failed", level="error", reason=one_line(error))
                raise Refusal(500, "internal", "it could not be made; the server's log says why") from None


async def write_report(result: Path, path: Path) -> None:
    """Write the report of a result, in a process of its own: it reads the recording, which is a stranger's."""
    command = [sys.executable, "-m", "pixit", "report", str(result), "-o", str(path), "--quiet"]
    nowhere, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=nowhere, stdout=nowhere, stderr=pipe)
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise PixitError(one_line(said.decode(errors="replace"), 500) or f"status {process.returncode}")


def write_zip(result: Path, path: Path) -> None:
    """Write all files of a result into an archive; sound is not compressed again."""
    with whole_file(path) as new, zipfile.ZipFile(new, "w") as archive:
        for file in sorted(result.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                is_sound = file.suffix in (".wav", ".flac", ".png")
                kind = zipfile.ZIP_STORED if is_sound else zipfile.ZIP_DEFLATED
                archive.write(file, f"{result.name}/{file.name}", kind)
