"""Connection profiles of the core in C, without a broker."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from shared import crypto
from tests.sdk.core import Action, Core, kinds, said
from tests.sdk.devices import answered, command, online, started
from tests.sdk.packages import SECRET, key_of, package

FIRST, SECOND = "a" * 16, "b" * 16


def profile(host: str, **fields: object) -> dict[str, object]:
    usual: dict[str, object] = {"mqtt_host": host, "mqtt_port": 8883, "mqtt_tls": True, "mqtt_auth": "password"}
    return usual | {"token_url": "https://keycloak.example/token", "ca_certificate": "PEM"} | fields


def offered(core: Core, connection_id: str, **fields: object) -> list[Action]:
    sealed = crypto.seal(SecretStr(json.dumps(profile("new.example", **fields))), crypto.public_half(key_of(core)))
    return core.message("connection", {"connection_id": connection_id, "trial_seconds": 60, "jwe": sealed})


def connection(actions: list[Action]) -> dict[str, object]:
    return dict(said(actions, "config/get")[-1]["connection"])


def test_a_profile_replaces_the_one_in_use_when_our_request_is_answered_over_it() -> None:
    core = started({"package": package(connection_id=FIRST)})
    assert connection(online(core)) == {"first": FIRST, "in_use": FIRST}
    actions = offered(core, SECOND)
    assert kinds(actions) == ["STORE", "STORE", "PUBACK", "DISCONNECT", "CONNECT"]
    assert (actions[-1].login["host"], actions[-1].login["password"]) == ("new.example", SECRET)
    spoken = core.accept()
    assert connection(spoken) == {"first": FIRST, "in_use": SECOND}
    assert connection(answered(core, spoken, unchanged=True)) == {
        "first": SECOND,
        "fallback": FIRST,
        "in_use": SECOND,
    }
    again = started(core.records)
    (action,) = [it for it in again.run() if it.kind == "CONNECT"]
    assert action.login["host"] == "new.example"
    assert kinds(offered(core, SECOND)) == ["PUBACK"]


@pytest.mark.parametrize("restart", [True, False])
def test_a_profile_that_does_not_work_is_reverted(*, restart: bool) -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    offered(core, SECOND)
    if restart:
        core = started(core.records)
    else:
        core.lib.mdm_on_lost(core.m)
        core.later(60_100)
    spoken = core.log_in()
    assert connection(spoken)["refused"] == {
        "connection_id": SECOND,
        "outcome": "reverted",
        "reason": "no answer in time, or a restart",
    }
    assert connection(spoken)["in_use"] == FIRST


def foreign(text: str) -> str:
    """Seal a profile for somebody else."""
    return crypto.seal(SecretStr(text), crypto.public_half(crypto.new_key_pair()))


@pytest.mark.parametrize(
    "fields",
    [
        {"profile": profile("new.example", mqtt_auth="token")},
        {"profile": profile("new.example", mqtt_auth="kerberos")},
        {"profile": profile("new.example", mqtt_port=0)},
        {"profile": profile("new.example", recovery_port=65_536)},
        {"jwe": foreign(json.dumps(profile("new.example")))},
        {"jwe": "no JWE"},
        {},
    ],
    ids=["tokens", "no such login", "a port", "another port", "for another device", "no JWE", "nothing"],
)
def test_a_profile_that_cannot_be_used_is_rejected_once_and_the_connection_stays(
    fields: dict[str, object],
) -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    offer = {"connection_id": SECOND, "trial_seconds": 60, **fields}
    actions = core.message("connection", offer)
    assert "DISCONNECT" not in kinds(actions)
    assert connection(actions)["refused"] == {
        "connection_id": SECOND,
        "outcome": "rejected",
        "reason": "this firmware cannot use it",
    }
    assert kinds(core.message("connection", offer)) == ["PUBACK"]


@pytest.mark.parametrize("why", ["no room", "its authorities"])
def test_a_profile_that_cannot_be_stored_or_trusted_is_rejected(why: str) -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    core.trusts = why != "its authorities"
    core.refuse = {"place1", "place2", "place3"} if why == "no room" else set()
    actions = offered(core, SECOND)
    assert "DISCONNECT" not in kinds(actions)
    assert str(connection(actions)["refused"]).count("rejected") == 1
    core.trusts, core.refuse = True, set()
    assert kinds(offered(core, SECOND))[-1] == "CONNECT"


def test_a_profile_without_networks_has_those_of_the_package() -> None:
    home = [{"ssid": "home", "password": "12345678"}]
    core = started({"package": package(connection_id=FIRST, wifi=home)})
    online(core)
    (moved,) = [it for it in offered(core, SECOND) if it.kind == "CONNECT"]
    assert (moved.login["host"], json.loads(moved.login["wifi"])) == ("new.example", home)
    answered(core, core.accept(), unchanged=True)
    workshop = [{"ssid": "workshop", "password": ""}]
    (moved,) = [it for it in offered(core, "c" * 16, wifi=workshop) if it.kind == "CONNECT"]
    assert json.loads(moved.login["wifi"]) == workshop


def test_a_newer_secret_in_the_package_is_tried_where_the_device_has_moved_to() -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    offered(core, SECOND)
    answered(core, core.accept(), unchanged=True)
    again = started(core.records | {"package": package(connection_id=FIRST, secret="n" * 43, secret_generation=5)})
    again.run()
    again.lib.mdm_on_refused(again.m)
    (login,) = [it.login for it in again.run() if it.kind == "CONNECT"]
    assert (login["host"], login["password"]) == ("new.example", "n" * 43)


def test_it_recovers_at_the_port_of_the_profile_and_then_at_the_one_that_was_named_last() -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    offered(core, SECOND, recovery_port=9_001)
    answered(core, core.accept(), unchanged=True)
    core = started(core.records)
    core.run()
    ports: list[int] = []
    for _ in range(2):
        core.lib.mdm_on_refused(core.m)
        (asking,) = [it for it in core.run() if it.kind == "CONNECT"]
        ports.append(asking.login["port"])
        assert asking.login["host"] == "new.example"
    assert ports == [9_001, 8_884]
    core.lib.mdm_on_refused(core.m)
    assert "CONNECT" not in kinds(core.run())


def test_what_is_said_once_waits_until_somebody_answers_over_a_profile_on_trial() -> None:
    core = started({"package": package(connection_id=FIRST)}, firmware_sha256="1" * 64, slot_size_bytes=1 << 20)
    online(core)
    offered(core, SECOND)
    core.lib.mdm_log(core.m, 1, b"wifi", b"joined")
    spoken = core.accept()
    told = {action.topic.partition("/up/")[2] for action in spoken if action.kind == "PUBLISH"}
    assert told <= {"key", "status", "config/get", "rotation/request", "rotation/stored", "rotation/ack"}
    pushed = core.message("config", {"version": 9, "document": {"a": 9}, "secret_generation": 1})
    assert kinds(pushed) == ["PUBACK"]
    rest = answered(core, spoken)
    assert said(rest, "log")
    assert said(rest, "firmware/check")


def test_a_profile_is_not_tried_while_a_configuration_is_on_trial() -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    core.message("config", {"version": 2, "document": {}, "trial_seconds": 60, "secret_generation": 1})
    core.lib.mdm_on_connected(core.m)
    core.run(answer=False)
    core.lib.mdm_on_acknowledged(core.m)
    core.run(answer=False)
    assert "DISCONNECT" not in kinds(offered(core, SECOND))


def test_a_result_that_is_ready_during_a_trial_waits_for_its_end() -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    core.message("command", command())
    offered(core, SECOND)
    spoken = core.accept()
    core.lib.mdm_on_command_done(core.m, core.ffi.NULL, core.ffi.NULL)
    assert said(core.run(), "command/result") == []
    assert said(answered(core, spoken, unchanged=True), "command/result")


def test_no_piece_of_an_image_is_requested_during_a_trial() -> None:
    core = started({"package": package(connection_id=FIRST)}, firmware_sha256="1" * 64, slot_size_bytes=1 << 20)
    online(core)
    image = {"sha256": "2" * 64, "size_bytes": 9_000, "version": "2", "chunk_size_bytes": 4_096, "window": 1}
    assert said(core.message("firmware/offer", image), "firmware/chunk")
    offered(core, SECOND)
    spoken = core.accept()
    assert said(core.later(10_100), "firmware/chunk") == []
    assert said(answered(core, spoken, unchanged=True), "firmware/chunk")
