"""The package for MicroPython on the real services, over TLS: all that the protocol has for a device."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel, SecretStr

from dev.crash_injection import CrashPoint
from dev.credentials import account_client, behind_our_back, broker_accepts, keycloak_accepts
from dev.devices import micropython_device as powered
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.uploads import upload
from dev.waiting import PATIENCE_S, until
from device import image_builder
from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package, Role
from shared.protocol.topics import Topic
from tests import token_door
from tests.claims import new_claim, new_uid
from tests.faults.test_recovery import change_in_keycloak
from tests.integration.test_accounts import bare, new_account
from tests.micropython.board import PROGRAMS, compiled, needs_micropython, run

pytestmark = needs_micropython
M = TypeVar("M", bound=BaseModel)
State = dict[str, Any]
Holds = Callable[[State], object]
HEAP_KIB = 24
"""With pointers of 8 bytes; a board's have 4."""


def record(folder: Path, name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((folder / "mdm" / f"{name}.json").read_text())


async def read(folder: Path, name: str) -> Any:  # noqa: ANN401 - JSON
    return await asyncio.to_thread(record, folder, name)


async def settled(folder: Path, generation: int) -> str:
    """Wait until the first slot has this generation and the second is empty, and return the secret."""
    kept = await until(
        partial(read, folder, "slots"), lambda it: (it["first"]["generation"], it["second"]) == (generation, None)
    )
    return str(kept["first"]["secret"])


async def test_it_is_configured_and_goes_through_two_rotations(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    async with powered(package, tmp_path / "board"):
        view = await fleet.until(package, lambda view: view.config_outcome == "applied" and view.has_key)
        assert (view.online, view.firmware_version, view.config_version_reported) == (True, "1.0.0", 2)
        for generation in (2, 3):
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed", generation=generation)
            secret = await settled(tmp_path / "board", generation)
    assert await keycloak_accepts(package, secret)
    assert await broker_accepts(package, secret)
    assert not await keycloak_accepts(package)
    assert not await broker_accepts(package)
    await fleet.until(package, lambda view: not view.online)


async def test_it_takes_little_memory_besides_its_code_and_tls(fleet: Fleet, stack: Stack, tmp_path: Path) -> None:
    path = await asyncio.to_thread(compiled, tmp_path / "compiled")
    package = await fleet.device()
    plain = package.model_copy(update={"mqtt_port": stack.endpoints.mqtt_port, "mqtt_tls": False})
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    async with powered(plain, tmp_path / "board", path=path, measure=True) as board:
        heap_bytes = int(await board.says("heap"))
    assert heap_bytes - int(await run(PROGRAMS / "heap.py", str(path))) <= HEAP_KIB * 1024


async def test_a_configuration_is_applied_rejected_tried_and_reverted(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()

    async def wanted(interval_s: int, **trial: int) -> None:
        overrides = {"interval_s": interval_s}
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides=overrides, **trial)

    async with powered(package, tmp_path / "board") as board:
        await wanted(13)
        view = await fleet.until(package, lambda view: view.config_outcome == "rejected")
        assert view.config_error == "interval_s: must not be 13"
        await wanted(20, trial_seconds=60)
        view = await fleet.until(package, lambda view: view.config_outcome == "applied")
        tried = view.config_version_reported
        await board.reached("config:after", 2)  # the trial has ended well
        await wanted(30, trial_seconds=60)
        await board.reached("config:after", 3)
    # A restart in the trial.
    async with powered(package, tmp_path / "board", cut_at=CrashPoint("config:after", 1)) as board:
        await board.failed()
    async with powered(package, tmp_path / "board"):
        await fleet.until(package, lambda view: view.config_outcome == "reverted" or view.config_version != tried)
        view = await fleet.until(package, lambda view: view.config_outcome == "applied")
    assert record(tmp_path / "board", "config")["document"] == {"interval_s": 20}


async def test_commands_are_executed_once_and_answered(fleet: Fleet, stack: Stack, tmp_path: Path) -> None:
    package = await fleet.device(await fleet.model(commands=["measure", "fail", "dance"]))

    async def done(name: str, **arguments: object) -> admin.CommandView:
        sent = await fleet.ask(
            admin.COMMAND_SEND, device=package.client_id, name=name, arguments=arguments, expires_in_s=60
        )
        shown = await until(
            lambda: fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id),
            lambda page: page.commands[0].outcome != "waiting",
        )
        return shown.commands[0]

    async with powered(package, tmp_path / "board") as board:
        await fleet.until(package, lambda view: view.config_outcome == "applied")
        measured = await done("measure", at="roof")
        assert measured.result == {"celsius": 21, "at": "roof"}
        assert (await done("fail")).error == "the motor is stuck"
        assert (await done("dance")).error == "unknown command; this firmware knows echo, fail, measure"
        # An expired one is not executed, and one that is delivered again is not either, nor after a restart.
        again = messages.Command(
            command_id=measured.command_id, name="measure", arguments={}, expires_at=measured.expires_at
        )
        late = again.model_copy(update={"command_id": uuid4(), "expires_at": datetime(2020, 1, 1, tzinfo=UTC)})
        await send(stack, topics.COMMAND, package, late)
        await send(stack, topics.COMMAND, package, again)
        assert (await done("reboot")).outcome == "ok"
        await board.says("restart")
        await send(stack, topics.COMMAND, package, again)
        known = record(tmp_path / "board", "commands")["entries"]
        assert [entry["said"] for entry in known] == [True, True, True]
        await done("measure")
        assert [it for it, _ in board.said].count("measuring") == 2


async def test_its_log_reaches_the_server(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / "board"):
        await fleet.until(package, lambda view: view.online)
        page = await until(
            lambda: fleet.ask(admin.LOG_LIST, device=package.client_id), lambda page: len(page.lines) >= 1
        )
    assert [(line.number, line.message) for line in page.lines][:1] == [(0, "login: generation 1")]


async def test_its_vitals_and_its_readings_arrive(fleet: Fleet, system: System, tmp_path: Path) -> None:
    package = await fleet.device()
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    account = await new_account(fleet, system, Role.APP)
    async with bare(account) as consumer, powered(package, tmp_path / "board", measure=True):
        await consumer.subscribe(f"app/{package.client_id}/up/temperature", qos=1)
        async with asyncio.timeout(PATIENCE_S):
            reading = await anext(aiter(consumer.messages))
        assert json.loads(bytes(reading.payload)) == {"celsius": 21.5}
        found = await until(
            lambda: fleet.ask(admin.VITALS_SHOW, device=package.client_id), lambda found: found.vitals
        )
    assert [it.name for it in found.vitals] == ["heap_free_bytes", "uptime_s"]


async def test_it_recovers_with_its_key_when_its_secrets_are_dead(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / "board"):
        await fleet.until(package, lambda view: view.online and view.has_key)
    await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
    await behind_our_back(stack, "setClientPassword", package.client_id, password=secrets.token_urlsafe(32))
    assert not await broker_accepts(package)
    async with powered(package, tmp_path / "board"):
        recovered = await fleet.seen(package, "device/recovered")
        await settled(tmp_path / "board", recovered.data["generation"])
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")


async def test_a_machine_with_a_claim_becomes_a_device(fleet: Fleet, tmp_path: Path) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    async with powered(claim, tmp_path / "board", uid=uid) as board:
        await until(
            lambda: fleet.ask(admin.CLAIM_REQUESTS, claim=claim.account), lambda found: len(found.requests) == 1
        )
        await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
        client_id = await board.says("connected")
    package = Package.model_validate(record(tmp_path / "board", "package"))
    assert package.client_id == client_id
    async with powered(claim, tmp_path / "board", uid=uid):
        await fleet.until(package, lambda view: view.online and view.has_key)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")


async def test_an_image_is_fetched_started_on_trial_and_kept(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    flashed(tmp_path / "board", model)
    wanted = await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=90_016))
    async with powered(package, tmp_path / "board") as board:
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        assert await board.says("selected") == "ota_1"
    # It says which image it runs by the digest that is a part of it.
    async with powered(package, tmp_path / "board"):
        await fleet.until(package, lambda view: view.online)
        shown = await until(
            lambda: fleet.ask(admin.FIRMWARE_OF, devices=[package.client_id]),
            lambda shown: shown.devices[0].up_to_date,
        )
    assert shown.devices[0].runs == wanted.version


async def test_an_image_that_fails_its_test_is_given_up(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    flashed(tmp_path / "board", model)
    sick = await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=8_192))
    async with powered(package, tmp_path / "board", sick="no sensor"):
        await fleet.seen(package, "firmware/reported", stage="rolled_back")
        await fleet.until(package, lambda view: view.online)
    assert record(tmp_path / "board", "firmware")["refused"] == [sick.sha256]
    state = json.loads((tmp_path / "board" / "flash" / "otadata.json").read_text())
    assert state == {"boot": 0, "states": ["valid", "aborted"]}


async def test_a_board_with_one_slot_says_so(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with powered(package, tmp_path / "board"):
        await fleet.until(package, lambda view: view.online)
        await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
        told = await fleet.seen(package, "firmware/reported", stage="failed")
    assert told.data["error"] == "this board has no second slot for an image"


async def test_only_a_working_connection_replaces_a_working_one(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    package = await fleet.device()
    working = profile_of(package)
    bad, odd, good = ("0" * 15 + digit for digit in "123")
    async with (
        powered(package, tmp_path / "board", times={"answer_ms": 2000}),
        questions(stack, package) as state,
    ):
        await fleet.until(package, lambda view: view.online and view.has_key)
        # Nobody listens there.
        dead = working.model_copy(update={"mqtt_port": 1})
        await send(stack, topics.CONNECTION, package, offer(bad, 2, dead))
        assert (await state(partial(refuses, bad)))["refused"]["outcome"] == "reverted"
        # An authority that is none.
        nobody = working.model_copy(update={"ca_certificate": "-----BEGIN CERTIFICATE-----\nAA=="})
        await send(stack, topics.CONNECTION, package, offer(odd, 2, nobody))
        assert (await state(partial(refuses, odd)))["refused"]["outcome"] == "rejected"
        # One that works, sealed for the device's key.
        other = working.model_copy(update={"ca_certificate": f"{package.ca_certificate}{package.ca_certificate}"})
        public_key = record(tmp_path / "board", "key")["x"]
        await send(stack, topics.CONNECTION, package, sealed(good, 30, other, public_key))
        assert await state(lambda it: it["first"] == good) == {
            "first": good,
            "fallback": package.connection_id,
            "in_use": good,
            "refused": {"connection_id": odd, "outcome": "rejected", "reason": "invalid cert"},
        }
        # The registry knows nothing of this one, and offers its own again.
        await state(lambda it: it["first"] == it["in_use"] == package.connection_id and it.get("fallback") == good)
    # The fall-back is permanent: when the first is out of reach, they take turns.
    first = tmp_path / "board" / "mdm" / f"{record(tmp_path / 'board', 'connection')['first']}.json"
    first.write_text(json.dumps({**json.loads(first.read_text()), "mqtt_port": 1}))
    async with powered(package, tmp_path / "board", times={"turn_ms": 1000}) as board:
        await board.says("connected")
        await until(partial(read, tmp_path / "board", "connection"), lambda kept: kept["works"] == "fallback")
    # A new package takes the place of the first; what worked last is not dropped.
    moved = package.model_copy(update={"token_url": f"{package.token_url}?moved"})
    async with powered(moved, tmp_path / "board") as board:
        await board.says("connected")
        kept = await until(partial(read, tmp_path / "board", "connection"), lambda kept: kept["works"] == "first")
    assert (kept["turn"], kept["starts"]) == ("first", 0)
    assert json.loads((tmp_path / "board" / "mdm" / f"{kept['fallback']}.json").read_text())["mqtt_port"] != 1


async def test_a_broker_may_want_a_token(fleet: Fleet, stack: Stack, tmp_path: Path) -> None:
    package = await fleet.device()
    endpoints = stack.endpoints
    realm_url = f"{endpoints.keycloak_url}/realms/{endpoints.realm}"
    async with token_door.opened(endpoints.mqtt_port, realm_url, lambda _name: package.secret) as port:
        moved = package.model_copy(update={"mqtt_port": port, "mqtt_tls": False, "mqtt_auth": "token"})
        async with powered(moved, tmp_path / "board"):
            await fleet.until(package, lambda view: view.online and view.has_key)
        wrong = moved.model_copy(update={"secret": secrets.token_urlsafe(32), "recovery": None})
        async with powered(wrong, tmp_path / "other") as board:
            await board.says("log", "login: generation 1 is refused")


async def test_a_message_without_room_is_dropped_and_named(fleet: Fleet, stack: Stack, tmp_path: Path) -> None:
    package = await fleet.device()
    topic = topics.COMMAND.of(client_id=package.client_id)
    async with powered(package, tmp_path / "board") as board:
        await fleet.until(package, lambda view: view.config_outcome == "applied")
        async with account_client(stack.endpoints, "svc-registry") as registry:
            await registry.publish(topic, "x" * 100_000, qos=1)
            await registry.publish(topic, "[" * 2_000, qos=1)
        await board.says("log", f"message {topic}: there is no room for it")
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
        assert [value for word, value in board.said if word == "connected"] == [package.client_id] * 2


async def test_records_may_be_in_nvs(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / "board", nvs=True):
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    async with powered(package, tmp_path / "board", nvs=True):
        await fleet.until(package, lambda view: view.online and view.secret_generation == 2)
    assert not (tmp_path / "board" / "mdm").exists()


def flashed(folder: Path, model: str) -> None:
    """Give a board two slots, with an image in the first."""
    (folder / "flash").mkdir(parents=True)
    image = image_builder.build(version="1.0.0", project=model, size_bytes=4_992)
    (folder / "flash" / "ota_0.bin").write_bytes(image)


def refuses(connection_id: str, state: State) -> bool:
    return bool(state.get("refused", {}).get("connection_id") == connection_id)


@asynccontextmanager
async def questions(stack: Stack, package: Package) -> AsyncIterator[Callable[[Holds], Awaitable[State]]]:
    """Read along what a device says of its connections; the function waits for a state, also one that is over."""
    states: list[State] = []
    async with account_client(stack.endpoints, "svc-registry") as registry:
        await registry.subscribe(topics.CONFIG_GET.of(client_id=package.client_id), qos=1)

        async def read() -> None:
            async for message in registry.messages:
                assert isinstance(message.payload, bytes)
                states.append(json.loads(message.payload)["connection"])

        async def state(holds: Holds) -> State:
            async def found() -> list[State]:
                return [it for it in states if holds(it)]

            return (await until(found))[0]

        reading = asyncio.create_task(read())
        yield state
        reading.cancel()


async def send(stack: Stack, topic: Topic[M], package: Package, message: M) -> None:
    """Send a message to a device as the registry does."""
    async with account_client(stack.endpoints, "svc-registry") as registry:
        await registry.publish(topic.of(client_id=package.client_id), topic.encode(message), qos=1)


def profile_of(package: Package) -> messages.ConnectionProfile:
    """Return what a package says of the connection."""
    return messages.ConnectionProfile.model_validate(package.model_dump(exclude={"wifi"}))


def offer(connection_id: str, trial_seconds: int, profile: messages.ConnectionProfile) -> messages.ConnectionOffer:
    return messages.ConnectionOffer(connection_id=connection_id, trial_seconds=trial_seconds, profile=profile)


def sealed(
    connection_id: str, trial_seconds: int, profile: messages.ConnectionProfile, public_key: str
) -> messages.ConnectionOffer:
    jwe = crypto.seal(SecretStr(profile.model_dump_json()), public_key)
    return messages.ConnectionOffer(connection_id=connection_id, trial_seconds=trial_seconds, jwe=jwe)
