"""What the commands say and show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from pixit.types import PixitError


def say(line: str, quiet: bool = False) -> None:
    """Print a line."""
    if not quiet:
        click.echo(line)


def complain(error: PixitError | str) -> None:
    """Print an error as one line."""
    click.echo(f"pixit: error: {' '.join(str(error).split())}", err=True)


def warn(notes: Iterable[str]) -> None:
    """Print what the user should know, each as one line."""
    for note in notes:
        click.echo(f"pixit: warning: {' '.join(note.split())}", err=True)


def run(command: Callable[[], Any]) -> None:
    """Run the command of a script; bad input ends it with one line and status 2, as `pixit` itself."""
    try:
        command()
    except PixitError as error:
        complain(error)
        sys.exit(2)


class Bars:
    """Bars for the steps of work, as a hook in pyannote.audio's form; they vanish when the work is done.

    Parameters
    ----------
    name
        What is worked on; None for the name of the file that the hook is given.
    is_shown
        Whether to show them at all; where nobody looks they are not shown anyway.
    """

    def __init__(self, name: str | None, is_shown: bool) -> None:
        self._name, self._is_shown = name, is_shown
        self._progress: Any = None
        self._bars: dict[str, Any] = {}

    def __call__(
        self,
        step: str,
        artifact: Any,
        file: Any = None,
        total: int | None = None,
        completed: int | None = None,
    ) -> None:
        """Show how far a step is."""
        if total is None:
            return
        if self._progress is None:
            self._begin()
        name = self._name or getattr(file, "uri", file)
        name = f"{name}: {step}" if name else step
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name)
        self._progress.update(self._bars[name], total=total, completed=completed)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        percent = TextColumn("{task.percentage:3.0f} %")
        columns = (TextColumn("{task.description}"), BarColumn(), percent, TimeRemainingColumn())
        console = Console(stderr=True)
        is_disabled = not self._is_shown or not console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=is_disabled)
        self._progress.start()

    def clear(self) -> None:
        """Remove the bars: what is printed next stands where they were."""
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._bars = None, {}

    def say(self, line: str) -> None:
        """Print a line where the bars were."""
        self.clear()
        say(line, not self._is_shown)


@contextmanager
def progress(name: str | None, quiet: bool) -> Iterator[Bars]:
    """Show bars while something is worked on."""
    bars = Bars(name, not quiet)
    try:
        yield bars
    finally:
        bars.clear()
