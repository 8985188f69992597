"""`mdm device ...`: changes of a device after it was added, up to its removal."""

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

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command("rename")
def rename(
    ctx: typer.Context, device: Device, name: Annotated[str, typer.Argument(help="New display name.")]
) -> None:
    """Change the display name of a device.

    Its client id stays the same.
    """
    _update(ctx, device, name=name)


@app.command("tag")
def tag(
    ctx: typer.Context,
    device: Device,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="TAG...", help="New tags; without any, all tags are removed.")
    ] = None,
) -> None:
    """Replace the tags of a device."""
    _update(ctx, device, tags=tags or [])


@app.command("enable")
def enable(ctx: typer.Context, device: Device) -> None:
    """Enable a disabled device."""
    _update(ctx, device, enabled=True)


@app.command("disable")
def disable(ctx: typer.Context, device: Device) -> None:
    """Disable a device.

    Keycloak and the broker refuse it at once. Its secret is kept for when it is enabled.
    """
    _update(ctx, device, enabled=False)


@app.command("remove")
def remove(ctx: typer.Context, device: Device, *, yes: Yes = False) -> None:
    """Remove a device permanently.

    This removes its database record, its Keycloak client and its broker account.
    """
    here = session.of(ctx)
    device = here.device(device)
    confirm(f"remove {device} permanently?", yes=yes)
    here.show_facts(here.request(admin.DEVICE_REMOVE, device=device))


@app.command("reissue")
def reissue(
    ctx: typer.Context,
    device: Device,
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="File to write the new package to.")],
    *,
    yes: Yes = False,
) -> None:
    """Write a new package with a new secret, to replace a lost one.

    The old secret becomes invalid at once. A device that is in use is locked out until it has the new package; to
    renew its secret, use `mdm rotate`.
    """
    if target.exists():
        raise ConflictError(f"--output: {target} exists; name another file")
    here = session.of(ctx)
    device = here.device(device)
    confirm(f"the current secret of {device} becomes invalid at once; reissue?", yes=yes)
    package = here.request(admin.DEVICE_REISSUE, device=device)
    output.write_private(target, package.model_dump_json(indent=2) + "\n", replace=False)
    print_written(here, package, target)


def _update(ctx: typer.Context, device: str, **wanted: object) -> None:
    here = session.of(ctx)
    here.show(here.request(admin.DEVICE_UPDATE, device=device, **wanted), print_device)


def confirm(question: str, *, yes: bool, done: str | None = None) -> None:
    """Ask for confirmation on the terminal; raise InvalidInputError unless the answer is yes.

    If something was done before, which `done` names, raise ConflictError.
    """
    if yes:
        return
    kind = InvalidInputError if done is None else ConflictError
    state = done or "nothing was changed"
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        raise kind(f"not answered; {state}; --yes does it without a question") from None
    if not agreed:
        raise kind(f"cancelled; {state}")
