"""`mdm doctor`: whether database, Keycloak and broker agree."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output, session, tables
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
    if here.as_json:
        output.print_json(found)
    elif found.findings:
        tables.print_table(
            ("DEVICE", "PROBLEM", "REMEDY", "REPAIRED"),
            ((one.client_id, one.problem, one.remedy, one.repaired) for one in found.findings),
        )
    else:
        tables.print_facts({"devices": found.devices, "problems": 0})
    if any(not one.repaired for one in found.findings):
        raise typer.Exit(1)
