"""`mdm config layer`: the part of a configuration that all devices with a tag have in common."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from cli import documents, output, selection, session, tables
from cli.arguments import Assignments, Document, Secrets
from shared.errors import NotFoundError
from shared.protocol import admin

app = typer.Typer(help="Layers: configuration that devices with a tag share.")

Tag = Annotated[str, typer.Argument(metavar="TAG", help="Tag of the devices.")]
_LAYER: Final = "tag, priority, document, --by=author, -at=updated_at"


@app.command("set")
def set_layer(
    ctx: typer.Context,
    tag: Tag,
    assignments: Assignments = None,
    file: Document = None,
    priority: Annotated[
        int | None,
        typer.Option(
            help="Layers apply from the lowest to the highest priority; the default of a new layer is 0."
        ),
    ] = None,
    *,
    secret: Secrets = None,
    dry_run: selection.DryRun = False,
    yes: selection.Yes = False,
) -> None:
    """Change a layer: configuration of all devices with a tag.

    Overrides of a device take precedence over its layers. KEY=VALUE changes one key, and KEY=null removes it from
    the layer. A file replaces the layer, and a null in it removes a key of lower layers or the model's defaults.
    """
    only_priority = priority is not None and not assignments and not secret and file is None
    document = {} if only_priority else documents.given(assignments, file, secret)
    here = session.of(ctx)
    _confirm(here, "change the configuration of", tag, yes=yes, dry_run=dry_run)
    result = here.request(admin.LAYER_SET, tag=tag, document=document, replace=file is not None, priority=priority)
    here.show(result, _print)


@app.command("show")
def show_layer(ctx: typer.Context, tag: Tag) -> None:
    """Show one layer."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.LAYER_SHOW, tag=tag), _LAYER)


@app.command("list")
def list_layers(ctx: typer.Context) -> None:
    """List the layers in the order in which they apply."""
    here = session.of(ctx)
    found = here.request(admin.LAYER_LIST)
    none = "no layers yet; `mdm config layer set TAG KEY=VALUE` adds one"
    here.show_table(found, found.layers, _LAYER, none=none)


@app.command("remove")
def remove_layer(
    ctx: typer.Context, tag: Tag, *, dry_run: selection.DryRun = False, yes: selection.Yes = False
) -> None:
    """Remove a layer.

    Its settings are removed from the configuration of all devices with its tag.
    """
    here = session.of(ctx)
    _confirm(here, "remove the layer from", tag, yes=yes, dry_run=dry_run)
    here.show(here.request(admin.LAYER_REMOVE, tag=tag), _print)


def _confirm(here: session.Session, doing: str, tag: str, *, yes: bool, dry_run: bool) -> None:
    """Ask before the configuration of several devices is changed; note if no device has the tag."""
    try:
        devices = selection.find(here, tag=tag)
    except NotFoundError as error:
        output.print_note(error.message)
        devices = []
    selection.confirm(here, doing, devices, yes=yes, dry_run=dry_run)


def _print(result: admin.LayerResult) -> None:
    name = result.tag if result.layer else f"{result.tag} (removed)"
    tables.print_facts(
        result, (("layer", lambda _: name), "priority=layer.priority, document=layer.document, changed=devices")
    )
