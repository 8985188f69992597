"""`mdm secrets`: what the services keep encrypted."""

from __future__ import annotations

from typing import Final

import typer

from cli import output, session, tables
from shared.protocol import admin

app = typer.Typer()

_KINDS: Final = {
    "rotations": "rotations under way",
    "coredumps": "core dumps",
    "registry": "recovery key and kept answers",
}


@app.command("rekey")
def rekey(ctx: typer.Context) -> None:
    """Encrypt them with the first master key, so that the other keys may be removed; again changes nothing.

    The status is 1 if there are some that none of the keys opens: do not remove a key then.
    """
    here = session.of(ctx)
    found = {
        "rotations": here.ask(admin.SECRETS_REKEY),
        "coredumps": here.ask(admin.COREDUMP_REKEY),
        "registry": here.ask(admin.RECOVERY_REKEY),
    }
    if here.as_json:
        output.print_json({name: result.model_dump(mode="json") for name, result in found.items()})
    else:
        _print({_KINDS[name]: result for name, result in found.items()})
    if any(result.unreadable.count for result in found.values()):
        raise typer.Exit(1)


def _print(found: dict[str, admin.SecretsRekeyed]) -> None:
    tables.print_table(
        found.items(),
        (
            ("what", lambda it: it[0]),
            ("re-encrypted", lambda it: it[1].reencrypted),
            ("unreadable", lambda it: it[1].unreadable.count),
        ),
    )
    for kind, result in found.items():
        if result.unreadable.count:
            output.print_note(f"a master key is missing for {kind} of: {output.cell(result.unreadable.names)}")
