"""`mdm rotation schedule`: when the rotator queues all devices."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

import typer

from cli import output, session, tables
from shared.protocol import admin

_SHOWN: Final = "%Y-%m-%d %H:%M %Z"


def show_schedule(ctx: typer.Context) -> None:
    """Show when all devices are queued next."""
    here = session.of(ctx)
    here.show(here.request(admin.ROTATION_SCHEDULE), _print)


def _print(view: admin.RotationScheduleView) -> None:
    if not view.expression:
        output.print_line("no schedule is set")
        return
    tables.print_facts(view, "schedule=expression, zone, last run=last_fire_at")
    zone = ZoneInfo(view.zone)
    tables.print_table(
        view.next, (("next", lambda at: at.astimezone(zone).strftime(_SHOWN)), ("UTC", lambda at: at))
    )
