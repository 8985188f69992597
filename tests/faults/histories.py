"""Random histories on the real three stores: what an owner does and what fails, in an order that a seed draws.

`HISTORIES_S=3600 HISTORIES_SEED=1 make test ARGS=tests/faults/test_histories.py` runs them for an hour,
`HISTORIES=200 HISTORIES_DEVICE=c` runs so many with one kind of device. Each is the life of one device: rotations,
moves to other connection profiles, reissues, disabling, power cuts, calls that are late or lost, and stores that
are put back to an earlier copy, as far as they concern this device; meanwhile services are killed and frozen. At
the end nothing fails any more, and the device must be online with a secret that all three hold.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg
from pydantic import SecretStr

from cli.client import AnswerError, NoAnswerError
from dev import credentials
from dev.crash_injection import CrashPoint
from dev.credentials import account_client, behind_our_back, keycloak_admin
from dev.database import run
from dev.device_kinds import MICROPYTHON, REFERENCE, C, DeviceKind, Powered
from dev.fleet import OPTIONS, Fleet, powered
from dev.stack import Stack
from dev.system import System
from dev.waiting import NotSeenError, until
from shared.crypto import Held
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.faults.moves import profile_of
from tests.faults.promise import expire
from tests.faults.roads import Road
from tests.keycloak_proxy import Fault, Proxy

SIDE_BY_SIDE: Final = int(os.environ.get("HISTORIES_AT_ONCE", "6"))
LONGEST: Final = 10
BACK_WITHIN_S: Final = 120.0
"""In which a device must be back, on a machine that does all of this at once."""
STORES: Final = ("database", "keycloak", "broker")
SETTINGS: Final = {
    "MDM_ROTATION_DEADLINE_S": "8",
    "MDM_ROTATION_RETRY_S": "1",
    "MDM_ROTATION_MAX_PARALLEL": "32",
    "MDM_LEADER_POLL_S": "0.2",
    "MDM_SWEEP_S": "0.3",
    "MDM_RECONCILE_S": "10",
}
POINTS: Final = {
    C: ("identity:before", "identity:written", "identity:after"),
    MICROPYTHON: ("slots:before", "slots:written", "slots:after", "recovery:before"),
    REFERENCE: (
        "publish.rotation.request:before",
        "slots.fill_second:before",
        "slots.fill_second:written",
        "slots.fill_second:after",
        "publish.rotation.stored:after",
        "publish.rotation.ack:before",
        "publish.rotation.ack:after",
        "slots.promote:before",
        "slots.promote:written",
        "slots.promote:after",
        "device.recovery:before",
    ),
}
MOVES: Final = {
    C: ("place1:written", "place2:written", "place3:written", "places:written", "places:after"),
    MICROPYTHON: ("profile_a:written", "profile_b:written", "connection:written", "connection:after"),
    REFERENCE: (
        "connection.try:written",
        "connection.try:after",
        "connection.works:written",
        "connection.works:after",
        "connection.revert:written",
        "connection.turn:after",
    ),
}
OFTEN: Final = 2
"""A device in C, or for MicroPython, writes the same record for different reasons: the first or second time."""


@dataclass(slots=True)
class Copies:
    """Earlier copies of what the three stores hold of one device, and the secrets that the broker only hashes."""

    rows: dict[str, Any] | None = None
    client: dict[str, Any] | None = None
    account: str | None = None
    secrets: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """One device's life; `keyless` is an old reference device, of which one thing may fail alone."""

    fleet: Fleet
    system: System
    proxy: Proxy
    draw: random.Random
    kind: DeviceKind
    keyless: bool
    package: Package
    copies: Copies = field(default_factory=Copies)
    failed: set[str] = field(default_factory=set)
    missed_package: bool = False
    """A reissue was not answered: nobody has its package, if it was made."""
    done: list[str] = field(default_factory=list)
    power: AsyncExitStack = field(default_factory=AsyncExitStack)
    fault: Fault | None = None
    road: Road = field(init=False)

    def __post_init__(self) -> None:
        self.road = Road(self.system.stack.endpoints.device_mqtt_port)

    async def live(self) -> str:
        """Live through what is drawn; return in a word how the device came back."""
        try:
            await self.power_on()
            await until(
                lambda: self.fleet.show(self.package),
                lambda view: view.online and (view.has_key or self.keyless),
                within_s=BACK_WITHIN_S,
            )
            for _ in range(self.draw.randint(3, LONGEST)):
                act = self.draw.choice(self._acts())
                self.done.append(getattr(act, "__name__", ""))
                with suppress(AnswerError, NoAnswerError):
                    await act()
                await asyncio.sleep(self.draw.random() * 2)
            self.fault = None
            return await self.settle()
        finally:
            await self.power.aclose()
            await self.road.close()

    async def settle(self) -> str:
        """Let nothing fail any more, and wait until the device is online with a secret that all three hold."""
        await self.road.open()
        if self.missed_package:
            found = await until(self._provisioned, within_s=BACK_WITHIN_S)
            assert found is not None
            self.package = found
        await self.power_on()
        with suppress(AnswerError):
            await self.fleet.ask(admin.DEVICE_UPDATE, device=self.package.client_id, enabled=True)
        await until(self._lack, lambda lack: not lack, within_s=BACK_WITHIN_S)
        recovered = "SELECT id FROM mdm.audit_log WHERE action = 'device.recover' AND subject = $1"
        rows = await run(self.system.stack, recovered, self.package.client_id)
        return "recovered" if rows else "kept"

    async def _provisioned(self) -> Package | None:
        """Fetch the package, as an admin does without an answer; None while a service refuses it."""
        try:
            return await self.fleet.ask(admin.DEVICE_PROVISION, device=self.package.client_id)
        except (AnswerError, NoAnswerError):
            return None

    async def _lack(self) -> str:
        """Return what is not well, or "": also what a service refuses now, as while a rotation is in progress."""
        try:
            return await self._look()
        except (AnswerError, NoAnswerError) as error:
            return str(error)

    async def _look(self) -> str:
        """Look, and let time pass faster: deadlines and comparisons that are due some day are due now."""
        stack, key = self.system.stack, self.package.device_key
        await run(stack, "UPDATE mdm.devices SET verify_at = now() WHERE key = $1 AND verify_at > now()", key)
        view = await self.fleet.show(self.package)
        if view.rotation_state == "PENDING" and self.draw.random() < 0.05:
            await expire(stack, self.package)
        await asyncio.sleep(1)
        (row,) = await run(
            stack, "SELECT secret_generation, secret_fingerprint FROM mdm.devices WHERE key = $1", key
        )
        if not view.online or view.rotation_state in {"PENDING", "QUEUED"}:
            return f"online: {view.online}, rotation: {view.rotation_state}"
        client, label = await self._client(), await self._label()
        held = Held.of(SecretStr(client["secret"]), _generation(client))
        known = f"{row['secret_generation']}:{row['secret_fingerprint']}"
        if not str(held) == label == known:
            return f"Keycloak has {held}, the broker {label}, the database {known}"
        # It may have been logged in since before: it must get in again.
        valid = await self.fleet.ask(admin.DEVICE_PROVISION, device=self.package.client_id)
        before = (await self.fleet.show(self.package)).last_seen_at
        if not await credentials.broker_accepts(valid):
            return "the broker refuses its account's secret"
        with suppress(NotSeenError):
            await until(
                lambda: self.fleet.show(self.package),
                lambda now: now.online and now.last_seen_at != before,
                within_s=20,
            )
            return ""
        return "it does not log in again"

    def _acts(self) -> list[Callable[[], Awaitable[None]]]:
        acts: list[Callable[[], Awaitable[None]]] = [
            *[self.rotate] * 4,
            self.move,
            self.move,
            self.change_road,
            self.expire_now,
            self.cut_power,
            self.power_on,
            self.disable_for_a_moment,
            self.copy,
            self.slow_keycloak,
        ]
        for name, act in (
            ("database", self.put_back_database),
            ("keycloak", self.put_back_keycloak),
            ("broker", self.put_back_broker),
            ("late", self.late_call),
            ("late", self.lost_answer),
        ):
            if len(self.failed | {name}) <= (1 if self.keyless else 3):
                acts.append(act)
        if not self.keyless:
            acts.append(self.reissue)
        return acts

    async def rotate(self) -> None:
        """Give it a new secret, perhaps with a power cut on the way."""
        if self.draw.random() < 0.4:
            await self.power_on(cut_at=self._point(POINTS))
        await self.fleet.ask(admin.ROTATION_START, device=self.package.client_id)
        await asyncio.sleep(self.draw.random() * 3)

    async def move(self) -> None:
        """Offer it another profile, a good one or a wrong one, perhaps with a power cut on the way."""
        if self.draw.random() < 0.4:
            await self.power_on(cut_at=self._point(MOVES))
        change: dict[str, object] = self.draw.choice(
            [{}, {"mqtt_port": self.road.port}, {"mqtt_port": 1}, {"mqtt_host": "broker.invalid"}]
        )
        connection_id = f"{self.draw.getrandbits(64):016x}"
        offer = messages.ConnectionOffer(
            connection_id=connection_id, trial_seconds=3, profile=profile_of(self.package, **change)
        )
        async with account_client(self.system.stack.endpoints, "svc-registry") as client:
            address = topics.CONNECTION.of(client_id=self.package.client_id)
            await client.publish(address, topics.CONNECTION.encode(offer), qos=1)

    async def change_road(self) -> None:
        """Open or close the other address of the broker."""
        await self.draw.choice([self.road.open, self.road.close])()

    async def expire_now(self) -> None:
        """Let the time of its rotation be up."""
        await expire(self.system.stack, self.package)

    async def cut_power(self) -> None:
        """Cut its power."""
        await self.power.aclose()

    async def power_on(self, cut_at: CrashPoint | None = None) -> None:
        """Give it power again, perhaps up to a point."""
        await self.power.aclose()
        state = self.fleet.folder / self.package.client_id
        if self.keyless:
            options = replace(OPTIONS, keyless=True, backoff_max_s=2, fallback_after_s=4)
            supply: AbstractAsyncContextManager[Powered] = powered(
                self.package, state, options=options, cut_at=cut_at
            )
        else:
            supply = self.kind.powered(self.package, state, cut_at=cut_at)
        await self.power.enter_async_context(supply)

    def _point(self, points: Mapping[DeviceKind, Sequence[str]]) -> CrashPoint:
        nth = 1 if self.kind is REFERENCE else self.draw.randint(1, OFTEN)
        return CrashPoint(self.draw.choice(points[self.kind]), nth)

    async def disable_for_a_moment(self) -> None:
        """Disable it and enable it again."""
        for enabled in (False, True):
            await self.fleet.ask(admin.DEVICE_UPDATE, device=self.package.client_id, enabled=enabled)

    async def reissue(self) -> None:
        """Give the board a new package."""
        try:
            self.package = await self.fleet.ask(admin.DEVICE_REISSUE, device=self.package.client_id)
        except NoAnswerError:
            self.missed_package = True
            raise
        self.missed_package = False
        await self.power_on()
        with suppress(NotSeenError):
            await until(lambda: self.fleet.show(self.package), lambda view: view.has_key, within_s=10)

    async def copy(self) -> None:
        """Make copies of what the stores hold."""
        client = await self._client()
        held = Held.of(SecretStr(client["secret"]), _generation(client))
        self.copies.secrets[str(held)] = client["secret"]
        self.copies.client = client
        self.copies.account = await self._label()
        self.copies.rows = await rows_of(self.system.stack, self.package)

    async def put_back_database(self) -> None:
        """Put the rows of the device back to their copy; the leader has lost its connection then."""
        if self.copies.rows is None:
            return
        self.failed.add("database")
        await put_back_rows(self.system.stack, self.package, self.copies.rows)
        await run(
            self.system.stack,
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
            "((classid::bigint << 32) | objid::bigint) = hashtextextended('mdm:rotator', 0)",
        )

    async def put_back_keycloak(self) -> None:
        """Put the client back to its copy."""
        if self.copies.client is None:
            return
        self.failed.add("keycloak")
        kept = {name: self.copies.client[name] for name in ("secret", "enabled", "protocolMappers")}
        await self._change_client(kept)

    async def put_back_broker(self) -> None:
        """Put the account back to its copy, if its secret is known."""
        label = self.copies.account
        if label is None or label not in self.copies.secrets:
            return
        self.failed.add("broker")
        password = self.copies.secrets[label]
        await behind_our_back(
            self.system.stack, "modifyClient", self.package.client_id, password=password, textname=label
        )

    async def late_call(self) -> None:
        """Let the next change of its client arrive after it was given up."""
        self.failed.add("late")
        self.fault = Fault(late_s=self.draw.random() * 6)

    async def lost_answer(self) -> None:
        """Let the next change of its client arrive, and its answer not."""
        self.failed.add("late")
        self.fault = Fault(lose_answer=True)

    async def slow_keycloak(self) -> None:
        """Let the next change of its client take its time."""
        self.fault = Fault(wait_s=self.draw.random() * 4)

    async def _client(self) -> dict[str, Any]:
        async with keycloak_admin(self.system.stack.endpoints) as client:
            found = (await client.get(self._clients, params={"clientId": self.package.client_id})).json()
        return dict(found[0])

    async def _change_client(self, changes: dict[str, Any]) -> None:
        async with keycloak_admin(self.system.stack.endpoints) as client:
            found = (await client.get(self._clients, params={"clientId": self.package.client_id})).json()
            (await client.put(f"{self._clients}/{found[0]['id']}", json=changes)).raise_for_status()

    @property
    def _clients(self) -> str:
        return f"/admin/realms/{self.system.stack.endpoints.realm}/clients"

    async def _label(self) -> str | None:
        return await credentials.account_label(self.system.stack.endpoints, self.package.client_id)


def _generation(client: dict[str, Any]) -> int:
    values = {it["name"]: it["config"].get("claim.value") for it in client["protocolMappers"]}
    return int(values["secret_gen"])


_TABLES: Final = {"devices": "id", "rotations": "device_id", "device_presence": "device_id"}


async def rows_of(stack: Stack, package: Package) -> dict[str, Any]:
    """Return what the database holds of a device's credentials."""
    found = {}
    for table, column in _TABLES.items():
        query = (
            f"SELECT to_jsonb(t) AS row FROM mdm.{table} t JOIN mdm.devices d ON d.id = t.{column} "  # noqa: S608
            "WHERE d.key = $1"
        )
        found[table] = [json.loads(it["row"]) for it in await run(stack, query, package.device_key)]
    return found


async def put_back_rows(stack: Stack, package: Package, rows: dict[str, Any]) -> None:
    """Put the rows back, all or none; a slot that another device has meanwhile is another one."""
    connection = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM mdm.devices WHERE key = $1 FOR UPDATE", package.device_key)
            device = dict(rows["devices"][0])
            if device["rotation_slot"] is not None:
                device["rotation_slot"] = await connection.fetchval(
                    "SELECT slot FROM mdm.rotation_slots s WHERE NOT EXISTS (SELECT FROM mdm.devices d WHERE "
                    "d.rotation_slot = s.slot AND d.key <> $1) LIMIT 1",
                    package.device_key,
                )
            await connection.execute("DELETE FROM mdm.rotations WHERE device_id = $1", device["id"])
            await connection.execute(
                "UPDATE mdm.devices d SET (enabled, secret_generation, last_generation, secret_fingerprint, "
                "secret_created_at, public_key, verify_at, rotation_state, rotation_slot, rotation_retry_at) = "
                "(r.enabled, r.secret_generation, r.last_generation, r.secret_fingerprint, r.secret_created_at, "
                "r.public_key, now(), r.rotation_state, r.rotation_slot, r.rotation_retry_at) "
                "FROM jsonb_populate_record(null::mdm.devices, $1) r WHERE d.id = r.id",
                json.dumps(device),
            )
            await connection.execute(
                "INSERT INTO mdm.rotations SELECT * FROM jsonb_populate_recordset(null::mdm.rotations, $1)",
                json.dumps(rows["rotations"]),
            )
            await connection.execute(
                "UPDATE mdm.device_presence p SET (online, last_seen_at, secret_generation) = "
                "(r.online, r.last_seen_at, r.secret_generation) "
                "FROM jsonb_populate_record(null::mdm.device_presence, $1) r WHERE p.device_id = r.device_id",
                json.dumps(rows["device_presence"][0]),
            )
    finally:
        await connection.close()


@dataclass(slots=True)
class Runner:
    """Histories side by side, while services are killed and frozen."""

    fleet: Fleet
    system: System
    proxy: Proxy
    first_seed: int
    kinds: Sequence[DeviceKind]
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _living: dict[str, History] = field(default_factory=dict)

    async def run(self, seconds: float, most: int | None = None) -> None:
        """Begin histories for so long, or, with `most`, so many, and let those that have begun end."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + (seconds if most is None else float("inf"))
        seeds = iter(range(self.first_seed, self.first_seed + (most or 2**31)))
        model = await self.fleet.model()
        self.proxy.judge = self._judge
        over = asyncio.Event()
        trouble = asyncio.create_task(self._trouble(over))

        async def live() -> None:
            while loop.time() < until_s and not self.failures:
                if (seed := next(seeds, None)) is None:
                    return
                await self._live(seed, model)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(SIDE_BY_SIDE):
                    tasks.create_task(live())
        finally:
            over.set()  # and not cancelled: a service that is being started would be left behind
            await trouble

    async def _live(self, seed: int, model: str) -> None:
        draw = random.Random(seed)  # noqa: S311 - a seed replays it
        kind = draw.choice(self.kinds)
        keyless = kind is REFERENCE and draw.random() < 0.25
        try:
            package = await self.fleet.device(model)
        except AnswerError:
            self.outcomes["not made"] += 1  # the registry was killed or Keycloak slow: nothing is left of it
            return
        history = History(self.fleet, self.system, self.proxy, draw, kind, keyless, package)
        self._living[package.client_id] = history
        try:
            self.outcomes[f"{kind} {await history.live()}"] += 1
        except (NotSeenError, TimeoutError, KeyError) as error:
            self.failures.append(
                f"seed {seed}: {kind}{', keyless,' * keyless} {package.client_id} is lost after "
                f"{', '.join(history.done)} "
                f"({', '.join(sorted(history.failed)) or 'nothing'} failed): {type(error).__name__}: {error}"
            )
        finally:
            del self._living[package.client_id]

    def _judge(self, method: str, path: str) -> Fault | None:
        """Let the next change of a client fail as a history wants; which client it is, the path does not say."""
        if method != "PUT" or "/clients/" not in path:
            return None
        for history in self._living.values():
            if history.fault is not None:
                fault, history.fault = history.fault, None
                return fault
        return None

    async def _trouble(self, over: asyncio.Event) -> None:
        """Kill or freeze a service now and then, until it is over."""
        draw = random.Random(self.first_seed)  # noqa: S311
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 10 + draw.random() * 20)
                return
            name = draw.choice(["rotator", "rotator", "registry"])
            process = self.system.services[name]
            if draw.random() < 0.5:
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(draw.random() * 5)
                process.send_signal(signal.SIGCONT)
            else:
                await asyncio.to_thread(process.kill)
                await asyncio.to_thread(process.start)

    def report(self) -> str:
        """Return the counts."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        total = self.outcomes.total() + len(self.failures)
        title = f"random histories on the real stack from seed {self.first_seed}"
        return f"{title}: {total}: {counts}, {len(self.failures)} lost"
