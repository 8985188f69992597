"""Sealed settings in the database: under which key, for whom, and those from before they were sealed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from cli.client import AnswerError
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import logged
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.raw import RawDevice

DOCUMENT: Final = """SELECT c.document::text FROM mdm.device_configs c
    JOIN mdm.devices d ON d.id = c.device_id AND d.config_version = c.version WHERE d.key = $1"""


@pytest.fixture
async def restored(system: System) -> AsyncIterator[System]:
    """The system, whose registry is as it was at the end."""
    yield system
    await system.restart("registry")


def schema(name: str) -> dict[str, Any]:
    return {"properties": {name: {"writeOnly": True}}}


async def asked(package: Package) -> dict[str, Any] | None:
    """Return the document that a device gets."""
    async with RawDevice(package) as device:
        return (await device.ask(topics.CONFIG_GET, messages.ConfigGet(request_id="1"), topics.CONFIG)).document


async def test_after_a_rekey_the_new_key_alone_opens_sealed_settings(
    fleet: Fleet, stack: Stack, restored: System
) -> None:
    name, tag = f"n{uuid4().hex[:8]}", f"t{uuid4().hex[:8]}"
    model = await fleet.model(config_schema=schema(name), config_defaults={name: {"default": "one"}})
    package = await fleet.device(model, tags=[tag])
    await fleet.ask(admin.LAYER_SET, tag=tag, document={name: {"layer": "two"}})
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={name: {"own": "three"}})
    whole = {name: {"default": "one", "layer": "two", "own": "three"}}
    shown = (await fleet.ask(admin.CONFIG_GET, device=package.client_id)).document
    before = (await run(stack, DOCUMENT, package.device_key))[0][0]

    old, new = restored.own["registry"]["MDM_MASTER_KEYS"], Fernet.generate_key().decode()
    await restored.restart("registry", MDM_MASTER_KEYS=f"{new},{old}")
    done = await fleet.ask(admin.RECOVERY_REKEY)
    assert (done.reencrypted > 3, done.unreadable.count) == (True, 0)
    assert (await run(stack, DOCUMENT, package.device_key))[0][0] != before

    await restored.restart("registry", MDM_MASTER_KEYS=new)
    assert await asked(package) == whole
    view = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert view.document == shown
    # The layer and the versions have other ciphertexts of one value: that makes no new version.
    again = await fleet.ask(admin.LAYER_SET, tag=tag, document={name: {"layer": "two"}}, priority=1)
    assert again.devices == []
    assert (await fleet.show(package)).config_version == view.version

    # Without its key the device keeps what it has; the owner sees what is missing, and sets it again.
    await restored.restart("registry", MDM_MASTER_KEYS=old)
    lost = await fleet.ask(admin.RECOVERY_REKEY)
    assert {f"layer {tag}", f"defaults of {model}"} <= set(lost.unreadable.names)
    assert any(package.client_id in it for it in lost.unreadable.names)
    with pytest.raises(AnswerError, match="no master key opens a stored secret"):
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"x": 1})
    anew = {name: {"default": "1", "layer": "2", "own": "3"}}
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides=anew)
    assert await asked(package) == anew

    await restored.restart("registry", MDM_MASTER_KEYS=f"{old},{new}")
    await fleet.ask(admin.RECOVERY_REKEY)


async def test_a_ciphertext_that_was_moved_to_another_device_is_not_opened_for_it(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    name = f"n{uuid4().hex[:8]}"
    model = await fleet.model(config_schema=schema(name))
    victim, evil = await fleet.device(model), await fleet.device(model)
    for package in (victim, evil):
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={name: f"of {package.device_key}"})
    (stolen,) = (await run(stack, DOCUMENT, victim.device_key))[0]
    (own,) = (await run(stack, DOCUMENT, evil.device_key))[0]
    statement = """UPDATE mdm.device_configs c SET document = $2::jsonb FROM mdm.devices d
        WHERE d.id = c.device_id AND d.config_version = c.version AND d.key = $1"""
    elsewhere = json.dumps({"motd": json.loads(own)[name]})
    async with RawDevice(evil) as device:
        for moved in (stolen, elsewhere):
            await run(stack, statement, evil.device_key, moved)
            size = system.services["registry"].log_size
            await device.send(topics.CONFIG_GET, messages.ConfigGet(request_id="1"))
            await logged(system.services["registry"], evil.client_id, "was sealed for another place", beyond=size)
        # The device is not lost: whatever is set again reaches it; before it come at most its own, pushed late.
        made = await fleet.ask(admin.CONFIG_SET, device=evil.client_id, overrides={name: "again"})
        found = await device.receive(topics.CONFIG)
        if found.version < made.version:
            assert (found.request_id, found.document) == (None, {name: f"of {evil.device_key}"})
            found = await device.receive(topics.CONFIG)
        assert found.document == {name: "again"}


async def test_a_schema_from_before_is_sealed_when_the_registry_starts(
    fleet: Fleet, stack: Stack, restored: System
) -> None:
    name, undecided = f"n{uuid4().hex[:8]}", await fleet.model()
    model = await fleet.model(config_defaults={name: "Zq-plain-7Kx"})
    package = await fleet.device(model)
    before = "UPDATE mdm.device_models SET sealed = NULL, config_schema = $2::jsonb WHERE code = $1"
    await run(stack, before, model, json.dumps(schema(name)))
    await run(stack, before, undecided, json.dumps({"anyOf": [schema(name)]}))
    # Nor does a device that does not fit its schema keep the registry from anything.
    unfit = await fleet.model(config_defaults={"level": "high"})
    await fleet.device(unfit)
    levels = {"properties": {"level": {"type": "integer"}, **schema(name)["properties"]}}
    await run(stack, before, unfit, json.dumps(levels))
    await restored.restart("registry")
    registry = restored.services["registry"]
    await logged(registry, "model.not_sealed", undecided, "config_schema.anyOf[0]: has a writeOnly")
    await logged(registry, "model.not_sealed", unfit, "level: 'high' is not of type 'integer'")
    await logged(registry, "registry.reconciled")
    (view,) = [it for it in (await fleet.ask(admin.MODEL_LIST)).models if it.code == model]
    assert (view.sealed, "(sealed " in view.config_defaults[name]) == ([name], True)
    shown = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert (shown.version, "(sealed " in shown.document[name]) == (1, True)
    assert "Zq-plain-7Kx" not in (await run(stack, DOCUMENT, package.device_key))[0][0]
    assert await asked(package) == {name: "Zq-plain-7Kx"}
    for code in (undecided, unfit):
        await fleet.ask(admin.MODEL_UPDATE, code=code, config_schema={})
