"""Backup and restore on the real stack: what was lost is back, and devices log in with what they hold."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from signal import SIGKILL
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from backup.restore import Part
from cli.client import Admin
from cli.profile import Profile
from deploy import broker
from dev import credentials, uploads
from dev import stack as stack_module
from dev import system as system_module
from dev.crash_injection import FOLDER, CrashPlan, CrashPoint
from dev.credentials import broker_accepts, keycloak_accepts
from dev.database import disconnect, run
from dev.fleet import Fleet
from dev.servers.fork_server import Ran, run_forked
from dev.stack import Stack
from dev.system import SERVICES, System
from shared import crypto
from shared.database import grants
from shared.protocol import admin
from shared.protocol.admin import Package, Role
from tests.claims import new_claim, new_uid
from tests.integration.test_tool import mdm
from tests.raw import RawMachine

PASSPHRASE = "correct horse battery staple"
DEADLINE_S = "5"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack of its own: it is destroyed again and again."""
    with stack_module.scratch() as folder, stack_module.running(folder) as running:
        yield running


@pytest.fixture(scope="module")
def system(stack: Stack) -> Iterator[System]:
    with system_module.running(stack, MDM_ROTATION_DEADLINE_S=DEADLINE_S) as running:
        yield running


@pytest.fixture(scope="module", name="admin")
async def connected(system: System) -> AsyncIterator[Admin]:
    async with Admin(system.profile) as connection:
        yield connection


@dataclass(frozen=True)
class Place:
    """The running system, and the folder in which its backups are kept."""

    stack: Stack
    system: System
    folder: Path
    knows_accounts: bool = True

    @property
    def file(self) -> Path:
        return self.folder / "fleet.backup"

    @property
    def accounts_file(self) -> Path:
        (found,) = self.stack.folder.rglob("dynamic-security.json")
        return found

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.system.environment("registry"),
            "MDM_DATABASE_URL": self.stack.endpoints.database_users[grants.BACKUP_USER],
            **({"MDM_BROKER_ACCOUNTS_FILE": str(self.accounts_file)} if self.knows_accounts else {}),
            "MDM_BACKUP_PASSPHRASE": PASSPHRASE,
        }

    async def back_up(self) -> dict[str, object]:
        ran = await mdm("backup", self.file, "--json", **self.environment)
        assert ran.status == 0, ran.errors
        made: dict[str, object] = json.loads(ran.output)
        return made

    async def restore(self, *options: str, **environment: str) -> Ran:
        await disconnect()
        return await mdm("restore", self.file, "--json", *options, **{**self.environment, **environment})

    async def dying_restore(self, death: CrashPoint) -> Ran:
        """Run a restore that kills itself at a step."""
        await disconnect()
        folder = self.folder / uuid4().hex
        folder.mkdir()
        CrashPlan(folder).condemn(death)
        command = ("dev.crash_injection", "cli.main", "restore", str(self.file))
        environment = {**self.environment, FOLDER: str(folder)}
        return await asyncio.to_thread(partial(run_forked, *command, environment=environment, folder=folder))

    async def stop(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(self.system.stop, service) for service in SERVICES))
        await asyncio.to_thread(self.stack.broker.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self.stack.broker.start)
        await asyncio.gather(*(asyncio.to_thread(self.system.start, service) for service in SERVICES))

    async def lose(self, *parts: Part) -> None:
        """Destroy parts of a system that is stopped."""
        if Part.DATABASE in parts:
            await run(self.stack, "DROP SCHEMA mdm CASCADE")
        if Part.KEYCLOAK in parts:
            await forget_clients(self.stack)
        if Part.BROKER in parts:
            self.accounts_file.write_text(broker.render_accounts(self.stack.endpoints.accounts))
            for left in self.accounts_file.parent.glob("mosquitto.db*"):
                left.unlink()
        if Part.IMAGES in parts:
            shutil.rmtree(self.stack.folder / "assets")
            shutil.rmtree(self.stack.folder / "shelf")


async def forget_clients(stack: Stack) -> None:
    """Leave the realm as it was imported."""
    path = f"/admin/realms/{stack.endpoints.realm}/clients"
    async with credentials.keycloak_admin(stack.endpoints) as client:
        wanted: dict[str, str] = {"clientId": "iotdevice-", "search": "true", "max": "1000"}
        for found in (await client.get(path, params=wanted)).json():
            (await client.delete(f"{path}/{found['id']}")).raise_for_status()


@pytest.fixture
def place(stack: Stack, system: System, tmp_path: Path) -> Place:
    return Place(stack, system, tmp_path)


async def rotated(fleet: Fleet, package: Package) -> Package:
    """Give a device a new secret, and return it as a package."""
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    return await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)


async def logs_in(package: Package) -> bool:
    return await keycloak_accepts(package) and await broker_accepts(package)


async def unsettled(fleet: Fleet) -> list[admin.Finding]:
    """Return what does not agree of devices; claims and admins of another test may have lost their accounts."""
    findings = (await fleet.ask(admin.DOCTOR)).findings
    return [finding for finding in findings if finding.subject.startswith("iotdevice-")]


async def test_all_is_lost_and_comes_back(fleet: Fleet, place: Place) -> None:
    model = await fleet.model()
    image = uploads.build(model, "1.0.0")
    await uploads.upload(fleet, model, image)
    first, second, off = [await fleet.device(model, tags=["attic"]) for _ in range(3)]
    second = await rotated(fleet, second)
    await fleet.ask(admin.DEVICE_UPDATE, device=off.client_id, enabled=False)
    claim = await new_claim(fleet, model=model, uses=2)
    person, password = f"a{uuid4().hex[:10]}", crypto.new_secret()
    account = {"name": person, "role": Role.VIEWER, "password": password.get_secret_value()}
    await fleet.ask(admin.ACCOUNT_ADD, **account)
    before = [await fleet.show(package) for package in (first, second, off)]

    made = await place.back_up()
    assert (made["images"], made["has_broker"]) == (1, True)
    assert place.file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in place.folder.iterdir() if entry.name.startswith(".")] == []
    await place.stop()
    await place.lose(*Part)
    restored = await place.restore()
    assert restored.status == 0, restored.errors
    report = json.loads(restored.output)
    assert (report["devices"], report["secrets_restored"]) == (made["devices"], made["devices"])
    await place.start()

    assert await logs_in(first)
    assert await logs_in(second)
    assert not await keycloak_accepts(off)
    assert not await broker_accepts(off)
    after = [await fleet.show(package) for package in (first, second, off)]
    facts = {"key", "name", "tags", "enabled", "secret_generation", "config_version", "secret_created_at"}
    assert [it.model_dump(include=facts) for it in after] == [it.model_dump(include=facts) for it in before]
    assert await uploads.versions(fleet, model) == ["1.0.0"]
    async with RawMachine(claim, new_uid()) as machine:
        await machine.claim()
    async with Admin(system_profile(place, person, password)) as viewer:
        me = await viewer.call(admin.ACCOUNT_WHOAMI, admin.Nothing(request_id=uuid4().hex))
    assert me.role is Role.VIEWER
    assert (await fleet.ask(admin.DOCTOR)).findings == []
    async with fleet.powered(first):
        # It has its image from the restored store, and a new secret from the restored rotator.
        await fleet.until(first, lambda view: view.firmware_version == "1.0.0")
    assert (await rotated(fleet, second)).secret != second.secret


async def test_the_key_of_recovery_outlives_the_master_key(fleet: Fleet, place: Place) -> None:
    await fleet.device()
    query = "SELECT uuid, private_key FROM mdm.instance"
    (before,) = await run(place.stack, query)
    await place.back_up()
    await place.stop()
    await place.lose(Part.DATABASE)
    other = Fernet.generate_key().decode()
    restored = await place.restore("--only", "database", MDM_MASTER_KEYS=other)
    assert restored.status == 0, restored.errors
    (after,) = await run(place.stack, query)
    own = crypto.Vault([SecretStr(place.system.own["registry"]["MDM_MASTER_KEYS"])])
    assert crypto.Vault([SecretStr(other)]).decrypt(after["private_key"]) == own.decrypt(before["private_key"])
    assert after["uuid"] == before["uuid"]
    await run(place.stack, "UPDATE mdm.instance SET private_key = $1", before["private_key"])
    await place.start()


def system_profile(place: Place, account: str, password: SecretStr) -> Profile:
    return place.system.profile.model_copy(update={"account": account, "password": password})


async def test_a_rotation_that_was_open_in_the_backup_locks_nobody_out(fleet: Fleet, place: Place) -> None:
    """The device has ended it since, and given up its old secret: nobody may put that back."""
    await asyncio.to_thread(place.system.stop, "rotator")
    await asyncio.to_thread(
        lambda: place.system.start("rotator", name=None, fate=None, MDM_ROTATION_DEADLINE_S="120")
    )
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.stored:after") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
        await fleet.seen(package, "rotation/switched")
    await place.back_up()
    async with fleet.powered(package):
        await fleet.seen(package, "rotation/completed")
    newer = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    await place.stop()
    await place.lose(Part.DATABASE, Part.BROKER)
    restored = await place.restore()
    assert restored.status == 0, restored.errors
    await place.start()
    assert (await fleet.show(package)).rotation_state == "QUEUED"
    assert await logs_in(newer)
    async with fleet.powered(package):
        await fleet.seen(package, "rotation/completed")


async def test_what_keycloak_has_kept_goes_before_an_older_backup(fleet: Fleet, place: Place) -> None:
    """Without the broker's file too: the registry makes the accounts of devices."""
    place = replace(place, knows_accounts=False)
    package = await fleet.device()
    await place.back_up()
    newer = await rotated(fleet, package)
    await place.stop()
    await place.lose(Part.DATABASE, Part.BROKER, Part.IMAGES)
    restored = await place.restore()
    assert restored.status == 0, restored.errors
    assert not json.loads(restored.output)["accounts_file"]
    await place.start()
    await fleet.ask(admin.DOCTOR_REPAIR)
    assert await logs_in(newer)
    assert not await keycloak_accepts(package)
    view = await fleet.show(package)
    assert view.secret_generation == newer.secret_generation
    # What is given next is above all that was ever given, so the device takes it.
    latest = await rotated(fleet, package)
    assert latest.secret_generation > newer.secret_generation + 1


async def test_a_device_that_was_made_after_the_backup_is_adopted_if_keycloak_has_it(
    fleet: Fleet, place: Place
) -> None:
    model = await fleet.model(config_defaults={"x": 1})
    await place.back_up()
    adopted, unknown = await fleet.device(model), await fleet.device()
    adopted = await rotated(fleet, adopted)
    await fleet.ask(admin.CONFIG_SET, device=adopted.client_id, overrides={"x": 2})
    await place.stop()
    await place.lose(Part.DATABASE)
    restored = await place.restore()
    assert restored.status == 1, restored.errors
    report = json.loads(restored.output)
    assert (restored.status, report["adopted"], report["unknown"]) == (
        1,
        [adopted.client_id],
        [unknown.client_id],
    )
    await place.start()
    assert await logs_in(adopted)
    async with fleet.powered(adopted):
        view = await fleet.until(adopted, lambda view: view.online and view.config_outcome == "applied")
    assert (view.secret_generation, view.name) == (adopted.secret_generation, "newer than the backup")
    assert (await rotated(fleet, adopted)).secret != adopted.secret
    await fleet.ask(admin.DOCTOR_REPAIR)
    await run(place.stack, "UPDATE mdm.strays SET found_at = now() - interval '8 days'")
    await fleet.ask(admin.DOCTOR_REPAIR)
    assert await unsettled(fleet) == []
    assert not await keycloak_accepts(unknown)


async def test_the_brokers_accounts_alone_come_back_with_todays_secrets(fleet: Fleet, place: Place) -> None:
    package = await fleet.device()
    claim = await new_claim(fleet)
    await place.back_up()
    newer, later = await rotated(fleet, package), await fleet.device()
    await place.stop()
    await place.lose(Part.BROKER)
    restored = await place.restore("--only", "broker")
    assert restored.status == 0, restored.errors
    assert json.loads(restored.output)["secrets_restored"] == 0
    await place.start()
    assert await logs_in(newer)
    assert await logs_in(later)
    async with RawMachine(claim, new_uid()) as machine:
        await machine.claim()


async def test_a_device_with_a_newer_secret_than_the_backup_is_named_and_stays_with_the_broker(
    fleet: Fleet, place: Place
) -> None:
    package, other = await fleet.device(), await fleet.device()
    await place.back_up()
    newer = await rotated(fleet, package)
    await place.stop()
    await place.lose(Part.DATABASE, Part.KEYCLOAK)
    restored = await place.restore()
    assert restored.status == 1, restored.errors
    assert json.loads(restored.output)["newer"] == [package.client_id]
    await place.start()
    assert await broker_accepts(newer)
    assert not await keycloak_accepts(newer)
    assert await logs_in(other)
    again = await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    assert await logs_in(again)


async def test_a_restore_that_is_killed_again_and_again_completes_at_last(fleet: Fleet, place: Place) -> None:
    model = await fleet.model()
    await uploads.upload(fleet, model, uploads.build(model, "1.0.0"))
    packages = [await fleet.device(model) for _ in range(3)]
    off = await fleet.device(model)
    await fleet.ask(admin.DEVICE_UPDATE, device=off.client_id, enabled=False)
    await place.back_up()
    await place.stop()
    await place.lose(*Part)
    # Each comes later than the one before, so the next run has passed what the last one has left.
    for step in ("copy devices:after", "keycloak POST /admin/realms/iot/clients:after", "store put:before"):
        died = await place.dying_restore(CrashPoint(step, 1))
        assert died.status == -SIGKILL, died.errors
    restored = await place.restore()
    assert restored.status == 0, restored.errors
    await place.start()
    for package in packages:
        assert await logs_in(package)
    assert not await keycloak_accepts(off)
    assert not await broker_accepts(off)
    assert await uploads.versions(fleet, model) == ["1.0.0"]
    assert await unsettled(fleet) == []


async def test_nothing_is_touched_by_a_restore_that_is_refused(fleet: Fleet, place: Place) -> None:
    package = await fleet.device()
    await place.back_up()
    whole = place.file.read_bytes()

    async def fault(*options: str, **environment: str) -> str:
        ran = await place.restore(*options, **environment)
        assert (ran.status == 0, ran.output) == (False, "")
        return ran.errors

    assert "other connections: stop all services first" in await fault("--replace")
    await asyncio.to_thread(place.system.stop_all)
    assert "runs, and would overwrite its accounts: stop it first" in await fault("--replace")
    await asyncio.to_thread(place.stack.broker.stop)
    assert "--replace destroys what is in it" in await fault()
    assert "is of MDM_INSTANCE=default, not other" in await fault("--replace", MDM_INSTANCE="other")
    assert "Keycloak answers 401" in await fault("--replace", MDM_KEYCLOAK_CLIENT_SECRET="wrong")
    assert "passphrase is wrong" in await fault("--replace", MDM_BACKUP_PASSPHRASE="wrong horse battery")
    assert "--only: must be database" in await fault("--only", "everything")
    place.file.write_bytes(whole[:-1])
    assert "FILE: is damaged" in await fault("--replace")
    place.file.write_bytes(whole)
    await place.start()
    assert await logs_in(package)
    assert await unsettled(fleet) == []


async def test_a_database_that_is_replaced_is_as_it_was_at_the_backup(fleet: Fleet, place: Place) -> None:
    package = await fleet.device()
    await place.back_up()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="later")
    await place.stop()
    restored = await place.restore("--replace")
    assert restored.status == 0, restored.errors
    await place.start()
    assert await logs_in(package)
    assert (await fleet.show(package)).name == ""
    (entry, *_) = (await fleet.ask(admin.AUDIT_LIST, actor="backup")).entries
    assert entry.action == "backup.restore"


async def test_a_backup_is_not_replaced_and_needs_a_long_passphrase(place: Place) -> None:
    place.file.write_bytes(b"an older one")
    refused = await mdm("backup", place.file, **place.environment)
    assert (refused.status, refused.errors) == (1, f"error: FILE: {place.file} exists; --force replaces it\n")
    short = await mdm("backup", place.file, "--force", **{**place.environment, "MDM_BACKUP_PASSPHRASE": "short"})
    assert (short.status, place.file.read_bytes()) == (2, b"an older one")
