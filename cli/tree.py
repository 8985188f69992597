"""The commands of `mdm`, each imported when it is called: until then its name, place and summary are enough."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperOption


def _spare_pydantic(kind: Any) -> None:  # noqa: ANN401 - one of Typer's two kinds of parameters
    """Have Typer convert only what needs it: it imports pydantic even to leave a text, or a default, as it is.

    With a Typer that converts in another way, this does nothing.
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


_spare_pydantic(TyperArgument)
_spare_pydantic(TyperOption)


class Later(TyperCommand):
    """A command that is a function at `place`, or the group of commands that is a Typer there."""

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._place = place

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as click has it
        """Go on as the command itself."""
        return self.load().make_context(*arguments, **options)

    def load(self) -> Any:  # noqa: ANN401 - click's type of all commands is private
        """Import the command."""
        module, _, name = self._place.partition(":")
        found = getattr(import_module(module), name)
        around = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=self.name, help=self.help)
        else:
            around.command(self.name)(found)
        (command,) = typer.main.get_group(around).commands.values()
        return command


COMMANDS: Final = (
    Later("rotate", "cli.rotation:start", "Queue one device, or many, for a rotation of the secret."),
    Later(
        "events",
        "cli.events:events",
        "Print events as they happen: time, noun.verb, device, data; with --json, an object a line.",
    ),
    Later("audit", "cli.audit:show", "Show the newest entries of the audit log."),
    Later(
        "doctor",
        "cli.doctor:doctor",
        "Compare database, Keycloak and broker; the status is 1 when something is left that does not agree.",
    ),
    Later(
        "login",
        "cli.login:login",
        "Ask for what is not given, check it by connecting, and write the profile with mode 0600.",
    ),
    Later(
        "backup",
        "cli.backup:backup",
        "Write database, secrets, broker accounts and images into one file, encrypted with a passphrase.",
    ),
    Later(
        "restore",
        "cli.backup:restore",
        "Put a backup back, or parts of it, while all services are stopped; "
        "what has survived goes before the backup.",
    ),
    Later(
        "simulate",
        "cli.simulate.command:simulate",
        "Let many devices live until Ctrl-C: each with a connection and an identity of its own, in one process.",
    ),
    Later("model", "cli.models:app", "What kinds of devices there are."),
    Later("device", "cli.devices:app", "The devices, their configuration and their provisioning packages."),
    Later("fleet", "cli.fleet:app", "All devices at a glance: how many there are, and how they stand."),
    Later(
        "config",
        "cli.config:app",
        "The configuration of devices: what is wanted, what was, and what tags have in common.",
    ),
    Later("claim", "cli.claims:app", "Claims, by which machines without an identity get one by themselves."),
    Later("firmware", "cli.firmware:app", "Firmware images."),
    Later("rollout", "cli.rollouts:app", "Firmware for many devices, in waves."),
    Later("command", "cli.commands:app", "Tell devices to do something once, and see what became of it."),
    Later("coredump", "cli.coredump:app", "Core dumps of devices that crashed; they may hold secrets."),
    Later("log", "cli.logs:app", "What devices log: their own words."),
    Later(
        "secrets",
        "cli.secrets:app",
        "What is encrypted at rest: secrets while rotations are under way, and core dumps.",
    ),
    Later(
        "admin",
        "cli.accounts:app",
        "Accounts of admins: viewers read, operators do the daily work, admins may do everything.",
    ),
    Later(
        "rotation",
        "cli.rotation:app",
        "New secrets for devices: start, watch and cancel rotations, and look them up.",
    ),
)
"""A group's summary is all of its help; a function's is the first sentence of its docstring."""
