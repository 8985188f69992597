"""`mdm doctor`: whether database, Keycloak and broker agree."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import session
from shared.protocol import admin


def doctor(
    ctx: typer.Context,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; without it nothing changes.")
    ] = False,
) -> None:
    """Compare database, Keycloak and broker; the status is 1 when something is left that does not agree."""
    here = session.of(ctx)
    found = here.ask(admin.DOCTOR_REPAIR if repair else admin.DOCTOR)
    if found.findings:
        here.show_table(found, found.findings, ("device=client_id", "problem", "remedy", "repaired"))
    else:
        here.show_facts(found, ("devices", ("problems", lambda _: 0)))
    if any(not one.repaired for one in found.findings):
        raise typer.Exit(1)
