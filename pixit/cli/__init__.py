"""The command line: its commands parse, call, print.

Everything heavy is imported by the command that needs it, so that ``pixit --help`` is quick.
"""

from __future__ import annotations

import difflib
import errno
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from pixit.cli.console import complain, examples
from pixit.types import PixitError, printable

COMMANDS = {
    "separate": "separate",
    "diarize": "separate",
    "transcribe": "transcribe",
    "stream": "stream",
    "train": "train",
    "train-speaker": "train_speaker",
    "simulate": "data",
    "serve": "serve",
    "client": "serve",
    "evaluate": "evaluate",
    "tune": "tune",
    "benchmark": "benchmark",
    "export": "results",
    "data": "data",
    "report": "results",
    "rename": "results",
    "correct": "results",
    "download": "models",
    "convert": "models",
    "push": "models",
}
"""Command -> the module of `pixit.cli` that holds it."""

EXTRAS = {
    "pytorch_lightning": "train",
    "tensorboard": "train",
    "pyannote.database": "train",
    "pyannote.metrics": "eval",
    "meeteval": "eval",
    "fast_bss_eval": "eval",
    "pesq": "eval",
    "pystoi": "eval",
    "pocketsphinx": "eval",
    "whisper": "eval",
    "faster_whisper": "faster-whisper",
    "pyroomacoustics": "train",
    "praatio": "export",
    "pympi": "export",
    "transformers": "wavlm",
    "peft": "wavlm",
    "ray": "ray",
    "optuna": "tune",
    "sounddevice": "stream",
    "websockets": "stream",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "sqlalchemy": "serve",
    "psycopg": "postgresql",
}
"""Optional package -> extra of pixit-audio that brings it."""

ENVIRONMENT = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ENAMETOOLONG,
)
"""What a machine may refuse: no bug of ours."""

CONTEXT = {
    "token_normalize_func": lambda name: name.replace("_", "-"),  # --num_speakers is --num-speakers
    "help_option_names": ["-h", "--help"],
}


class Commands(click.Group):
    """All commands, each imported when it is asked for; reports an error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pixit.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """``pixit FILE…`` is ``pixit separate FILE…``; of anything else the nearest command is named."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("--"):
            if _is_recording(name):
                args = ["separate", *args]
            elif near := difflib.get_close_matches(name, COMMANDS, n=1):
                ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")
            else:
                ctx.fail(
                    f"No such command, file or folder {name!r}. Commands: {', '.join(COMMANDS)}; a recording is "
                    "separated"
                )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PixitError as error:
            fail(ctx, error)
        except click.ClickException as error:
            raise click.UsageError(printable(error.format_message()), getattr(error, "ctx", None)) from None
        except ModuleNotFoundError as error:
            package = next((name for name in EXTRAS if f"{error.name}.".startswith(f"{name}.")), None)
            if package is None:
                raise
            fail(ctx, f"{package} is not installed; run pip install 'pixit-audio[{EXTRAS[package]}]'")
        except OSError as error:
            if error.errno not in ENVIRONMENT:
                raise
            place = error.filename or "temporary files"
            fail(ctx, f"{place}: {error.strerror}; check space and rights (TMPDIR is for temporary files)")
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def _is_recording(name: str) -> bool:
    from pixit.formats.names import AUDIO_ENDINGS

    return name == "-" or "://" in name or name.lower().endswith(AUDIO_ENDINGS) or Path(name).exists()


def fail(ctx: click.Context, error: PixitError | str) -> NoReturn:
    """Print an error and end the program."""
    complain(error)
    ctx.exit(2)


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    epilog=examples(
        "pixit meeting.wav", "pixit separate meeting.wav -n 4 -o separated", "pixit report separated"
    ),
)
@click.version_option(None, "-v", "-V", "--version", message="pixit %(version)s", package_name="pixit-audio")
def cli() -> None:
    """One clean audio track per speaker of a real meeting, and who spoke when.

    `pixit FILE…` is `pixit separate FILE…`.
    """


def main() -> None:
    """Run the command line."""
    # Threads of torch that wait for each other by spinning take, on a busy machine, the very cores they wait for;
    # those that sleep at once are many times slower on a quiet one. So they spin for some microseconds. Read when
    # torch is imported; who sets one of them keeps it.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for name in ("SIGTERM", "SIGHUP"):  # end as after Ctrl-C, so that temporary folders are removed
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup stays nohup
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    cli(prog_name="pixit")
