"""`mdm config`: what is wanted of a device, what was, and what all devices with a tag have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import documents, output, session, tables
from cli.arguments import Device
from shared.errors import InvalidInputError
from shared.protocol import admin

app = typer.Typer()
layers = typer.Typer(help="What the configurations of all devices with a tag have in common.")
app.add_typer(layers, name="layer")

Tag = Annotated[str, typer.Argument(metavar="TAG", help="The tag of the devices.")]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE...", help="Values are JSON, else strings; dots nest: led.on=true"),
]
File = Annotated[
    Path | None, typer.Option(metavar="FILE.json", exists=True, dir_okay=False, help="All as one file.")
]


@app.command("set")
def set_config(
    ctx: typer.Context,
    device: Device,
    assignments: Assignments = None,
    file: File = None,
    *,
    trial_seconds: Annotated[
        int | None,
        typer.Option(metavar="N", help="The device goes back unless it reconnects and reports in that time."),
    ] = None,
    expected_version: Annotated[
        int | None, typer.Option("--expect", metavar="VERSION", help="Only if this is the desired version still.")
    ] = None,
) -> None:
    """Change what is special about a device's configuration; its tags' layers and its model fill in the rest.

    KEY=VALUE changes only what it names, and KEY=null goes back to the layers and defaults; a file replaces all.
    """
    overrides = _given(assignments, file, field="overrides")
    here = session.of(ctx)
    result = here.ask(
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
    version: Annotated[int | None, typer.Option(help="As `mdm config history` lists them.")] = None,
) -> None:
    """Show the desired configuration of a device, or an old version of it."""
    here = session.of(ctx)
    here.show(here.ask(admin.CONFIG_GET, device=device, version=version), _print_version)


def _print_version(found: admin.ConfigView) -> None:
    reported = None if found.reported is None else f"{found.reported} {found.reported_outcome or 'unknown'}"
    tables.print_facts(
        {
            "device": found.client_id,
            "version": found.version,
            "by": found.author,
            "at": found.created_at,
            "trial": _trial(found),
            "overrides": found.overrides,
            "document": found.document,
            "desired": found.desired,
            "reported": reported,
        }
    )


@app.command("history")
def history(
    ctx: typer.Context,
    device: Device,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
) -> None:
    """List the versions of a device's configuration, newest first."""
    here = session.of(ctx)
    here.show(here.ask_pages(admin.CONFIG_HISTORY, "versions", limit=limit, device=device), _print_history)


def _print_history(found: admin.ConfigVersions) -> None:
    tables.print_table(
        ("VERSION", "BY", "AT", "TRIAL", "DEVICE SAID", "WHEN"),
        (
            (
                f"{entry.version}{' *' if entry.version == found.desired else ''}",
                entry.author,
                entry.created_at,
                _trial(entry),
                entry.outcome,
                entry.reported_at,
            )
            for entry in found.versions
        ),
    )


@app.command("diff")
def diff(
    ctx: typer.Context,
    device: Device,
    start: Annotated[
        int | None, typer.Argument(metavar="[FROM]", help="A version; without it the one before TO. 0: nothing.")
    ] = None,
    end: Annotated[
        int | None, typer.Argument(metavar="[TO]", help="A version; without it the desired one.")
    ] = None,
) -> None:
    """Show what differs between two versions of a device's configuration."""
    here = session.of(ctx)
    here.show(here.ask(admin.CONFIG_DIFF, device=device, from_version=start, to_version=end), _print_changes)


def _print_changes(found: admin.ConfigChanges) -> None:
    if not found.changes:
        output.print_note(f"no difference between versions {found.from_version} and {found.to_version}")
        return
    tables.print_table(
        ("PATH", "CHANGE", f"VERSION {found.from_version}", f"VERSION {found.to_version}"),
        (
            (
                ".".join(change.path),
                change.kind,
                _value(change.before, absent=change.kind == "added"),
                _value(change.after, absent=change.kind == "removed"),
            )
            for change in found.changes
        ),
    )


@app.command("rollback")
def rollback(
    ctx: typer.Context,
    device: Device,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="As `mdm config history` lists them.")],
) -> None:
    """Make what was special in an old version the newest version, and push it."""
    here = session.of(ctx)
    here.show(here.ask(admin.CONFIG_ROLLBACK, device=device, version=version), _print_set)


@layers.command("set")
def set_layer(
    ctx: typer.Context,
    tag: Tag,
    assignments: Assignments = None,
    file: File = None,
    priority: Annotated[
        int | None, typer.Option(help="Layers apply from the lowest to the highest; 0 if never given.")
    ] = None,
) -> None:
    """Change what all devices with a tag have in common; a device's own overrides win over it.

    KEY=VALUE changes only what it names, KEY=null removes it from the layer; a file replaces all, and a null in it
    removes what the model's defaults or lower layers say.
    """
    only_priority = priority is not None and not assignments and file is None
    document = {} if only_priority else _given(assignments, file, field="document")
    here = session.of(ctx)
    result = here.ask(admin.LAYER_SET, tag=tag, document=document, replace=file is not None, priority=priority)
    here.show(result, _print_layer_result)


@layers.command("show")
def show_layer(ctx: typer.Context, tag: Tag) -> None:
    """Show one layer."""
    here = session.of(ctx)
    here.show(here.ask(admin.LAYER_SHOW, tag=tag), _print_layer)


def _print_layer(found: admin.LayerView) -> None:
    tables.print_facts(
        {
            "tag": found.tag,
            "priority": found.priority,
            "document": found.document,
            "by": found.author,
            "at": found.updated_at,
        }
    )


@layers.command("list")
def list_layers(ctx: typer.Context) -> None:
    """List the layers in the order in which they apply."""
    here = session.of(ctx)
    here.show(here.ask(admin.LAYER_LIST), _print_layers)


def _print_layers(found: admin.Layers) -> None:
    if not found.layers:
        output.print_note("no layers yet; `mdm config layer set TAG KEY=VALUE` makes one")
    else:
        tables.print_table(
            ("TAG", "PRIORITY", "DOCUMENT", "BY", "AT"),
            ((it.tag, it.priority, it.document, it.author, it.updated_at) for it in found.layers),
        )


@layers.command("remove")
def remove_layer(ctx: typer.Context, tag: Tag) -> None:
    """Remove a layer, and what it says from all devices with its tag."""
    here = session.of(ctx)
    here.show(here.ask(admin.LAYER_REMOVE, tag=tag), _print_layer_result)


def _given(assignments: list[str] | None, file: Path | None, *, field: str) -> dict[str, Any]:
    if bool(assignments) == (file is not None):
        raise InvalidInputError(f"{field}: expected either KEY=VALUE... or --file FILE.json")
    return documents.read(file, field="file") if file else documents.assign(assignments or [])


def _print_set(result: admin.ConfigSetResult) -> None:
    state = "new" if result.changed else "unchanged"
    tables.print_facts(
        {"device": result.client_id, "version": f"{result.version} ({state})", "document": result.document}
    )


def _print_layer_result(result: admin.LayerResult) -> None:
    layer = result.layer
    tables.print_facts(
        {
            "layer": result.tag if layer else f"{result.tag} (removed)",
            "priority": layer.priority if layer else None,
            "document": layer.document if layer else None,
            "changed": result.devices,
        }
    )


def _trial(entry: admin.ConfigEntry) -> str | None:
    return None if entry.trial_seconds is None else f"{entry.trial_seconds} s"


def _value(value: object, *, absent: bool) -> str | None:
    return None if absent else json.dumps(value, ensure_ascii=False)
