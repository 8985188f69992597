"""`mdm device ...`: what becomes of a device after it was added, up to its removal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output, session
from cli.arguments import Device
from cli.device_text import print_device, print_written
from shared.errors import ConflictError, InvalidInputError
from shared.protocol import admin

app = typer.Typer()

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("rename")
def rename(ctx: typer.Context, device: Device, name: Annotated[str, typer.Argument(help="For people.")]) -> None:
    """Give a device another name for people; its client id stays."""
    _update(ctx, device, name=name)


@app.command("tag")
def tag(
    ctx: typer.Context,
    device: Device,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="None removes all.")] = None,
) -> None:
    """Replace the tags of a device."""
    _update(ctx, device, tags=tags or [])


@app.command("enable")
def enable(ctx: typer.Context, device: Device) -> None:
    """Let a disabled device in again."""
    _update(ctx, device, enabled=True)


@app.command("disable")
def disable(ctx: typer.Context, device: Device) -> None:
    """Have Keycloak and the broker refuse a device, at once; it keeps its secret for when it is enabled."""
    _update(ctx, device, enabled=False)


@app.command("remove")
def remove(ctx: typer.Context, device: Device, *, yes: Yes = False) -> None:
    """Remove a device for good: its record, its identity and its broker account."""
    sure(f"remove {device} for good?", yes=yes)
    here = session.of(ctx)
    here.show_facts(here.ask(admin.DEVICE_REMOVE, device=device))


@app.command("reissue")
def reissue(
    ctx: typer.Context,
    device: Device,
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the new package goes.")],
    *,
    yes: Yes = False,
) -> None:
    """Make a new secret and package for a device whose package was lost; the old secret dies at once.

    A device that is in use is locked out until it gets the new package: to renew its secret, use `mdm rotate`.
    """
    if target.exists():
        raise ConflictError(f"output: {target} exists; name another file")
    sure(f"the present secret of {device} dies at once; reissue?", yes=yes)
    here = session.of(ctx)
    package = here.ask(admin.DEVICE_REISSUE, device=device)
    output.write_private(target, package.model_dump_json(indent=2) + "\n", replace=False)
    print_written(here, package, target)


def _update(ctx: typer.Context, device: str, **wanted: object) -> None:
    here = session.of(ctx)
    here.show(here.ask(admin.DEVICE_UPDATE, device=device, **wanted), print_device)


def sure(question: str, *, yes: bool) -> None:
    """Ask the person at the terminal; raise InvalidInputError unless the answer is yes."""
    if not yes and not typer.confirm(question, err=True):
        raise InvalidInputError("nothing was done")
