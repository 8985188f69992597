"""How the core in C gets an identity, logs in and recovers, without a broker."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from shared import crypto
from tests.sdk.core import Core, kinds, said
from tests.sdk.devices import answered, online, started
from tests.sdk.packages import CLIENT, SECRET, key_of, package

UID = "a1b2c3d4e5f6"
CLAIM = {
    "format": "mdm-claim/1",
    "account": "claim-abcdefgh",
    "password": "p" * 43,
    "mqtt_host": "broker.example",
    "mqtt_port": 8885,
    "mqtt_tls": True,
    "ca_certificate": "PEM",
    "expires_at": "2026-11-25T15:00:00Z",
}


def test_a_machine_claims_its_identity() -> None:
    core = Core({"claim": json.dumps(CLAIM).encode()}, uid=UID)
    first = core.run()
    assert kinds(first) == ["STORE", "CONNECT"]
    assert (first[1].login["client_id"], first[1].login["username"], first[1].login["clean"]) == (
        UID,
        "claim-abcdefgh",
        True,
    )
    asked = core.accept()
    assert asked[0].topic == f"mdm/v1/claim/claim-abcdefgh/answer/{UID}"
    assert (asked[1].topic, asked[1].json["uid"]) == ("mdm/v1/claim/claim-abcdefgh/request", UID)
    answer = f"mdm/v1/claim/claim-abcdefgh/answer/{UID}"
    core.message(answer, {"uid": UID, "outcome": "pending"})
    assert "PUBLISH" in kinds(core.later(61_000))
    sealed = crypto.seal(SecretStr(package().decode()), asked[1].json["public_key"])
    assert kinds(core.message(answer, {"uid": UID, "outcome": "granted", "jwe": sealed})) == [
        "STORE",
        "PUBACK",
        "DISCONNECT",
        "RESTART",
    ]
    assert core.records["package"] == package()
    again = Core(core.records, uid=UID)
    assert again.run()[-1].login["client_id"] == CLIENT
    assert bytes(again.m.key) == bytes(core.m.key)


@pytest.mark.parametrize("outcome", ["refused", "pending"])
def test_a_machine_asks_again_after_a_while_whatever_it_was_told(outcome: str) -> None:
    core = Core({"claim": json.dumps(CLAIM).encode()}, uid=UID)
    core.run()
    core.accept()
    core.message(f"mdm/v1/claim/claim-abcdefgh/answer/{UID}", {"uid": UID, "outcome": outcome, "reason": "no"})
    assert "PUBLISH" not in kinds(core.later(29_000))
    assert "PUBLISH" in kinds(core.later(31_000))


def test_a_secret_is_stored_before_it_is_used_and_an_outage_is_no_refusal() -> None:
    core = started()
    assert [it.name or it.kind for it in core.run()] == ["place1", "identity", "places", "CONNECT"]
    for _ in range(3):
        core.lib.mdm_on_lost(core.m)
        assert core.run() == []
        (action,) = core.later(60_001)
        assert action.login["password"] == SECRET
    core.lib.mdm_on_refused(core.m)
    (asking,) = core.run()
    assert (asking.login["port"], asking.login["client_id"]) == (8884, "recover-07")


def test_a_newer_package_is_tried_last_and_adopted_once_it_is_confirmed() -> None:
    core = started()
    core.run()
    newer = "n" * 43
    again = started(core.records | {"package": package(secret=newer, secret_generation=5)})
    (first,) = again.run()
    assert first.login["password"] == SECRET
    again.lib.mdm_on_refused(again.m)
    (second,) = again.run()
    assert (second.login["password"], json.loads(second.login["will"])) == (
        newer,
        {"online": False, "secret_generation": 5},
    )
    asked = again.accept()
    answered(again, asked, secret_generation=5)
    assert again.ffi.string(again.slots.first.secret).decode() == newer
    assert started(again.records).run()[-1].login["password"] == newer


def test_a_recovered_secret_is_put_on_trial() -> None:
    core = started()
    core.run()
    core.lib.mdm_on_refused(core.m)
    core.run()
    (_, asked) = core.accept()
    assert asked.topic == "mdm/v1/recover/recover-07/request"
    nonce, sealed = (
        asked.json["nonce"],
        crypto.seal(
            SecretStr(package(secret="r" * 43, secret_generation=7).decode()),
            crypto.public_half(key_of(core)),
        ),
    )
    actions = core.message(f"mdm/v1/recover/recover-07/answer/{nonce}", {"jwe": sealed})
    assert kinds(actions) == ["STORE", "PUBACK", "DISCONNECT", "CONNECT"]
    assert actions[-1].login["password"] == "r" * 43
    answered(core, core.accept(), secret_generation=7)
    assert (core.slots.first.generation, core.ffi.string(core.slots.second.secret)) == (7, b"")


def test_a_recovery_without_an_answer_is_tried_again_after_the_secrets() -> None:
    core = started()
    core.run()
    core.lib.mdm_on_refused(core.m)
    core.run()
    core.accept()
    assert "DISCONNECT" in kinds(core.later(10_100))
    while not (tried := [it.login["password"] for it in core.later(10_000) if it.kind == "CONNECT"]):
        pass
    assert tried == [SECRET]


def test_nothing_is_acknowledged_that_could_not_be_stored() -> None:
    core = started()
    online(core)
    core.refuse.add("config")
    actions = core.message("config", {"version": 2, "document": {"a": 1}, "secret_generation": 1})
    assert ("PUBACK" in kinds(actions), "APPLY" in kinds(actions)) == (False, False)
    core.refuse.clear()
    asked = core.log_in(actions)
    assert said(answered(core, asked, version=2, document={"a": 1}), "config/report")


TOKENS = {"mqtt_auth": "token", "token_url": "https://keycloak.example/token"}


def test_a_package_that_wants_tokens_is_refused_by_a_port_without_them() -> None:
    token = package(**TOKENS)
    Core({"package": token}, has_tokens=True)
    with pytest.raises(ValueError, match="3"):  # MDM_NO_TOKENS
        Core({"package": token})


def test_a_token_is_presented_at_each_login_and_a_refused_one_is_followed_by_the_next_slot() -> None:
    core = Core({"package": package(**TOKENS)}, has_tokens=True)
    (login,) = [action.login for action in core.run() if action.kind == "CONNECT"]
    assert (login["token"], login["password"]) == (True, SECRET)
    core.lib.mdm_on_refused(core.m)
    assert [action.login["client_id"] for action in core.run()] == ["recover-07"]
    assert not Core({"package": package()}, has_tokens=True).run()[-1].login["token"]


@pytest.mark.parametrize("fails", ["mdm_on_lost", "mdm_on_refused"])
@pytest.mark.parametrize("auth", ["password", "token"])
def test_a_device_for_both_kinds_of_broker_presents_the_secret_if_the_token_fails(fails: str, auth: str) -> None:
    core = Core({"package": package(**{**TOKENS, "mqtt_auth": auth})}, has_tokens=True, either=True)
    assert core.run()[-1].login["token"]
    getattr(core.lib, fails)(core.m)
    (second,) = core.run()
    assert (second.login["token"], second.login["password"]) == (False, SECRET)
    getattr(core.lib, fails)(core.m)
    later = core.run() + core.later(2_000)
    if fails == "mdm_on_lost":
        assert later[-1].login["token"]  # the same slot again, from the beginning
    else:
        assert later[0].login["client_id"] == "recover-07"
    core = Core({"package": package(**{**TOKENS, "mqtt_auth": auth})}, has_tokens=True, either=True)
    core.run()
    core.lib.mdm_on_lost(core.m)
    core.run()
    core.accept()
    core.lib.mdm_on_lost(core.m)
    assert core.run()[-1].login["token"]
