"""Connection profiles of the core in C, without a broker."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from shared import crypto
from tests.sdk.core import Action, Core, kinds, said
from tests.sdk.devices import answered, online, started
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


@pytest.mark.parametrize("fields", [{"mqtt_auth": "token"}, {"mqtt_auth": "kerberos"}, {"mqtt_port": 0}])
def test_a_profile_that_cannot_be_used_is_rejected_and_the_connection_stays(fields: dict[str, object]) -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    actions = offered(core, SECOND, **fields)
    assert "DISCONNECT" not in kinds(actions)
    assert str(connection(actions)["refused"]).count("rejected") == 1


def test_the_places_take_turns_of_an_hour_while_no_login_succeeds() -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    offered(core, SECOND)
    answered(core, core.accept(), unchanged=True)
    core.lib.mdm_on_lost(core.m)
    hosts: list[str] = []
    for _ in range(3 * 60):
        hosts += [it.login["host"] for it in core.later(60_000) + core.run() if it.kind == "CONNECT"]
        core.lib.mdm_on_lost(core.m)
    changes = [one for one, other in zip(["", *hosts], hosts, strict=False) if one != other]
    assert changes[1:] == ["new.example", "broker.example", "new.example"][: len(changes) - 1]
    assert len(changes) >= 3


def test_a_package_with_another_profile_takes_the_first_place() -> None:
    core = started({"package": package(connection_id=FIRST)})
    online(core)
    offered(core, SECOND)
    answered(core, core.accept(), unchanged=True)
    again = started(core.records | {"package": package(connection_id="c" * 16, mqtt_host="third.example")})
    assert again.run()[-1].login["host"] == "third.example"
    assert connection(again.accept()) == {"first": "c" * 16, "fallback": SECOND, "in_use": "c" * 16}


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
