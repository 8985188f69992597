"""`mdm notification`: what is asked for, and that a test ends with what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.protocol import admin
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import FakeAdmin

ID = UUID(int=7)


def sent(fake: FakeAdmin, **facts: object) -> None:
    """Let the newest message be a test with these facts."""
    usual: dict[str, Any] = {
        "id": ID,
        "rule": "night",
        "state": "test",
        "text": "A test",
        "count": 1,
        "delivery": "delivered",
        "attempts": 1,
        "error": None,
        "created_at": datetime(2026, 11, 30, tzinfo=UTC),
        "ended_at": None,
    }
    fake.answers["registry.notification.test"] = admin.NotificationQueued(id=ID)
    fake.answers["registry.notification.history"] = admin.Notifications(
        notifications=[admin.NotificationView.model_validate({**usual, **facts})]
    )


def test_a_rule_is_asked_for_as_it_is_described_and_its_key_is_shown_once(fake: FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.notification.add"] = admin.NotificationRuleAdded(
        name="night", target="https://example.org/...", key="whsec_abc"
    )
    words = ("--condition", "share_silent", "--tag", "attic", "--percent", "30", "--hold", "15m")
    result = mdm("notification", "add", "night", *words, "--url", "https://example.org/x", "--older-than", "90d")
    assert result.exit_code == 0
    assert "whsec_abc" in result.stdout
    [request] = fake.sent("registry.notification.add")
    assert isinstance(request, admin.NotificationAdd)
    assert (request.hold_s, request.percent, request.tag, request.older_than_s) == (900, 30, "attic", 90 * 86400)


@pytest.mark.parametrize("hold", ["0", "0s"])
def test_a_rule_may_notify_at_once(fake: FakeAdmin, mdm: Run, hold: str) -> None:
    fake.answers["registry.notification.add"] = admin.NotificationRuleAdded(
        name="x", target="ntfy://...", key=None
    )
    words = ("--condition", "rollout_halted", "--url", "ntfy://topic", "--hold", hold)
    assert mdm("notification", "add", "x", *words).exit_code == 0
    [request] = fake.sent("registry.notification.add")
    assert isinstance(request, admin.NotificationAdd)
    assert request.hold_s == 0


def test_a_test_that_arrives_ends_well(fake: FakeAdmin, mdm: Run) -> None:
    sent(fake)
    result = mdm("notification", "test", "night")
    assert result.exit_code == 0
    assert ["delivery", "delivered"] in [line.split() for line in result.stdout.splitlines()]


def test_a_test_that_is_refused_ends_with_the_reason(fake: FakeAdmin, mdm: Run) -> None:
    sent(fake, delivery="waiting", error="the receiver answered 403")
    result = mdm("notification", "test", "night")
    assert result.exit_code != 0
    assert "the receiver answered 403" in result.stderr


def test_a_wrong_condition_names_the_right_ones(fake: FakeAdmin, mdm: Run) -> None:
    result = mdm("notification", "add", "x", "--condition", "silence", "--url", "ntfy://topic")
    assert result.exit_code != 0
    assert "--condition" in result.stderr
    assert "share_silent" in result.stderr
    assert not fake.sent("registry.notification")
