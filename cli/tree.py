"""The commands of `mdm`: each is imported when it is called; until then its name, place and summary suffice."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperOption

from cli.parameters import prepared

_KINDS: Final = {
    "<str>": "TEXT",
    "<list[str]>": "TEXT",
    "<int>": "N",
    "<int range>": "N",
    "<float>": "N",
    "<float range>": "N",
    "<path>": "FILE",
    "<UUID>": "ID",
}


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


def _option_kind(option: Any, ctx: typer.Context) -> str:  # noqa: ANN401 - as above
    """Return a word for the kind of values, where Typer has Python's type: `TEXT` for `<list[str]>`."""
    shown = str(_typer_kind(option, ctx))
    return _KINDS.get(shown, shown)


def _argument_name(argument: Any) -> str:  # noqa: ANN401 - as above
    """Return an argument in a usage line: `NAME`, or `[NAME]` if it is optional, where Typer has `{NAME}`."""
    name = str(argument.metavar).strip("[].")
    return f"{name if argument.required else f'[{name}]'}{'' if argument.nargs == 1 else '...'}"


for _kind in (TyperArgument, TyperOption):
    _skip_pydantic(_kind)
_typer_kind: Final[Any] = TyperOption.display_type
TyperOption.display_type = _option_kind  # type: ignore[assignment,method-assign]
TyperArgument.display_type = lambda *_: ""  # type: ignore[method-assign]
TyperArgument._usage_display_name = _argument_name  # type: ignore[assignment,method-assign] # noqa: SLF001


class Later(TyperCommand):
    """A command, or group of commands, that is imported from `place`, a function or a Typer.

    `examples` end its help.
    """

    def __init__(self, name: str, place: str, summary: str, *examples: str) -> None:
        super().__init__(name, help=summary, short_help=summary)
        self._place = place
        lines = "".join(f"\n  mdm {name} {example}".rstrip() for example in examples)
        self.epilog = f"\b\nExamples:{lines}" if examples else None

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as click has it
        """Delegate to the command itself."""
        return self.load().make_context(*arguments, **options)

    def load(self) -> Any:  # noqa: ANN401 - click's type of all commands is private
        """Import and return the command."""
        module, _, name = self._place.partition(":")
        found = getattr(import_module(module), name)
        around = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=self.name, help=self.help, epilog=self.epilog)
        else:
            around.command(self.name, epilog=self.epilog)(found)
        (command,) = typer.main.get_group(around).commands.values()
        return prepared(command)


COMMANDS: Final = (
    Later(
        "device",
        "cli.devices:app",
        "Devices and their provisioning packages.",
        "add --model blink --name hall",
        "list --offline",
        "show hall",
        "provision hall --format nvs --output hall.bin",
    ),
    Later(
        "model",
        "cli.models:app",
        "Device models.",
        "add blink --chip esp32",
        "change blink --schema schema.json",
        "show blink",
    ),
    Later(
        "config",
        "cli.config:app",
        "Configuration of devices: versions, and layers by tag.",
        "set hall led.on=true --wait",
        "layer set attic interval_s=60",
        "diff hall",
        "rollback hall 3",
    ),
    Later(
        "connection",
        "cli.connections:app",
        "Connection profiles: broker, authorities and Wi-Fi of devices.",
        "status",
        "set --all --host mdm.example.org --dry-run",
        "set --tag attic --wifi upstairs",
        "show hall",
    ),
    Later(
        "rotate",
        "cli.rotation:start",
        "Queue one or more devices for a rotation of the secret.",
        "hall",
        "--all --dry-run",
    ),
    Later(
        "rotation",
        "cli.rotation:app",
        "Rotations of device secrets: start, watch, cancel, history.",
        "start --tag attic",
        "status --watch",
        "history hall",
        "schedule set '30 3 * * 0' --zone Europe/Berlin",
    ),
    Later(
        "firmware",
        "cli.firmware:app",
        "Firmware images.",
        "upload build/blink.bin --model blink --no-release",
        "list --model blink",
        "release blink 1.2.0",
    ),
    Later(
        "rollout",
        "cli.rollouts:app",
        "Rollouts of firmware to many devices, in waves.",
        "preflight blink 1.2.0",
        "start blink 1.2.0 --waves 1,10%,100%",
        "status --watch",
    ),
    Later(
        "command",
        "cli.commands:app",
        "Commands to devices and their results.",
        "send reboot --device hall",
        "send blink times=3 --tag attic --dry-run",
        "list hall",
    ),
    Later(
        "claim",
        "cli.claims:app",
        "Claims, with which machines request an identity.",
        "create --model blink --uses 20 --expires 7d --output claim.json",
        "requests",
    ),
    Later(
        "log",
        "cli.logs:app",
        "Log messages of devices.",
        "show hall --since 1h --level warning",
        "tail --tag attic",
    ),
    Later(
        "coredump",
        "cli.coredump:app",
        "Core dumps of crashed devices; they may contain secrets.",
        "list hall",
        "get 7 --output hall.core",
    ),
    Later(
        "notification",
        "cli.notifications:app",
        "Notifications by rules, to webhooks and people.",
        "add night --condition silent --tag attic --hold 15m --url ntfy://my-topic",
        "add ops --condition rollout_halted --url https://example.org/hook",
        "test night",
        "history",
    ),
    Later("fleet", "cli.fleet:app", "Summary of all devices: counts by state.", "show", "watch"),
    Later("events", "cli.events:events", "Print events as they happen.", "--noun device"),
    Later("audit", "cli.audit:show", "Show the newest entries of the audit log.", "--actor alice --limit 1000"),
    Later("doctor", "cli.doctor:doctor", "Compare database, Keycloak, broker, images and certificates."),
    Later("login", "cli.login:login", "Test connection settings and write the profile."),
    Later(
        "admin",
        "cli.accounts:app",
        "Accounts of admins and their roles.",
        "add bob --role operator --output bob.toml",
        "list",
    ),
    Later("backup", "cli.backup:backup", "Back up the whole system into one encrypted file.", "fleet.mdm"),
    Later("restore", "cli.backup:restore", "Restore a backup, or parts of it.", "fleet.mdm"),
    Later("secrets", "cli.secrets:app", "Data that the services store encrypted.", "rekey"),
    Later(
        "simulate",
        "cli.simulate.command:simulate",
        "Run many simulated devices in one process until Ctrl-C.",
        "--devices 100",
    ),
)
"""A group's summary is its whole help text; a function's is the first paragraph of its docstring."""
