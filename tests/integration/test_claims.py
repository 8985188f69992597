"""Machines without an identity get one by a claim: once, only theirs, and whatever is cut off in between."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from uuid import uuid4

import aiomqtt
import asyncpg
import pytest

from cli.client import AnswerError
from dev import credentials
from dev.credentials import behind_our_back
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.admin import ClaimPackage
from shared.protocol.messages import ClaimOutcome
from tests.claims import new_claim, new_uid, package_of, show, switched_on
from tests.faults.promise import expire as end_rotation
from tests.integration.test_registry import traces
from tests.integration.test_schema import dsn
from tests.integration.test_tool import mdm
from tests.keycloak_proxy import Proxy
from tests.raw import RawDevice, RawMachine

POINTS = [
    *(f"device.key:{moment}" for moment in ("before", "written", "after")),
    *(f"publish.claim.request:{moment}" for moment in ("before", "after")),
    *(f"claim.package:{moment}" for moment in ("before", "written", "after")),
]


async def expire(stack: Stack, claim: ClaimPackage, *, days_ago: int) -> None:
    await run(
        stack,
        "UPDATE mdm.claims SET created_at = now() - $1 * interval '1 day' - interval '1 hour',"
        " expires_at = now() - $1 * interval '1 day' WHERE id = $2",
        days_ago,
        claim.account,
    )


async def test_a_machine_with_a_claim_package_is_online_by_itself(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model, uid, file = await fleet.model(), new_uid(), tmp_path / "claim.json"
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    environment = {"MDM_PROFILE": str(profile)}
    made = await mdm(
        *("--json", "claim", "create", "--model", model, "--tag", "attic", "--uses", 2, "--expires", "30m"),
        *("--output", file),
        **environment,
    )
    assert made.status == 0, made.errors
    assert file.stat().st_mode & 0o777 == 0o600
    claim = ClaimPackage.model_validate_json(file.read_bytes())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device", "--claim", str(file), "--uid", uid, "--state", str(tmp_path / "flash")),
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        (device,) = await fleet.witness.until(
            lambda: listed(fleet, model), lambda found: found and found[0].config_outcome == "applied"
        )
    finally:
        process.terminate()
        assert await process.wait() == 0
    assert (device.name, device.tags) == (uid, ["attic"])
    asked = await mdm("--json", "claim", "requests", claim.account, **environment)
    (request,) = json.loads(asked.output)["requests"]
    assert (request["uid"], request["state"], request["client_id"]) == (uid, "granted", device.client_id)
    shown = await mdm("claim", "list", **environment)
    (line,) = [line for line in shown.output.splitlines() if line.startswith(claim.account)]
    assert "live" in line
    assert "1 of 2" in line
    assert claim.password not in made.output + asked.output + shown.output


async def listed(fleet: Fleet, model: str) -> list[admin.DeviceView]:
    return (await fleet.ask(admin.DEVICE_LIST, model=model)).devices


@pytest.mark.parametrize("point", POINTS)
async def test_a_machine_whose_power_fails_ends_with_one_identity_that_works(
    fleet: Fleet, stack: Stack, point: str
) -> None:
    model, uid = await fleet.model(), new_uid()
    claim = await new_claim(fleet, model)
    state = fleet.folder / uid
    assert await switched_on(claim, uid, state, cut_at=point) is None
    package = await switched_on(claim, uid, state)
    assert package is not None
    assert package == await switched_on(claim, uid, state)
    assert await traces(stack, model) == ([package.client_id], [package.client_id], ["ACTIVE"])
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)


async def test_a_machine_that_asks_twice_gets_the_same_identity_sealed_anew(fleet: Fleet) -> None:
    claim, uid = await new_claim(fleet), new_uid()
    async with RawMachine(claim, uid) as machine:
        first, second = await machine.claim(), await machine.claim()
        assert machine.opened(first) == machine.opened(second)
    assert first.jwe != second.jwe
    assert (await show(fleet, claim)).used == 1


async def test_a_claim_that_ends_refuses_new_machines_but_not_those_that_came_by_it(
    fleet: Fleet, stack: Stack
) -> None:
    claim, uid = await new_claim(fleet), new_uid()
    async with RawMachine(claim, uid) as machine, RawMachine(claim, new_uid()) as other:
        package = await machine.granted()
        assert (await other.claim()).reason == "the claim is used up"
        assert await machine.granted() == package
        await expire(stack, claim, days_ago=0)
        assert (await other.claim()).reason == "the claim has expired"
        assert await machine.granted() == package
        await run(
            stack, "UPDATE mdm.claim_requests SET granted_at = now() - interval '2 days' WHERE uid = $1", uid
        )
        late = await machine.claim()
    assert late.outcome is ClaimOutcome.REFUSED
    assert "`mdm device reissue`" in str(late.reason)


async def test_a_revoked_claim_drops_its_machines_and_lets_none_in(fleet: Fleet, stack: Stack) -> None:
    claim, uid = await new_claim(fleet, uses=5), new_uid()
    async with RawMachine(claim, uid) as machine:
        package = await machine.granted()
        view = await fleet.ask(admin.CLAIM_REVOKE, claim=claim.account)
        async with asyncio.timeout(10):
            await machine.reading
    assert (view.state, view.used) == ("revoked", 1)
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        async with credentials.claim_client(claim, uid):
            pass
    assert claim.account not in await credentials.broker_accounts(stack.endpoints)
    assert (await fleet.ask(admin.CLAIM_REVOKE, claim=claim.account)).state == "revoked"
    assert await credentials.broker_accepts(package)


async def test_a_request_that_comes_after_the_revocation_is_refused(fleet: Fleet, stack: Stack) -> None:
    claim = await new_claim(fleet)
    async with RawMachine(claim, new_uid()) as machine:
        # As if the registry had been killed between its decision and the broker.
        await run(stack, "UPDATE mdm.claims SET revoked_at = now() WHERE id = $1", claim.account)
        assert (await machine.claim()).reason == "the claim is revoked"


async def test_another_key_is_refused_until_the_device_is_removed(fleet: Fleet, stack: Stack) -> None:
    model, uid = await fleet.model(), new_uid()
    claim = await new_claim(fleet, model)
    async with RawMachine(claim, uid) as machine:
        package = await machine.granted()
    async with RawMachine(claim, uid) as thief:
        assert "another key" in str((await thief.claim()).reason)
        with pytest.raises(AnswerError, match="`mdm device remove` forgets both"):
            await fleet.ask(admin.CLAIM_FORGET, uid=uid)
        with pytest.raises(AnswerError, match="`mdm device remove` forgets both"):
            await fleet.ask(admin.CLAIM_DENY, uid=uid)
        await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
        replaced = await thief.granted()
    assert replaced.client_id != package.client_id
    assert await traces(stack, model) == ([replaced.client_id], [replaced.client_id], ["ACTIVE"])


async def test_a_key_that_protects_nothing_makes_no_device(fleet: Fleet, stack: Stack, system: System) -> None:
    model = await fleet.model()
    claim = await new_claim(fleet, model)
    template = topics.CLAIM_REQUEST.template
    before = system.counted("registry", template)
    async with RawMachine(claim, new_uid()) as machine:
        bad = machine.request.model_copy(update={"public_key": "A" * 43})
        await machine.send(topics.CLAIM_REQUEST, bad)
        await system.takes("registry", template, "failed", beyond=before["failed"])
    assert (await show(fleet, claim)).used == 0
    assert await traces(stack, model) == ([], [], [])


async def test_a_machine_that_waits_gets_its_identity_when_it_is_approved(fleet: Fleet) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    async with RawMachine(claim, uid) as machine:
        for _ in range(2):
            assert (await machine.claim()).outcome is ClaimOutcome.PENDING
        view = await show(fleet, claim)
        assert (view.used, view.waiting) == (0, 1)
        (waiting,) = (await fleet.ask(admin.CLAIM_REQUESTS, claim=claim.account, state="pending")).requests
        assert (waiting.uid, waiting.client_id) == (uid, None)
        approved = await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
        package = machine.opened(await machine.receive(topics.CLAIM_ANSWER))
        assert package.client_id == approved.client_id
        assert await machine.granted() == package
        assert (await fleet.ask(admin.CLAIM_APPROVE, uid=uid)).client_id == package.client_id
    assert await credentials.broker_accepts(package)


async def test_the_reference_device_waits_for_its_approval(fleet: Fleet) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    waiting = asyncio.ensure_future(switched_on(claim, uid, fleet.folder / uid))
    await fleet.witness.until(lambda: show(fleet, claim), lambda view: view.waiting == 1)
    approved = await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
    package = await waiting
    assert package is not None
    assert package.client_id == approved.client_id


async def test_a_machine_that_waits_survives_an_outage_of_the_broker(fleet: Fleet, stack: Stack) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    waiting = asyncio.ensure_future(switched_on(claim, uid, fleet.folder / uid))
    await fleet.witness.until(lambda: show(fleet, claim), lambda view: view.waiting == 1)
    await asyncio.to_thread(stack.broker.kill)
    await asyncio.to_thread(stack.broker.start)
    approved = await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
    package = await waiting
    assert package is not None
    assert package.client_id == approved.client_id
    assert await credentials.broker_accepts(package)


async def test_a_denied_machine_is_refused_until_it_is_forgotten_or_approved(fleet: Fleet) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    async with RawMachine(claim, uid) as machine:
        await machine.claim()
        for _ in range(2):
            assert (await fleet.ask(admin.CLAIM_DENY, uid=uid)).state == "denied"
        assert (await machine.receive(topics.CLAIM_ANSWER)).outcome is ClaimOutcome.REFUSED
        assert (await machine.claim()).outcome is ClaimOutcome.REFUSED
        assert (await show(fleet, claim)).waiting == 0
        assert (await fleet.ask(admin.CLAIM_FORGET, uid=uid)).removed == uid
        assert (await machine.claim()).outcome is ClaimOutcome.PENDING
        await fleet.ask(admin.CLAIM_DENY, uid=uid)
        await machine.receive(topics.CLAIM_ANSWER)
        await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
        package = machine.opened(await machine.receive(topics.CLAIM_ANSWER))
    assert await credentials.broker_accepts(package)


async def test_no_more_machines_are_approved_than_the_claim_has_uses(fleet: Fleet) -> None:
    claim = await new_claim(fleet, needs_approval=True)
    uids = [new_uid(), new_uid()]
    for uid in uids:
        async with RawMachine(claim, uid) as machine:
            await machine.claim()
    await fleet.ask(admin.CLAIM_APPROVE, uid=uids[0])
    with pytest.raises(AnswerError, match="cannot be approved: the claim is used up"):
        await fleet.ask(admin.CLAIM_APPROVE, uid=uids[1])
    with pytest.raises(AnswerError, match="has not requested an identity"):
        await fleet.ask(admin.CLAIM_APPROVE, uid=new_uid())


async def test_a_machine_that_waits_goes_with_the_claim_by_which_it_asks(fleet: Fleet) -> None:
    model, uid = await fleet.model(), new_uid()
    first, second = await new_claim(fleet, model, needs_approval=True), await new_claim(fleet, model)
    async with RawMachine(first, uid) as machine:
        assert (await machine.claim()).outcome is ClaimOutcome.PENDING
    async with RawMachine(second, uid, key=machine.key) as machine:
        await machine.granted()
    assert [(await show(fleet, claim)).used for claim in (first, second)] == [0, 1]
    assert (await show(fleet, first)).waiting == 0


@pytest.mark.parametrize("number", [1, 2])
async def test_requests_of_one_machine_at_once_make_one_device_through_one_claim_or_two(
    fleet: Fleet, stack: Stack, system: System, number: int
) -> None:
    model, uid, template = await fleet.model(), new_uid(), topics.CLAIM_REQUEST.template
    claims = [await new_claim(fleet, model) for _ in range(number)]
    before = system.counted("registry", template)["handled"]
    # Under the same client id, the second connection would end the first.
    async with RawMachine(claims[0], uid) as machine, credentials.claim_client(claims[-1], new_uid()) as other:
        address, payload = topics.CLAIM_REQUEST.of(claim_id=claims[-1].account), machine.request.model_dump_json()
        answer, *_ = await asyncio.gather(
            machine.claim(), *(other.publish(address, payload, qos=1) for _ in range(3))
        )
        await system.takes("registry", template, "handled", beyond=before + 3)
        package = machine.opened(answer)
    assert await traces(stack, model) == ([package.client_id], [package.client_id], ["ACTIVE"])
    assert sum([(await show(fleet, claim)).used for claim in claims]) == 1


async def test_more_machines_at_once_than_the_registry_has_connections_all_get_an_identity(fleet: Fleet) -> None:
    claim = await new_claim(fleet, uses=20)

    async def one() -> str:
        async with RawMachine(claim, new_uid()) as machine:
            return (await machine.granted()).client_id

    assert len(set(await asyncio.gather(*(one() for _ in range(20))))) == 20
    assert (await show(fleet, claim)).state == "used up"


async def test_a_registry_killed_while_it_makes_a_claimed_device_makes_one(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    model = await fleet.model()
    claim = await new_claim(fleet, model)
    async with RawMachine(claim, new_uid()) as machine:
        await machine.send(topics.CLAIM_REQUEST, machine.request)
        await until(lambda: traces(stack, model), lambda found: found[2])
        await asyncio.to_thread(system.services["registry"].kill)
        await asyncio.to_thread(system.services["registry"].start)
        answer = await machine.ask(topics.CLAIM_REQUEST, machine.request, topics.CLAIM_ANSWER)
        package = machine.opened(answer)
    assert await traces(stack, model) == ([package.client_id], [package.client_id], ["ACTIVE"])
    assert (await show(fleet, claim)).used == 1
    assert await credentials.broker_accepts(package)


@pytest.mark.parametrize("who", ["the machine", "the admin"])
async def test_an_approval_that_was_cut_off_is_finished_by_who_asks_next(
    fleet: Fleet, stack: Stack, who: str
) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    async with RawMachine(claim, uid) as machine:
        await machine.claim()
        # What a registry that was killed after its decision has left.
        await run(stack, "UPDATE mdm.claim_requests SET state = 'granted' WHERE uid = $1", uid)
        if who == "the admin":
            await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
            package = machine.opened(await machine.receive(topics.CLAIM_ANSWER))
        else:
            package = await machine.granted()
    assert await credentials.broker_accepts(package)
    assert (await show(fleet, claim)).used == 1


async def test_keycloak_away_delays_a_claim_and_costs_no_use(fleet: Fleet, proxy: Proxy) -> None:
    claim = await new_claim(fleet)
    async with RawMachine(claim, new_uid()) as machine:
        async with proxy.away():
            await machine.send(topics.CLAIM_REQUEST, machine.request)
            await until(lambda: show(fleet, claim), lambda view: view.used == 1)
        machine.opened(await machine.receive(topics.CLAIM_ANSWER))
    assert (await show(fleet, claim)).used == 1


@pytest.mark.usefixtures("patient")
async def test_in_a_rotation_nothing_final_is_said(fleet: Fleet, stack: Stack) -> None:
    claim = await new_claim(fleet)
    async with RawMachine(claim, new_uid()) as machine:
        package = await machine.granted()
        await fleet.offered(package)
        assert (await machine.claim()).outcome is ClaimOutcome.PENDING
        await end_rotation(stack, package)
        await fleet.seen(package, "rotation/timed_out")
        assert await machine.granted() == package


async def test_a_device_cannot_ask_with_its_own_account(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    template = topics.CLAIM_REQUEST.template
    before = system.counted("registry", template)
    async with RawDevice(package) as device:
        request = messages.ClaimRequest(uid=new_uid(), public_key="x" * 42 + "8")
        topic = topics.CLAIM_REQUEST.of(claim_id=package.client_id)
        await device.client.publish(topic, topics.CLAIM_REQUEST.encode(request), qos=1)
        await system.takes("registry", template, "failed", beyond=before["failed"])
    with pytest.raises(AnswerError, match="has not requested an identity"):
        await fleet.ask(admin.CLAIM_APPROVE, uid=request.uid)


async def test_the_same_request_three_times_makes_one_claim_and_gives_one_answer(
    fleet: Fleet, stack: Stack
) -> None:
    model, password = await fleet.model(), crypto.new_secret().get_secret_value()
    request = admin.ClaimAdd(request_id=uuid4().hex, model=model, password=password)
    answers = await asyncio.gather(*(fleet.admin.call(admin.CLAIM_ADD, request) for _ in range(3)))
    assert answers == [answers[0]] * 3
    assert await claims_of(stack, model) == [answers[0].claim]
    async with RawMachine(package_of(answers[0], password), new_uid()) as machine:
        await machine.granted()


async def test_a_claim_whose_making_was_cut_off_is_finished_by_the_same_request(
    fleet: Fleet, stack: Stack
) -> None:
    model, password = await fleet.model(), crypto.new_secret().get_secret_value()
    request = admin.ClaimAdd(request_id=uuid4().hex, model=model, password=password)
    # What a registry that was killed has left: the row, and neither account nor answer.
    await run(
        stack,
        "INSERT INTO mdm.claims (id, model_id, tags, uses, needs_approval, expires_at, request_id, author)"
        " SELECT $1, id, '{}', 1, false, now() + interval '1 day', $2, 'admin'"
        " FROM mdm.device_models WHERE code = $3",
        f"claim-{request.request_id[:8]}",
        f"admin/{request.request_id}",
        model,
    )
    added = await fleet.admin.call(admin.CLAIM_ADD, request)
    assert await claims_of(stack, model) == [added.claim] == [f"claim-{request.request_id[:8]}"]
    async with RawMachine(package_of(added, password), new_uid()) as machine:
        await machine.granted()


async def claims_of(stack: Stack, model: str) -> list[object]:
    query = "SELECT c.id FROM mdm.claims c JOIN mdm.device_models m ON m.id = c.model_id WHERE code = $1"
    return [row[0] for row in await run(stack, query, model)]


async def test_a_claim_that_breaks_a_rule_is_refused_and_leaves_nothing(fleet: Fleet, stack: Stack) -> None:
    password = crypto.new_secret().get_secret_value()
    with pytest.raises(AnswerError, match="model: there is no model nosuch"):
        await new_claim(fleet, "nosuch")
    schema = {"properties": {"level": {"type": "integer"}}}
    model, tag = await fleet.model(config_schema=schema), f"t{uuid4().hex[:8]}"
    await fleet.ask(admin.LAYER_SET, tag=tag, document={"level": "high"})
    with pytest.raises(AnswerError, match=r"configuration\.level"):
        await fleet.ask(admin.CLAIM_ADD, model=model, tags=[tag], password=password)
    assert await claims_of(stack, model) == []


async def test_a_model_with_a_live_claim_is_not_removed(fleet: Fleet) -> None:
    model = await fleet.model()
    claim = await new_claim(fleet, model)
    with pytest.raises(AnswerError, match="has 1 live claims; revoke them first"):
        await fleet.ask(admin.MODEL_REMOVE, code=model)
    await fleet.ask(admin.CLAIM_REVOKE, claim=claim.account)
    assert (await fleet.ask(admin.MODEL_REMOVE, code=model)).removed == model


async def everything(connection: asyncpg.Connection) -> str:
    """Return all rows of all tables as text; bytes are in hexadecimal."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'mdm'")
    lines: list[str] = []
    for table in tables:
        rows = await connection.fetch(f"SELECT t::text AS line FROM mdm.{table['tablename']} t")  # noqa: S608
        lines += [row["line"] for row in rows]
    return "\n".join(lines)


async def test_no_secret_of_a_claim_is_stored_or_logged(fleet: Fleet, stack: Stack, system: System) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    connection = await asyncpg.connect(dsn(stack.endpoints.database_url))
    async with RawMachine(claim, uid) as machine:
        await machine.claim()
        async with connection.transaction():
            # As a replica that is publishing, so that the answer stays in the outbox.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('outbox:registry'))")
            await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
            stored = await everything(connection)
        package = machine.opened(await machine.receive(topics.CLAIM_ANSWER))
    await connection.close()
    assert topics.CLAIM_ANSWER.of(claim_id=claim.account, uid=uid) in stored
    with pytest.raises(AnswerError, match="password: must be 32 bytes in base64url") as refused:
        await fleet.admin.call(
            admin.CLAIM_ADD,
            admin.ClaimAdd.model_construct(request_id=uuid4().hex, model="m", password=claim.password + "x"),
        )
    logs = b"".join(log.read_bytes() for log in (system.stack.folder / "logs").iterdir()).decode(errors="replace")
    assert claim.account in logs
    for secret in (claim.password, package.secret):
        assert secret not in stored
        assert secret.encode().hex() not in stored
        assert secret not in logs
        assert secret not in str(refused.value)


async def test_what_admins_and_machines_did_is_in_the_audit_log(fleet: Fleet) -> None:
    claim, uid = await new_claim(fleet, needs_approval=True), new_uid()
    async with RawMachine(claim, uid) as machine:
        await machine.claim()
    await fleet.ask(admin.CLAIM_DENY, uid=uid)
    granted = await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
    await fleet.ask(admin.CLAIM_REVOKE, claim=claim.account)

    async def acted(subject: str) -> list[tuple[str, str]]:
        found = (await fleet.ask(admin.AUDIT_LIST, subject=subject)).entries
        return [(entry.action, entry.actor) for entry in reversed(found)]

    assert await acted(claim.account) == [("claim.add", "admin"), ("claim.revoke", "admin")]
    assert await acted(uid) == [
        ("claim.request", claim.account),
        ("claim.deny", "admin"),
        ("claim.approve", "admin"),
        ("claim.grant", claim.account),
    ]
    assert granted.client_id is not None
    assert await acted(granted.client_id) == [
        ("device.add", claim.account),
        ("device.provision", claim.account),
    ]
    for name in ("claim/requested", "claim/denied"):
        await fleet.witness.seen(None, name, uid=uid)
    await fleet.witness.seen(granted.client_id, "claim/granted", uid=uid)
    for name in ("claim/added", "claim/revoked"):
        await fleet.witness.seen(None, name, claim=claim.account)


async def findings(fleet: Fleet, claim: ClaimPackage, *, repair: bool) -> list[tuple[str, bool]]:
    found = (await fleet.ask(admin.DOCTOR_REPAIR if repair else admin.DOCTOR)).findings
    return [(finding.problem, finding.repaired) for finding in found if finding.subject == claim.account]


@pytest.mark.usefixtures("compared")
async def test_the_account_of_a_claim_that_is_not_in_force_is_removed(fleet: Fleet, stack: Stack) -> None:
    expired = await new_claim(fleet)
    # Machines may ask again for what they got, for a day.
    await expire(stack, expired, days_ago=0)
    assert await findings(fleet, expired, repair=True) == []
    revoked, unknown, live = [await new_claim(fleet) for _ in range(3)]
    await run(stack, "UPDATE mdm.claims SET revoked_at = now() WHERE id = $1", revoked.account)
    await run(stack, "DELETE FROM mdm.claims WHERE id = $1", unknown.account)
    await expire(stack, expired, days_ago=1)
    stray = "is not in the database but has a claim's account"
    ended = "is not a claim in force"
    for claim, problem in ((revoked, ended), (expired, ended), (unknown, stray)):
        assert await findings(fleet, claim, repair=False) == [(problem, False)]
        assert claim.account in await credentials.broker_accounts(stack.endpoints)
    await fleet.ask(admin.DOCTOR_REPAIR)
    accounts = await credentials.broker_accounts(stack.endpoints)
    left = {claim.account for claim in (revoked, expired, unknown, live)} & set(accounts)
    assert left == {live.account, unknown.account}
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        async with credentials.claim_client(unknown, "0" * 12):
            pass


@pytest.mark.usefixtures("compared")
async def test_a_live_claim_without_an_account_is_left_to_a_person(fleet: Fleet, stack: Stack) -> None:
    claim = await new_claim(fleet)
    await behind_our_back(stack, "deleteClient", claim.account)
    assert await findings(fleet, claim, repair=True) == [("has no account in the broker", False)]
    await fleet.ask(admin.CLAIM_REVOKE, claim=claim.account)
    assert await findings(fleet, claim, repair=True) == []
