"""`mdm model`: device models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import documents, output, session, sizes
from shared.errors import InvalidInputError, NotFoundError
from shared.protocol import admin

app = typer.Typer()

Code = Annotated[str, typer.Argument(metavar="CODE", help="Code of the model.")]
_KEY_HELP = (
    "Accept only images that are signed for Secure Boot by the key of this digest; may be repeated, for a change "
    "of keys."
)
_SIZE_HELP = "In bytes, or as 0x180000, 1536K or 1.5M."
_COMMAND_HELP = "Command of its devices besides reboot and identify; may be repeated."
_Schema = Annotated[
    Path | None,
    typer.Option(
        "--schema", metavar="FILE.json", exists=True, dir_okay=False, help="JSON Schema of its configuration."
    ),
]
_Defaults = Annotated[
    Path | None,
    typer.Option(
        "--defaults", metavar="FILE.json", exists=True, dir_okay=False, help="Defaults of its configuration."
    ),
]


@app.command("add")
def add(
    ctx: typer.Context,
    code: Annotated[
        str, typer.Argument(help="Code of the model: a-z, digits and underscores; it cannot be changed later.")
    ],
    *,
    chip: Annotated[str, typer.Option(help="Chip, such as esp32c6; also as ESP32-C6 or as esptool writes it.")],
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    slot_size_bytes: Annotated[
        str | None, typer.Option("--slot-size", metavar="BYTES", help=f"Size of an app partition. {_SIZE_HELP}")
    ] = None,
    secure_boot_keys: Annotated[
        list[str] | None, typer.Option("--secure-boot-key", metavar="DIGEST", help=_KEY_HELP)
    ] = None,
    config_schema: _Schema = None,
    config_defaults: _Defaults = None,
    commands: Annotated[list[str] | None, typer.Option("--command", metavar="NAME", help=_COMMAND_HELP)] = None,
) -> None:
    """Add a device model."""
    here = session.of(ctx)
    added = here.request(
        admin.MODEL_ADD,
        code=code,
        chip=chip,
        name=name,
        slot_size_bytes=sizes.in_bytes(slot_size_bytes, field="slot_size_bytes"),
        secure_boot_keys=secure_boot_keys,
        config_schema=documents.read(config_schema, field="config_schema") if config_schema else None,
        config_defaults=documents.read(config_defaults, field="config_defaults") if config_defaults else None,
        commands=commands,
    )
    _show(here, added)


@app.command("show")
def show(ctx: typer.Context, code: Code) -> None:
    """Show a model with its configuration schema and defaults."""
    here = session.of(ctx)
    found = [model for model in here.request(admin.MODEL_LIST).models if model.code == code]
    if not found:
        raise NotFoundError(f"model: there is no model {code}")
    _show(here, found[0])


@app.command("change")
def change(
    ctx: typer.Context,
    code: Code,
    *,
    chip: Annotated[str | None, typer.Option(help="New chip.")] = None,
    name: Annotated[str | None, typer.Option(help="New display name.")] = None,
    slot_size_bytes: Annotated[
        str | None,
        typer.Option("--slot-size", metavar="BYTES", help=f"New size of an app partition. {_SIZE_HELP}"),
    ] = None,
    secure_boot_keys: Annotated[
        list[str] | None,
        typer.Option("--secure-boot-key", metavar="DIGEST", help=f"{_KEY_HELP} Replaces all present ones."),
    ] = None,
    no_secure_boot_keys: Annotated[
        bool, typer.Option("--no-secure-boot-keys", help="Accept images without such a signature.")
    ] = False,
    config_schema: _Schema = None,
    config_defaults: _Defaults = None,
    commands: Annotated[
        list[str] | None,
        typer.Option("--command", metavar="NAME", help=f"{_COMMAND_HELP} Replaces all present ones."),
    ] = None,
    no_commands: Annotated[bool, typer.Option("--no-commands", help="Leave only reboot and identify.")] = False,
) -> None:
    """Change a model, except its code.

    Devices whose configuration changes get a new version; if one would violate the schema, nothing changes.
    """
    if commands and no_commands:
        raise InvalidInputError("expected either --command NAME... or --no-commands")
    if secure_boot_keys and no_secure_boot_keys:
        raise InvalidInputError("expected either --secure-boot-key or --no-secure-boot-keys")
    here = session.of(ctx)
    changed = here.request(
        admin.MODEL_UPDATE,
        code=code,
        chip=chip,
        name=name,
        slot_size_bytes=sizes.in_bytes(slot_size_bytes, field="slot_size_bytes"),
        secure_boot_keys=[] if no_secure_boot_keys else secure_boot_keys,
        config_schema=documents.read(config_schema, field="config_schema") if config_schema else None,
        config_defaults=documents.read(config_defaults, field="config_defaults") if config_defaults else None,
        commands=[] if no_commands else commands,
    )
    _show(here, changed)


@app.command("remove")
def remove(ctx: typer.Context, code: Code) -> None:
    """Remove a model that has neither devices nor images."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.MODEL_REMOVE, code=code))


@app.command("list")
def show_all(ctx: typer.Context) -> None:
    """List the device models."""
    here = session.of(ctx)
    found = here.request(admin.MODEL_LIST)
    here.show_table(
        found,
        found.models,
        ("code, name, chip", ("slot", lambda it: output.size(it.slot_size_bytes)), "devices"),
        none="no models yet; `mdm model add CODE --chip CHIP` adds one",
    )


def _show(here: session.Session, model: admin.ModelView) -> None:
    here.show_facts(
        model,
        (
            "code, name, chip",
            ("slot size", lambda it: output.size(it.slot_size_bytes)),
            "Secure Boot keys=secure_boot_keys, schema=config_schema, sealed, defaults=config_defaults",
            "commands, devices",
            *(["changed"] if isinstance(model, admin.ModelChanged) else []),
        ),
    )
