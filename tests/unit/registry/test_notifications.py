"""When a rule notifies, how long it waits after a refusal, and what its messages are signed with."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from services.registry.notifications import delivery, senders
from services.registry.notifications.hysteresis import Tracked, judge

NOW = datetime(2026, 11, 30, tzinfo=UTC)
HOLD = timedelta(minutes=10)


def run(*steps: tuple[float, set[str]], hold: timedelta = HOLD) -> list[tuple[list[str], list[str]]]:
    """Judge what holds at each time, in minutes, and return what is notified of."""
    tracked: dict[str, Tracked] = {}
    told = []
    for minutes, holding in steps:
        verdict = judge(tracked, holding, NOW + timedelta(minutes=minutes), hold=hold)
        for subject, after in verdict.changes.items():
            tracked.pop(subject, None)
            if after is not None:
                tracked[subject] = after
        told.append((verdict.firing, verdict.resolved))
    return told


NOTHING: tuple[list[str], list[str]] = ([], [])


def test_what_holds_long_enough_is_told_once_and_its_end_too() -> None:
    steps = [
        (0, {"a"}),
        (9, {"a"}),
        (10, {"a"}),
        (30, {"a"}),
        (31, set[str]()),
        (40, set[str]()),
        (41, set[str]()),
    ]
    assert run(*steps, (42, set())) == [NOTHING, NOTHING, (["a"], []), *[NOTHING] * 3, ([], ["a"]), NOTHING]


def test_what_comes_and_goes_is_told_neither_way() -> None:
    flapping = [(minute, {"a"} if minute % 2 else set[str]()) for minute in range(30)]
    assert run(*flapping) == [NOTHING] * 30
    back = [(0, {"a"}), (10, {"a"}), (11, set[str]()), (20, {"a"}), (21, set[str]()), (30, set[str]())]
    assert run(*back) == [NOTHING, (["a"], []), *[NOTHING] * 4]


def test_without_a_hold_each_change_is_told_at_once() -> None:
    steps = [(0, {"a", "b"}), (1, {"b"}), (2, {"a"})]
    assert run(*steps, hold=timedelta(0)) == [(["a", "b"], []), ([], ["a"]), (["a"], ["b"])]


def test_attempts_become_rarer_and_never_end_before_three_days() -> None:
    pauses = [delivery.pause(attempts).total_seconds() for attempts in (1, 2, 3, 10, 100, 10_000)]
    assert pauses == [5, 10, 20, 2560, 3600, 3600]


def test_a_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's reference implementations.
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    found = senders.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert len(base64.b64decode(found.removeprefix("v1,"))) == 32


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:word@hook.example.org:8443/path/token?key=1", "https://hook.example.org:8443/..."),
        ("ntfy://my-secret-topic", "ntfy://..."),
        ("tgram://token/chat", "tgram://..."),
    ],
)
def test_what_is_secret_in_a_url_is_not_shown(url: str, shown: str) -> None:
    assert senders.shown(url) == shown
