"""`mdm model`: device models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import documents, output, session
from shared.errors import InvalidInputError, NotFoundError
from shared.protocol import admin

app = typer.Typer()

Code = Annotated[str, typer.Argument(metavar="CODE", help="Code of the model.")]
_KEY_HELP = (
    "Accept only images that are signed for Secure Boot by the key of this digest; may be repeated, for a change "
    "of keys."
)
_COMMAND_HELP = "Command of its devices besides reboot and identify; may be repeated."
_Schema = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", exists=True, dir_okay=False, help="JSON Schema of its configuration."),
]
_Defaults = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", exists=True, dir_okay=False, help="Defaults of its configuration."),
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
    slot_size: Annotated[int | None, typer.Option(metavar="BYTES", help="Size of an app partition.")] = None,
    secure_boot_key: Annotated[list[str] | None, typer.Option(metavar="DIGEST", help=_KEY_HELP)] = None,
    schema: _Schema = None,
    defaults: _Defaults = None,
    command: Annotated[list[str] | None, typer.Option(metavar="NAME", help=_COMMAND_HELP)] = None,
) -> None:
    """Add a device model."""
    here = session.of(ctx)
    added = here.request(
        admin.MODEL_ADD,
        code=code,
        chip=chip,
        name=name,
        slot_size_bytes=slot_size,
        secure_boot_keys=secure_boot_key,
        config_schema=documents.read(schema, field="schema") if schema else None,
        config_defaults=documents.read(defaults, field="defaults") if defaults else None,
        commands=command,
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
    slot_size: Annotated[int | None, typer.Option(metavar="BYTES", help="New size of an app partition.")] = None,
    secure_boot_key: Annotated[
        list[str] | None, typer.Option(metavar="DIGEST", help=f"{_KEY_HELP} Replaces all present ones.")
    ] = None,
    no_secure_boot_keys: Annotated[
        bool, typer.Option("--no-secure-boot-keys", help="Accept images without such a signature.")
    ] = False,
    schema: _Schema = None,
    defaults: _Defaults = None,
    command: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"{_COMMAND_HELP} Replaces all present ones.")
    ] = None,
    no_commands: Annotated[bool, typer.Option("--no-commands", help="Leave only reboot and identify.")] = False,
) -> None:
    """Change a model, except its code.

    Devices whose configuration changes get a new version; if one would violate the schema, nothing changes.
    """
    if command and no_commands:
        raise InvalidInputError("command: expected either --command NAME... or --no-commands")
    if secure_boot_key and no_secure_boot_keys:
        raise InvalidInputError("secure_boot_key: expected either --secure-boot-key or --no-secure-boot-keys")
    here = session.of(ctx)
    changed = here.request(
        admin.MODEL_UPDATE,
        code=code,
        chip=chip,
        name=name,
        slot_size_bytes=slot_size,
        secure_boot_keys=[] if no_secure_boot_keys else secure_boot_key,
        config_schema=documents.read(schema, field="schema") if schema else None,
        config_defaults=documents.read(defaults, field="defaults") if defaults else None,
        commands=[] if no_commands else command,
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
