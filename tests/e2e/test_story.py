"""The whole demo of `make run`."""

from __future__ import annotations

from dev import story
from dev.system import System

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


async def test_the_whole_demo_succeeds(system: System) -> None:
    lines: list[str] = []
    await story.perform(system, lines.append)
    printed = "\n".join(lines)
    assert [text for text in SEEN if f"✓ {text}" not in printed] == []
