"""Sealed settings: what is given as a secret is found nowhere but at its device, whichever way it came in.

That nothing else of a device is readable to others is tried in tests/integration/test_access.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg
import pytest

from cli.client import Admin, AnswerError
from dev.credentials import account_client, behind_our_back, device_client
from dev.database import run
from dev.fleet import Fleet
from dev.servers.mosquitto import MosquittoProcess
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Operation, Package
from shared.protocol.messages import ConfigOutcome
from tests.integration.test_configuration import new_tag
from tests.leaks import Heard, database, leaks, memory_of_broker
from tests.raw import RawClient, RawDevice
from tests.security.test_shares import KINDS, client_of

TEXT: Final = {"type": "string", "writeOnly": True, "minLength": 8}
SCHEMA: Final[dict[str, Any]] = {
    "properties": {
        "wifi": {"properties": {"ssid": {"type": "string"}, "psk": TEXT}},
        "token": {"$ref": "#/$defs/token"},
        "nets": {"items": {"properties": {"name": {}, "psk": TEXT}}},
        "vault": {"writeOnly": True},
        "level": {"type": "integer"},
    },
    "patternProperties": {"^key_": TEXT},
    "$defs": {"token": {"allOf": [TEXT]}},
}
SECRETS: Final = {way: f"Zq-{way.replace(' ', '-')}-7Kx" for way in (
    "defaults", "changed defaults", "layer", "merged layer", "a tag of none", "patch", "file", "item", "member",
    "array", "pattern", "wrong type", "trial", "rolled back", "offline", "refused")}  # fmt: skip
WHOLE: Final[dict[str, Any]] = {
    "nets": [{"name": "a", "psk": SECRETS["item"]}],
    "vault": {"x": {"y": SECRETS["member"]}, "list": [SECRETS["array"], {"in": SECRETS["array"]}]},
    "key_a": SECRETS["pattern"],
    "token": SECRETS["file"],
    "level": 1,
}
WAITS: Final = "SELECT count(*) FROM mdm.outbox WHERE topic = $1"


@dataclass
class Ear:
    """Asks as an admin, and keeps all answers, of refused requests too."""

    fleet: Fleet
    answers: list[str] = field(default_factory=list)

    async def ask(self, operation: Operation[Any, Any], **fields: object) -> Any:  # noqa: ANN401
        result = await self.fleet.ask(operation, **fields)
        self.answers.append(result.model_dump_json())
        return result

    async def refused(self, operation: Operation[Any, Any], **fields: object) -> str:
        with pytest.raises(AnswerError) as refusal:
            await self.fleet.ask(operation, **fields)
        self.answers.append(refusal.value.message)
        return refusal.value.message


@asynccontextmanager
async def undelivered(stack: Stack) -> AsyncIterator[None]:
    """Let what the registry sends wait in its outbox until the block ends."""
    connection = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext('outbox:registry'))")
        yield
    finally:
        await connection.close()


async def document_at(device: RawDevice) -> dict[str, Any]:
    """Return the document that a device gets when it asks; nothing else has waited for it."""
    answer = await device.ask(topics.CONFIG_GET, messages.ConfigGet(request_id="asks"), topics.CONFIG)
    assert answer.request_id == "asks"
    assert answer.document is not None
    return answer.document


def marked(document: dict[str, Any]) -> bool:
    """Return whether a document has a placeholder."""
    return '"(sealed ' in json.dumps(document)


@pytest.fixture
async def heard(system: System) -> AsyncIterator[Heard]:
    events = Heard()
    async with Admin(system.profile) as listener:
        task = asyncio.create_task(events.listen(listener), name="events")
        yield events
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def refuse_all(ear: Ear, name: str, model: str, tag: str) -> None:
    """Have secrets refused: the rule is named, and the value is not."""
    refusal = await ear.refused(admin.CONFIG_SET, device=name, overrides={"token": "Zq-2sho"})
    assert refusal == "configuration.token: must fit minLength 8; the value is sealed and not shown"
    for overrides in ({"token": [SECRETS["wrong type"]]}, {"key_": {"b": SECRETS["wrong type"]}}):
        await ear.refused(admin.CONFIG_SET, device=name, overrides=overrides)
    await ear.refused(admin.LAYER_SET, tag=tag, document={"key_c": {"c": SECRETS["refused"]}})
    await ear.refused(admin.MODEL_UPDATE, code=model, config_defaults={"token": {"d": SECRETS["refused"]}})


async def revert(ear: Ear, package: Package) -> None:
    """Set a secret on trial, which the device reverts with a reason that quotes it."""
    async with RawDevice(package) as device:
        overrides = {"token": SECRETS["trial"]}
        made = await ear.ask(admin.CONFIG_SET, device=package.client_id, overrides=overrides, trial_seconds=60)
        trial = await device.pushed(made.version)
        assert (trial.document or {})["token"] == SECRETS["trial"]
        error = f"no broker takes {SECRETS['trial']}"
        report = messages.ConfigReport(version=trial.version, outcome=ConfigOutcome.REVERTED, error=error)
        await device.send(topics.CONFIG_REPORT, report)
        await ear.fleet.seen(package, "config/restored")
        assert (await ear.fleet.show(package)).config_error == "no broker takes (sealed)"
        assert (await device.receive(topics.CONFIG)).document is not None


async def show_all(ear: Ear, name: str, model: str, tag: str, newest: int) -> None:
    """Ask for all that shows configurations."""
    for version in range(1, newest + 1):
        await ear.ask(admin.CONFIG_GET, device=name, version=version)
        await ear.ask(admin.CONFIG_DIFF, device=name, from_version=0, to_version=version)
        await ear.ask(admin.CONFIG_DIFF, device=name, to_version=version)
    for asked in (admin.MODEL_LIST, admin.LAYER_LIST, admin.AUDIT_LIST, admin.DEVICE_LIST, admin.FLEET_SHOW):
        await ear.ask(asked)
    for operation in (admin.CONFIG_HISTORY, admin.DEVICE_SHOW):
        await ear.ask(operation, device=name)
    for subject in (name, model, tag):
        await ear.ask(admin.AUDIT_LIST, subject=subject, limit=500)
    await ear.ask(admin.LAYER_SHOW, tag=tag)


async def test_a_sealed_setting_is_found_nowhere_but_at_its_device(
    fleet: Fleet, stack: Stack, heard: Heard
) -> None:
    if not isinstance(stack.broker, MosquittoProcess):
        pytest.skip("what a broker in a container keeps is not looked at")
    ear, tag, unused_tag, model = Ear(fleet), new_tag(), new_tag(), await fleet.model()
    for fields in ({"config_schema": SCHEMA, "config_defaults": {"token": SECRETS["defaults"]}},
                   {"config_defaults": {"token": SECRETS["changed defaults"]}}):  # fmt: skip
        await ear.ask(admin.MODEL_UPDATE, code=model, **fields)
    for wifi in ({"ssid": "home", "psk": SECRETS["layer"]}, {"psk": SECRETS["merged layer"]}):
        await ear.ask(admin.LAYER_SET, tag=tag, document={"wifi": wifi})
    # A layer of a tag that no device has yet is sealed, too.
    await ear.ask(admin.LAYER_SET, tag=unused_tag, document={"key_b": SECRETS["a tag of none"]})
    package = await fleet.device(model, tags=[tag])
    name = package.client_id
    await ear.ask(admin.CONFIG_SET, device=name, overrides={"wifi": {"psk": SECRETS["patch"]}})
    of_whole = await ear.ask(admin.CONFIG_SET, device=name, overrides=WHOLE, replace=True)
    await refuse_all(ear, name, model, tag)
    await ear.ask(admin.CONFIG_SET, device=name, overrides={"token": SECRETS["rolled back"]})
    await revert(ear, package)
    back = await ear.ask(admin.CONFIG_ROLLBACK, device=name, version=of_whole.version)

    # While it waits in the outbox, and for a device whose session the broker keeps.
    async with RawDevice(package, session_s=600):
        pass
    async with undelivered(stack):
        await ear.ask(admin.CONFIG_SET, device=name, overrides={"vault": {"z": SECRETS["offline"]}})
        assert (await run(stack, WAITS, topics.CONFIG.of(client_id=name)))[0][0] == 1
        places = {"the database while a message waits": await database(stack)}
    await until(lambda: run(stack, WAITS, topics.CONFIG.of(client_id=name)), lambda rows: rows[0][0] == 0)
    places["the broker's memory while its device is offline"] = await memory_of_broker(stack)
    async with RawDevice(package, session_s=600) as device:
        at_device = await document_at(device)
        assert at_device == {
            **WHOLE,
            "vault": {**WHOLE["vault"], "z": SECRETS["offline"]},
            "wifi": {"ssid": "home", "psk": SECRETS["merged layer"]},
        }
        error = f"{SECRETS['offline']}: bad"
        report = messages.ConfigReport(version=back.version + 1, outcome=ConfigOutcome.REJECTED, error=error)
        await device.send(topics.CONFIG_REPORT, report)
        await fleet.seen(package, "config/reported", outcome="rejected")
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
    stored = json.loads((fleet.folder / name / "config.json").read_bytes())
    assert stored["document"] == at_device

    await show_all(ear, name, model, tag, back.version + 1)
    places["the database"] = await database(stack)
    for operation, removed in (
        (admin.LAYER_REMOVE, {"tag": tag}),
        (admin.LAYER_REMOVE, {"tag": unused_tag}),
        (admin.DEVICE_REMOVE, {"device": name}),
        (admin.MODEL_REMOVE, {"code": model}),
    ):
        await ear.ask(operation, **removed)
    places |= {
        "the database afterwards": await database(stack),
        "the broker's memory": await memory_of_broker(stack),
        "the events": heard.text,
        "answers": "\n".join(ear.answers).encode(),
    }
    logs = {log.name: log.read_bytes() for log in (stack.folder / "logs").iterdir()}
    # It is the right places that are looked through, and placeholders are in those that have documents.
    for place, text in {**places, "registry.log": logs["registry.log"]}.items():
        assert leaks({"what is no secret": package.device_key}, {place: text}), place
        assert (b"(sealed " in text) == place.startswith(("the database", "answers")), place
    assert leaks(SECRETS, places | logs) == []


SERVICES: Final = ["svc-registry", "svc-rotator", "svc-firmware"]


@pytest.mark.parametrize("kind", ["of its client id", "homeassistant", *SERVICES, *KINDS])
async def test_nobody_but_the_device_reads_its_configuration(
    fleet: Fleet, stack: Stack, system: System, kind: str
) -> None:
    package = await fleet.device(await fleet.model(config_schema=SCHEMA))
    mine = topics.CONFIG.of(client_id=package.client_id)
    if kind == "of its client id":
        thief = device_client(await fleet.device(), identifier=package.client_id)
    elif kind == "homeassistant":
        # With a role that shares may be joined with, as somebody could make it; only the ACL file speaks for it.
        password = crypto.new_secret().get_secret_value()
        await behind_our_back(stack, "createClient", kind, password=password)
        thief = account_client(replace(stack.endpoints, accounts={kind: password}), kind)
    else:
        thief = await client_of(kind, fleet, stack, system)
    wanted = ("mdm/#", "mdm/v1/d/+/down/#", "+/v1/d/+/down/config", mine, f"$share/x/{mine}", "$share/x/#")
    async with RawClient(thief, "#") as spy:
        for topic in wanted:
            await spy.client.subscribe(topic, qos=1)
        async with RawDevice(package) as device:
            await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"token": "Zq-a-secret-7Kx"})
            pushed = await device.receive(topics.CONFIG)
            assert pushed.document == {"token": "Zq-a-secret-7Kx"}
            assert await document_at(device) == pushed.document
        assert mine not in spy.addresses
    # Nothing is retained either.
    async with RawDevice(package) as device:
        question = messages.ConfigGet(request_id="1", have_version=2)
        assert (await device.ask(topics.CONFIG_GET, question, topics.CONFIG)).request_id == "1"
    if kind == "homeassistant":
        await behind_our_back(stack, "deleteClient", kind)


async def test_a_placeholder_that_is_saved_keeps_the_secret_and_the_same_secret_makes_no_version(
    fleet: Fleet,
) -> None:
    package = await fleet.device(await fleet.model(config_schema=SCHEMA))
    nets = [{"name": "a", "psk": "secret-of-a"}, {"name": "b", "psk": "secret-of-b"}]
    given = {"wifi": {"ssid": "home", "psk": "hunter2!"}, "nets": nets}

    async def save(overrides: object, **fields: object) -> tuple[bool, int]:
        done = await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides=overrides, **fields)
        return done.changed, done.version

    async def shown() -> dict[str, Any]:
        return (await fleet.ask(admin.CONFIG_GET, device=package.client_id)).overrides

    await save(given)
    before = await shown()
    assert marked(before)
    # Saved as it was shown, as a whole and in part; and the same secrets typed again.
    assert await save(before, replace=True) == (False, 2)
    assert await save({"wifi": {"psk": before["wifi"]["psk"]}}) == (False, 2)
    assert await save(given, replace=True) == (False, 2)
    assert await save({"wifi": {"psk": "hunter2!"}}) == (False, 2)
    assert await shown() == before
    # Edited around them, and in another order.
    edited = {"wifi": {**before["wifi"], "ssid": "office"}, "nets": before["nets"][::-1], "level": 1}
    assert await save(edited, replace=True) == (True, 3)
    assert await shown() == edited
    async with RawDevice(package) as device:
        wifi = {"ssid": "office", "psk": "hunter2!"}
        assert await document_at(device) == {"wifi": wifi, "nets": nets[::-1], "level": 1}
    # Another secret is another version, and the old placeholder no longer names anything.
    assert await save({"wifi": {"psk": "hunter3!"}}) == (True, 4)
    stale = before["wifi"]["psk"]
    for moved in ({"wifi": {"psk": stale}}, {"wifi": {"ssid": before["nets"][0]["psk"]}}):
        with pytest.raises(AnswerError, match=r"overrides\.wifi\.\w+: .*not the placeholder of a sealed value"):
            await save(moved)
    (changed,) = (await fleet.ask(admin.CONFIG_DIFF, device=package.client_id)).changes
    assert (changed.path, changed.kind) == (["wifi", "psk"], "changed")
    assert changed.before == stale != changed.after
    # A rollback brings the old one, with its old placeholder; null clears it.
    await fleet.ask(admin.CONFIG_ROLLBACK, device=package.client_id, version=3)
    assert (await shown())["wifi"]["psk"] == stale
    assert await save({"wifi": {"psk": None}}) == (True, 6)
    other = await fleet.device(await fleet.model(config_schema=SCHEMA))
    with pytest.raises(AnswerError, match="not the placeholder of a sealed value"):
        await fleet.ask(admin.CONFIG_SET, device=other.client_id, overrides=before)


async def test_the_placeholders_of_layers_and_defaults_keep_their_values_too(fleet: Fleet) -> None:
    tag = new_tag()
    model = await fleet.model(config_schema=SCHEMA, config_defaults={"token": "token-of-all"})
    package = await fleet.device(model, tags=[tag])
    wifi = {"ssid": "home", "psk": "psk-of-layer"}
    layer = (await fleet.ask(admin.LAYER_SET, tag=tag, document={"wifi": wifi})).layer
    (view,) = [it for it in (await fleet.ask(admin.MODEL_LIST)).models if it.code == model]
    assert layer is not None
    assert marked(layer.document)
    assert marked(view.config_defaults)
    for fields in ({"replace": True, "document": layer.document}, {"document": {"wifi": wifi}}):
        assert (await fleet.ask(admin.LAYER_SET, tag=tag, **fields)).devices == []
    for defaults in (view.config_defaults, {"token": "token-of-all"}):
        assert (await fleet.ask(admin.MODEL_UPDATE, code=model, config_defaults=defaults)).changed == []
    office = {"wifi": {**layer.document["wifi"], "ssid": "office"}}
    assert len((await fleet.ask(admin.LAYER_SET, tag=tag, document=office, replace=True)).devices) == 1
    await fleet.ask(admin.MODEL_UPDATE, code=model, config_defaults={**view.config_defaults, "level": 3})
    async with RawDevice(package) as device:
        assert await document_at(device) == {
            "token": "token-of-all",
            "wifi": {**wifi, "ssid": "office"},
            "level": 3,
        }
    # What a device inherits is not its own: its placeholder is refused as an override.
    whole = (await fleet.ask(admin.CONFIG_GET, device=package.client_id)).document
    with pytest.raises(
        AnswerError, match=r"overrides\.\w+.*not the placeholder of a sealed value that is here now"
    ):
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides=whole, replace=True)
    await fleet.ask(admin.LAYER_REMOVE, tag=tag)


async def test_a_device_that_has_the_version_gets_no_document(fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_schema=SCHEMA))
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"token": "Zq-a-secret-7Kx"})
    async with RawDevice(package) as device:
        question = messages.ConfigGet(request_id="1", have_version=2)
        answer = await device.ask(topics.CONFIG_GET, question, topics.CONFIG)
        assert (answer.unchanged, answer.document) == (True, None)


async def test_a_setting_that_becomes_sealed_is_sealed_in_all_versions_and_stays_so(
    fleet: Fleet, stack: Stack
) -> None:
    tag, radio = new_tag(), new_tag()
    # No other model seals it, which would seal it in the layer.
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], radio: SCHEMA["properties"]["wifi"]}}
    secrets = {way: f"Zq-formerly-{way}-7Kx" for way in ("default", "layer", "old", "own", "another")}
    model, bystander = await fleet.model(config_defaults={"token": secrets["default"]}), await fleet.model()
    await fleet.ask(admin.LAYER_SET, tag=tag, document={radio: {"psk": secrets["layer"]}})
    package, other = await fleet.device(model, tags=[tag]), await fleet.device(bystander, tags=[tag])
    for psk in (secrets["old"], secrets["own"]):
        last = await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"nets": [{"psk": psk}]})
    await fleet.ask(admin.CONFIG_SET, device=other.client_id, overrides={"token": "not a secret"})
    plain = (await fleet.ask(admin.CONFIG_GET, device=package.client_id)).document

    changed = await fleet.ask(admin.MODEL_UPDATE, code=model, config_schema=schema)
    assert set(changed.sealed) == {f"{radio}.psk", "/^key_/", "nets[].psk", "token", "vault", "wifi.psk"}
    # No device gets a version by it: what it has is still right.
    assert changed.changed == []
    async with RawDevice(package) as device:
        assert await document_at(device) == plain
    tables = ("device_models", "config_layers", "device_configs", "outbox")
    for table in tables:
        rows = await run(stack, f"SELECT t::text FROM mdm.{table} t")  # noqa: S608
        text = "\n".join(row[0] for row in rows).encode()
        assert leaks(secrets, {table: text}) == []
    shown: list[Any] = [
        await fleet.ask(admin.CONFIG_GET, device=package.client_id, version=1),
        await fleet.ask(admin.CONFIG_GET, device=package.client_id, version=3),
        await fleet.ask(admin.CONFIG_GET, device=other.client_id),
        await fleet.ask(admin.LAYER_SHOW, tag=tag),
    ]
    assert all(marked(view.document) for view in shown)
    # Of a model that does not seal it, a value is shown that did not come from the layer.
    assert shown[2].overrides == {"token": "not a secret"}
    back = await fleet.ask(admin.CONFIG_ROLLBACK, device=package.client_id, version=last.version - 1)
    assert back.changed
    async with RawDevice(package) as device:
        assert (await document_at(device))["nets"] == [{"psk": secrets["old"]}]

    # A schema without the word reveals nothing that was given as a secret; what is set from now on is shown.
    await fleet.ask(admin.MODEL_UPDATE, code=model, config_schema={})
    later = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert marked(later.overrides)
    assert later.document == back.document
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"nets": [{"psk": secrets["another"]}]})
    now = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert now.overrides == {"nets": [{"psk": secrets["another"]}]}
    assert marked(now.document)
    await fleet.ask(admin.LAYER_REMOVE, tag=tag)
