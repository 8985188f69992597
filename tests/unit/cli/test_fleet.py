from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator

import pytest
from rich.console import Console

from cli import fleet, fleet_screen
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run


def view(**facts: object) -> admin.FleetView:
    usual: dict[str, object] = {
        "devices": 5,
        "disabled": 1,
        "online": 3,
        "asleep": 1,
        "drifting": 2,
        "without_key": 1,
        "health": {"healthy": 3, "critical": 2},
        "rotation": {"OK": 4, "PENDING": 1},
        "versions": [
            {"model": "lamp", "version": None, "devices": 2},
            {"model": "lamp", "version": "1.1.0", "devices": 3},
        ],
    }
    return admin.FleetView.model_validate({**usual, **facts})


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "PAUSE_S", 0)
    monkeypatch.setattr(fleet, "IDLE_S", 0.01)


def test_the_fleet_is_shown_as_facts_and_a_table(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.fleet.show"] = view()
    shown = mdm("fleet", "show")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["online", "3"] in lines
    assert ["health", "critical", "2"] in lines
    assert ["lamp", "1.1.0", "3"] in lines
    assert json.loads(mdm("--json", "fleet", "show").stdout)["rotation"] == {"OK": 4, "PENDING": 1}


def test_in_a_pipe_each_change_is_a_line(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def answers() -> Iterator[admin.FleetView]:
        yield view()
        yield view()
        yield view(online=4)

    answer = answers()
    fake.answers["registry.fleet.show"] = lambda _: next(answer)
    fake.prepared = [("device", "added", fakes.event(1))]
    lines = mdm("fleet", "watch", "--count", "3").stdout.splitlines()
    assert [line.split("  ")[:4] for line in lines] == [
        ["devices 5", "online 3", "asleep 1", "drifting 2"],
        ["devices 5", "online 4", "asleep 1", "drifting 2"],
    ]


def test_reports_of_a_device_cannot_control_the_terminal() -> None:
    versions = [{"model": "lamp", "version": "1\x1b[2J[red]", "devices": 1}]
    console = Console(width=100, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(fleet_screen.render(view(versions=versions), deque(["10:00 device.added"])))
    assert "\x1b[2J" not in captured.get()
    assert "[red]" in captured.get()
    assert "device.added" in captured.get()


def test_an_empty_fleet_is_drawn_too() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(fleet_screen.render(view(devices=0, health={}, rotation={}, versions=[]), deque()))
    assert "0 devices" in captured.get()
