"""What the commands say and show, and the files and folders that they are given."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from pixit.formats.names import AUDIO_ENDINGS
from pixit.types import PixitError


def say(line: str, quiet: bool = False) -> None:
    """Print a line."""
    if not quiet:
        click.echo(line)


def complain(error: PixitError | str) -> None:
    """Print an error as one line."""
    click.echo(f"pixit: error: {' '.join(str(error).split())}", err=True)


def run(command: Callable[[], Any]) -> None:
    """Run the command of a script; bad input ends it with one line and status 2, as `pixit` itself."""
    try:
        command()
    except PixitError as error:
        complain(error)
        sys.exit(2)


@contextmanager
def progress(name: str, quiet: bool) -> Iterator[Any]:
    """Show a bar for each step of a hook in pyannote.audio's form; none where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bars: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:

        def hook(
            step: str, artifact: Any, file: Any = None, total: int | None = None, completed: int | None = None
        ) -> None:
            if total is not None:
                if step not in bars:
                    bars[step] = bar.add_task(f"{name}: {step}")
                bar.update(bars[step], total=total, completed=completed)

        yield hook


def find_recordings(given: Iterable[Path]) -> list[Path]:
    """Return the files among `given` and in its folders, each once."""
    found: dict[Path, Path] = {}
    for path in given:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in AUDIO_ENDINGS and p.is_file())
            inside = [p for p in inside if not p.name.startswith(".")]
        if not inside:
            raise PixitError(f"{path}: holds no recordings; expected files as {' '.join(AUDIO_ENDINGS)}")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make a folder and try to write into it; if it is new and stays empty, remove it at the end.

    Raises
    ------
    PixitError
        If that cannot be done.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".pixit-", dir=folder).cleanup()
    except OSError as error:
        raise PixitError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
