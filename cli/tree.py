"""The commands of `mdm`: each is imported when it is called; until then its name, place and summary suffice."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperOption

from cli.option_names import named_in_errors


def _skip_pydantic(kind: Any) -> None:  # noqa: ANN401 - one of Typer's two kinds of parameters
    """Let Typer convert only values that need it, as it imports pydantic even for strings and defaults.

    If a version of Typer converts in another way, this has no effect.
    """
    converter: Any = getattr(kind, "get_runtime_param", None)

    def get_runtime_param(parameter: Any) -> Any:  # noqa: ANN401 - as above
        def coerce(value: object, *, param: Any, ctx: typer.Context) -> object:  # noqa: ANN401 - as above
            source = ctx.get_parameter_source(param.name)
            if param.type_descriptor.annotation is str or (source and source.name == "DEFAULT"):
                return value
            return converter(parameter).coerce(value, param=param, ctx=ctx)

        return SimpleNamespace(coerce=coerce)

    kind.get_runtime_param = get_runtime_param


_skip_pydantic(TyperArgument)
_skip_pydantic(TyperOption)


class Later(TyperCommand):
    """A command, or group of commands, that is imported from `place`, a function or a Typer."""

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._place = place

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as click has it
        """Delegate to the command itself."""
        return self.load().make_context(*arguments, **options)

    def load(self) -> Any:  # noqa: ANN401 - click's type of all commands is private
        """Import and return the command."""
        module, _, name = self._place.partition(":")
        found = getattr(import_module(module), name)
        around = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=self.name, help=self.help)
        else:
            around.command(self.name)(found)
        (command,) = typer.main.get_group(around).commands.values()
        return named_in_errors(command)


COMMANDS: Final = (
    Later("rotate", "cli.rotation:start", "Queue one or more devices for a rotation of the secret."),
    Later(
        "events",
        "cli.events:events",
        "Print events as they happen.",
    ),
    Later("audit", "cli.audit:show", "Show the newest entries of the audit log."),
    Later(
        "doctor",
        "cli.doctor:doctor",
        "Compare database, Keycloak, broker and image store, and read the certificates.",
    ),
    Later(
        "login",
        "cli.login:login",
        "Test connection settings and write the profile.",
    ),
    Later(
        "backup",
        "cli.backup:backup",
        "Back up the whole system into one encrypted file.",
    ),
    Later(
        "restore",
        "cli.backup:restore",
        "Restore a backup, or parts of it.",
    ),
    Later(
        "simulate",
        "cli.simulate.command:simulate",
        "Run many simulated devices in one process until Ctrl-C.",
    ),
    Later("model", "cli.models:app", "Device models."),
    Later("device", "cli.devices:app", "Devices, their configuration and their provisioning packages."),
    Later("fleet", "cli.fleet:app", "Summary of all devices: counts by state."),
    Later(
        "config",
        "cli.config:app",
        "Configuration of devices: versions, and layers by tag.",
    ),
    Later(
        "connection",
        "cli.connections:app",
        "Connection profiles: broker, authorities and Wi-Fi of devices.",
    ),
    Later("claim", "cli.claims:app", "Claims, with which machines request an identity."),
    Later("firmware", "cli.firmware:app", "Firmware images."),
    Later("rollout", "cli.rollouts:app", "Rollouts of firmware to many devices, in waves."),
    Later("command", "cli.commands:app", "Commands to devices and their results."),
    Later("coredump", "cli.coredump:app", "Core dumps of crashed devices; they may contain secrets."),
    Later("log", "cli.logs:app", "Log messages of devices."),
    Later(
        "secrets",
        "cli.secrets:app",
        "Data that the services store encrypted.",
    ),
    Later(
        "admin",
        "cli.accounts:app",
        "Accounts of admins and their roles.",
    ),
    Later(
        "rotation",
        "cli.rotation:app",
        "Rotations of device secrets: start, watch, cancel, history.",
    ),
)
"""A group's summary is its whole help text; a function's is the first paragraph of its docstring."""
