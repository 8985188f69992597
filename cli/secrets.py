"""`mdm secrets`: what the services keep encrypted."""

from __future__ import annotations

import typer

from cli import output, session
from shared.protocol import admin

app = typer.Typer()


@app.command("rekey")
def rekey(ctx: typer.Context) -> None:
    """Encrypt them with the first master key, so that the other keys may be removed; again changes nothing.

    The status is 1 if there are some that none of the keys opens: do not remove a key then.
    """
    here = session.of(ctx)
    found = Rekeyed(
        rotations=here.ask(admin.SECRETS_REKEY),
        coredumps=here.ask(admin.COREDUMP_REKEY),
        registry=here.ask(admin.RECOVERY_REKEY),
    )
    here.show(found, _print)
    if any(result.unreadable.count for result in found.kinds().values()):
        raise typer.Exit(1)


class Rekeyed(admin.Result):
    """What the services have encrypted with their first master keys."""

    rotations: admin.SecretsRekeyed
    coredumps: admin.SecretsRekeyed
    registry: admin.SecretsRekeyed

    def kinds(self) -> dict[str, admin.SecretsRekeyed]:
        """Return all by what a person calls them."""
        return {
            "rotations under way": self.rotations,
            "core dumps": self.coredumps,
            "recovery key and kept answers": self.registry,
        }


def _print(found: Rekeyed) -> None:
    kinds = found.kinds()
    output.print_table(
        ("WHAT", "ENCRYPTED ANEW", "NO KEY OPENS"),
        ((kind, result.reencrypted, result.unreadable.count) for kind, result in kinds.items()),
    )
    for kind, result in kinds.items():
        if result.unreadable.count:
            output.print_note(f"a master key is missing for {kind} of: {output.cell(result.unreadable.names)}")
