"""Download the AMI meeting corpus: the manual annotations, and the audio of one kind of microphone.

python recipes/ami/download.py DATA --microphone sdm

Files that are complete are left alone, and half ones continued, so that the command can be repeated.
"""

from __future__ import annotations

import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import click

from corpus import MANUAL, MICROPHONES, audio_files
from pixit.cli.console import complain, progress, run, say
from pixit.types import PixitError

MIRROR = "https://groups.inf.ed.ac.uk/ami"
LISTS = Path(__file__).resolve().parent / "lists"
TIMEOUT_S = 60


@click.command()
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option("--microphone", type=click.Choice(list(MICROPHONES)), default="sdm", show_default=True)
@click.option("--subset", type=click.Choice(["train", "development", "test"]), help="[default: all three]")
@click.option("--mirror", default=MIRROR, show_default=True)
@click.option("--attempts", type=click.IntRange(1), default=5, show_default=True, help="tries for each file")
@click.option("--quiet", is_flag=True, help="print errors only")
def main(data: Path, microphone: str, subset: str | None, mirror: str, attempts: int, quiet: bool) -> None:
    """Download annotations and audio into the folder DATA."""
    archive = f"{MANUAL}.zip"
    if not (data / MANUAL / "corpusResources" / "meetings.xml").exists():
        fetch(f"{mirror}/AMICorpusAnnotations/{archive}", data / archive, attempts)
        unpack(data / archive, data / MANUAL)
    subsets = [subset] if subset else ["train", "development", "test"]
    meetings = [name for each in subsets for name in (LISTS / f"{each}.txt").read_text().split()]
    paths = [path for meeting in meetings for path in audio_files(data, meeting, microphone)]
    failed = 0
    with progress("AMI", quiet) as hook:
        for completed, path in enumerate(paths):
            hook("downloading", None, total=len(paths), completed=completed)
            url = f"{mirror}/AMICorpusMirror/{path.relative_to(data).as_posix()}"
            try:
                fetch(url, path, attempts)
            except PixitError as error:  # the others may be there
                failed += 1
                complain(error)
    say(f"{data}: has {len(paths) - failed} of {len(paths)} audio files", quiet)
    if failed:
        sys.exit(2)


def fetch(url: str, path: Path, attempts: int) -> None:
    """Download a file, whole or not at all; what an earlier try has of it, in ``<name>.part``, is continued.

    Raises
    ------
    PixitError
        If the server has no such file, or every attempt fails.
    """
    part = path.with_name(f"{path.name}.part")
    problem = ""
    for attempt in range(attempts):
        if path.exists():
            return
        time.sleep(min(2**attempt - 1, 30))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _fetch_rest(url, part):
                part.replace(path)
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code in (403, 404):
                break
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            problem = str(error)
    if not path.exists():
        raise PixitError(f"{url}: cannot be downloaded ({problem}); run the command again to continue")


def _fetch_rest(url: str, part: Path) -> bool:
    """Append to `part` what is missing; return whether it is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send
            raise
        is_whole = error.headers.get("Content-Range", "").endswith(f"/{have}")
        if not is_whole:
            part.unlink()
        return is_whole
    with response:
        continues = response.status == 206
        promised = int(response.headers.get("Content-Length", -1))
        with part.open("ab" if continues else "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
    whole = promised + (have if continues else 0)
    return promised < 0 or part.stat().st_size == whole


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the annotations, whole or not at all."""
    temporary = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(temporary)
    except zipfile.BadZipFile as error:
        raise PixitError(f"{archive}: is damaged ({error}); remove it and download it again") from None
    temporary.replace(folder)


if __name__ == "__main__":
    run(main)
