from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from cli import schedule
from cli.session import Session
from shared.protocol import admin
from tests.unit.cli.fakes import FakeAdmin

NEXT = [datetime(2025, 10, 4, 6, tzinfo=UTC), datetime(2025, 11, 1, 7, tzinfo=UTC)]
VIEW = admin.RotationScheduleView(
    expression="0 8 * * 6#1", zone="Europe/Berlin", last_fire_at=datetime(2025, 9, 6, 6, tzinfo=UTC), next=NEXT
)
OFF = admin.RotationScheduleView(expression="", zone="UTC", last_fire_at=None, next=[])

ALICE = {"host": "broker.test", "account": "alice", "password": "secret"}


def run(fake: FakeAdmin, verb: str, *words: str, view: admin.RotationScheduleView, as_json: bool = False) -> str:
    fake.answers[f"rotator.schedule.{verb}"] = view
    ran = CliRunner().invoke(schedule.app, [verb, *words], obj=Session(as_json=as_json, given=ALICE))
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_the_next_fires_are_shown_in_the_zone_and_in_utc(fake: FakeAdmin) -> None:
    assert run(fake, "show", view=VIEW).splitlines() == [
        "schedule  0 8 * * 6#1",
        "zone      Europe/Berlin",
        "from      MDM_ROTATION_SCHEDULE of the rotator",
        "last run  2025-09-06 06:00:00Z",
        "",
        "NEXT                   UTC",
        "2025-10-04 08:00 CEST  2025-10-04 06:00:00Z",
        "2025-11-01 08:00 CET   2025-11-01 07:00:00Z",
    ]


def test_a_missing_schedule_is_printed_as_text(fake: FakeAdmin) -> None:
    assert run(fake, "clear", view=OFF) == (
        "no schedule: devices are queued by admins only (MDM_ROTATION_SCHEDULE of the rotator)\n"
    )


def test_a_script_gets_json(fake: FakeAdmin) -> None:
    assert admin.RotationScheduleView.model_validate_json(run(fake, "show", view=VIEW, as_json=True)) == VIEW


@pytest.mark.parametrize(
    ("words", "expression", "zone"),
    [
        (["0 8 * * 6#1", "--zone", "Europe/Berlin"], "0 8 * * 6#1", "Europe/Berlin"),
        (["0 8 * * 6#1"], "0 8 * * 6#1", None),
        (["never"], "", None),
    ],
)
def test_a_schedule_is_set(fake: FakeAdmin, words: list[str], expression: str, zone: str | None) -> None:
    mine = VIEW.model_copy(update={"author": "alice"})
    assert "from      set by alice" in run(fake, "set", *words, view=mine)
    [request] = fake.sent("rotator.schedule.set")
    assert isinstance(request, admin.ScheduleSet)
    assert (request.expression, request.zone) == (expression, zone)
