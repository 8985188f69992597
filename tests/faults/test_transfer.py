"""Power cuts, killed services and restarts in the middle of a transfer of firmware: it goes on where it was.

No piece that a device has made durable is fetched again, and wrong bytes are never booted.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dev.crash_injection import CrashPlan, CrashPoint, deaths
from dev.credentials import account_client
from dev.fleet import Fleet
from dev.servers.base import Server
from dev.stack import Stack
from dev.system import System
from dev.uploads import upload
from dev.waiting import PATIENCE_S, until
from device import image_builder
from device.link import Link
from device.options import Hooks, Options
from shared.protocol import topics
from shared.protocol.admin import Package
from tests.downloads import check
from tests.faults.roads import opened, watched
from tests.faults.weather import Fault, Weather
from tests.integration.test_firmware import CHUNK
from tests.integration.test_metrics import by
from tests.matrix import Matrix
from tests.raw import RawDevice

PIECES = 16
WINDOW = 4
COST_OF_A_POWER_CUT = 2 * WINDOW
"""A window of pieces that were not on record yet, and one that was in progress to the device."""
SEEDS = range(4)
SENDING = "publish down/firmware/chunk:before"
TRANSFER = ("Assignment.answer_check", "Assignment.admit", "Reports._store", "down/firmware/")
"""What the service does for one transfer; all else that it does meanwhile need not come again."""


def _do_nothing() -> None: ...


@dataclass(slots=True)
class Ledger:
    """The pieces that a device has asked for, by number; `again` counts requests for one that it had been sent."""

    asked: list[int] = field(default_factory=list)
    again: int = 0
    on_ask: Callable[[], object] = _do_nothing
    _arrived: set[int] = field(default_factory=set)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note what the devices of this process say and hear."""
        publish, receive = Link.publish, Link.receive

        async def publish_noted(link: Link, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
            if topics.FIRMWARE_CHUNK.match(topic) is not None:
                await self._ask(topics.FIRMWARE_CHUNK.decode(payload).offset // CHUNK)
            await publish(link, topic, payload, qos=qos, retain=retain)

        async def receive_noted(link: Link) -> tuple[str, bytes]:
            topic, payload = await receive(link)
            chunk = topics.FIRMWARE_CHUNK_DATA.match(topic)
            if chunk is not None:
                self._arrived.add(int(chunk["offset"]) // CHUNK)
            return topic, payload

        monkeypatch.setattr(Link, "publish", publish_noted)
        monkeypatch.setattr(Link, "receive", receive_noted)

    def clear(self) -> None:
        """Forget all, for the next device."""
        self.asked.clear()
        self._arrived.clear()
        self.again = 0

    async def reaches(self, pieces: int) -> None:
        """Wait until so many different pieces were asked for."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(set(self.asked)) >= pieces)

    async def _ask(self, piece: int) -> None:
        self.on_ask()
        self.again += piece in self._arrived
        self._arrived.discard(piece)
        async with self._news:
            self.asked.append(piece)
            self._news.notify_all()


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Return what acts when it is first called, and never again."""
    left = iter([act])

    def call() -> None:
        for action in left:
            action()

    return call


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    noted = Ledger()
    noted.begin(monkeypatch)
    return noted


@dataclass(frozen=True, slots=True)
class Trip:
    """One device, and the image that it is to fetch."""

    fleet: Fleet
    package: Package
    model: str

    @property
    def durable(self) -> set[int]:
        """The pieces that are in the device's flash, and on record there."""
        record = self.fleet.folder / self.package.client_id / "flash/download.json"
        bitmap = int(json.loads(record.read_text())["bitmap"], 16) if record.exists() else 0
        return {number for number in range(PIECES) if bitmap >> number & 1}

    async def arrives(self) -> str:
        """Wait until the device runs the image and keeps it."""
        await self.fleet.seen(self.package, "firmware/reported", stage="confirmed")
        view = await self.fleet.until(self.package, lambda view: view.firmware_version == "1.1.0")
        return f"runs {view.firmware_version}"


async def begun(fleet: Fleet, ledger: Ledger) -> Trip:
    """Make a device and release an image for it."""
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=PIECES * CHUNK))
    ledger.clear()
    return Trip(fleet, package, model)


async def test_a_device_whose_power_is_cut_at_any_step_of_a_transfer_goes_on_where_it_was(
    fleet: Fleet, ledger: Ledger
) -> None:
    steps: list[str] = []
    whole = await begun(fleet, ledger)
    async with fleet.powered(whole.package, steps=steps):
        await whole.arrives()
    assert set(ledger.asked) == set(range(PIECES))
    assert ledger.again == 0
    matrix = Matrix("a device's power is cut at each step of a transfer")
    for step in dict.fromkeys(steps):
        if not step.startswith(("download.", "publish.firmware.", "flash.")) or step.startswith(
            ("flash.install", "flash.begin")
        ):
            continue
        async with matrix.case(step) as case:
            trip = await begun(fleet, ledger)
            async with fleet.powered(trip.package, cut_at=step) as power:
                await power.failed()
            durable, before = trip.durable, len(ledger.asked)
            async with fleet.powered(trip.package):
                case.outcome = await trip.arrives()
            fetched_twice = durable.intersection(ledger.asked[before:])
            assert not fetched_twice
            assert ledger.again <= COST_OF_A_POWER_CUT
    matrix.end()


@pytest.fixture
async def mortal(system: System, tmp_path: Path) -> AsyncIterator[CrashPlan]:
    """Run the firmware service as one that dies at the step that it is told to."""
    fate = CrashPlan(tmp_path)
    async with system.altered("firmware", fate=fate):
        yield fate
        fate.pardon()


async def test_a_service_killed_at_any_step_of_a_transfer_costs_a_device_no_piece_that_it_has(
    fleet: Fleet, ledger: Ledger, system: System, mortal: CrashPlan
) -> None:
    whole = await begun(fleet, ledger)
    before = len(mortal.steps())
    async with fleet.powered(whole.package):
        await whole.arrives()
    steps = [step for step in mortal.steps(before) if any(part in step for part in TRANSFER)]
    places = [*deaths(steps, noise=steps), CrashPoint(SENDING, PIECES // 2), CrashPoint(SENDING, PIECES)]
    matrix = Matrix("kill -9 of the firmware service at each step of a transfer")
    for death in places:
        async with matrix.case(death) as case:
            trip = await begun(fleet, ledger)
            mortal.condemn(death)
            async with fleet.powered(trip.package), asyncio.timeout(PATIENCE_S):
                await asyncio.to_thread(system.services["firmware"].wait)
                mortal.pardon()
                await asyncio.to_thread(lambda: system.start("firmware", fate=mortal))
                await fleet.until(trip.package, lambda view: view.firmware_version == "1.1.0")
                case.outcome = "runs 1.1.0"
            assert ledger.again <= WINDOW
    matrix.end()


def neighbours(stack: Stack, system: System) -> Mapping[str, Server]:
    return {
        "the firmware service": system.services["firmware"],
        "the broker": stack.broker,
        "the database": stack.postgres,
    }


async def test_many_faults_in_one_transfer_cost_a_device_no_more_than_two_windows_each(
    fleet: Fleet, ledger: Ledger, system: System
) -> None:
    matrix = Matrix("three faults in one transfer: power, firmware service, broker, database")
    victims = neighbours(system.stack, system)
    for seed in SEEDS:
        chance = random.Random(seed)  # noqa: S311 - a test's choice
        faults = chance.choices(["the device", *victims], k=3)
        places = sorted(chance.sample(range(1, PIECES), k=3))
        async with matrix.case(f"{seed}: {faults} at {places}") as case:
            trip = await begun(fleet, ledger)
            async with AsyncExitStack() as power:
                await power.enter_async_context(fleet.powered(trip.package))
                for fault, place in zip(faults, places, strict=True):
                    await ledger.reaches(place)
                    if fault == "the device":
                        await power.aclose()
                        await power.enter_async_context(fleet.powered(trip.package))
                    else:
                        await asyncio.to_thread(victims[fault].kill)
                        await asyncio.to_thread(victims[fault].start)
                await fleet.until(trip.package, lambda view: view.firmware_version == "1.1.0")
            case.outcome = "runs 1.1.0"
            assert ledger.again <= COST_OF_A_POWER_CUT * len(faults)
    matrix.end()


async def test_a_database_that_is_away_when_a_transfer_begins_costs_time_only(
    fleet: Fleet, ledger: Ledger, system: System
) -> None:
    trip, database = await begun(fleet, ledger), system.stack.postgres

    def failed() -> int:
        return by(system, "firmware", "iot_firmware_answers_total", "outcome")["failed"]

    before = failed()
    ledger.on_ask = once(database.kill)
    async with fleet.powered(trip.package):
        try:
            await until(lambda: asyncio.to_thread(failed), lambda now: now > before)
        finally:
            await asyncio.to_thread(database.start)
        await trip.arrives()
    assert ledger.again == 0


async def test_a_device_that_missed_the_notice_gets_the_image_at_its_next_connect(
    fleet: Fleet, ledger: Ledger, system: System
) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    weather = Weather(topics.FIRMWARE_OFFER, Fault.LOST)
    road = watched(system.stack.endpoints)
    async with opened(road), fleet.powered(package.model_copy(update={"mqtt_port": road.port})):
        await fleet.until(package, lambda view: view.online)
        road.judge = weather.judge
        await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=PIECES * CHUNK))
        await weather.holds()
    assert not ledger.asked
    async with fleet.powered(package):
        await Trip(fleet, package, model).arrives()


@asynccontextmanager
async def forger(system: System, ledger: Ledger, package: Package) -> AsyncIterator[None]:
    """Answer a device with wrong bytes, by an account that may write to it; the service is frozen when it asks."""
    service = system.services["firmware"]
    async with account_client(system.stack.endpoints, "svc-registry") as client:

        async def forge() -> None:
            async for message in client.messages:
                request = topics.FIRMWARE_CHUNK.decode(bytes(message.payload))
                address = topics.FIRMWARE_CHUNK_DATA.of(
                    client_id=package.client_id, sha256=request.sha256, offset=request.offset
                )
                await client.publish(address, bytes(request.length), qos=1)

        await client.subscribe(topics.FIRMWARE_CHUNK.of(client_id=package.client_id), qos=1)
        forging = asyncio.create_task(forge(), name="forger")
        ledger.on_ask = lambda: service.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            ledger.on_ask = _do_nothing
            service.send_signal(signal.SIGCONT)
            forging.cancel()


class Notes:
    """What a device notes, to be waited for, and how often it had wrong bytes and began again."""

    def __init__(self) -> None:
        self.restarts = 0
        self.corrupt = asyncio.Event()
        self.failed = asyncio.Event()
        self.hooks = Hooks(on_event=self._note)

    def _note(self, event: str, facts: Mapping[str, object]) -> None:
        if event == "firmware.corrupt":
            self.corrupt.set()
            self.restarts += 1
        if facts.get("stage") == "failed":
            self.failed.set()


async def test_wrong_bytes_from_a_forger_are_not_booted_and_the_right_ones_are_fetched_again(
    fleet: Fleet, ledger: Ledger, system: System
) -> None:
    trip, notes = await begun(fleet, ledger), Notes()
    async with forger(system, ledger, trip.package), AsyncExitStack() as power:
        await power.enter_async_context(fleet.powered(trip.package, hooks=notes.hooks))
        async with asyncio.timeout(PATIENCE_S):
            await notes.corrupt.wait()
    assert len(ledger.asked) >= PIECES
    async with fleet.powered(trip.package):
        assert await trip.arrives() == "runs 1.1.0"


async def test_a_device_gives_up_an_image_of_which_it_gets_wrong_bytes_only(
    fleet: Fleet, ledger: Ledger, system: System
) -> None:
    trip, notes = await begun(fleet, ledger), Notes()
    async with fleet.powered(trip.package, hooks=notes.hooks):
        async with forger(system, ledger, trip.package), asyncio.timeout(PATIENCE_S):
            await notes.failed.wait()
        failed = await fleet.seen(trip.package, "firmware/reported", stage="failed")
    assert failed.data["error"] == "the bytes do not have the sha256 that was offered"
    assert notes.restarts == Options().download_restarts
    asked = Counter(ledger.asked)
    assert min(asked[piece] for piece in range(PIECES)) > notes.restarts
    async with RawDevice(trip.package) as device:
        assert (await device.ask(topics.FIRMWARE_CHECK, check(trip.model), topics.FIRMWARE_OFFER)).up_to_date
