"""`mdm audit`: the audit log of admins' requests."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import session
from shared.protocol import admin


def show(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only entries on this client id or model code.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only entries by this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 100,
) -> None:
    """Show the newest entries of the audit log."""
    here = session.of(ctx)
    found = here.request_pages(admin.AUDIT_LIST, "entries", limit=limit, subject=subject, actor=actor)
    here.show_table(
        found, found.entries, "at, who=actor, what=action, on=subject, -before, after", none="no entries"
    )
