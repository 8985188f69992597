"""`mdm firmware key`: the keys that a model trusts; with at least one, its images must be signed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from cli import image_files, session
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
    _show(here, here.ask(admin.KEY_ADD, model=model, public_key=base64.b64encode(public_key)))


@app.command("list")
def show_all(ctx: typer.Context, model: Model) -> None:
    """List the keys that a model trusts."""
    here = session.of(ctx)
    _show(here, here.ask(admin.KEY_LIST, model=model))


@app.command("remove")
def remove(
    ctx: typer.Context,
    model: Model,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="As `list` shows it.")],
) -> None:
    """Trust a key no more; without any key, the model takes images without a signature."""
    here = session.of(ctx)
    _show(here, here.ask(admin.KEY_REMOVE, model=model, fingerprint=fingerprint))


def _show(here: session.Session, found: admin.Keys) -> None:
    none = f"{found.model} trusts no key and takes images without a signature"
    here.show_table(found, found.keys, ("fingerprint", "author", "added=created_at"), none=none)
