"""`mdm config`: desired versions and history of configurations, and layers by tag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import documents, output, passwords, session, tables
from cli.arguments import Device
from shared.errors import InvalidInputError
from shared.protocol import admin

app = typer.Typer()
layers = typer.Typer(help="Layers: the part of a configuration that all devices with a tag have in common.")
app.add_typer(layers, name="layer")

Tag = Annotated[str, typer.Argument(metavar="TAG", help="Tag of the devices.")]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE...", help="Values are JSON or else strings; dots separate nested keys: led.on=true"
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="KEY",
        help="Key whose value is read without echo, or from standard input: it is in no history. May be repeated.",
    ),
]
File = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", exists=True, dir_okay=False, help="JSON file that replaces all keys."),
]

_LAYER: Final = "tag, priority, document, --by=author, -at=updated_at"


@app.command("set")
def set_config(
    ctx: typer.Context,
    device: Device,
    assignments: Assignments = None,
    *,
    secret: Secrets = None,
    file: File = None,
    trial_seconds: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trial: the device reverts unless it reconnects and reports within this time."
        ),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option("--expect", metavar="VERSION", help="Refuse the change unless this is the desired version."),
    ] = None,
) -> None:
    """Change the overrides of a device.

    Overrides take precedence over the device's layers and its model's defaults. KEY=VALUE changes one key, and
    KEY=null removes an override; a file replaces all overrides. A placeholder such as (sealed 3f9c2a71b04e) keeps
    the secret for which it stands.
    """
    overrides = _given(assignments, secret, file, field="overrides")
    here = session.of(ctx)
    result = here.request(
        admin.CONFIG_SET,
        device=device,
        overrides=overrides,
        replace=file is not None,
        trial_seconds=trial_seconds,
        expected_version=expected_version,
    )
    here.show(result, _print_set)


@app.command("get")
def get(
    ctx: typer.Context,
    device: Device,
    version: Annotated[int | None, typer.Option(help="Version, from `mdm config history`.")] = None,
) -> None:
    """Show the configuration of a device.

    The default is the desired version.
    """
    here = session.of(ctx)
    here.show_facts(
        here.request(admin.CONFIG_GET, device=device, version=version),
        (
            "device=client_id, version, by=author, at=created_at",
            ("trial", _trial),
            "overrides, document, desired",
            ("reported", _reported),
        ),
    )


@app.command("history")
def history(
    ctx: typer.Context,
    device: Device,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of versions.")] = 100,
) -> None:
    """List the versions of a device's configuration, newest first."""
    here = session.of(ctx)
    found = here.request_pages(admin.CONFIG_HISTORY, "versions", limit=limit, device=device)
    desired = found.desired
    here.show_table(
        found,
        found.versions,
        (
            ("version", lambda it: f"{it.version} *" if it.version == desired else it.version),
            "-by=author, at=created_at",
            ("---trial", _trial),
            "reported=outcome, --when=reported_at",
        ),
    )


@app.command("diff")
def diff(
    ctx: typer.Context,
    device: Device,
    from_version: Annotated[
        int | None,
        typer.Argument(
            metavar="[FROM]", help="Version to compare; the default is the one before TO. 0 is the empty one."
        ),
    ] = None,
    to_version: Annotated[
        int | None, typer.Argument(metavar="[TO]", help="Version to compare with; the default is the desired one.")
    ] = None,
) -> None:
    """Show the differences between two versions."""
    here = session.of(ctx)
    here.show(
        here.request(admin.CONFIG_DIFF, device=device, from_version=from_version, to_version=to_version),
        _print_changes,
    )


def _print_changes(found: admin.ConfigChanges) -> None:
    if not found.changes:
        output.print_note(f"no differences between versions {found.from_version} and {found.to_version}")
        return
    tables.print_table(
        found.changes,
        (
            ("path", lambda it: ".".join(it.path)),
            "change=kind",
            (f"version {found.from_version}", lambda it: _value(it.before, absent=it.kind == "added")),
            (f"version {found.to_version}", lambda it: _value(it.after, absent=it.kind == "removed")),
        ),
    )


@app.command("rollback")
def rollback(
    ctx: typer.Context,
    device: Device,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Version, from `mdm config history`.")],
) -> None:
    """Restore the overrides of an old version, as a new version."""
    here = session.of(ctx)
    here.show(here.request(admin.CONFIG_ROLLBACK, device=device, version=version), _print_set)


@layers.command("set")
def set_layer(
    ctx: typer.Context,
    tag: Tag,
    assignments: Assignments = None,
    *,
    secret: Secrets = None,
    file: File = None,
    priority: Annotated[
        int | None,
        typer.Option(
            help="Layers apply from the lowest to the highest priority; the default of a new layer is 0."
        ),
    ] = None,
) -> None:
    """Change a layer: configuration of all devices with a tag.

    Overrides of a device take precedence over its layers. KEY=VALUE changes one key, and KEY=null removes it from
    the layer. A file replaces the layer, and a null in it removes a key of lower layers or the model's defaults.
    """
    only_priority = priority is not None and not assignments and not secret and file is None
    document = {} if only_priority else _given(assignments, secret, file, field="document")
    here = session.of(ctx)
    result = here.request(admin.LAYER_SET, tag=tag, document=document, replace=file is not None, priority=priority)
    here.show(result, _print_layer_result)


@layers.command("show")
def show_layer(ctx: typer.Context, tag: Tag) -> None:
    """Show one layer."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.LAYER_SHOW, tag=tag), _LAYER)


@layers.command("list")
def list_layers(ctx: typer.Context) -> None:
    """List the layers in the order in which they apply."""
    here = session.of(ctx)
    found = here.request(admin.LAYER_LIST)
    none = "no layers yet; `mdm config layer set TAG KEY=VALUE` adds one"
    here.show_table(found, found.layers, _LAYER, none=none)


@layers.command("remove")
def remove_layer(ctx: typer.Context, tag: Tag) -> None:
    """Remove a layer.

    Its settings are removed from the configuration of all devices with its tag.
    """
    here = session.of(ctx)
    here.show(here.request(admin.LAYER_REMOVE, tag=tag), _print_layer_result)


def _given(
    assignments: list[str] | None, secrets: list[str] | None, file: Path | None, *, field: str
) -> dict[str, Any]:
    if bool(assignments or secrets) == (file is not None):
        raise InvalidInputError(f"{field}: expected either KEY=VALUE... or --file FILE.json")
    if file is not None:
        return documents.read(file, field="file")
    given = list(assignments or [])
    for key in secrets or []:
        value = passwords.line(key, missing=f"{key}: pass its value on standard input")
        given.append(f"{key}={json.dumps(value.get_secret_value())}")
    return documents.assign(given)


def _print_set(result: admin.ConfigSetResult) -> None:
    state = "new" if result.changed else "unchanged"
    tables.print_facts(result, ("device=client_id", ("version", lambda it: f"{it.version} ({state})"), "document"))


def _print_layer_result(result: admin.LayerResult) -> None:
    name = result.tag if result.layer else f"{result.tag} (removed)"
    tables.print_facts(
        result, (("layer", lambda _: name), "priority=layer.priority, document=layer.document, changed=devices")
    )


def _trial(entry: admin.ConfigEntry) -> str | None:
    return None if entry.trial_seconds is None else f"{entry.trial_seconds} s"


def _reported(found: admin.ConfigView) -> str | None:
    return None if found.reported is None else f"{found.reported} {found.reported_outcome or 'unknown'}"


def _value(value: object, *, absent: bool) -> str | None:
    return None if absent else json.dumps(value, ensure_ascii=False)
