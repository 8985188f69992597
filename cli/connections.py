"""`mdm connection`: how devices connect: broker, authorities, Wi-Fi; set in layers, and changed with proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import connection_text, lifecycle, output, passwords, session
from cli.arguments import MaybeDevice
from cli.connection_text import layer_number, layer_target, layer_values
from shared.errors import InvalidInputError
from shared.protocol import admin, nvs

app = typer.Typer()

_All = Annotated[bool, typer.Option("--all", help="All devices.")]
_Tag = Annotated[str | None, typer.Option(metavar="TAG", help="Devices with this tag.")]
_Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="Key or client id of one device.")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show how many devices would change their profile, and check it.")
]
_MAX_CA_BYTES: Final = 64 * 1024


@app.command("set")
def set_profile(
    ctx: typer.Context,
    *,
    everything: _All = False,
    tag: _Tag = None,
    device: _Device = None,
    mqtt_host: Annotated[str | None, typer.Option("--host", help="Host name of the broker.")] = None,
    mqtt_port: Annotated[int | None, typer.Option("--port", help="Port of the broker.")] = None,
    mqtt_tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="Whether devices use TLS.")] = None,
    mqtt_auth: Annotated[str | None, typer.Option("--auth", help="How devices log in: password or token.")] = None,
    token_url: Annotated[str | None, typer.Option(metavar="URL", help="Token endpoint of Keycloak.")] = None,
    ca_certificate: Annotated[
        list[Path] | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="PEM file with authorities to trust; may be repeated. Together they replace the former ones.",
        ),
    ] = None,
    recovery_port: Annotated[
        int | None, typer.Option(help="Port of the broker for devices that have lost their secret.")
    ] = None,
    wifi: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SSID",
            help="Wi-Fi network, whose password is asked for; may be repeated, in the order in which devices try "
            "them. Together they replace the former ones.",
        ),
    ] = None,
    wifi_password_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="File with the password of a network, one for each --wifi in order; - for stdin, empty if open.",
        ),
    ] = None,
    trial_seconds: Annotated[
        int | None,
        typer.Option(
            "--trial", metavar="SECONDS", help="Time for a device to connect before it goes back; default 300."
        ),
    ] = None,
    priority: Annotated[
        int | None, typer.Option(help="Order of the layers of tags, from the lowest to the highest; default 0.")
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Leave a field, such as mqtt_host or wifi, to the layers below again."),
    ] = None,
    dry_run: _DryRun = False,
    yes: lifecycle.Yes = False,
) -> None:
    """Change how all devices, those with a tag, or one device connect.

    Only the given values change. A device keeps a new profile only if it connects with it; else it goes back by
    itself. Setting the same values again sends the profile again to devices that refused it.
    """
    change: dict[str, Any] = {
        **_target(everything=everything, tag=tag, device=device),
        "mqtt_host": mqtt_host,
        "mqtt_port": mqtt_port,
        "mqtt_tls": mqtt_tls,
        "mqtt_auth": mqtt_auth,
        "token_url": token_url,
        "ca_certificate": _pem(ca_certificate) if ca_certificate else None,
        "recovery_port": recovery_port,
        "wifi": _networks(wifi or [], wifi_password_file or []),
        "trial_seconds": trial_seconds,
        "priority": priority,
        "unset": unset,
    }
    _change(session.of(ctx), admin.CONNECTION_SET, change, "change", dry_run=dry_run, yes=yes)


@app.command("remove")
def remove(
    ctx: typer.Context,
    *,
    everything: _All = False,
    tag: _Tag = None,
    device: _Device = None,
    dry_run: _DryRun = False,
    yes: lifecycle.Yes = False,
) -> None:
    """Remove the layer of all devices, of a tag, or of one device.

    The devices then use the profile of the layers below it.
    """
    target = _target(everything=everything, tag=tag, device=device)
    _change(session.of(ctx), admin.CONNECTION_REMOVE, target, "remove", dry_run=dry_run, yes=yes)


@app.command("rollback")
def rollback(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Layer, from `mdm connection history`.")],
    *,
    dry_run: _DryRun = False,
    yes: lifecycle.Yes = False,
) -> None:
    """Put an old layer in force again, for the same devices."""
    change = {"number": number}
    _change(session.of(ctx), admin.CONNECTION_ROLLBACK, change, "roll back", dry_run=dry_run, yes=yes)


@app.command("retry")
def retry(ctx: typer.Context, *, everything: _All = False, tag: _Tag = None, device: _Device = None) -> None:
    """Send the wanted profile again to devices that did not keep it.

    It is sent at once; without this, they are sent it again each hour.
    """
    here = session.of(ctx)
    target = _target(everything=everything, tag=tag, device=device)
    here.show_facts(here.request(admin.CONNECTION_RETRY, **target))


@app.command("show")
def show(ctx: typer.Context, device: MaybeDevice = None, *, everything: _All = False, tag: _Tag = None) -> None:
    """Show the wanted profile and what a device uses.

    Each value is shown with the layer that it is from. The default is the profile of devices without a layer for a
    tag or for themselves.
    """
    here = session.of(ctx)
    everything = everything or (device is None and tag is None)
    target = _target(everything=everything, tag=tag, device=device)
    here.show(here.request(admin.CONNECTION_SHOW, **target), connection_text.print_view)


@app.command("status")
def status(ctx: typer.Context) -> None:
    """Show how many devices depend on which profile and authority."""
    here = session.of(ctx)
    here.show(here.request(admin.CONNECTION_STATUS), connection_text.print_status)


@app.command("history")
def history(
    ctx: typer.Context, limit: Annotated[int, typer.Option(min=1, help="Maximum number of layers.")] = 100
) -> None:
    """List all layers that there ever were, newest first.

    Those with a * are in force.
    """
    here = session.of(ctx)
    found = here.request_pages(admin.CONNECTION_HISTORY, "layers", limit=limit)
    here.show_table(
        found,
        found.layers,
        (
            ("number", layer_number),
            ("for", layer_target),
            ("values", layer_values),
            "--by=author, -at=created_at",
        ),
        none="no layers yet; `mdm connection set` makes one",
    )


def _change(
    here: session.Session,
    operation: admin.Operation[Any, admin.ConnectionEffect],
    change: dict[str, Any],
    verb: str,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Show what a change will do, ask if it moves devices, and make it."""
    expected = here.request(operation, **change, dry_run=True)
    if dry_run:
        here.show(expected, _print_expected)
        return
    for line in _lines(expected):
        output.print_note(line)
    if expected.devices or expected.warnings:
        lifecycle.confirm(f"{verb} it?", yes=yes)
    here.show(here.request(operation, **change), _print_effect)


def _lines(effect: admin.ConnectionEffect) -> list[str]:
    if not effect.changed:
        return ["nothing changes"]
    devices = connection_text.counted(effect.devices, "device wants", "devices want")
    lines = [f"{devices} another profile by this; {effect.moving} of them move, when they are online"]
    if effect.unable:
        lines.append(f"{effect.unable} of them cannot: they have never reported a profile")
    return [*lines, *(f"warning: {it}" for it in effect.warnings)]


def _print_expected(effect: admin.ConnectionEffect) -> None:
    for line in _lines(effect):
        output.print_text(line)


def _print_effect(effect: admin.ConnectionEffect) -> None:
    if effect.number is None:
        output.print_line("nothing changed; devices that did not keep the profile are sent it again")
    else:
        output.print_line(f"layer {effect.number} is in force; see `mdm connection status`")


def _target(*, everything: bool, tag: str | None, device: str | None) -> dict[str, Any]:
    if [everything, tag is not None, device is not None].count(True) != 1:
        raise InvalidInputError("exactly one of --all, --tag and --device must be given")
    return {"all": everything or None, "tag": tag, "device": device}


def _pem(files: Sequence[Path]) -> str:
    texts = []
    for file in files:
        try:
            with file.open("rb") as opened:
                texts.append(opened.read(_MAX_CA_BYTES).decode())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"--ca: {file} cannot be read: {error}") from error
    return "\n".join(texts)


def _networks(names: Sequence[str], files: Sequence[Path]) -> list[dict[str, str]] | None:
    """Return the Wi-Fi networks with their passwords, which are asked for unless they are in files."""
    if files and len(files) != len(names):
        raise InvalidInputError(f"--wifi-password-file: must be given once for each --wifi: {len(names)} times")
    found = []
    for number, name in enumerate(names):
        nvs.network(name)  # check the name before prompting for the password
        if files:
            password = passwords.from_file(files[number], what="--wifi-password")
        elif passwords.is_terminal():
            password = passwords.prompt(f"Password of {output.clean(name)} (empty if open)")
        else:
            raise InvalidInputError("--wifi-password-file: must be given where nobody can be asked")
        found.append(nvs.network(name, password).model_dump())
    return found or None
