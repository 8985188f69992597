"""The main job from beginning to end, as `make run` tells it."""

from __future__ import annotations

from dev import story
from dev.system import System

SEEN = [
    "Keycloak gives the device a token",
    "device online",
    "version 2 pushed and applied",
    "firmware 1.0.0 -> 1.1.0 delivered and confirmed",
    "rotation completed",
    "the old secret is refused by Keycloak",
    "the old secret is refused by the broker",
    "timed out: the old secret was put back in Keycloak and the broker",
    "and it works: version 3 applied",
]


async def test_the_whole_story_is_seen_to_happen(system: System) -> None:
    lines: list[str] = []
    await story.perform(system, lines.append)
    told = "\n".join(lines)
    assert [text for text in SEEN if f"✓ {text}" not in told] == []
