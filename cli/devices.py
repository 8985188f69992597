"""`mdm device`: devices, their configuration and their provisioning packages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import (
    client,
    config,
    events,
    imports,
    lifecycle,
    output,
    package_options,
    pages,
    selection,
    session,
    vitals,
)
from cli.arguments import Device
from cli.device_text import (
    config_state,
    firmware_state,
    health_reasons,
    health_state,
    print_details,
    print_device,
    print_written,
)
from cli.package_options import PackageFormat
from shared.errors import FleetError, InvalidInputError
from shared.protocol import admin, nvs

configuration = typer.Typer(help="Configuration of a device.")
configuration.command("set")(config.set_config)
app = typer.Typer()
app.add_typer(lifecycle.app)
app.add_typer(imports.app)
app.add_typer(configuration, name="config")
app.command("events")(events.of_device)
app.command("vitals")(vitals.of_device)

_FIRMWARE_TIMEOUT_S: Final = 5.0


@app.command("add")
def add(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="Code of the device's model.")],
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Tag; may be repeated.")] = None,
) -> None:
    """Add a device.

    This adds its database record, its Keycloak client and its broker account, or none of them.
    """
    here = session.of(ctx)
    here.show(here.request(admin.DEVICE_ADD, model=model, name=name, tags=tags), print_device)


@app.command("list")
def show_all(
    ctx: typer.Context,
    *,
    model: Annotated[str | None, typer.Option(help="Only devices of this model.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only devices with this tag.")] = None,
    online: Annotated[
        bool | None, typer.Option("--online/--offline", help="Only devices that are online, or offline.")
    ] = None,
    asleep: Annotated[
        bool, typer.Option("--asleep", help="Only devices that are asleep and not overdue.")
    ] = False,
    health: Annotated[
        str | None,
        typer.Option(
            help="Only devices of this health: healthy, warning, critical, inactive, never_seen, disabled."
        ),
    ] = None,
    drift: Annotated[
        bool | None,
        typer.Option(
            "--drift/--in-step",
            help="Only devices whose applied configuration is not the desired one, or is.",
        ),
    ] = None,
    rotation_state: Annotated[
        str | None,
        typer.Option("--rotation", help="Only devices in this state of rotation: OK, QUEUED, PENDING, TIMEOUT."),
    ] = None,
) -> None:
    """List all devices, or those that match all options."""
    here = session.of(ctx)
    if asleep and online is not None:
        raise InvalidInputError("--asleep: excludes --online and --offline")
    presence = "asleep" if asleep else None if online is None else "online" if online else "offline"
    found = here.request_pages(
        admin.DEVICE_LIST,
        "devices",
        model=model,
        tag=tag,
        presence=presence,
        health=health,
        drift=drift,
        rotation_state=rotation_state,
    )
    filters = (model, tag, presence, health, drift, rotation_state)
    if not found.devices and (model or tag):
        selection.find(here, tag=tag, model=model)
    firmware = {} if here.as_json else here.run(partial(firmware_of, [it.client_id for it in found.devices]))
    here.show_table(
        found,
        found.devices,
        (
            "device=client_id, name",
            ("state", lambda it: it.presence if it.enabled else "disabled"),
            ("health", health_state),
            ("firmware", lambda it: firmware_state(it, firmware.get(it.client_id), brief=True)),
            ("-why", health_reasons),
            ("-config", config_state),
            ("--secret", lambda it: f"{it.secret_generation} {it.rotation_state}"),
            "-last seen=last_seen_at",
        ),
        none="no devices yet; `mdm device add --model MODEL` adds one"
        if filters == (None,) * len(filters)
        else "no device matches all of these options",
    )


@app.command("show")
def show(ctx: typer.Context, device: Device) -> None:
    """Show one device."""
    here = session.of(ctx)
    found = here.request(admin.DEVICE_SHOW, device=device)
    firmware = here.run(partial(firmware_of, [found.client_id])).get(found.client_id)
    said = {**found.model_dump(mode="json"), "firmware": firmware and firmware.model_dump(mode="json")}
    here.show(said, lambda _: print_details(found, firmware))


async def firmware_of(client_ids: Sequence[str], connection: client.Admin) -> dict[str, admin.DeviceFirmware]:
    """Return the firmware of devices; none, and a note, if the firmware service does not tell."""
    found: dict[str, admin.DeviceFirmware] = {}
    for first in range(0, len(client_ids), pages.PAGE):
        request = client.build(admin.FIRMWARE_OF, devices=client_ids[first : first + pages.PAGE])
        try:
            answer = await connection.call(admin.FIRMWARE_OF, request, timeout_s=_FIRMWARE_TIMEOUT_S)
        except FleetError as error:
            output.print_note(f"what is wanted for devices is not shown: {error.message}")
            return {}
        found.update({one.client_id: one for one in answer.devices})
    return found


@app.command("provision")
def provision(
    ctx: typer.Context,
    device: Device,
    *,
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="File to write to; - for stdout.")],
    form: package_options.Format = PackageFormat.JSON,
    size: package_options.Size = None,
    wifi_ssid: package_options.WifiName = None,
    wifi_password: package_options.WifiPassword = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write the provisioning package of a device.

    The package is a secret: with it, any machine can connect as the device.
    """
    here = session.of(ctx)
    wanted = package_options.Form(
        target=target, form=form, size=size, wifi_ssid=wifi_ssid, wifi_password=wifi_password, force=force
    )
    wifi = wanted.check()
    package = here.request(admin.DEVICE_PROVISION, device=device)
    content = wanted.content(package, lambda: nvs.rows(package, wifi))
    if target == package_options.STDOUT:
        _print_package(content)
        return
    output.write_private(target, content, replace=force)
    print_written(here, package, target)


def _print_package(content: str | bytes) -> None:
    """Write a package on stdout, an image as raw bytes."""
    if isinstance(content, str):
        output.print_line(content.removesuffix("\n"))
        return
    sys.stdout.buffer.write(content)
    sys.stdout.flush()
