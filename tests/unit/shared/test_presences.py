"""Online, asleep or offline: the one rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.database import presences
from shared.database.tables import Presence
from shared.protocol.admin import PresenceState

AT = datetime(2026, 11, 25, 15, tzinfo=UTC)
DAY_S = 24 * 3600


@pytest.mark.parametrize(
    ("wake_interval_s", "asleep", "state", "away_s"),
    [
        (None, False, "offline", None),
        (3600, True, "asleep", 5400),
        (3600, False, "asleep", 5400),
        (1, True, "asleep", 61),
        (None, True, "asleep", 45 * DAY_S),
    ],
    ids=["no sleeper", "a goodbye", "a last will", "a short interval", "no interval"],
)
def test_a_device_that_sleeps_is_asleep_until_it_is_overdue(
    wake_interval_s: int | None, asleep: bool, state: PresenceState, away_s: int | None
) -> None:
    presence = Presence(online=True, wake_interval_s=wake_interval_s)
    assert presences.state(presence) == "online"
    presences.leave(presence, AT, asleep=asleep)
    assert presences.state(presence) == state
    assert presence.asleep_until == (None if away_s is None else AT + timedelta(seconds=away_s))
    presence.asleep_until = None
    assert presences.state(presence) == "offline"
