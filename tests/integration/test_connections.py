"""Connection profiles: what devices report of them, and what they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from joserfc.jwk import OKPKey
from pydantic import SecretStr

from cli.client import AnswerError
from deploy import certificates
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.messages import Config, ConfigGet, ConnectionOffer, ConnectionState
from tests.raw import RawDevice

OLD = "0123456789abcdef"
PASSWORD = "correct horse battery"


async def ask(device: RawDevice, **state: object) -> Config:
    """Request the configuration with a report of the device's profiles."""
    request_id = uuid4().hex
    report = ConnectionState.model_validate(state)
    await device.send(topics.CONFIG_GET, ConfigGet(request_id=request_id, connection=report))
    answer = await device.receive(topics.CONFIG)
    assert answer.request_id == request_id
    return answer


async def uses(fleet: Fleet, device: RawDevice, connection_id: str | None, **others: object) -> None:
    """Be online with a profile that is the device's first."""
    await device.send(topics.STATUS, messages.Status(online=True))
    await ask(device, first=connection_id, in_use=connection_id, **others)
    reported = partial(view, fleet, device.client_id)
    await until(reported, lambda it: it.reported_at and it.in_use == connection_id)
    await until(partial(online, fleet, device.client_id))


async def online(fleet: Fleet, device: str) -> bool:
    return (await fleet.ask(admin.DEVICE_SHOW, device=device)).online


async def view(fleet: Fleet, device: str) -> admin.DeviceConnectionView:
    found = (await fleet.ask(admin.DEVICE_SHOW, device=device)).connection
    assert found is not None
    return found


async def offered(device: RawDevice) -> tuple[str, messages.ConnectionProfile]:
    offer: ConnectionOffer = await device.receive(topics.CONNECTION)
    assert offer.profile is not None
    return offer.connection_id, offer.profile


@pytest.fixture
async def tag(fleet: Fleet) -> AsyncIterator[str]:
    """A tag whose layer is removed at the end."""
    name = f"t{uuid4().hex[:8]}"
    yield name
    layers = (await fleet.ask(admin.CONNECTION_HISTORY)).layers
    if any(it.tag == name and it.in_force for it in layers):
        await fleet.ask(admin.CONNECTION_REMOVE, tag=name)


async def test_a_device_with_another_profile_is_sent_the_wanted_one_once_an_hour(fleet: Fleet) -> None:
    package = await fleet.device()
    wanted = package.connection_id
    refused = {"connection_id": wanted, "outcome": "reverted", "reason": "no answer"}
    async with RawDevice(package) as device:
        await ask(device, first=OLD, in_use=OLD)
        sent, profile = await offered(device)
        assert sent == wanted
        facts: dict[str, Any] = package.model_dump(include=set(messages.ConnectionProfile.model_fields))
        assert package.recovery is not None
        assert profile == messages.ConnectionProfile(**facts, recovery_port=package.recovery.port)

        await ask(device, first=OLD, in_use=OLD, refused=refused)
        await fleet.seen(package, "connection/reverted", reason="no answer", connection_id=wanted)
        for _ in range(2):
            await ask(device, first=OLD, in_use=OLD, refused=refused)
        assert not device.received(topics.CONNECTION)
        found = await view(fleet, package.client_id)
        assert (found.progress, found.refused_reason, found.sent_id) == ("refused", "no answer", wanted)

        assert (await fleet.ask(admin.CONNECTION_RETRY, device=package.client_id)).devices == 1
        await ask(device, first=OLD, in_use=OLD, refused=refused)
        assert (await offered(device))[0] == wanted

        await ask(device, first=wanted, fallback=OLD, in_use=wanted)
        await fleet.seen(package, "connection/applied", connection_id=wanted)
        await ask(device, first=wanted, fallback=OLD, in_use=OLD)
        await fleet.seen(package, "connection/fell_back", connection_id=OLD)
        assert (await view(fleet, package.client_id)).progress == "fallback"
        found_by_doctor = (await fleet.ask(admin.DOCTOR)).findings
        assert any(
            it.subject == package.client_id and "uses the former one" in it.problem for it in found_by_doctor
        )
        await ask(device, first=wanted, fallback=OLD, in_use=wanted)
        await fleet.seen(package, "connection/applied", connection_id=wanted)
    # Whatever board gets the next package, it has not reported yet.
    reissued = await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    found = await view(fleet, package.client_id)
    assert (found.progress, found.first, found.fallback) == ("as provisioned", reissued.connection_id, None)


async def test_a_device_that_reports_no_profile_or_the_wanted_one_is_sent_nothing_and_its_row_not_touched(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    row = (
        "SELECT c.xmin, c.xmax FROM mdm.device_connections c JOIN mdm.devices d ON d.id = device_id WHERE key = $1"
    )
    async with RawDevice(package) as device:
        await device.send(topics.CONFIG_GET, ConfigGet(request_id="1"))
        assert (await device.receive(topics.CONFIG)).request_id == "1"
        assert (await view(fleet, package.client_id)).progress == "as provisioned"
        refused = {"connection_id": OLD, "outcome": "rejected", "reason": "a|b"}
        await uses(fleet, device, package.connection_id, refused=refused)
        before = await run(stack, row, package.device_key)
        for _ in range(2):
            await uses(fleet, device, package.connection_id, refused=refused)
        assert await run(stack, row, package.device_key) == before
        assert not device.received(topics.CONNECTION)
        assert (await view(fleet, package.client_id)).progress == "in use"


async def test_a_change_reaches_devices_that_are_online_and_a_rollback_brings_the_former_id(
    fleet: Fleet, tag: str
) -> None:
    package = await fleet.device(tags=[tag])
    async with RawDevice(package) as device:
        await uses(fleet, device, package.connection_id)
        dry = await fleet.ask(admin.CONNECTION_SET, tag=tag, mqtt_host="localhost", dry_run=True)
        assert (dry.number, dry.devices, dry.moving, dry.unable) == (None, 1, 1, 0)
        first = await fleet.ask(admin.CONNECTION_SET, tag=tag, mqtt_host="localhost", trial_seconds=60)
        assert (first.changed, first.moving) == (True, 1)
        one, profile = await offered(device)
        assert (profile.mqtt_host, profile.mqtt_port) == ("localhost", package.mqtt_port)

        await fleet.ask(admin.CONNECTION_SET, tag=tag, mqtt_port=1)
        other, profile = await offered(device)
        assert (profile.mqtt_host, profile.mqtt_port) == ("localhost", 1)
        await fleet.ask(admin.CONNECTION_ROLLBACK, number=first.number)
        assert (await offered(device))[0] == one != other
        # The next package has it, too.
        assert (await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)).connection_id == one

        same = await fleet.ask(admin.CONNECTION_SET, tag=tag, mqtt_host="localhost")
        assert (same.changed, same.number, same.devices) == (False, None, 0)
        assert (await offered(device))[0] == one, "setting it again sends it again"
        await fleet.ask(admin.CONNECTION_REMOVE, tag=tag)
        await uses(fleet, device, one)
        assert (await offered(device))[0] == package.connection_id
    history = [it for it in (await fleet.ask(admin.CONNECTION_HISTORY)).layers if it.tag == tag]
    assert [(it.document, it.removed) for it in history] == [
        ({}, True),
        ({"mqtt_host": "localhost"}, False),
        ({"mqtt_host": "localhost", "mqtt_port": 1}, False),
        ({"mqtt_host": "localhost"}, False),
    ]


async def test_layers_apply_from_all_over_tags_by_priority_to_the_device(fleet: Fleet, tag: str) -> None:
    other = f"a{tag}"
    package = await fleet.device(tags=[tag, other])
    await fleet.ask(admin.CONNECTION_SET, tag=tag, mqtt_host="tag.test", mqtt_port=1)
    await fleet.ask(admin.CONNECTION_SET, tag=other, mqtt_host="other.test", recovery_port=2, priority=1)
    await fleet.ask(admin.CONNECTION_SET, device=package.client_id, recovery_port=3)
    shown = await fleet.ask(admin.CONNECTION_SHOW, device=package.client_id)
    values = {it.field: (it.value, it.source) for it in shown.values}
    assert values["mqtt_host"] == ("other.test", f"tag {other}")
    assert values["mqtt_port"] == (1, f"tag {tag}")
    assert values["recovery_port"] == (3, "device")
    assert values["mqtt_tls"] == (package.mqtt_tls, "settings")
    unset = await fleet.ask(admin.CONNECTION_SET, device=package.client_id, unset=["recovery_port"])
    assert unset.changed
    await fleet.ask(admin.CONNECTION_REMOVE, tag=other)
    shown = await fleet.ask(admin.CONNECTION_SHOW, device=package.client_id)
    assert {it.field: it.value for it in shown.values}["mqtt_host"] == "tag.test"
    with pytest.raises(AnswerError, match="there is no layer"):
        await fleet.ask(admin.CONNECTION_REMOVE, device=package.client_id)


async def test_a_network_is_sealed_for_the_devices_key_and_its_password_is_not_in_the_id(
    fleet: Fleet, tag: str
) -> None:
    package = await fleet.device(tags=[tag])
    key = OKPKey.generate_key("X25519")
    public = crypto.public_half(key)
    proof = crypto.key_proof(SecretStr(package.secret), public)
    wifi = [{"ssid": "home", "password": PASSWORD}]
    async with RawDevice(package) as device:
        await device.ask(topics.KEY, messages.DeviceKey(public_key=public, proof=proof), topics.KEY_KNOWN)
        await uses(fleet, device, package.connection_id)
        await fleet.ask(admin.CONNECTION_SET, tag=tag, wifi=wifi)
        offer = await device.receive(topics.CONNECTION)
        assert (offer.profile, PASSWORD in offer.model_dump_json()) == (None, False)
        opened = crypto.unseal(offer.jwe or "", key).get_secret_value()
        profile = messages.ConnectionProfile.model_validate_json(opened)
        assert profile.wifi == [messages.WifiNetwork(ssid="home", password=PASSWORD)]
        same = await fleet.ask(admin.CONNECTION_SET, tag=tag, wifi=wifi)
        assert not same.changed
        changed = await fleet.ask(
            admin.CONNECTION_SET, tag=tag, wifi=[{"ssid": "home", "password": f"{PASSWORD}!"}]
        )
        assert changed.changed
        # The same password once more is another network: from the ids nobody sees that it is the same.
        await fleet.ask(admin.CONNECTION_SET, tag=tag, wifi=wifi)
        fresh = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
        assert fresh.wifi == profile.wifi
        assert fresh.connection_id != offer.connection_id
    shown = await fleet.ask(admin.CONNECTION_SHOW, device=package.client_id)
    assert {it.field: it.value for it in shown.values}["wifi"] == ["home"]
    rekeyed = await fleet.ask(admin.RECOVERY_REKEY)
    assert (rekeyed.unreadable.count, rekeyed.reencrypted >= 3) == (0, True)
    assert (await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)).wifi == profile.wifi


async def test_no_id_ever_has_two_contents_when_the_database_is_put_back_to_yesterday(
    fleet: Fleet, stack: Stack, tag: str
) -> None:
    package = await fleet.device(tags=[tag])

    async def provisioned(password: str) -> str | None:
        await fleet.ask(admin.CONNECTION_SET, tag=tag, wifi=[{"ssid": "home", "password": password}])
        return (await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)).connection_id

    yesterday = await provisioned("the first password")
    before = await run(stack, "SELECT max(number) FROM mdm.connection_layers")
    lost = await provisioned("the second password")
    await run(stack, "DELETE FROM mdm.connection_layers WHERE number > $1", before[0][0])
    await run(stack, "DELETE FROM mdm.connection_profiles WHERE id = $1", lost)
    async with RawDevice(package) as device:
        await uses(fleet, device, lost, fallback=yesterday)
        assert (await offered(device))[0] == yesterday
        status = await fleet.ask(admin.CONNECTION_STATUS)
        (unknown,) = [it for it in status.profiles if it.connection_id == lost]
        assert (unknown.known, unknown.in_use) == (False, 1)
        again = await provisioned("another second password")
        assert again not in {lost, yesterday}
        sent, profile = await offered(device)
        assert (sent, profile.wifi and profile.wifi[0].password) == (again, "another second password")


async def test_changed_settings_move_devices_and_the_last_changed_ones_count(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    package = await fleet.device()
    successor = certificates.ensure_authority(tmp_path).certificate.read_text()
    both = tmp_path / "both.crt"
    both.write_text(f"# the present one\n{package.ca_certificate}\n# its successor\n{successor}")
    async with system.altered("registry", MDM_DEVICE_CA_FILE=str(both)), RawDevice(package) as device:
        await uses(fleet, device, package.connection_id)
        sent, profile = await offered(device)
        assert profile.ca_certificate == f"{package.ca_certificate}{successor}"
        await ask(device, first=sent, fallback=package.connection_id, in_use=sent)
        await fleet.seen(package, "connection/applied", connection_id=sent)
        claim = await fleet.ask(
            admin.CLAIM_ADD, model=await fleet.model(), password=crypto.new_secret().get_secret_value()
        )
        assert claim.ca_certificate == profile.ca_certificate
        uses_of = {it.fingerprint: it for it in (await fleet.ask(admin.CONNECTION_STATUS)).authorities}
        assert len(uses_of) >= 2
    back = await fleet.device()
    assert (back.connection_id, back.ca_certificate) == (package.connection_id, package.ca_certificate)


async def test_what_depends_on_an_authority_alone_is_counted_and_open_claims_are_named(
    fleet: Fleet, tag: str, tmp_path: Path
) -> None:
    names = [certificates.ensure_authority(tmp_path / name).certificate.read_text() for name in made(tmp_path)]
    old, new = names
    packages = [await fleet.device(tags=[tag]) for _ in range(2)]
    ids = []
    for pem in (old, old + new):
        await fleet.ask(admin.CONNECTION_SET, tag=tag, ca_certificate=pem)
        claim = await fleet.ask(
            admin.CLAIM_ADD,
            model=await fleet.model(),
            tags=[tag],
            password=crypto.new_secret().get_secret_value(),
        )
        ids.append(((await fleet.ask(admin.CONNECTION_SHOW, tag=tag)).connection_id, claim.claim))
    (one, old_claim), (both, new_claim) = ids
    for package, has in zip(packages, (one, both), strict=True):
        async with RawDevice(package) as device:
            await ask(device, first=has, in_use=has)
            await until(partial(view, fleet, package.client_id), lambda it: it.reported_at)
    by_end = [
        it
        for it in (await fleet.ask(admin.CONNECTION_STATUS)).authorities
        if it.fingerprint in {a.fingerprint for a in (await fleet.ask(admin.CONNECTION_SHOW, tag=tag)).authorities}
    ]
    of_old = next(it for it in by_end if it.alone)
    of_new = next(it for it in by_end if it is not of_old)
    assert (of_old.devices, of_old.alone, of_old.claims) == (2, 1, [old_claim])
    assert (of_new.devices, of_new.alone, of_new.claims) == (1, 0, [])
    assert new_claim not in of_old.claims


def made(folder: Path) -> list[str]:
    for name in ("old", "new"):
        (folder / name).mkdir()
    return ["old", "new"]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "at least one value, or unset, must be given"),
        ({"mqtt_host": "a b"}, "mqtt_host: "),
        ({"mqtt_port": 0}, "mqtt_port: "),
        ({"token_url": "ftp://x"}, "token_url: "),
        ({"ca_certificate": "no pem"}, "ca_certificate: must be certificates in PEM"),
        (
            {"wifi": [messages.WifiNetwork.model_construct(ssid="home", password="short")]},
            "wifi.0.password: must be empty, 8 to 63",
        ),
        ({"wifi": []}, "wifi: "),
        ({"trial_seconds": 0}, "trial_seconds: "),
        ({"priority": 1}, "priority: is for layers of tags only"),
    ],
)
async def test_a_profile_that_cannot_be_is_refused_by_field_and_rule(
    fleet: Fleet, fields: dict[str, Any], rule: str
) -> None:
    before = (await fleet.ask(admin.CONNECTION_HISTORY)).layers
    request = admin.ConnectionSet.model_construct(request_id=uuid4().hex, all=True, **fields)
    with pytest.raises(AnswerError, match=rule) as refused:
        await fleet.admin.call(admin.CONNECTION_SET, request)
    assert "short" not in refused.value.message
    assert (await fleet.ask(admin.CONNECTION_HISTORY)).layers == before


async def test_authorities_that_do_not_verify_the_broker_are_a_warning(
    fleet: Fleet, tag: str, tmp_path: Path, stack: Stack
) -> None:
    package = await fleet.device(tags=[tag])
    stranger = certificates.ensure_authority(tmp_path).certificate.read_text()
    dry = await fleet.ask(admin.CONNECTION_SET, tag=tag, ca_certificate=stranger, dry_run=True)
    (warning,) = dry.warnings
    place = f"{package.mqtt_host}:{package.mqtt_port}"
    assert warning.startswith(f"the profile's authorities do not verify the certificate of {place}: ")
    dry = await fleet.ask(
        admin.CONNECTION_SET, tag=tag, ca_certificate=(package.ca_certificate or "") + stranger, dry_run=True
    )
    assert (dry.devices, dry.unable, dry.warnings) == (1, 1, [])
    server = (stack.endpoints.ca_file.parent / "server.crt").read_text()
    with pytest.raises(AnswerError, match="must be an authority's certificate, not a server's"):
        await fleet.ask(admin.CONNECTION_SET, tag=tag, ca_certificate=server)
