"""Commands on the real stack: done at most once, answered, or expired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from cli.client import AnswerError
from dev.credentials import account_client
from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from device.options import Done, Hooks, Protocol
from services.registry.commands import service as commands
from services.registry.commands.queries import REMEMBERED
from services.registry.main import COMMANDS_KEPT
from shared.database.engine import connected
from shared.errors import InvalidInputError
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.server.rpc import RequestContext
from tests.faults.promise import all_said
from tests.raw import RawDevice

CUTS = [
    *(f"command.{write}:{at}" for write in ("begin", "finish", "said") for at in ("before", "written", "after")),
    *("publish.command.result:before", "publish.command.result:after"),
]
NOT_BEGUN = {"command.begin:before", "command.begin:written"}
CUT_OFF = {"command.begin:after", "command.finish:before", "command.finish:written"}


@dataclass
class Seen:
    """What a reference device notes of itself."""

    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    @property
    def hooks(self) -> Hooks:
        return Hooks(
            on_event=lambda name, facts: self.events.append((name, facts)),
            commands={"blink": lambda arguments: Done(result={"blinked": arguments.get("times", 1)})},
        )

    @property
    def boots(self) -> list[object]:
        return [facts["reset_reason"] for name, facts in self.events if name == "device.booted"]

    def count(self, name: str) -> int:
        return [event for event, _ in self.events].count(name)


async def send(fleet: Fleet, package: Package, name: str = "identify", **fields: object) -> UUID:
    sent = await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name=name, **fields)
    assert (sent.commands[0].client_id, sent.skipped) == (package.client_id, [])
    return sent.commands[0].command_id


async def newest(fleet: Fleet, package: Package) -> list[admin.CommandView]:
    return (await fleet.ask(admin.COMMAND_LIST, device=package.device_key)).commands


async def answered(fleet: Fleet, package: Package, command_id: UUID) -> admin.CommandView:
    await fleet.seen(package, "command/answered", command_id=str(command_id))
    return next(it for it in await newest(fleet, package) if it.command_id == command_id)


async def seen_again(fleet: Fleet, package: Package, before: datetime | None) -> None:
    await until(lambda: fleet.show(package), lambda view: view.last_seen_at != before)


async def expired(fleet: Fleet, package: Package, command_id: UUID) -> None:
    await until(
        lambda: newest(fleet, package),
        lambda kept: {it.command_id: it.outcome for it in kept}[command_id] == "expired",
    )


async def answer(device: RawDevice, command_id: UUID, *, ok: bool = True, **facts: object) -> None:
    result = messages.CommandResult.model_validate({"command_id": command_id, "ok": ok, **facts})
    await device.send(topics.COMMAND_RESULT, result)


@asynccontextmanager
async def run(stack: Stack, statement: str, *values: object) -> AsyncIterator[None]:
    """Run a statement behind the registry's back; a lock that it takes is held until the block ends."""
    connection = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement, *values)
        yield
    finally:
        await connection.close()


def outbox_held(stack: Stack) -> AbstractAsyncContextManager[None]:
    """Keep the registry from publishing what it has committed."""
    return run(stack, "SELECT pg_advisory_lock(hashtext('outbox:registry'))")


async def test_the_reference_device_answers_what_its_model_lists(fleet: Fleet) -> None:
    seen = Seen()
    package = await fleet.device(await fleet.model(commands=["blink", "dance"]))
    async with fleet.powered(package, hooks=seen.hooks):
        done = await answered(fleet, package, await send(fleet, package, "blink", arguments={"times": 3}))
        visible = await answered(fleet, package, await send(fleet, package, "identify"))
        unknown = await answered(fleet, package, await send(fleet, package, "dance"))
    assert (done.outcome, done.arguments, done.result, done.error) == ("ok", {"times": 3}, {"blinked": 3}, None)
    assert (done.author, done.answered_at is not None) == ("admin", True)
    assert (visible.outcome, visible.result, seen.count("device.identified")) == ("ok", None, 1)
    assert (unknown.outcome, unknown.result) == ("failed", None)
    assert unknown.error == "unknown command; this firmware knows blink, identify, reboot"


async def test_a_reboot_is_answered_first_and_done_once_although_it_is_delivered_twice(
    fleet: Fleet, stack: Stack
) -> None:
    seen = Seen()
    package = await fleet.device()
    async with fleet.powered(package, hooks=seen.hooks):
        command_id = await send(fleet, package, "reboot")
        first = await answered(fleet, package, command_id)
        message = messages.Command(command_id=command_id, name="reboot", expires_at=first.expires_at)
        async with account_client(stack.endpoints, "svc-registry") as registry:
            await registry.publish(
                topics.COMMAND.of(client_id=package.client_id), topics.COMMAND.encode(message), qos=1
            )
        await answered(fleet, package, await send(fleet, package))
        assert seen.count("command.repeated") >= 1
    assert (first.outcome, seen.boots) == ("ok", ["poweron", "sw"])
    assert (await newest(fleet, package))[1] == first


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("cut_at", CUTS)
async def test_a_device_that_loses_its_power_reboots_at_most_once_and_answers_in_the_end(
    fleet: Fleet, cut_at: str, protocol: Protocol
) -> None:
    seen, options = Seen(), replace(OPTIONS, protocol=protocol)
    package = await fleet.device()
    async with fleet.powered(package, options=options, cut_at=cut_at) as power:
        await fleet.until(package, lambda view: view.online)
        command_id = await send(fleet, package, "reboot")
        await power.failed()
    async with fleet.powered(package, options=options, hooks=seen.hooks):
        view = await answered(fleet, package, command_id)
        await answered(fleet, package, await send(fleet, package))
    assert seen.boots == (["poweron", "sw"] if cut_at in NOT_BEGUN else ["poweron"])
    expected = ("failed", "cut off by a restart") if cut_at in CUT_OFF else ("ok", None)
    assert (view.outcome, view.error) == expected


async def test_a_command_waits_in_the_broker_for_a_device_that_is_offline(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
    await fleet.until(package, lambda view: not view.online)
    command_id = await send(fleet, package)
    assert [it.outcome for it in await newest(fleet, package)] == ["waiting"]
    async with fleet.powered(package):
        assert (await answered(fleet, package, command_id)).outcome == "ok"


async def test_a_command_that_expires_while_the_device_is_away_never_reaches_it(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package, session_s=600):
        pass
    kept = await send(fleet, package)
    lost = await send(fleet, package, expires_in_s=2)
    await expired(fleet, package, lost)
    marker = await send(fleet, package)
    async with RawDevice(package, session_s=600) as device:
        assert [(await device.receive(topics.COMMAND)).command_id for _ in range(2)] == [kept, marker]
        await answer(device, lost, result={"late": True})
        late = await answered(fleet, package, lost)
    assert (late.outcome, late.result) == ("ok", {"late": True})
    assert late.answered_at is not None
    assert late.answered_at > late.expires_at


async def test_a_command_is_never_retained(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        first = await send(fleet, package)
        assert (await device.receive(topics.COMMAND)).command_id == first
    async with RawDevice(package) as device:
        second = await send(fleet, package)
        assert (await device.receive(topics.COMMAND)).command_id == second


async def test_only_the_first_result_counts(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        command_id = await send(fleet, package)
        await answer(device, command_id, ok=False, error="no lamp")
        first = await answered(fleet, package, command_id)
        before = system.counted("registry", topics.COMMAND_RESULT.template)["handled"]
        await answer(device, command_id, result={"a": 1})
        await system.takes("registry", topics.COMMAND_RESULT.template, "handled", beyond=before)
    assert (first.outcome, first.error) == ("failed", "no lamp")
    assert await newest(fleet, package) == [first]


@pytest.mark.parametrize("whose", ["another device's", "nobody's"])
async def test_a_result_of_a_command_that_is_not_the_device_s_is_refused(
    fleet: Fleet, system: System, whose: str
) -> None:
    package, thief = await fleet.device(), await fleet.device()
    command_id = await send(fleet, package)
    registry, template = system.services["registry"], topics.COMMAND_RESULT.template
    before, size = system.counted("registry", template)["failed"], registry.log_size
    async with RawDevice(thief) as device:
        await answer(device, command_id if whose == "another device's" else uuid4())
        await system.takes("registry", template, "failed", beyond=before)
    assert [it.outcome for it in await newest(fleet, package)] == ["waiting"]
    assert b"command_id: there is no command" in registry.log_since(size)


async def test_a_name_that_one_model_does_not_list_is_refused_for_all(fleet: Fleet) -> None:
    tag = f"t{uuid4().hex[:10]}"
    able, unable = await fleet.model(commands=["blink"]), await fleet.model(commands=["dance"])
    packages = [await fleet.device(model, tags=[tag]) for model in (able, unable)]
    expected = f"^name: the model {unable} has no command blink; it has dance, identify, reboot$"
    with pytest.raises(AnswerError, match=expected):
        await fleet.ask(admin.COMMAND_SEND, tag=tag, name="blink")
    assert [await newest(fleet, package) for package in packages] == [[], []]
    changed = await fleet.ask(admin.MODEL_UPDATE, code=unable, commands=["blink"])
    assert changed.commands == ["blink"]
    assert len((await fleet.ask(admin.COMMAND_SEND, tag=tag, name="blink")).commands) == 2


async def test_the_same_request_sends_once(fleet: Fleet) -> None:
    package = await fleet.device()
    request = admin.CommandSend(request_id=uuid4().hex, device=package.client_id, name="identify")
    async with RawDevice(package) as device:
        asked = (fleet.admin.call(admin.COMMAND_SEND, request) for _ in range(3))
        answers = await asyncio.gather(*asked)
        marker = await send(fleet, package)
        received = [(await device.receive(topics.COMMAND)).command_id for _ in range(2)]
    assert answers[0] == answers[1] == answers[2]
    assert received == [answers[0].commands[0].command_id, marker]


async def test_a_command_to_many_goes_to_those_that_fit_and_are_enabled(fleet: Fleet) -> None:
    tag, model = f"t{uuid4().hex[:10]}", await fleet.model()
    one, two, off = [await fleet.device(model, tags=[tag]) for _ in range(3)]
    untagged, foreign = await fleet.device(model), await fleet.device(tags=[tag])
    await fleet.ask(admin.DEVICE_UPDATE, device=off.client_id, enabled=False)
    async with RawDevice(two) as device:
        sent = await fleet.ask(admin.COMMAND_SEND, all=True, tag=tag, model=model, name="identify")
        command_id = (await device.receive(topics.COMMAND)).command_id
        await answer(device, command_id, ok=False, error="no lamp")
        await fleet.seen(two, "command/answered", batch_id=str(sent.batch_id), ok=False, error="no lamp")
    assert [it.client_id for it in sent.commands] == [one.client_id, two.client_id]
    assert sent.skipped == [off.client_id]

    first = await fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id, limit=1)
    second = await fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id, limit=1, after=first.next)
    third = await fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id, limit=1, after=second.next)
    assert first.counts == second.counts == admin.CommandCounts(waiting=1, failed=1)
    assert [it.client_id for it in first.commands + second.commands] == [one.client_id, two.client_id]
    assert (third.commands, third.next) == ([], None)
    assert [len(await newest(fleet, it)) for it in (off, untagged, foreign)] == [0, 0, 0]
    (entry,) = (await fleet.ask(admin.AUDIT_LIST, subject=str(sent.batch_id))).entries
    assert entry.action == "command.send"
    assert entry.after is not None
    facts = {"tag": tag, "devices": 2, "skipped": 1, "expires_in_s": 60}
    assert facts == {name: entry.after[name] for name in facts}

    everybody = await fleet.ask(admin.COMMAND_SEND, all=True, name="identify", expires_in_s=1)
    chosen = {it.client_id for it in everybody.commands}
    assert {it.client_id for it in (one, two, untagged, foreign)} <= chosen
    assert off.client_id in everybody.skipped


async def test_a_command_that_can_go_to_nobody_is_refused(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    with pytest.raises(AnswerError, match="every matching device is disabled"):
        await send(fleet, package)
    with pytest.raises(AnswerError, match="no device matches"):
        await fleet.ask(admin.COMMAND_SEND, tag="nobody-has-it", name="identify")
    with pytest.raises(AnswerError, match="there is no device zzzzzzzz"):
        await fleet.ask(admin.COMMAND_SEND, device="zzzzzzzz", name="identify")
    with pytest.raises(AnswerError, match="batch_id: there is no batch"):
        await fleet.ask(admin.COMMAND_SHOW, batch_id=uuid4())


async def test_a_command_to_more_devices_than_one_answer_can_name_is_refused(
    fleet: Fleet, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await fleet.model()
    for _ in range(3):
        await fleet.device(model)
    monkeypatch.setattr(admin, "MAX_BATCH", 2)
    request = admin.CommandSend(request_id="r", model=model, name="identify")
    async with connected(SecretStr(stack.endpoints.database_url)) as database, database.transaction() as session:
        with pytest.raises(InvalidInputError, match="more than 2 devices match; select by tag or model"):
            await commands._targets(RequestContext("admin", "r", session), request)


async def test_results_that_are_too_much_for_one_answer_come_in_pages(fleet: Fleet, stack: Stack) -> None:
    model = await fleet.model()
    for _ in range(3):
        await fleet.device(model)
    sent = await fleet.ask(admin.COMMAND_SEND, model=model, name="identify")
    at_length = """
        UPDATE mdm.commands
        SET ok = true, answered_at = now(), result = jsonb_build_object('x', repeat('x', 600000))
        WHERE batch_id = $1
    """
    async with run(stack, at_length, sent.batch_id):
        pages = [await fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id)]
        while pages[-1].next is not None:
            pages.append(await fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id, after=pages[-1].next))
    assert [[it.command_id for it in page.commands] for page in pages] == [[it.command_id] for it in sent.commands]


@pytest.mark.parametrize("outage", ["registry", "broker"])
async def test_a_command_that_is_committed_is_published_after_an_outage(
    fleet: Fleet, stack: Stack, system: System, outage: str
) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        async with outbox_held(stack):
            command_id = await send(fleet, package)
            if outage == "registry":
                await asyncio.to_thread(system.services["registry"].kill)
            else:
                # A broker that is killed forgets who has subscribed: the device must have come back.
                before = (await fleet.show(package)).last_seen_at
                await asyncio.to_thread(stack.broker.kill)
                await asyncio.to_thread(stack.broker.start)
                await seen_again(fleet, package, before)
        if outage == "registry":
            await asyncio.to_thread(system.services["registry"].start)
        view = await fleet.witness.until(lambda: newest(fleet, package), lambda it: it[0].outcome != "waiting")
    assert [(it.command_id, it.outcome) for it in view] == [(command_id, "ok")]


async def test_a_command_that_waits_in_the_broker_survives_its_restart(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with RawDevice(package, session_s=600):
        pass
    command_id = await waits_in_the_broker(fleet, package)
    await asyncio.to_thread(stack.broker.stop)
    await asyncio.to_thread(stack.broker.start)
    async with RawDevice(package, session_s=600) as device:
        assert (await device.receive(topics.COMMAND)).command_id == command_id


async def waits_in_the_broker(fleet: Fleet, package: Package) -> UUID:
    """Send a command to a device that is away, and return when the broker has it."""
    other = await fleet.device()
    async with RawDevice(other) as device:  # the broker has what was sent before that which is received
        command_id = await send(fleet, package)
        await send(fleet, other)
        await device.receive(topics.COMMAND)
    return command_id


async def test_a_command_that_waits_in_a_broker_that_is_killed_is_done_in_the_end(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
    await fleet.until(package, lambda view: not view.online)
    command_id = await waits_in_the_broker(fleet, package)
    await asyncio.to_thread(stack.broker.kill)
    await asyncio.to_thread(stack.broker.start)
    async with fleet.powered(package):
        view = await fleet.witness.until(lambda: newest(fleet, package), lambda it: it[0].outcome != "waiting")
    assert [(it.command_id, it.outcome) for it in view] == [(command_id, "ok")]


async def test_a_device_that_comes_online_is_sent_what_waits_and_nothing_else(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    package = await fleet.device()
    late, done, waits = [await send(fleet, package, expires_in_s=it) for it in (1, 60, 60)]
    await expired(fleet, package, late)
    await all_said(stack)  # else the device gets them for the first time
    async with RawDevice(package) as device:
        await answer(device, done)
        await answered(fleet, package, done)
        online = messages.Status(online=True, firmware_version="1.0.0")
        await device.send(topics.STATUS, online)
        assert (await device.receive(topics.COMMAND)).command_id == waits
        await answer(device, waits)
        await answered(fleet, package, waits)
        marker = await send(fleet, package)
        before = system.counted("registry", topics.STATUS.template)["handled"]
        await device.send(topics.STATUS, online)
        await system.takes("registry", topics.STATUS.template, "handled", beyond=before)
        assert {(await device.receive(topics.COMMAND)).command_id for _ in range(2)} == {marker}


async def test_a_command_that_a_device_may_have_forgotten_is_not_sent_again(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    await send(fleet, package)
    remembered = [await send(fleet, package) for _ in range(REMEMBERED)]
    await all_said(stack)  # else the device gets the last of them first, for the first time
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, messages.Status(online=True, firmware_version="1.0.0"))
        assert [(await device.receive(topics.COMMAND)).command_id for _ in remembered] == remembered


async def test_old_commands_are_forgotten(fleet: Fleet, stack: Stack, system: System) -> None:
    package = await fleet.device()
    old, young = await send(fleet, package), await send(fleet, package)
    age = "UPDATE mdm.commands SET created_at = created_at - $2::interval WHERE id = $1"
    async with run(stack, age, old, COMMANDS_KEPT + timedelta(seconds=1)):
        await asyncio.to_thread(system.stop, "registry")
    await asyncio.to_thread(system.start, "registry")  # it keeps house when it starts
    kept = await until(lambda: newest(fleet, package), lambda kept: len(kept) == 1)
    assert [it.command_id for it in kept] == [young]
