"""Which subjects of a rule to notify of, without I/O: its condition must hold, or be over, for a while."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Tracked:
    """A subject for which a condition holds since `since`, or did until `over_since`; `fired`: notified of it."""

    since: datetime
    fired: bool = False
    over_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class NotificationVerdict:
    """The subjects to notify of, and how to track those that change; None: no longer."""

    firing: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    changes: dict[str, Tracked | None] = field(default_factory=dict)


def judge(
    tracked: Mapping[str, Tracked], holding: Collection[str], now: datetime, *, hold: timedelta
) -> NotificationVerdict:
    """Return what follows from the subjects for which the condition holds at `now`."""
    verdict = NotificationVerdict()
    for subject in sorted({*tracked, *holding}):
        before = tracked.get(subject)
        after = _next(before, now, is_holding=subject in holding, hold=hold)
        if after is not None and after.fired and not (before and before.fired):
            verdict.firing.append(subject)
        if before is not None and before.fired and after is None:
            verdict.resolved.append(subject)
        if after != before:
            verdict.changes[subject] = after
    return verdict


def _next(before: Tracked | None, now: datetime, *, is_holding: bool, hold: timedelta) -> Tracked | None:
    if is_holding:
        since = now if before is None else before.since
        return Tracked(since, fired=(before is not None and before.fired) or now - since >= hold)
    if before is None or not before.fired:
        return None
    over_since = before.over_since or now
    return None if now - over_since >= hold else Tracked(before.since, fired=True, over_since=over_since)
