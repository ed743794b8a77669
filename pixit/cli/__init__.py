"""The command line: a file each command; each parses, calls, prints.

Everything heavy is imported by the command that needs it, so that ``pixit --help`` is quick.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from pixit.cli.console import complain
from pixit.types import PixitError, printable

COMMANDS = ["separate", "transcribe", "train", "simulate", "evaluate", "export", "data", "report"]

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
}
"""Optional package -> extra of pixit-audio that brings it."""

ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
"""What a machine may refuse: no bug of ours."""

CONTEXT = {
    "token_normalize_func": lambda name: name.replace("_", "-"),  # --num_speakers is --num-speakers
    "help_option_names": ["-h", "--help"],
}


class Commands(click.Group):
    """All commands, each imported when it is asked for; reports an error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"pixit.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PixitError as error:
            fail(ctx, error)
        except click.ClickException as error:
            error.message = printable(error.message)
            raise
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


def fail(ctx: click.Context, error: PixitError | str) -> NoReturn:
    """Print an error and end the program."""
    complain(error)
    ctx.exit(2)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(message="pixit %(version)s", package_name="pixit-audio")
def cli() -> None:
    """One clean audio track per speaker of a real meeting, and who spoke when."""


def main() -> None:
    """Run the command line."""
    # Threads of torch that wait by spinning take the very cores they wait for: on a busy machine that is many
    # times slower. Read when torch is imported; who sets it keeps it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ("SIGTERM", "SIGHUP"):  # end as after Ctrl-C, so that temporary folders are removed
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup stays nohup
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    cli(prog_name="pixit")
