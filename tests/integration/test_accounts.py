"""Accounts of admins on the real broker: what each role may do, and what becomes of an account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import SecretStr
from sqlalchemy import text

from cli.client import Admin, AnswerError, CannotConnectError, NotAllowedError
from cli.profile import Profile
from dev.credentials import CONTROL, account_client, behind_our_back, broker_accounts
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from services.registry.accounts import queries as account_queries
from shared import crypto
from shared.database import engine
from shared.database.engine import Database
from shared.mqtt.client import Client
from shared.protocol import admin, topics
from shared.protocol.admin import BUILT_IN, OPERATIONS, Role
from tests.integration.test_tool import mdm

R = TypeVar("R", bound=admin.Request)
A = TypeVar("A", bound=admin.Result)
NOT_AUTHORIZED = 0x87


def new_name() -> str:
    return f"a{uuid4().hex[:10]}"


async def new_account(fleet: Fleet, system: System, role: Role) -> Profile:
    name, password = new_name(), crypto.new_secret()
    added = await fleet.ask(admin.ACCOUNT_ADD, name=name, role=role, password=password.get_secret_value())
    assert (added.name, added.role, added.author, added.present) == (name, role, BUILT_IN, True)
    return system.profile.model_copy(update={"account": name, "password": password})


@asynccontextmanager
async def bare(profile: Profile) -> AsyncIterator[Client]:
    """A bare connection with an admin's account."""
    connection = Client(
        profile.host,
        profile.port,
        username=profile.account,
        password=profile.password.get_secret_value(),
        identifier=f"test-{uuid4().hex}",
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=10,
    )
    async with connection:
        yield connection


async def is_let_in(profile: Profile) -> bool:
    try:
        async with Admin(profile):
            return True
    except CannotConnectError:
        return False


async def stay_until_the_end(profile: Profile, up: asyncio.Event) -> None:
    """Stay connected, which `up` says, until the broker ends the session."""
    with suppress(aiomqtt.MqttError):
        async with bare(profile) as connection, asyncio.timeout(30):
            up.set()
            await anext(connection.messages)


async def fault_of(fleet: Fleet, operation: admin.Operation[R, A], **fields: object) -> str:
    with pytest.raises(AnswerError) as caught:
        await fleet.ask(operation, **fields)
    return f"{caught.value.answer_code}: {caught.value.message}"


async def publish(connection: Client, topic: str, payload: bytes = b"{}") -> int:
    async with asyncio.timeout(30):
        return await connection.deliver(topic, payload, Properties(PacketTypes.PUBLISH))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("role", list(Role))
async def test_the_broker_takes_of_each_role_what_is_declared_and_nothing_else(
    fleet: Fleet, system: System, role: Role
) -> None:
    profile = await new_account(fleet, system, role)
    async with bare(profile) as connection:
        taken = {
            operation.name: await publish(connection, operation.topic.of(account=profile.account)) < NOT_AUTHORIZED
            for operation in OPERATIONS.values()
        }
        others = [
            await publish(connection, operation.topic.of(account=account))
            for operation in (admin.DEVICE_LIST, admin.DEVICE_REMOVE)
            for account in (BUILT_IN, new_name())
        ]
    assert taken == {operation.name: role.includes(operation.role) for operation in OPERATIONS.values()}
    assert set(others) == {NOT_AUTHORIZED}


@pytest.mark.parametrize("role", list(Role))
async def test_an_account_writes_nothing_but_its_requests(
    fleet: Fleet, system: System, stack: Stack, role: Role
) -> None:
    profile, package, forged = await new_account(fleet, system, role), await fleet.device(), new_name()
    create = {"commands": [{"command": "createClient", "username": forged, "password": "x" * 43}]}
    async with bare(profile) as connection:
        for topic in (
            topics.STATUS.of(client_id=package.client_id),
            topics.STATUS.of(client_id=profile.account),
            topics.CONFIG.of(client_id=package.client_id),
            topics.CLAIM_REQUEST.of(claim_id=profile.account),
            topics.EVENT.of(noun="forged", verb="it"),
            topics.SERVICE_STATUS.of(name="registry", instance="forged"),
            admin.REPLY.of(account=profile.account, client_id="x"),
            admin.REPLY.of(account=BUILT_IN, client_id="x"),
            f"{admin.DEVICE_LIST.topic.of(account=profile.account)}/more",
            "elsewhere",
            CONTROL,
        ):
            assert await publish(connection, topic, json.dumps(create).encode()) == NOT_AUTHORIZED, topic
    assert forged not in await broker_accounts(stack.endpoints)


async def test_an_account_reads_only_its_answers_and_what_all_admins_may(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    profile, package = await new_account(fleet, system, Role.ADMIN), await fleet.device()
    async with bare(profile) as connection, account_client(stack.endpoints, "svc-registry") as registry:
        for wanted in ("#", "mdm/v1/#", "$CONTROL/#", "mdm/v1/replies/admin/#", "mdm/v1/d/+/down/#"):
            await connection.subscribe(wanted, qos=1)
        for topic in (
            admin.REPLY.of(account=BUILT_IN, client_id="x"),
            topics.CONFIG.of(client_id=package.client_id),
            topics.CONFIG.of(client_id=profile.account),
            topics.CLAIM_ANSWER.of(claim_id=profile.account, uid="x"),
        ):
            await registry.publish(topic, b"not for you", qos=1)
        last = topics.EVENT.of(noun="test", verb=profile.account)
        await registry.publish(last, b"for all admins", qos=1)
        seen = []
        async with asyncio.timeout(30):
            async for message in connection.messages:
                seen.append(str(message.topic))
                if seen[-1] == last:
                    break
    allowed = (topics.EVENT, topics.SERVICE_STATUS, topics.STATUS)
    assert [topic for topic in seen if not any(each.match(topic) for each in allowed)] == []


@pytest.mark.parametrize("role", list(Role))
async def test_an_account_cannot_join_a_shared_subscription(fleet: Fleet, system: System, role: Role) -> None:
    async with bare(await new_account(fleet, system, role)) as connection:
        for topic in ("mdm/v1/admin/+/registry/+/+", "mdm/v1/d/+/up/#", "#"):
            (code,) = await connection.subscribe(f"$share/registry/{topic}", qos=1)
            assert getattr(code, "is_failure", False), topic


async def test_who_may_not_is_told_so_at_once_with_what_he_has_and_needs(fleet: Fleet, system: System) -> None:
    profile = await new_account(fleet, system, Role.VIEWER)
    async with Admin(profile) as viewer:
        request = admin.DeviceRef(request_id=uuid4().hex, device="abcd1234")
        with pytest.raises(NotAllowedError) as caught:
            await viewer.call(admin.DEVICE_PROVISION, request)
        listed = await viewer.call(admin.MODEL_LIST, admin.Nothing(request_id=uuid4().hex))
    expected = f"your account {profile.account} has the role viewer; this needs the role admin"
    assert caught.value.message == expected
    assert listed.models is not None


async def test_what_an_account_does_is_noted_under_its_name(fleet: Fleet, system: System) -> None:
    profile = await new_account(fleet, system, Role.ADMIN)
    code = f"m{uuid4().hex[:10]}"
    async with Admin(profile) as other:
        request = admin.ModelAdd(request_id=uuid4().hex, code=code, chip="esp32")
        await other.call(admin.MODEL_ADD, request)
    (entry,) = (await fleet.ask(admin.AUDIT_LIST, subject=code)).entries
    assert (entry.actor, entry.action) == (profile.account, "model.add")
    (made,) = (await fleet.ask(admin.AUDIT_LIST, subject=profile.account)).entries
    assert (made.actor, made.action, made.after) == (BUILT_IN, "account.add", {"role": "admin"})


async def test_an_account_that_is_removed_is_dropped_at_once_and_for_good(fleet: Fleet, system: System) -> None:
    profile = await new_account(fleet, system, Role.OPERATOR)
    up = asyncio.Event()
    ended = asyncio.create_task(stay_until_the_end(profile, up))
    await up.wait()
    await fleet.ask(admin.ACCOUNT_REMOVE, name=profile.account)
    await ended
    assert not await is_let_in(profile)
    assert profile.account not in [each.name for each in (await fleet.ask(admin.ACCOUNT_LIST)).accounts]
    assert "not_found" in await fault_of(fleet, admin.ACCOUNT_REMOVE, name=profile.account)


async def test_another_role_counts_at_once_also_for_who_is_connected(fleet: Fleet, system: System) -> None:
    profile = await new_account(fleet, system, Role.OPERATOR)
    topic = admin.ROTATION_CANCEL.topic.of(account=profile.account)
    async with Admin(profile) as connected:
        await fleet.ask(admin.ACCOUNT_ROLE, name=profile.account, role=Role.VIEWER)
        me = await connected.call(admin.ACCOUNT_WHOAMI, admin.Nothing(request_id=uuid4().hex))
        assert me == admin.WhoAmI(account=profile.account, role=Role.VIEWER)
    async with bare(profile) as connection:
        assert await publish(connection, topic) == NOT_AUTHORIZED
        await fleet.ask(admin.ACCOUNT_ROLE, name=profile.account, role=Role.OPERATOR)
    async with bare(profile) as connection:
        assert await publish(connection, topic) < NOT_AUTHORIZED


async def test_another_password_counts_at_once_and_the_old_one_no_more(fleet: Fleet, system: System) -> None:
    profile, new = await new_account(fleet, system, Role.VIEWER), crypto.new_secret()
    await fleet.ask(admin.ACCOUNT_PASSWORD, name=profile.account, password=new.get_secret_value())
    assert not await is_let_in(profile)
    assert await is_let_in(profile.model_copy(update={"password": new}))


async def test_a_request_that_comes_twice_makes_one_account(fleet: Fleet) -> None:
    request = admin.AccountAdd(
        request_id=uuid4().hex, name=new_name(), role=Role.VIEWER, password=crypto.new_secret().get_secret_value()
    )
    first = await fleet.admin.call(admin.ACCOUNT_ADD, request)
    assert await fleet.admin.call(admin.ACCOUNT_ADD, request) == first
    other = await fault_of(fleet, admin.ACCOUNT_ADD, **request.model_dump(exclude={"request_id"}))
    assert other == f"conflict: name: the account {request.name} exists already"


async def test_nobody_takes_over_an_account_of_another_kind(fleet: Fleet, stack: Stack) -> None:
    name, password = new_name(), crypto.new_secret().get_secret_value()
    await behind_our_back(stack, "createClient", name, password=password)
    fault = await fault_of(
        fleet, admin.ACCOUNT_ADD, name=name, role=Role.ADMIN, password=crypto.new_secret().get_secret_value()
    )
    assert fault == f"conflict: name: the broker has an account {name} of another kind"
    assert name not in [each.name for each in (await fleet.ask(admin.ACCOUNT_LIST)).accounts]
    await behind_our_back(stack, "deleteClient", name)


async def test_nobody_changes_or_removes_himself_nor_the_built_in_account(fleet: Fleet, system: System) -> None:
    profile = await new_account(fleet, system, Role.ADMIN)
    own = {"request_id": uuid4().hex, "name": profile.account}
    async with Admin(profile) as connected:
        with pytest.raises(AnswerError, match="nobody may change their own"):
            await connected.call(admin.ACCOUNT_REMOVE, admin.AccountRef.model_validate(own))
        with pytest.raises(AnswerError, match="nobody may change their own"):
            await connected.call(admin.ACCOUNT_ROLE, admin.AccountRole.model_validate({**own, "role": "viewer"}))
    topic = admin.ACCOUNT_REMOVE.topic
    forged = json.dumps({"request_id": uuid4().hex, "name": BUILT_IN}).encode()
    with pytest.raises(Exception, match="reserved"):
        topic.decode(forged)


async def test_two_admins_who_remove_each_other_at_the_same_time_leave_one(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    for each in (await fleet.ask(admin.ACCOUNT_LIST)).accounts:
        await fleet.ask(admin.ACCOUNT_REMOVE, name=each.name)
    pair = [await new_account(fleet, system, Role.ADMIN) for _ in range(2)]
    names = [profile.account for profile in pair]
    await behind_our_back(stack, "disableClient", BUILT_IN)
    try:
        async with engine.connected(SecretStr(stack.endpoints.database_url)) as database:
            async with database.transaction() as session:
                await account_queries.lock(session)
                for profile, victim in zip(pair, reversed(names), strict=True):
                    async with bare(profile) as connection:
                        await ask_to_remove(connection, profile.account, victim)
                await until_two_wait(database)
            async with database.transaction() as session:
                await account_queries.lock(session)
                left = await account_queries.every(session)
    finally:
        await behind_our_back(stack, "enableClient", BUILT_IN)
    assert len(left) == 1
    assert [await is_let_in(profile) for profile in pair] == [name in left for name in names]


async def ask_to_remove(connection: Client, account: str, victim: str) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = admin.REPLY.of(account=account, client_id="x")
    request = admin.AccountRef(request_id=uuid4().hex, name=victim)
    topic = admin.ACCOUNT_REMOVE.topic
    assert await connection.deliver(topic.of(account=account), topic.encode(request), properties) < NOT_AUTHORIZED


async def until_two_wait(database: Database) -> None:
    """Wait until both requests wait for the lock, and so for each other."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with asyncio.timeout(30), database.engine.connect() as connection:
        while await connection.scalar(waiting) != 2:
            await connection.rollback()


@pytest.mark.usefixtures("compared")
async def test_an_account_that_the_broker_lost_is_named_and_made_again_with_a_new_password(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    profile = await new_account(fleet, system, Role.OPERATOR)
    await behind_our_back(stack, "deleteClient", profile.account)
    (found,) = await findings(fleet, profile.account, repair=True)
    assert (found.problem, found.repaired) == ("has no account in the broker", False)
    (listed,) = [it for it in (await fleet.ask(admin.ACCOUNT_LIST)).accounts if it.name == profile.account]
    assert (listed.role, listed.present) == (Role.OPERATOR, False)
    new = crypto.new_secret()
    await fleet.ask(admin.ACCOUNT_PASSWORD, name=profile.account, password=new.get_secret_value())
    async with Admin(profile.model_copy(update={"password": new})) as connected:
        me = await connected.call(admin.ACCOUNT_WHOAMI, admin.Nothing(request_id=uuid4().hex))
    assert me.role is Role.OPERATOR
    assert await findings(fleet, profile.account, repair=False) == []


@pytest.mark.usefixtures("compared")
async def test_rights_that_were_changed_behind_our_back_are_put_back(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    profile = await new_account(fleet, system, Role.VIEWER)
    topic = admin.DEVICE_REMOVE.topic.of(account=profile.account)
    extra = {"acltype": "publishClientSend", "topic": topic, "priority": 20, "allow": True}
    await behind_our_back(stack, "addRoleACL", profile.account, rolename=f"admin-{profile.account}", **extra)
    (found,) = await findings(fleet, profile.account, repair=False)
    assert found.problem == "has other rights in the broker than those of the role viewer"
    assert [it.repaired for it in await findings(fleet, profile.account, repair=True)] == [True]
    async with bare(profile) as connection:
        assert await publish(connection, topic) == NOT_AUTHORIZED


@pytest.mark.usefixtures("compared")
async def test_an_account_that_the_database_does_not_know_is_disabled_by_a_repair_only(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    profile = await new_account(fleet, system, Role.ADMIN)
    await run(stack, "DELETE FROM mdm.admin_accounts WHERE name = $1", profile.account)
    (found,) = await findings(fleet, profile.account, repair=False)
    assert found.problem == "is not in the database but has an admin's account"
    assert await is_let_in(profile)
    assert [it.repaired for it in await findings(fleet, profile.account, repair=True)] == [True]
    assert not await is_let_in(profile)


async def findings(fleet: Fleet, name: str, *, repair: bool) -> list[admin.Finding]:
    diagnosis = await fleet.ask(admin.DOCTOR_REPAIR if repair else admin.DOCTOR)
    return [finding for finding in diagnosis.findings if finding.subject == name]


async def test_an_account_from_its_making_to_its_end_with_the_tool(system: System, tmp_path: Path) -> None:
    ours, theirs, again = tmp_path / "ours.toml", tmp_path / "theirs.toml", tmp_path / "again.json"
    system.profile.save(ours)
    name = new_name()
    made = await mdm("--profile", ours, "admin", "add", name, "--role", "viewer", "--output", theirs)
    assert made.status == 0, made.errors
    assert theirs.stat().st_mode & 0o777 == 0o600
    assert (await mdm("--profile", theirs, "model", "list")).status == 0
    refused = await mdm("--profile", theirs, "rotation", "cancel", "--all")
    expected = f"error: your account {name} has the role viewer; this needs the role operator\n"
    assert (refused.status, refused.output, refused.errors) == (1, "", expected)
    listed = json.loads((await mdm("--profile", ours, "admin", "list", "--json")).output)["accounts"]
    assert [(it["role"], it["present"]) for it in listed if it["name"] == name] == [("viewer", True)]
    assert (await mdm("--profile", ours, "admin", "role", name, "operator")).status == 0
    assert (await mdm("--profile", theirs, "rotation", "cancel", "--all")).status == 0
    assert (await mdm("--profile", ours, "admin", "password", name, "--output", again)).status == 0
    assert (await mdm("--profile", theirs, "model", "list")).status == 3
    assert (await mdm("--profile", again, "model", "list")).status == 0
    assert (await mdm("--profile", ours, "admin", "remove", name)).status == 0
    assert (await mdm("--profile", again, "model", "list")).status == 3
    taken = await mdm("--profile", ours, "admin", "add", new_name(), "--role", "viewer", "--output", theirs)
    assert (taken.status, taken.errors) == (1, f"error: --output: {theirs} exists; name another file\n")


async def test_a_login_is_tried_before_it_is_kept(system: System, tmp_path: Path) -> None:
    place, ours = tmp_path / "made" / "profile.toml", system.profile
    where = {
        "MDM_PROFILE": str(place),
        "MDM_HOST": ours.host,
        "MDM_PORT": str(ours.port),
        "MDM_ACCOUNT": ours.account,
    }
    wrong = await mdm("login", **where, MDM_PASSWORD="wrong")
    assert (wrong.status, place.exists()) == (3, False)
    password = ours.password.get_secret_value()
    done = await mdm("login", "--json", **where, MDM_PASSWORD=password)
    assert json.loads(done.output) == {"account": "admin", "role": "admin", "profile": str(place)}
    assert place.stat().st_mode & 0o777 == 0o600
    assert password not in done.output + done.errors
    assert (await mdm("model", "list", MDM_PROFILE=str(place))).status == 0
