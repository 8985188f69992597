"""`mdm audit`: who did what."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli import session, tables
from shared.protocol import admin


def show(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only on this client id or model code.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this account.")] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.")] = 100,
) -> None:
    """Show the newest entries of the audit log."""
    here = session.of(ctx)
    here.show(here.ask(admin.AUDIT_LIST, subject=subject, actor=actor, limit=limit), _print)


def _print(found: admin.Audit) -> None:
    tables.print_table(
        ("AT", "WHO", "WHAT", "ON", "BEFORE", "AFTER"),
        (
            (entry.at, entry.actor, entry.action, entry.subject, _short(entry.before), _short(entry.after))
            for entry in found.entries
        ),
    )


def _short(facts: dict[str, object] | None) -> str | None:
    return json.dumps(facts, ensure_ascii=False) if facts is not None else None
