"""`mdm secrets`: data that the services store encrypted."""

from __future__ import annotations

from typing import Final

import typer

from cli import output, session, tables
from shared.protocol import admin

app = typer.Typer()

_KINDS: Final = {
    "rotations": "rotations in progress",
    "coredumps": "core dumps",
    "registry": "recovery key, answers, Wi-Fi, sealed settings",
}


@app.command("rekey")
def rekey(ctx: typer.Context) -> None:
    """Re-encrypt all data with the first master key.

    This covers secrets of rotations in progress, core dumps, the recovery key, stored answers, sealed settings
    and Wi-Fi networks of connection profiles. Afterwards the other master keys can be removed. The operation is
    idempotent. The exit status is 1 if some data cannot be decrypted with any of the keys: do not remove a key
    then.
    """
    here = session.of(ctx)
    found = {
        "rotations": here.request(admin.SECRETS_REKEY),
        "coredumps": here.request(admin.COREDUMP_REKEY),
        "registry": here.request(admin.RECOVERY_REKEY),
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
            output.print_note(f"{kind}: master key missing for {output.cell(result.unreadable.names)}")
