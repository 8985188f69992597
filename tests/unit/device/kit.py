"""What the device's unit tests share: a clock that is set, a link that only remembers, and a kill switch."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from device.options import Hooks
from device.server_clock import ServerClock
from device.uplink import Uplink
from shared.protocol.admin import Package
from shared.protocol.topics import Topic

CLIENT_ID = "iotdevice-blink-a1b2c3d4"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
WRONG = datetime(2027, 1, 1, tzinfo=UTC)
"""The device's own clock."""
T = TypeVar("T")


class Killed(Exception):  # noqa: N818 — no error: the power goes
    """The device is dead."""


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("the coroutine waits")


@dataclass
class Memory:
    """A link that remembers what was published."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        assert qos == 1
        assert retain == topic.endswith("/status")
        self.sent.append((topic, payload))

    def take(self, topic: Topic[Any]) -> list[Any]:
        """Return the messages on a topic so far, and forget them."""
        address = topic.of(client_id=CLIENT_ID)
        found = [topic.decode(payload) for name, payload in self.sent if name == address]
        self.sent = [(name, payload) for name, payload in self.sent if name != address]
        return found


class Surroundings:
    """A clock, a kill switch, callbacks that can be set, and an uplink that uses them."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.kill_at: str | None = None
        self.points: list[str] = []
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self.config_error: str | None = None
        self.self_test_error: str | None = None
        self.link = Memory()
        self.hooks = Hooks(
            on_event=lambda name, facts: self.events.append((name, facts)),
            fault=self._fault,
            check_config=lambda _document: self.config_error,
            self_test=lambda _version: self.self_test_error,
            now=lambda: WRONG,
            clock=lambda: self.time_s,
        )
        self.server_clock = ServerClock(self.hooks.clock)
        self.server_clock.adjust(EPOCH, is_answer=True)
        self.uplink = Uplink(CLIENT_ID, self.hooks)

    def flush(self, after_s: float = 0.0) -> Memory:
        """Let time pass, send what is due, and return the link."""
        self.time_s += after_s
        finish(self.uplink.flush(self.link))
        return self.link

    def take(self, topic: Topic[Any], after_s: float = 0.0) -> list[Any]:
        return self.flush(after_s).take(topic)

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def _fault(self, point: str) -> None:
        self.points.append(point)
        if point == self.kill_at:
            self.kill_at = None
            raise Killed(point)


def package(**changes: object) -> Package:
    facts: dict[str, object] = {
        "client_id": CLIENT_ID,
        "device_key": "a1b2c3d4",
        "secret": "s" * 43,
        "secret_generation": 1,
        "token_url": "http://127.0.0.1/token",
        "mqtt_host": "127.0.0.1",
        "mqtt_port": 1883,
        "mqtt_tls": False,
        "ca_certificate": None,
    }
    return Package.model_validate(facts | changes)


def same(left: BaseModel, **facts: object) -> bool:
    """Say whether a message has these facts."""
    return all(getattr(left, name) == value for name, value in facts.items())
