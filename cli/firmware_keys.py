"""`mdm firmware key`: the keys that a model trusts; with at least one, its images must be signed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from cli import image_files, output, session, tables
from shared.esp32 import signature as image_signature
from shared.protocol import admin

app = typer.Typer(help="The keys that a model's images must be signed with.")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model's code.")]


@app.command("add")
def add(
    ctx: typer.Context,
    model: Model,
    file: Annotated[
        Path, typer.Argument(metavar="PEM", exists=True, dir_okay=False, help="An Ed25519 public key.")
    ],
) -> None:
    """Trust a key: from now on the model takes no image that no trusted key has signed."""
    here = session.of(ctx)
    public_key = image_signature.public_key_of(image_files.read_pem(file))
    here.show(here.ask(admin.KEY_ADD, model=model, public_key=base64.b64encode(public_key)), _print)


@app.command("list")
def show_all(ctx: typer.Context, model: Model) -> None:
    """List the keys that a model trusts."""
    here = session.of(ctx)
    here.show(here.ask(admin.KEY_LIST, model=model), _print)


@app.command("remove")
def remove(
    ctx: typer.Context,
    model: Model,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="As `list` shows it.")],
) -> None:
    """Trust a key no more; without any key, the model takes images without a signature."""
    here = session.of(ctx)
    here.show(here.ask(admin.KEY_REMOVE, model=model, fingerprint=fingerprint), _print)


def _print(found: admin.Keys) -> None:
    if not found.keys:
        output.print_note(f"{found.model} trusts no key and takes images without a signature")
        return
    tables.print_table(
        ("FINGERPRINT", "AUTHOR", "ADDED"), ((key.fingerprint, key.author, key.created_at) for key in found.keys)
    )
