"""The configuration of the core in C, and messages in general, without a broker."""

from __future__ import annotations

import json

import pytest

from tests.sdk.core import Action, Core, kinds, said
from tests.sdk.devices import answered, online, started
from tests.sdk.packages import CLIENT


def test_a_configuration_is_stored_then_applied_then_reported() -> None:
    core = started()
    core.run()
    asked = core.accept()
    request = said(asked, "config/get")[0]["request_id"]
    actions = core.message(
        "config", {"request_id": request, "version": 3, "document": {"a": [1, {"b": 2}]}, "secret_generation": 1}
    )
    assert kinds(actions)[:5] == ["STORE", "STORE", "STORE", "APPLY", "PUBACK"]
    assert json.loads(actions[3].data) == {"a": [1, {"b": 2}]}
    assert said(actions, "config/report") == [{"version": 3, "outcome": "applied"}]
    assert said(actions, "status")[-1]["config_version"] == 3
    again = started(core.records)
    assert [json.loads(it.data) for it in again.run() if it.kind == "APPLY"] == [{"a": [1, {"b": 2}]}]


def test_a_rejected_configuration_leaves_the_one_before_in_force() -> None:
    core = started()
    online(core)
    core.error = "bad: must be good"
    actions = core.message("config", {"version": 2, "document": {"bad": 1}, "secret_generation": 1})
    assert said(actions, "config/report") == [{"version": 2, "outcome": "rejected", "error": "bad: must be good"}]
    again = started(core.records)
    assert [json.loads(it.data) for it in again.run() if it.kind == "APPLY"] == [{}]
    assert said(again.log_in(), "config/get")[0]["have_version"] == 1


def on_trial(core: Core) -> list[Action]:
    return core.message(
        "config", {"version": 2, "document": {"a": 2}, "trial_seconds": 60, "secret_generation": 1}
    )


def test_a_configuration_on_trial_is_kept_when_it_was_reported_over_a_new_connection() -> None:
    core = started()
    online(core)
    actions = on_trial(core)
    assert said(actions, "config/report") == []
    assert kinds(actions)[-2:] == ["DISCONNECT", "CONNECT"]
    spoken = core.accept()
    assert said(spoken, "config/report") == [{"version": 2, "outcome": "applied"}]
    again = started(core.records)
    assert [json.loads(it.data) for it in again.run() if it.kind == "APPLY"] == [{"a": 2}]


@pytest.mark.parametrize("restart", [True, False])
def test_a_configuration_that_was_not_reported_in_its_trial_is_reverted(*, restart: bool) -> None:
    core = started()
    online(core)
    on_trial(core)
    if restart:
        core = started(core.records)
        actions = core.run()
    else:
        core.lib.mdm_on_lost(core.m)
        actions = core.later(61_000)
    assert [json.loads(it.data) for it in actions if it.kind == "APPLY"] == [{}]
    spoken = core.log_in(actions)
    assert said(spoken, "config/report")[0]["outcome"] == "reverted"
    told = core.message("config", {"version": 2, "document": {"a": 2}, "secret_generation": 1})
    assert said(told, "config/report")[0] | {"error": ""} == {"version": 2, "outcome": "reverted", "error": ""}


def test_a_configuration_that_replaces_one_on_trial_keeps_the_good_one_to_return_to() -> None:
    core = started()
    online(core)
    on_trial(core)
    core.lib.mdm_on_connected(core.m)
    core.next()
    core.lib.mdm_on_acknowledged(core.m)
    core.run(answer=False)
    actions = core.message(
        "config", {"version": 3, "document": {"a": 3}, "trial_seconds": 60, "secret_generation": 1}
    )
    assert json.loads(next(it for it in actions if it.kind == "APPLY").data) == {"a": 3}
    again = started(core.records)
    assert [json.loads(it.data) for it in again.run() if it.kind == "APPLY"] == [{}]


def test_a_late_configuration_is_ignored_unless_it_was_asked_for() -> None:
    core = started()
    online(core)
    core.message("config", {"version": 5, "document": {"a": 5}, "secret_generation": 1})
    assert "APPLY" not in kinds(
        core.message("config", {"version": 4, "document": {"a": 4}, "secret_generation": 1})
    )
    asked = core.later(3_600_100)
    assert "APPLY" in kinds(answered(core, asked, version=4, document={"a": 4}))


def test_a_configuration_that_exceeds_the_buffer_is_told_in_the_log_and_not_asked_for_again_at_once() -> None:
    core = started()
    core.run()
    core.accept()
    actions = core.message("config", {"version": 2, "document": {"a": "b" * 9000}, "secret_generation": 1})
    assert "PUBACK" in kinds(actions)
    assert any("exceeds the buffer" in line["message"] for log in said(actions, "log") for line in log["lines"])
    assert said(core.later(120_000), "config/get") == []


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_message_may_come_in_parts(size: int) -> None:
    core = started()
    online(core)
    topic = f"mdm/v1/d/{CLIENT}/down/config".encode()
    data = json.dumps({"version": 2, "document": {"a": 2}, "secret_generation": 1}).encode()
    for at in range(0, len(data), size):
        assert core.run() == []
        part = data[at : at + size]
        assert core.lib.mdm_on_message(
            core.m, topic if at == 0 else core.ffi.NULL, len(topic), part, len(part), at, len(data)
        )
    assert "APPLY" in kinds(core.run())


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"{}", b'{"version":-1}', b'{"version":"1"}', b"\xff", b"0" * 500]
)
@pytest.mark.parametrize(
    "topic",
    [
        *("config", "connection", "key", "command", "firmware/offer", "firmware/cancelled", "firmware/chunk/0/0"),
        *("rotation/offer", "rotation/secret", "rotation/switch", "rotation/done", "rotation/cancelled"),
        *("coredump/wanted", "coredump/stored", "coredump/refused", "what/is/this"),
    ],
)
def test_a_message_that_breaks_a_rule_is_acknowledged_and_changes_nothing(topic: str, payload: bytes) -> None:
    core = started()
    online(core)
    before = dict(core.records)
    assert kinds(core.message(topic, payload))[0] == "PUBACK"
    assert core.records == before
