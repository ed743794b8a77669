"""What the commands have in common: options, the lines that they print, bars of progress."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import click
from click.core import ParameterSource

from pixit.evaluation.tables import FORMATS, Table, check_path
from pixit.files import check_writable
from pixit.types import PixitError, printable

# --- options --------------------------------------------------------------------------------------------

PATH = click.Path(path_type=Path)


def check_outputs(ctx: click.Context, option: click.Parameter, outputs: tuple[Path, ...]) -> tuple[Path, ...]:
    """Raise a `PixitError`, before any work, if no table can be written to one of the files."""
    for output in outputs:
        check_path(output)
    return outputs


def check_file_option(ctx: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Raise a `PixitError`, before any work, if what is to be a file is a folder."""
    if path is not None:
        check_writable(path)
    return path


def is_given(context: click.Context, name: str) -> bool:
    """Return whether an option was given, be it as the default has it."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def examples(*lines: str) -> str:
    """Return the end of a command's help: lines to copy."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


device_option = click.option("--device", default="auto", show_default=True, help="cpu, cuda, …")


model_option = click.option(
    "--model",
    help="folder or hub name of another model, of model and embedder, or of a pipeline of pyannote.audio",
)
embedder_option = click.option("--embedder", help="folder or hub name of another speaker embedder")


def networks_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the networks, and say where they run."""
    return model_option(embedder_option(device_option(command)))


format_option = click.option(
    "--format", type=click.Choice(list(FORMATS.values())), default="text", show_default=True
)
outputs_option = click.option(
    *("-o", "--output", "outputs"),
    multiple=True,
    type=PATH,
    callback=check_outputs,
    help=f"write the table to a file: {', '.join(FORMATS)}; may be repeated",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="print errors only")
settings_option = click.option(
    "--settings", type=PATH, help="YAML file of settings, as pixit tune writes it; --set goes before it"
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting, as section.key=value"
)


class SettingsCommand(click.Command):
    """A command with options for fields of a settings class, which show its defaults and descriptions.

    The class, ``"module.Class"``, is imported only when the command runs or shows its help: it takes a second.
    `fields` names the option of each field (several names are divided by slashes); one that is not given is None, a
    pair of numbers is as ``2-4``.
    """

    def __init__(self, *args: Any, settings: str, fields: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings, self.fields = settings, fields

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        module, _, name = self.settings.rpartition(".")
        model_fields = getattr(import_module(module), name).model_fields
        options = []
        for name, option in self.fields.items():
            field = model_fields[name]
            is_pair = get_origin(field.annotation) is tuple
            default = "-".join(map(str, field.default)) if is_pair else str(field.default)
            kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType] or [
                field.annotation
            ]
            told = "" if field.default is None else f"  [default: {default}]"
            options.append(
                click.Option(
                    [*option.split("/"), name],
                    type=str if is_pair else kinds[0],
                    metavar="MIN-MAX" if is_pair else None,
                    help=f"{field.description or name.replace('_', ' ')}{told}",
                )
            )
        *own, help_option = super().get_params(ctx)
        return [*own, *options, help_option]


def collect_overrides(overrides: Iterable[str], **options: Any) -> list[str]:
    """Return options that were given, and those of ``--set`` after them, as ``key=value``."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, str) and (pair := re.fullmatch(r"(\d+)(?:-(\d+))?", value)):
            given[name] = [int(pair[1]), int(pair[2] or pair[1])]
    return [*(f"{name}={value}" for name, value in given.items()), *overrides]


known_option = click.option(
    "--known-speakers",
    type=PATH,
    metavar="DIR",
    help="recordings of people, DIR/Ann.wav or DIR/Ann/*.wav, or a result in which speakers have names: who is heard "
    "again has that name",
)

REFERENCES = [
    click.Option(
        ["--recordings"], multiple=True, type=PATH, help="recording, or folder of them; may be repeated"
    ),
    click.Option(["--references"], type=PATH, help="RTTM file or folder of them: who really speaks when"),
    click.Option(["--uem"], type=PATH, help="UEM file or folder of them: what is scored  [default: all]"),
    click.Option(["--database"], type=PATH, help="database.yml of pyannote.database, instead of these"),
    click.Option(["--protocol"], help="of the database, where it has several"),
    click.Option(
        ["--subset"],
        default="development",
        show_default=True,
        type=click.Choice(["train", "development", "test"]),
        help="of the protocol",
    ),
]
"""Recordings with references; their values are those of `find_references`."""

# --- what is printed ------------------------------------------------------------------------------------


def say(line: str, quiet: bool = False) -> None:
    """Print a line."""
    if not quiet:
        click.echo(printable(line))


def complain(error: PixitError | str) -> None:
    """Print an error as one line."""
    click.echo(printable(f"pixit: error: {' '.join(str(error).split())}"), err=True)


def warn(notes: Iterable[str]) -> None:
    """Print what the user should know, each as one line."""
    for note in notes:
        click.echo(printable(f"pixit: warning: {' '.join(note.split())}"), err=True)


@contextmanager
def telling_warnings() -> Iterator[None]:
    """Print what the library warns the user of, each as one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    warn(str(warning.message) for warning in caught)


def show_table(table: Table, format: str, outputs: Iterable[Path], quiet: bool = False) -> None:
    """Print a table, and write it to files."""
    for output in outputs:
        table.save(output)
    say(table.render(format).rstrip("\n"), quiet)


def run(command: Callable[[], Any]) -> None:
    """Run the command of a script; bad input ends it with one line and status 2, as `pixit` itself."""
    try:
        command()
    except PixitError as error:
        complain(error)
        sys.exit(2)


class Bars:
    """Bars for the steps of work, as a hook in pyannote.audio's form; they vanish when the work is done.

    Without a `name` of what is worked on, they have that of the file that the hook is given. Where nobody looks
    they are not shown.
    """

    def __init__(self, name: str | None, is_shown: bool) -> None:
        self.has_complained = False
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
        name = printable(f"{name}: {step}" if name else step)
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name)
        self._progress.update(self._bars[name], total=total, completed=completed)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        percent = TextColumn("{task.percentage:3.0f} %")
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), percent, TimeRemainingColumn())
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

    def complain(self, error: PixitError | str) -> None:
        """Print an error where the bars were; the work goes on, and `progress` ends with status 2."""
        self.clear()
        complain(error)
        self.has_complained = True


@contextmanager
def progress(name: str | None, quiet: bool) -> Iterator[Bars]:
    """Show bars while something is worked on; end the program with status 2 if there were complaints."""
    bars = Bars(name, not quiet)
    try:
        yield bars
    finally:
        bars.clear()
    if bars.has_complained:
        raise click.exceptions.Exit(2)
