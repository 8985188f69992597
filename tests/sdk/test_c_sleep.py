"""How the core in C sleeps between two connections, without a broker."""

from __future__ import annotations

from uuid import uuid4

from tests.sdk.core import Action, Core, kinds, said
from tests.sdk.devices import answered, command, online, started

INTERVAL_S = 600
AWAKE_MS = 180_000


def asleep(core: Core, ms: int) -> bool:
    """Let time pass, and return whether the board is switched off then."""
    return "SLEEP" in kinds(core.later(ms))


def goodbye(actions: list[Action]) -> None:
    """Check that a device said goodbye, was acknowledged, and left before it was switched off."""
    assert kinds(actions) == ["PUBLISH", "DISCONNECT", "SLEEP"]
    status = actions[0].json
    assert (status["online"], status["asleep"], status["wake_interval_s"]) == (False, True, INTERVAL_S)


def test_a_device_sleeps_two_seconds_after_the_last_message() -> None:
    core = started(wake_interval_s=INTERVAL_S)
    assert said(online(core), "status")[0]["wake_interval_s"] == INTERVAL_S
    assert not asleep(core, 1_900)
    core.message("command", command("blink"))
    core.lib.mdm_on_command_done(core.m, core.ffi.NULL, core.ffi.NULL)
    core.run()
    assert not asleep(core, 1_900)
    goodbye(core.later(200))
    assert core.later(3_600_000) == []


def test_a_device_that_does_not_sleep_has_no_interval() -> None:
    core = started()
    assert "wake_interval_s" not in said(online(core), "status")[0]
    assert not asleep(core, 60_000)


def test_it_stays_awake_until_its_request_is_answered_but_not_for_ever() -> None:
    core = started(wake_interval_s=INTERVAL_S)
    actions = core.log_in()
    assert not asleep(core, 60_000)
    core.message("key", {"public_key": said(actions, "key")[0]["public_key"]})
    answered(core, actions)
    goodbye(core.later(2_100))
    core = started(wake_interval_s=INTERVAL_S)
    core.log_in()
    core.now += AWAKE_MS
    core.lib.mdm_tick(core.m, core.now)
    assert kinds(core.run())[-3:] == ["PUBLISH", "DISCONNECT", "SLEEP"]


def test_it_stays_awake_while_a_command_is_executed_or_an_offer_is_wanted() -> None:
    core = started(wake_interval_s=INTERVAL_S)
    online(core)
    core.message("command", command("blink"))
    assert not asleep(core, 30_000)
    core.lib.mdm_on_command_done(core.m, core.ffi.NULL, core.ffi.NULL)
    core.run()
    offer = {"rotation_id": str(uuid4()), "generation": 2, "current_generation": 1}
    core.message("rotation/offer", {**offer, "deadline": "2030-01-01T00:00:00Z"})
    assert not asleep(core, 30_000)
    assert asleep(core, AWAKE_MS)


def test_without_a_connection_it_sleeps_after_three_minutes() -> None:
    core = started(wake_interval_s=INTERVAL_S)
    core.run()
    core.lib.mdm_on_lost(core.m)
    seen: list[Action] = []
    for _ in range(20):
        seen += core.later(10_000)
        if core.m.phase == core.lib.CONNECTING:
            core.lib.mdm_on_lost(core.m)
            seen += core.run()
    assert seen[-1].kind == "SLEEP"
    assert core.now >= AWAKE_MS


def test_a_connection_that_breaks_in_the_goodbye_is_not_made_again() -> None:
    core = started(wake_interval_s=INTERVAL_S)
    online(core)
    core.now += 2_100
    core.lib.mdm_tick(core.m, core.now)
    last = core.run(answer=False)
    assert said(last, "status")[0]["asleep"]
    core.lib.mdm_on_lost(core.m)
    assert kinds(core.run()) == ["DISCONNECT", "SLEEP"]


def test_its_key_is_sent_once_a_day_though_each_wake_up_is_a_start() -> None:
    core = started(wake_interval_s=INTERVAL_S)
    assert core.lib.mdm_key_told_s(core.m) == 0
    online(core)
    core.later(1_000)
    told_s = core.lib.mdm_key_told_s(core.m)
    assert told_s > 0
    for slept_s, keys in ((INTERVAL_S, 0), (24 * 3600, 1)):
        again = started(core.records, wake_interval_s=INTERVAL_S, key_told_s=told_s + slept_s)
        assert len(said(again.log_in(), "key")) == keys
