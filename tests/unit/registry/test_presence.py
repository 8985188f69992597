"""What the status of a device shows, and what services publish in its place does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.registry.devices.presence import Presences, ReceivedStatus
from shared.database import presences
from shared.database.outbox import Outbox
from shared.database.outbox_rows import NewEvent
from shared.database.presences import Connected
from shared.protocol.messages import Status

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OFFLINE = Status(online=False)


def receive(presence: Connected, status: Status, session: object | None = None) -> datetime | None:
    """Receive a status, and return when the device was last seen."""
    registry = SimpleNamespace(outbox=Outbox("registry"), clashes=SimpleNamespace(on_boot=lambda *_: None))
    stored = Presences(cast("Any", registry), cast("Any", None))
    received = ReceivedStatus("iotdevice-lamp-abcd1234", status, NOW)
    stored._record(cast("Any", session or SimpleNamespace(info={})), received, presence)
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


def test_the_present_start_of_a_device_is_dated_by_its_first_status() -> None:
    presence = Connected(1, online=False)
    receive(presence, Status(online=True, boot=7))
    assert presence.booted_at == NOW
    presence.booted_at = NOW - timedelta(hours=2)
    receive(presence, Status(online=True, boot=7, rssi_dbm=-60))
    assert presence.booted_at == NOW - timedelta(hours=2)
    receive(presence, OFFLINE)
    receive(presence, Status(online=True, boot=8))
    assert presence.booted_at == NOW
    receive(presence, Status(online=True))
    assert presence.booted_at is None


def events_of(presence: Connected, status: Status) -> list[NewEvent]:
    session = SimpleNamespace(info={})
    receive(presence, status, session)
    return list(session.info.get(NewEvent, ()))


def test_it_is_kept_why_a_device_is_back_but_not_that_one_wakes_up() -> None:
    presence = Connected(1, online=False)
    (first,) = events_of(presence, Status(online=True, boot=1, reset_reason="panic", wake_interval_s=60))
    assert (first.name, first.data) == ("device/online", {"reset_reason": "panic"})
    assert events_of(presence, Status(online=False, asleep=True)) == []
    assert events_of(presence, Status(online=True, boot=1, reset_reason="panic", wake_interval_s=60)) == []
    presence.wake_interval_s = None
    (left,) = events_of(presence, OFFLINE)
    (back,) = events_of(presence, Status(online=True, boot=1, reset_reason="panic"))
    assert (left.name, back.name, back.data) == ("device/offline", "device/online", {})
