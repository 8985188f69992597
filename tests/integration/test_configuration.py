"""Versions, layers and trials of configurations on the real stack."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from cli.client import AnswerError
from dev.fleet import Fleet
from dev.system import System
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import ConfigOutcome
from tests.raw import RawDevice

SCHEMA = {"properties": {"level": {"type": "integer", "maximum": 9}}}
DEFAULTS = {"level": 1, "led": {"on": True, "color": "white"}}


def new_tag() -> str:
    return f"t{uuid4().hex[:10]}"


async def set_config(fleet: Fleet, package: Package, **fields: object) -> admin.ConfigSetResult:
    return await fleet.ask(admin.CONFIG_SET, device=package.client_id, **fields)


async def get_config(fleet: Fleet, package: Package, version: int | None = None) -> admin.ConfigView:
    return await fleet.ask(admin.CONFIG_GET, device=package.client_id, version=version)


async def tagged(fleet: Fleet, model: str, *tags: str) -> Package:
    added = await fleet.ask(admin.DEVICE_ADD, model=model, tags=list(tags))
    return await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)


async def reports(device: RawDevice, version: int, outcome: ConfigOutcome) -> None:
    await device.send(topics.CONFIG_REPORT, messages.ConfigReport(version=version, outcome=outcome))


async def test_history_says_who_made_a_version_and_what_the_device_said_of_it(fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_defaults=DEFAULTS))
    async with RawDevice(package) as device:
        await set_config(fleet, package, overrides={"level": 2})
        await set_config(fleet, package, overrides={"level": 3})
        await reports(device, 2, ConfigOutcome.APPLIED)
        await fleet.seen(package, "config/reported", version=2)
    newest = await fleet.ask(admin.CONFIG_HISTORY, device=package.device_key, limit=2)
    oldest = await fleet.ask(admin.CONFIG_HISTORY, device=package.device_key, before=newest.next)

    said = [(it.version, it.author, it.outcome, it.reported_at is not None) for it in newest.versions]
    assert said == [(3, "admin", None, False), (2, "admin", "applied", True)]
    assert [entry.version for entry in oldest.versions] == [1]
    assert (newest.desired, newest.next, oldest.next) == (3, 2, None)


async def test_old_versions_are_forgotten_but_not_the_one_that_the_device_has(
    fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await reports(device, 1, ConfigOutcome.APPLIED)
    await fleet.until(package, lambda view: view.config_outcome == "applied")
    async with system.altered("registry", MDM_CONFIG_KEEP="3"):
        for number in range(6):
            await set_config(fleet, package, overrides={"a": number})
    history = await fleet.ask(admin.CONFIG_HISTORY, device=package.client_id)
    assert [it.version for it in history.versions] == [7, 6, 5, 1]
    with pytest.raises(AnswerError, match="version"):
        await fleet.ask(admin.CONFIG_ROLLBACK, device=package.client_id, version=2)


async def test_a_change_that_is_based_on_an_old_version_is_refused_and_changes_nothing(fleet: Fleet) -> None:
    package = await fleet.device()
    seen = await get_config(fleet, package)
    await set_config(fleet, package, overrides={"theirs": 1}, expected_version=seen.version)
    with pytest.raises(AnswerError, match=r"expected_version: admin saved version 2 in the meantime"):
        await set_config(fleet, package, overrides={"mine": 1}, replace=True, expected_version=seen.version)
    assert (await get_config(fleet, package)).overrides == {"theirs": 1}
    await set_config(fleet, package, overrides={"mine": 1}, expected_version=2)
    assert (await get_config(fleet, package)).overrides == {"theirs": 1, "mine": 1}


async def test_an_old_version_can_be_looked_at_and_compared(fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_defaults=DEFAULTS))
    await set_config(fleet, package, overrides={"led": {"color": "red"}, "new": 1})

    old, now = await get_config(fleet, package, 1), await get_config(fleet, package)
    assert (old.version, old.overrides, old.document, old.desired) == (1, {}, DEFAULTS, 2)
    assert (now.version, now.overrides) == (2, {"led": {"color": "red"}, "new": 1})
    assert (now.reported, now.reported_outcome) == (None, None)
    diff = await fleet.ask(admin.CONFIG_DIFF, device=package.client_id)
    assert (diff.from_version, diff.to_version) == (1, 2)
    assert [(change.path, change.kind) for change in diff.changes] == [
        (["led", "color"], "changed"),
        (["new"], "added"),
    ]
    whole = await fleet.ask(admin.CONFIG_DIFF, device=package.client_id, from_version=0, to_version=1)
    assert [change.path for change in whole.changes] == [["led"], ["level"]]
    with pytest.raises(AnswerError, match="version: there is no version 7"):
        await get_config(fleet, package, 7)


async def test_a_change_from_one_to_true_is_a_change(fleet: Fleet) -> None:
    package = await fleet.device()
    await set_config(fleet, package, overrides={"x": 1})
    assert (await set_config(fleet, package, overrides={"x": True})).version == 3


async def test_a_rollback_is_a_new_version_that_the_device_applies(fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_defaults=DEFAULTS))
    await set_config(fleet, package, overrides={"level": 2})
    await set_config(fleet, package, overrides={"level": 3, "x": 1})
    async with fleet.powered(package):
        back = await fleet.ask(admin.CONFIG_ROLLBACK, device=package.client_id, version=2)
        await fleet.until(package, lambda view: view.config_version_reported == 4)
    assert (back.version, back.changed, back.document) == (4, True, {**DEFAULTS, "level": 2})
    audit = await fleet.ask(admin.AUDIT_LIST, subject=package.client_id, actor="admin", limit=1)
    assert (audit.entries[0].action, audit.entries[0].after) == ("config.rollback", {"level": 2})
    with pytest.raises(AnswerError, match="version: there is no version 9"):
        await fleet.ask(admin.CONFIG_ROLLBACK, device=package.client_id, version=9)


async def test_layers_apply_by_priority_then_tag_between_the_defaults_and_the_overrides(fleet: Fleet) -> None:
    first, second, top = sorted(new_tag() for _ in range(3))
    model = await fleet.model(config_defaults={"a": 0, "b": 0, "c": 0, "d": 0})
    package = await tagged(fleet, model, second, top, first)
    await set_config(fleet, package, overrides={"d": "own"})
    await fleet.ask(admin.LAYER_SET, tag=second, document={"a": "second", "b": "second"})
    await fleet.ask(admin.LAYER_SET, tag=first, document={"a": "first", "b": "first", "c": None, "d": 1})
    await fleet.ask(admin.LAYER_SET, tag=top, document={"b": "top"}, priority=5)

    view = await get_config(fleet, package)
    assert (view.version, view.document) == (5, {"a": "second", "b": "top", "d": "own"})
    await fleet.ask(admin.LAYER_SET, tag=top, document={}, priority=-5)
    assert (await get_config(fleet, package)).document["b"] == "second"
    listed = [it.tag for it in (await fleet.ask(admin.LAYER_LIST)).layers if it.tag in {first, second, top}]
    assert listed == [top, first, second]
    removed = await fleet.ask(admin.LAYER_REMOVE, tag=first)
    assert removed.devices == [package.client_id]
    assert (await get_config(fleet, package)).document["c"] == 0
    with pytest.raises(AnswerError, match=f"tag: there is no layer {first}"):
        await fleet.ask(admin.LAYER_SHOW, tag=first)


async def test_a_layer_reaches_each_device_whose_document_changes_and_no_other(fleet: Fleet) -> None:
    tag = new_tag()
    model = await fleet.model(config_defaults=DEFAULTS)
    one, own, other = await tagged(fleet, model, tag), await tagged(fleet, model, tag), await fleet.device(model)
    await set_config(fleet, own, overrides={"level": 5})
    async with fleet.powered(one):
        await fleet.until(one, lambda view: view.config_version_reported == 1)
        result = await fleet.ask(admin.LAYER_SET, tag=tag, document={"level": 5})
        await fleet.until(one, lambda view: view.config_version_reported == 2)
        same = await fleet.ask(admin.LAYER_SET, tag=tag, document={"level": 5})
    assert (result.devices, same.devices) == ([one.client_id], [])
    assert [(await get_config(fleet, it)).version for it in (one, own, other)] == [2, 2, 1]


async def test_a_layer_that_would_break_one_device_changes_none_and_names_it(fleet: Fleet) -> None:
    tag = new_tag()
    free = await tagged(fleet, await fleet.model(), tag)
    strict = await tagged(fleet, await fleet.model(config_schema=SCHEMA, config_defaults=DEFAULTS), tag)
    with pytest.raises(AnswerError, match=f"^{strict.client_id}: configuration.level: 10 is greater than"):
        await fleet.ask(admin.LAYER_SET, tag=tag, document={"level": 10})
    assert [(await get_config(fleet, it)).version for it in (free, strict)] == [1, 1]
    with pytest.raises(AnswerError, match="there is no layer"):
        await fleet.ask(admin.LAYER_SHOW, tag=tag)


async def test_a_device_gets_the_layers_of_the_tags_that_it_is_made_with_or_given(fleet: Fleet) -> None:
    tag, model = new_tag(), await fleet.model(config_schema=SCHEMA)
    await fleet.ask(admin.LAYER_SET, tag=tag, document={"level": 4})
    made, given = await tagged(fleet, model, tag), await fleet.device(model)
    await fleet.ask(admin.DEVICE_UPDATE, device=given.client_id, tags=[tag])
    assert [(await get_config(fleet, it)).document for it in (made, given)] == [{"level": 4}] * 2
    await fleet.ask(admin.DEVICE_UPDATE, device=given.client_id, tags=[])
    assert (await get_config(fleet, given)).document == {}


async def test_a_device_that_a_layer_does_not_fit_is_not_made(fleet: Fleet) -> None:
    tag, model = new_tag(), await fleet.model(config_schema=SCHEMA)
    await fleet.ask(admin.LAYER_SET, tag=tag, document={"level": 10})
    with pytest.raises(AnswerError, match=r"configuration\.level: 10 is greater"):
        await fleet.ask(admin.DEVICE_ADD, model=model, tags=[tag])
    assert (await fleet.ask(admin.DEVICE_LIST, model=model)).devices == []


async def test_layers_and_overrides_set_at_once_all_arrive(fleet: Fleet) -> None:
    tags = [new_tag() for _ in range(3)]
    model = await fleet.model()
    packages = [await tagged(fleet, model, *tags) for _ in range(2)]
    async with asyncio.TaskGroup() as tasks:
        for tag in tags:
            tasks.create_task(fleet.ask(admin.LAYER_SET, tag=tag, document={tag: 1}))
        for package in packages:
            tasks.create_task(set_config(fleet, package, overrides={"own": 1}))
    for package in packages:
        assert (await get_config(fleet, package)).document == {**dict.fromkeys(tags, 1), "own": 1}


async def test_a_version_that_fails_its_trial_is_replaced_by_the_one_before_and_never_sent_again(
    fleet: Fleet,
) -> None:
    package = await fleet.device(await fleet.model(config_defaults=DEFAULTS))
    async with RawDevice(package) as device:
        await set_config(fleet, package, overrides={"level": 2})
        assert (await device.receive(topics.CONFIG)).version == 2
        await reports(device, 2, ConfigOutcome.APPLIED)
        await fleet.seen(package, "config/reported", version=2)
        await set_config(fleet, package, overrides={"level": 3}, trial_seconds=60)
        bad = await device.receive(topics.CONFIG)
        assert (bad.version, bad.trial_seconds) == (3, 60)
        for _ in range(2):  # the second report changes nothing more
            await reports(device, 3, ConfigOutcome.REVERTED)
            await fleet.seen(package, "config/reported", version=3, outcome="reverted")
        restored = await fleet.seen(package, "config/restored")
        pushed = await device.receive(topics.CONFIG)
        asked = await device.ask(topics.CONFIG_GET, messages.ConfigGet(request_id="r"), topics.CONFIG)
    assert restored.data == {"reverted": 3, "restored": 2, "version": 4}
    assert [(it.version, it.document, it.trial_seconds) for it in (pushed, asked)] == [
        (4, {**DEFAULTS, "level": 2}, None)
    ] * 2
    history = await fleet.ask(admin.CONFIG_HISTORY, device=package.client_id)
    assert [(it.version, it.author, it.outcome) for it in history.versions[:2]] == [
        (4, package.client_id, None),
        (3, "admin", "reverted"),
    ]
    audit = await fleet.ask(admin.AUDIT_LIST, subject=package.client_id, actor=package.client_id)
    assert [entry.action for entry in audit.entries] == ["config.restore"]


async def test_a_change_on_top_of_an_open_trial_is_on_trial_too(fleet: Fleet) -> None:
    tag = new_tag()
    package = await tagged(fleet, await fleet.model(), tag)
    await set_config(fleet, package, overrides={"a": "bad"}, trial_seconds=60)
    await set_config(fleet, package, overrides={"b": 1})
    await fleet.ask(admin.LAYER_SET, tag=tag, document={"c": 1})
    assert (await get_config(fleet, package)).trial_seconds == 60
    async with RawDevice(package) as device:
        await reports(device, 1, ConfigOutcome.APPLIED)
        await fleet.seen(package, "config/reported", version=1)
        await reports(device, 4, ConfigOutcome.REVERTED)
        await fleet.seen(package, "config/restored", reverted=4, restored=1)
    assert (await get_config(fleet, package)).document == {"c": 1}


async def test_a_reverted_version_that_was_not_on_trial_or_is_wanted_no_longer_changes_nothing(
    fleet: Fleet,
) -> None:
    package = await fleet.device()
    await set_config(fleet, package, overrides={"a": 1}, trial_seconds=60)
    await set_config(fleet, package, overrides={"b": 1}, replace=True)
    async with RawDevice(package) as device:
        for version in (2, 3):
            await reports(device, version, ConfigOutcome.REVERTED)
            await fleet.seen(package, "config/reported", version=version)
    assert (await get_config(fleet, package)).version == 3


async def test_a_device_reconnects_and_keeps_a_version_that_stands_its_trial(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_version_reported == 1)
        await set_config(fleet, package, overrides={"a": 1}, trial_seconds=40)
        view = await fleet.until(package, lambda view: view.config_version_reported == 2)
    assert (view.config_version, view.config_outcome) == (2, "applied")


async def test_a_device_that_dies_in_a_trial_comes_back_with_the_last_good_version(fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_defaults=DEFAULTS))
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_version_reported == 1)
    await set_config(fleet, package, overrides={"level": 2}, trial_seconds=40)
    async with fleet.powered(package, cut_at="config.apply:after") as power:
        await power.failed()
    async with fleet.powered(package):
        await fleet.seen(package, "config/restored", reverted=2, restored=1, version=3)
        view = await fleet.until(package, lambda view: view.config_version_reported == 3)
    assert (view.config_version, view.config_outcome) == (3, "applied")
    assert (await get_config(fleet, package)).document == DEFAULTS


async def test_new_defaults_of_a_model_reach_each_of_its_devices_whose_document_changes(fleet: Fleet) -> None:
    model = await fleet.model(config_schema=SCHEMA, config_defaults=DEFAULTS)
    plain, special = await fleet.device(model), await fleet.device(model)
    await set_config(fleet, special, overrides={"level": 5})
    async with RawDevice(plain) as device:
        changed = await fleet.ask(admin.MODEL_UPDATE, code=model, config_defaults={**DEFAULTS, "level": 2})
        pushed = await device.receive(topics.CONFIG)
    again = await fleet.ask(admin.MODEL_UPDATE, code=model, config_defaults={**DEFAULTS, "level": 2})

    assert changed.changed == [plain.client_id]
    assert (pushed.version, pushed.document) == (2, {**DEFAULTS, "level": 2})
    assert (await get_config(fleet, special)).document["level"] == 5
    assert again.changed == []


async def test_a_new_schema_that_one_device_would_break_changes_nothing_and_names_the_device(fleet: Fleet) -> None:
    model = await fleet.model(config_schema=SCHEMA, config_defaults=DEFAULTS)
    good, bad = await fleet.device(model), await fleet.device(model)
    await set_config(fleet, bad, overrides={"level": 8})
    stricter = {"properties": {"level": {"type": "integer", "maximum": 7}}}
    with pytest.raises(AnswerError, match=rf"{bad.client_id}: configuration\.level: 8 is greater than"):
        await fleet.ask(
            admin.MODEL_UPDATE, code=model, config_schema=stricter, config_defaults={**DEFAULTS, "level": 7}
        )
    with pytest.raises(AnswerError, match=r"config_defaults\.level: 1 is less than"):
        await fleet.ask(admin.MODEL_UPDATE, code=model, config_schema={"properties": {"level": {"minimum": 2}}})
    with pytest.raises(AnswerError, match="config_schema"):
        await fleet.ask(admin.MODEL_UPDATE, code=model, config_schema={"type": "no such type"})
    (view,) = [it for it in (await fleet.ask(admin.MODEL_LIST)).models if it.code == model]
    assert (view.config_schema, view.config_defaults) == (SCHEMA, DEFAULTS)
    assert (await get_config(fleet, good)).version == 1
    await set_config(fleet, bad, overrides={"level": 9})


async def test_a_model_keeps_the_order_in_which_its_owner_wrote_its_settings(fleet: Fleet) -> None:
    integer = {"type": "integer"}
    written = {"properties": {"zone": integer, "a_long_name": integer, "on": integer}}
    reversed_ = {"properties": {"on": integer, "a_long_name": integer, "zone": integer}}
    model = await fleet.model(config_schema=written, config_defaults={"zone": 1, "on": 2})

    async def shown() -> tuple[list[str], list[str]]:
        (view,) = [it for it in (await fleet.ask(admin.MODEL_LIST)).models if it.code == model]
        assert view.config_schema is not None
        return list(view.config_schema["properties"]), list(view.config_defaults)

    assert await shown() == (["zone", "a_long_name", "on"], ["zone", "on"])
    await fleet.ask(admin.MODEL_UPDATE, code=model, config_schema=reversed_)
    await fleet.witness.seen(None, "model/updated", code=model)
    assert await shown() == (["on", "a_long_name", "zone"], ["zone", "on"])


async def test_devices_added_while_the_defaults_change_all_have_the_new_ones(fleet: Fleet) -> None:
    model = await fleet.model(config_defaults={"level": 0})
    adding = [asyncio.ensure_future(fleet.device(model)) for _ in range(8)]
    for level in range(1, 4):
        await fleet.ask(admin.MODEL_UPDATE, code=model, config_defaults={"level": level})
    packages = await asyncio.gather(*adding)
    assert [(await get_config(fleet, package)).document for package in packages] == [{"level": 3}] * 8


async def test_numbers_come_back_from_database_and_device_as_they_went_in(fleet: Fleet) -> None:
    package = await fleet.device()
    numbers = [9007199254740993, -(10**30), 1.0, 0.1, 1e-300, 5e-324, 1e15, 0.0, 0]

    await set_config(fleet, package, overrides={"a": numbers})
    again = await set_config(fleet, package, overrides={"a": numbers})

    assert not again.changed
    async with RawDevice(package) as device:
        asked = messages.ConfigGet(request_id="numbers")
        sent = await device.ask(topics.CONFIG_GET, asked, topics.CONFIG)
    assert sent.document is not None
    assert repr(sent.document["a"]) == repr((await get_config(fleet, package)).overrides["a"]) == repr(numbers)


@pytest.mark.parametrize("number", [1e308, -0.0])
async def test_a_number_that_the_database_would_change_is_refused(fleet: Fleet, number: float) -> None:
    package = await fleet.device()
    with pytest.raises(AnswerError, match=r"^overrides\.a\[299\]: "):
        await set_config(fleet, package, overrides={"a": [0] * 299 + [number]})
    assert (await fleet.show(package)).config_version == 1
