"""`mdm audit`: who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import session
from shared.protocol import admin


def show(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only on this client id or model code.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this account.")] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.")] = 100,
) -> None:
    """Show the newest entries of the audit log."""
    here = session.of(ctx)
    found = here.ask(admin.AUDIT_LIST, subject=subject, actor=actor, limit=limit)
    here.show_table(
        found,
        found.entries,
        ("at", "who=actor", "what=action", "on=subject", "before", "after"),
        none="no entries",
    )
