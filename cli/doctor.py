"""`mdm doctor`: differences between database, Keycloak, broker and image store, and what needs a person."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output, session
from shared.errors import FleetError
from shared.protocol import admin


def doctor(
    ctx: typer.Context,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired; without this option nothing changes.")
    ] = False,
) -> None:
    """Compare database, Keycloak, broker, images and certificates.

    The exit status is 1 if differences remain, or a certificate ends soon.
    """
    here = session.of(ctx)
    found = here.request(admin.DOCTOR_REPAIR if repair else admin.DOCTOR)
    unknown = None
    try:
        of_firmware = here.request(admin.FIRMWARE_DOCTOR_REPAIR if repair else admin.FIRMWARE_DOCTOR)
        found.findings.extend(of_firmware.findings)
    except FleetError as error:
        unknown = error  # What the registry has found is shown all the same.
    if found.findings:
        here.show(found, _print)
    else:
        here.show_facts(found, ("devices", ("problems", lambda _: 0)))
    if unknown is not None:
        raise unknown
    if any(not one.repaired for one in found.findings):
        raise typer.Exit(1)


def _print(found: admin.Diagnosis) -> None:
    """Print each finding as a whole: it is for reading, and its remedy must not be cut."""
    for one in found.findings:
        remedy = f"repaired: {one.remedy}" if one.repaired else one.remedy
        output.print_text(f"{one.subject}: {one.problem}; {remedy}")
