"""`mdm secrets`: what the rotator and the firmware service keep encrypted."""

from __future__ import annotations

import typer

from cli import output, session
from shared import admin

app = typer.Typer(help="What is encrypted at rest: secrets while rotations are under way, and core dumps.")


@app.callback()
def secrets() -> None:
    """Name the group, which has one command so far."""


@app.command("rekey")
def rekey(ctx: typer.Context) -> None:
    """Encrypt them with the first master key, so that the other keys may be removed; again changes nothing.

    The status is 1 if there are some that none of the keys opens: do not remove a key then.
    """
    here = session.of(ctx)
    found = Rekeyed(rotations=here.ask(admin.SECRETS_REKEY), coredumps=here.ask(admin.COREDUMP_REKEY))
    here.show(found, _print)
    if found.rotations.unreadable.count or found.coredumps.unreadable.count:
        raise typer.Exit(1)


class Rekeyed(admin.Result):
    """What the rotator and the firmware service have encrypted with their first master keys."""

    rotations: admin.SecretsRekeyed
    coredumps: admin.SecretsRekeyed


def _print(found: Rekeyed) -> None:
    kinds = {"rotations under way": found.rotations, "core dumps": found.coredumps}
    output.print_table(
        ("WHAT", "ENCRYPTED ANEW", "NO KEY OPENS"),
        ((kind, result.reencrypted, result.unreadable.count) for kind, result in kinds.items()),
    )
    for kind, result in kinds.items():
        if result.unreadable.count:
            output.print_note(f"a master key is missing for {kind} of: {output.cell(result.unreadable.names)}")
