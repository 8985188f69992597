"""`mdm rotation schedule`: when the rotator queues all devices."""

from __future__ import annotations

from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from cli import output, session, tables
from shared.protocol import admin

app = typer.Typer(help="When all devices are queued for a rotation.")

_SHOWN: Final = "%Y-%m-%d %H:%M %Z"
_NEVER: Final = "never"


@app.command("show")
def show_schedule(ctx: typer.Context) -> None:
    """Show the schedule, and when all devices are queued next."""
    here = session.of(ctx)
    here.show(here.request(admin.SCHEDULE_SHOW), _print)


@app.command("set")
def set_schedule(
    ctx: typer.Context,
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPRESSION",
            help="Minute, hour, day, month and weekday as in cron, in quotation marks; or `never`.",
        ),
    ],
    zone: Annotated[
        str | None,
        typer.Option(help="Time zone, as Europe/Berlin; by default that of the present schedule."),
    ] = None,
) -> None:
    """Set when all devices are queued.

    "30 3 * * 0" is Sundays at half past three, "0 8 * * 6#1" the first Saturday of a month at eight. The schedule
    is in force at once and takes precedence over the rotator's setting. It counts from now: what was missed before
    is not made up for.
    """
    here = session.of(ctx)
    wanted = "" if expression == _NEVER else expression
    here.show(here.request(admin.SCHEDULE_SET, expression=wanted, zone=zone), _print)


@app.command("clear")
def clear_schedule(ctx: typer.Context) -> None:
    """Return to the schedule in the rotator's settings."""
    here = session.of(ctx)
    here.show(here.request(admin.SCHEDULE_CLEAR), _print)


def _print(view: admin.RotationScheduleView) -> None:
    origin = f"set by {view.author}" if view.author else "MDM_ROTATION_SCHEDULE of the rotator"
    if not view.expression:
        output.print_text(f"no schedule: devices are queued by admins only ({origin})")
        return
    tables.print_facts(view, ("schedule=expression, zone", ("from", lambda _: origin), "last run=last_fire_at"))
    zone = ZoneInfo(view.zone)
    tables.print_table_below(
        view.next, (("next", lambda at: at.astimezone(zone).strftime(_SHOWN)), ("UTC", output.cell))
    )
