"""Since when a device runs, as far as is honest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.registry.devices import reported
from services.registry.devices.reported import Uptime
from shared.database.tables import Presence

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


@pytest.mark.parametrize(
    ("presence", "said", "since"),
    [
        (Presence(online=True, booted_at=ago(2)), None, ago(2)),
        # It had no network for an hour after its start.
        (Presence(online=True, booted_at=ago(2)), Uptime(ago(1), 2 * 3600), ago(3)),
        # It has started since.
        (Presence(online=True, booted_at=ago(2)), Uptime(ago(3), 3600), ago(2)),
        # It reports no number of its start, and may have started since it left.
        (Presence(online=True, left_at=ago(2)), Uptime(ago(1), 3600), ago(2)),
        (Presence(online=True, left_at=ago(2)), Uptime(ago(3), 3600), None),
        (Presence(online=True), Uptime(ago(3), 3600), ago(4)),
        (Presence(online=True), None, None),
        (Presence(online=True), Uptime(ago(1), -5), None),
        (Presence(online=True), Uptime(ago(1), 1e15), None),
        (Presence(online=False, booted_at=ago(2)), Uptime(ago(1), 3600), None),
    ],
)
def test_a_device_runs_since_its_own_uptime_says_unless_it_may_have_started_since(
    presence: Presence, said: Uptime | None, since: datetime | None
) -> None:
    assert reported.up_since(presence, said) == since
