"""`mdm secrets`: the secrets that the rotator keeps encrypted."""

from __future__ import annotations

import typer

from cli import output, session
from shared import admin

app = typer.Typer(help="The secrets that are encrypted at rest, while rotations are under way.")


@app.callback()
def secrets() -> None:
    """Name the group, which has one command so far."""


@app.command("rekey")
def rekey(ctx: typer.Context) -> None:
    """Encrypt them with the first master key, so that the other keys may be removed; again changes nothing.

    The status is 1 if there are some that none of the rotator's keys opens: do not remove a key then.
    """
    here = session.of(ctx)
    result = here.ask(admin.SECRETS_REKEY)
    here.show(result, _print)
    if result.unreadable.count:
        raise typer.Exit(1)


def _print(result: admin.SecretsRekeyed) -> None:
    output.print_facts({"encrypted anew": result.reencrypted, "no key opens": result.unreadable.count})
    if result.unreadable.count:
        output.print_note(f"a master key is missing for: {output.cell(result.unreadable.names)}")
