from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import client, main
from shared.protocol.admin import DevicesFirmware
from tests.unit.cli.fakes import FakeAdmin

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's own profile and terminal out of the tests."""
    for name in ("MDM_PORT", "MDM_CA_FILE", "MDM_PROFILE", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MDM_HOST", "broker.test")
    monkeypatch.setenv("MDM_ACCOUNT", "alice")
    monkeypatch.setenv("MDM_PASSWORD", "secret-of-alice")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeAdmin:
    admin = FakeAdmin({"firmware.device.show": DevicesFirmware(devices=[])}, [])
    monkeypatch.setattr(client, "Admin", admin)
    return admin


@pytest.fixture
def mdm(fake: FakeAdmin) -> Run:  # noqa: ARG001 - no test of the tool may reach for a broker
    """Run the tool with these words."""
    runner = CliRunner()
    return lambda *words, typed="": runner.invoke(main.app, list(words), input=typed, prog_name="mdm")
