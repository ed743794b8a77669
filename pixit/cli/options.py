"""Groups of commands that are loaded when asked for, and options that are made of settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_origin

import click

if TYPE_CHECKING:
    from pixit.config import Settings


class LazyGroup(click.Group):
    """A group whose commands lie in modules of their names, imported when they are asked for.

    Parameters
    ----------
    package
        Where the modules are.
    names
        The commands; each is the function of that name in the module of that name.
    """

    def __init__(self, *args: Any, package: str, names: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package, self.names = package, list(names)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self.names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        command: click.Command = getattr(import_module(f"{self.package}.{cmd_name}"), cmd_name)
        return command


class SettingsCommand(click.Command):
    """A command with options for fields of a settings class, which show its defaults and descriptions.

    The class is imported only when the command runs or shows its help: that may take a second.

    Parameters
    ----------
    settings
        The class, as ``"module.Class"``.
    fields
        Field -> name of its option. An option that is not given is None.
    """

    def __init__(self, *args: Any, settings: str, fields: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings, self.fields = settings, fields

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        module, _, name = self.settings.rpartition(".")
        kind = getattr(import_module(module), name)
        options = [settings_option(kind, field, option) for field, option in self.fields.items()]
        *own, help_option = super().get_params(ctx)
        return [*own, *options, help_option]


def settings_option(kind: type[Settings], name: str, option: str) -> click.Option:
    """Make the option of a field; a pair of numbers is written as ``2-4``."""
    field = kind.model_fields[name]
    is_pair = get_origin(field.annotation) is tuple
    default = "-".join(map(str, field.default)) if is_pair else str(field.default)
    return click.Option(
        [option, name],
        type=str if is_pair else field.annotation,
        metavar="MIN-MAX" if is_pair else None,
        help=f"{field.description or name.replace('_', ' ')}  [default: {default}]",
    )


def collect_overrides(overrides: Iterable[str], **options: Any) -> list[str]:
    """Return options that were given, and those of ``--set`` after them, as ``key=value``."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, str) and (pair := re.fullmatch(r"(\d+)(?:-(\d+))?", value)):
            given[name] = [int(pair[1]), int(pair[2] or pair[1])]
    return [*(f"{name}={value}" for name, value in given.items()), *overrides]


set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting, as section.key=value"
)
