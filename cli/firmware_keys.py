"""`mdm firmware key`: the keys that a model trusts; with any, its images must be signed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from cli import image_files, session
from shared.esp32 import signature as image_signature
from shared.protocol import admin

app = typer.Typer(help="Keys with which a model's images must be signed.")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Code of the model.")]


@app.command("add")
def add(
    ctx: typer.Context,
    model: Model,
    file: Annotated[Path, typer.Argument(metavar="PEM", exists=True, dir_okay=False, help="Ed25519 public key.")],
) -> None:
    """Trust a key.

    A model with trusted keys accepts only images that are signed with one of them.
    """
    here = session.of(ctx)
    public_key = image_signature.public_key_of(image_files.read_pem(file))
    _show(here, here.request(admin.KEY_ADD, model=model, public_key=base64.b64encode(public_key)))


@app.command("list")
def show_all(ctx: typer.Context, model: Model) -> None:
    """List the keys that a model trusts."""
    here = session.of(ctx)
    _show(here, here.request(admin.KEY_LIST, model=model))


@app.command("remove")
def remove(
    ctx: typer.Context,
    model: Model,
    fingerprint: Annotated[
        str, typer.Argument(metavar="FINGERPRINT", help="Fingerprint of the key, from `mdm firmware key list`.")
    ],
) -> None:
    """Stop trusting a key.

    A model without trusted keys accepts unsigned images.
    """
    here = session.of(ctx)
    _show(here, here.request(admin.KEY_REMOVE, model=model, fingerprint=fingerprint))


def _show(here: session.Session, found: admin.Keys) -> None:
    none = f"{found.model} trusts no keys and accepts unsigned images"
    here.show_table(found, found.keys, "fingerprint, -by=author, added=created_at", none=none)
