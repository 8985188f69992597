"""`mdm device`: the devices, their configuration and their provisioning packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import documents, output, session
from shared import admin
from shared.errors import ConflictError, InvalidInputError

app = typer.Typer(help="The devices, their configuration and their provisioning packages.")
config = typer.Typer(help="The configuration of a device.")
app.add_typer(config, name="config")

Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's key or its whole client id.")]
_STDOUT = Path("-")


@app.command("add")
def add(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="The code of its model.")],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
) -> None:
    """Add a device: its record, its identity and its broker account, or nothing at all."""
    here = session.of(ctx)
    device = here.ask(admin.DEVICE_ADD, model=model, name=name, tags=tag)
    _show(device, as_json=here.as_json)


@app.command("list")
def show_all(ctx: typer.Context) -> None:
    """List the devices."""
    here = session.of(ctx)
    found = here.ask(admin.DEVICE_LIST)
    if here.as_json:
        output.print_json(found)
        return
    if not found.devices:
        output.print_note("no devices yet; `mdm device add --model MODEL` adds one")
        return
    output.print_table(
        ("DEVICE", "NAME", "ONLINE", "FIRMWARE", "CONFIG", "SECRET", "LAST SEEN"),
        (
            (
                device.client_id,
                device.name,
                device.online if device.enabled else "disabled",
                device.firmware_version,
                _config_state(device),
                f"{device.secret_generation} {device.rotation_state}",
                device.last_seen_at,
            )
            for device in found.devices
        ),
    )


@app.command("show")
def show(ctx: typer.Context, device: Device) -> None:
    """Show one device."""
    here = session.of(ctx)
    _show(here.ask(admin.DEVICE_SHOW, device=device), as_json=here.as_json)


@app.command("provision")
def provision(
    ctx: typer.Context,
    device: Device,
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write it; - for stdout.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write all that a new device needs to come online: whoever holds this file is the device."""
    here = session.of(ctx)
    if target != _STDOUT and target.exists() and not force:
        raise ConflictError(f"output: {target} exists; --force replaces it")
    package = here.ask(admin.DEVICE_PROVISION, device=device)
    if target == _STDOUT:
        output.print_json(package)
        return
    output.write_private(target, package.model_dump_json(indent=2) + "\n", replace=force)
    if here.as_json:
        output.print_json({"client_id": package.client_id, "output": str(target)})
    else:
        output.print_facts({"device": package.client_id, "package": str(target)})


@config.command("set")
def set_config(
    ctx: typer.Context,
    device: Device,
    assignments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Values are JSON, else strings; dots nest: led.on=true"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE.json", exists=True, dir_okay=False, help="All as one file.")
    ] = None,
) -> None:
    """Change what is special about a device's configuration; its model's defaults fill in the rest.

    KEY=VALUE changes only what it names, and KEY=null goes back to the model's default; a file replaces all.
    """
    if bool(assignments) == (file is not None):
        raise InvalidInputError("overrides: expected either KEY=VALUE... or --file FILE.json")
    overrides = documents.read(file, field="file") if file else documents.assign(assignments or [])
    here = session.of(ctx)
    result = here.ask(admin.CONFIG_SET, device=device, overrides=overrides, replace=file is not None)
    if here.as_json:
        output.print_json(result)
    else:
        state = "new" if result.changed else "unchanged"
        output.print_facts(
            {
                "device": result.client_id,
                "version": f"{result.version} ({state})",
                "document": result.document,
            }
        )


def _show(device: admin.DeviceView, *, as_json: bool) -> None:
    if as_json:
        output.print_json(device)
        return
    output.print_facts(
        {
            "device": device.client_id,
            "key": device.key,
            "model": device.model,
            "name": device.name,
            "tags": device.tags,
            "enabled": device.enabled,
            "online": device.online,
            "last seen": device.last_seen_at,
            "firmware": device.firmware_version,
            "config": _config_state(device),
            "config error": device.config_error,
            "secret": f"generation {device.secret_generation} of {output.cell(device.secret_created_at)}",
            "rotation": device.rotation_state,
        }
    )


def _config_state(device: admin.DeviceView) -> str:
    """Return the wanted version, and the reported one where it differs or was not applied."""
    wanted = str(device.config_version)
    if device.config_version_reported is None:
        return wanted if device.config_version == 0 else f"{wanted} (unreported)"
    if device.config_version_reported != device.config_version or device.config_outcome != "applied":
        return f"{wanted} ({device.config_version_reported} {device.config_outcome or 'unknown'})"
    return f"{wanted} applied"
