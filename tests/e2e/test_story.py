"""The whole demo of `make run`."""

from __future__ import annotations

import pytest

from cli import profile as cli_profile
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


def test_the_system_is_handed_over_at_once(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    story.hand_over(system)
    printed = capsys.readouterr().out
    profile = system.profile
    assert f":{system.http_ports['firmware']}/\n" in printed
    assert f"account {profile.account}, password {profile.password.get_secret_value()}\n" in printed
    assert cli_profile.read(system.stack.folder / "profile.toml")["account"] == profile.account
