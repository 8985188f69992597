"""What the status of a device shows, and what services publish in its place does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.registry.devices.presence import Presences, ReceivedStatus
from shared.database import presences
from shared.database.outbox import Outbox
from shared.database.presences import Connected
from shared.protocol.messages import Status

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OFFLINE = Status(online=False)


class Session:
    """A transaction that takes what is put into the outbox."""

    def __init__(self) -> None:
        self.info: dict[str, object] = {}

    def add(self, row: object) -> None:
        """Take a row."""


def receive(presence: Connected, status: Status) -> datetime | None:
    """Receive a status, and return when the device was last seen."""
    registry = SimpleNamespace(outbox=Outbox("registry"))
    stored = Presences(cast("Any", registry), cast("Any", None))
    received = ReceivedStatus("iotdevice-lamp-abcd1234", status, NOW)
    stored._record(cast("Any", Session()), received, presence)
    return presences.seen_at(presence, NOW + timedelta(hours=1))


@pytest.mark.parametrize("seen_at", [None, NOW - timedelta(days=9)])
def test_an_offline_status_in_the_place_of_a_device_that_is_not_connected_is_no_sight_of_it(
    seen_at: datetime | None,
) -> None:
    presence = Connected(1, online=False, last_seen_at=seen_at)
    assert receive(presence, OFFLINE) == seen_at


def test_a_device_was_seen_until_its_connection_ended() -> None:
    assert receive(Connected(1, online=True, last_seen_at=NOW - timedelta(days=9)), OFFLINE) == NOW
    assert receive(Connected(1, online=False), Status(online=False, asleep=True)) == NOW


def test_a_device_that_is_connected_is_seen_now() -> None:
    assert receive(Connected(1, online=False), Status(online=True)) == NOW + timedelta(hours=1)


def test_a_device_that_a_restart_of_the_broker_has_dropped_was_seen_until_then() -> None:
    presence = Connected(1, online=True, last_seen_at=NOW - timedelta(days=9))
    presences.leave(presence, NOW)
    assert presences.seen_at(presence, NOW + timedelta(hours=1)) == NOW
