"""Rules for a schedule, in the environment and in requests: a cron expression and a time zone."""

from __future__ import annotations

from typing import Final

from croniter import CroniterError, croniter

from shared import time_zones

_FIELDS: Final = 5


def cron_expression(text: str) -> str:
    """Return an expression of five fields with single spaces, or an empty one; raise ValueError with the rule."""
    fields = text.split()
    if not fields:
        return ""
    # A field of croniter's that begins with R or H means another time for each process.
    if len(fields) != _FIELDS or any(field[0] in "RrHh" for field in fields):
        raise ValueError("must be five fields of cron (minute, hour, day, month, weekday), or empty for none")
    try:
        croniter(text, start_time=0).get_next()
    except CroniterError as error:
        raise ValueError(f"must be an expression of cron that has a next time: {error}") from None
    return " ".join(fields)


def time_zone(name: str) -> str:
    """Return the IANA name of a zone; raise ValueError with the rule."""
    if not time_zones.is_known(name):
        raise ValueError(time_zones.WANTED)
    return name
