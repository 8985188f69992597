"""`mdm device`: the devices, their configuration and their provisioning packages."""

from __future__ import annotations

import getpass
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import config, imports, lifecycle, output, session, tables
from cli.arguments import Device
from cli.device_text import config_state, print_device, print_written
from shared.errors import ConflictError, InvalidInputError
from shared.protocol import admin, nvs

configuration = typer.Typer(help="The configuration of a device.")
configuration.command("set")(config.set_config)
app = typer.Typer()
app.add_typer(lifecycle.app)
app.add_typer(imports.app)
app.add_typer(configuration, name="config")

_NVS_SIZE: Final = "0x6000"
_STDOUT = Path("-")
_STDIN = Path("-")
_MAX_PASSWORD_FILE_BYTES: Final = 1024


class PackageFormat(StrEnum):
    """How a provisioning package is written."""

    JSON = "json"
    NVS = "nvs"
    CSV = "csv"


@app.command("add")
def add(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="The code of its model.")],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
) -> None:
    """Add a device: its record, its identity and its broker account, or nothing at all."""
    here = session.of(ctx)
    here.show(here.ask(admin.DEVICE_ADD, model=model, name=name, tags=tag), print_device)


@app.command("list")
def show_all(
    ctx: typer.Context,
    *,
    model: Annotated[str | None, typer.Option(help="Only devices of this model.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only devices with this tag.")] = None,
    online: Annotated[bool | None, typer.Option("--online/--offline", help="Only those.")] = None,
    drift: Annotated[
        bool | None,
        typer.Option("--drift/--in-step", help="Only where the desired is not the applied configuration."),
    ] = None,
    rotation: Annotated[str | None, typer.Option(help="Only in this state: OK, QUEUED, PENDING, TIMEOUT.")] = None,
) -> None:
    """List the devices, all or those that fit."""
    here = session.of(ctx)
    found = here.ask_pages(
        admin.DEVICE_LIST,
        "devices",
        model=model,
        tag=tag,
        online=online,
        drift=drift,
        rotation_state=rotation,
    )
    here.show(found, _print_all)


def _print_all(found: admin.Devices) -> None:
    if not found.devices:
        output.print_note("no devices yet; `mdm device add --model MODEL` adds one")
        return
    tables.print_table(
        ("DEVICE", "NAME", "ONLINE", "HEALTH", "FIRMWARE", "CONFIG", "SECRET", "LAST SEEN"),
        (
            (
                device.client_id,
                device.name,
                device.online if device.enabled else "disabled",
                device.health,
                device.firmware_version,
                config_state(device),
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
    here.show(here.ask(admin.DEVICE_SHOW, device=device), print_device)


@app.command("provision")
def provision(
    ctx: typer.Context,
    device: Device,
    *,
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write it; - for stdout.")],
    form: Annotated[
        PackageFormat,
        typer.Option("--format", help="JSON, an NVS image to flash, or the CSV of which ESP-IDF makes one."),
    ] = PackageFormat.JSON,
    size: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help=f"The size of the NVS partition; {_NVS_SIZE} if not given."),
    ] = None,
    wifi_ssid: Annotated[str | None, typer.Option(metavar="NAME", help="A Wi-Fi network, for NVS or CSV.")] = None,
    # No option for the password itself: what stands on a command line, every user of the machine can read.
    wifi_password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its password; - for stdin. Without it the network is open."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write all that a new device needs to come online: whoever holds this file is the device."""
    here = session.of(ctx)
    if size is not None and form is not PackageFormat.NVS:
        raise InvalidInputError("size: belongs to --format nvs only")
    size_bytes = nvs.size_bytes(_NVS_SIZE if size is None else size)
    if form is PackageFormat.NVS and target == _STDOUT and sys.stdout.isatty():
        raise InvalidInputError("output: an image is nothing for a terminal; name a file")
    if target != _STDOUT and target.exists() and not force:
        raise ConflictError(f"output: {target} exists; --force replaces it")
    wifi = _wifi(form, wifi_ssid, wifi_password_file)
    package = here.ask(admin.DEVICE_PROVISION, device=device)
    content: str | bytes
    match form:
        case PackageFormat.JSON:
            content = package.model_dump_json(indent=2) + "\n"
        case PackageFormat.CSV:
            content = nvs.csv_text(nvs.rows(package, wifi))
        case PackageFormat.NVS:
            content = nvs.image(nvs.rows(package, wifi), size_bytes=size_bytes)
    if target == _STDOUT:
        _print_package(content)
        return
    output.write_private(target, content, replace=force)
    print_written(here, package, target)


def _wifi(form: PackageFormat, ssid: str | None, password_file: Path | None) -> nvs.Wifi | None:
    """Return the network that the options name, or raise InvalidInputError."""
    if form is PackageFormat.JSON and (ssid is not None or password_file is not None):
        raise InvalidInputError("wifi_ssid, wifi_password_file: belong to --format nvs or csv only")
    if ssid is None:
        if password_file is not None:
            raise InvalidInputError("wifi_password_file: needs --wifi-ssid")
        return None
    nvs.Wifi(ssid)  # its name is checked before somebody types a password
    return nvs.Wifi(ssid, _password(password_file) if password_file else "")


def _password(path: Path) -> str:
    """Return the password in a file without the newline at its end; a terminal is asked without echo."""
    if path == _STDIN and sys.stdin.isatty():
        return getpass.getpass("Wi-Fi password: ")
    try:
        if path == _STDIN:
            data = sys.stdin.buffer.read(_MAX_PASSWORD_FILE_BYTES)
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_PASSWORD_FILE_BYTES)
        text = data.decode()
    except OSError as error:
        raise InvalidInputError(f"wifi_password_file: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidInputError("wifi_password: must be printable ASCII characters only") from None
    return text.removesuffix("\n").removesuffix("\r")


def _print_package(content: str | bytes) -> None:
    """Write a package on stdout, an image byte by byte as it is."""
    if isinstance(content, str):
        output.print_line(content.removesuffix("\n"))
        return
    sys.stdout.buffer.write(content)
    sys.stdout.flush()
