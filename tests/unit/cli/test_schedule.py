from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from cli import schedule
from cli.session import Session
from shared.protocol import admin
from tests.unit.cli.fakes import FakeAdmin

NEXT = [datetime(2025, 10, 4, 6, tzinfo=UTC), datetime(2025, 11, 1, 7, tzinfo=UTC)]
VIEW = admin.RotationScheduleView(
    expression="0 8 * * 6#1", zone="Europe/Berlin", last_fire_at=datetime(2025, 9, 6, 6, tzinfo=UTC), next=NEXT
)

ALICE = {"host": "broker.test", "account": "alice", "password": "secret"}


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(schedule.show_schedule)
    return app


def shown(app: typer.Typer, fake: FakeAdmin, view: admin.RotationScheduleView, *, as_json: bool = False) -> str:
    fake.answers[admin.ROTATION_SCHEDULE.name] = view
    ran = CliRunner().invoke(app, [], obj=Session(as_json=as_json, given=ALICE))
    assert ran.exit_code == 0, ran.output
    assert [name for name, _ in fake.requests] == ["rotator.rotation.schedule"]
    return ran.stdout


def test_the_next_fires_are_shown_in_the_zone_and_in_utc(app: typer.Typer, fake: FakeAdmin) -> None:
    assert shown(app, fake, VIEW).splitlines() == [
        "schedule  0 8 * * 6#1",
        "zone      Europe/Berlin",
        "last run  2025-09-06 06:00:00Z",
        "NEXT                   UTC",
        "2025-10-04 08:00 CEST  2025-10-04 06:00:00Z",
        "2025-11-01 08:00 CET   2025-11-01 07:00:00Z",
    ]


def test_a_missing_schedule_is_printed_as_text(app: typer.Typer, fake: FakeAdmin) -> None:
    off = admin.RotationScheduleView(expression="", zone="UTC", last_fire_at=None, next=[])
    assert shown(app, fake, off) == "no schedule is set\n"


def test_a_script_gets_json(app: typer.Typer, fake: FakeAdmin) -> None:
    assert admin.RotationScheduleView.model_validate_json(shown(app, fake, VIEW, as_json=True)) == VIEW
