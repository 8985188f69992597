"""The whole demo of `make run`."""

from __future__ import annotations

from dev import story
from dev.device_kinds import DeviceKind
from dev.system import System
from tests.devices import every_device

SEEN = [
    "Keycloak issues a token to the device",
    "device online",
    "version 2 pushed and applied",
    "firmware 1.0.0 -> 1.1.0 delivered and confirmed",
    "rotation completed",
    "the old secret is refused by Keycloak",
    "the old secret is refused by the broker",
    "timed out: the old secret was restored in Keycloak and the broker",
    "it works: version 3 applied",
]


@every_device
async def test_the_whole_demo_succeeds(system: System, kind: DeviceKind) -> None:
    lines: list[str] = []
    await story.perform(system, lines.append, kind, model=f"blink{kind}")
    printed = "\n".join(lines)
    assert [text for text in SEEN if f"✓ {text}" not in printed] == []
