"""A device moves to another broker while its power is cut at each step, or a message is lost, doubled or late.

Each of these faults is crossed with what the new profile may be worth: it is good, wrong in one of many ways, or
one of the brokers goes away afterwards. At the end the device executes a command over one of its profiles, and
only a profile that has worked is its first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

import pytest

from deploy import certificates
from dev.crash_injection import CrashPoint, deaths
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from device.connection import Place
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionOffer, WifiNetwork
from tests.devices import ALL_FAULTS
from tests.faults.moves import (
    Move,
    MovingDevice,
    Offers,
    failed,
    kept,
    new_back,
    offering,
    old_back,
    old_gone,
    profile_of,
)
from tests.faults.roads import WrongBrokers, watched, wrong_brokers
from tests.faults.wires import MessageFault, Wire
from tests.matrix import Matrix

SIDE_BY_SIDE: Final = 12
SHORT_S, LONG_S = 1, 30
"""A trial that must fail ends by its time; one that must not may take longer on a busy machine."""
MESSAGES: Final = ("down/connection", "up/config/get", "down/config")
ENOUGH: Final = 3
"""The third time that a message is published reports the move; the later ones are the same."""
EACH: Final = 3
"""Of the profiles that fail, each usually meets every third fault, in turns; FAULTS=all crosses all with all."""
HOME = WifiNetwork(ssid="home", password="12345678")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the new profile differs in, what happens, and the places of the profiles at the end."""

    name: str
    changes: Mapping[str, object] = field(default_factory=dict)
    happens: Callable[[Move], Awaitable[None]] = failed
    is_kept: bool = False
    works: Place = Place.FIRST

    def ends(self, move: Move) -> bool:
        """Return whether the device has the profiles that it should have at the end, and works with one."""
        slots = move.device.slots
        ids = [None if it is None else it.connection_id for it in (slots.first, slots.fallback, slots.trial)]
        wanted = [move.new_id, move.old_id, None] if self.is_kept else [move.old_id, None, None]
        return ids == wanted and slots.works is slots.turn is self.works


@pytest.fixture
def wrong(tmp_path: Path) -> Iterator[WrongBrokers]:
    with wrong_brokers(tmp_path) as brokers:
        yield brokers


@pytest.fixture
def scenarios(wrong: WrongBrokers, tmp_path: Path) -> list[Scenario]:
    authority = certificates.ensure_authority(tmp_path / "other").certificate.read_text()
    return [
        Scenario("all is well", happens=kept, is_kept=True),
        Scenario("the old broker is gone", happens=old_gone, is_kept=True),
        Scenario("both gone, the old one back", happens=old_back, is_kept=True, works=Place.FALLBACK),
        Scenario("both gone, the new one back", happens=new_back, is_kept=True),
        Scenario("the new broker refuses", {"mqtt_port": wrong.refusing, "mqtt_tls": False}),
        Scenario("behind the new broker is nobody", {"mqtt_port": wrong.silent, "mqtt_tls": False}),
        Scenario("the authority is another one", {"ca_certificate": authority}),
        Scenario("the name is unknown", {"mqtt_host": "broker.invalid"}),
        Scenario("nobody listens", {"mqtt_port": 1}),
        Scenario("the Wi-Fi password is wrong", {"wifi": [HOME]}),
        Scenario("no tokens are to be had", {"mqtt_auth": "token", "token_url": "http://127.0.0.1:1/token"}),
    ]


@dataclass(slots=True)
class Ground:
    """Devices that take the cases of a matrix in turn, all at once."""

    stack: Stack
    offers: Offers
    folder: Path
    packages: list[Package]

    async def run(self, matrix: Matrix, cells: Iterator[Cell]) -> None:
        async def work(package: Package) -> None:
            for cell in cells:
                async with matrix.case(f"{cell.scenario.name}, {cell.fault}") as case:
                    device = await self.play(package, cell)
                    fault = "the fault" if device.was_cut or cell.wire.happened else "no fault"
                    case.outcome = f"reached by the {cell.scenario.works} after {fault}"

        async with asyncio.TaskGroup() as tasks:
            for package in self.packages:
                tasks.create_task(work(package))

    async def play(self, package: Package, cell: Cell) -> MovingDevice:
        """Let one device move, with the cell's fault, and look at it at the end."""
        scenario, client_id = cell.scenario, package.client_id
        async with self._move(package, cell) as move:
            self.offers.wanted[client_id] = ConnectionOffer(
                connection_id=move.new_id,
                trial_seconds=LONG_S if scenario.is_kept else SHORT_S,
                profile=profile_of(package, **{"mqtt_port": move.new.port, **scenario.changes}),
            )
            await scenario.happens(move)
            self.offers.wanted.pop(client_id, None)
            await self.offers.reach(client_id)
            await until(partial(asyncio.to_thread, scenario.ends, move))
        return move.device

    @asynccontextmanager
    async def _move(self, package: Package, cell: Cell) -> AsyncIterator[Move]:
        client_id, wire = package.client_id, cell.wire
        wire.offered = partial(self.offers.offered, client_id)
        old, new = (watched(self.stack.endpoints, wire.judge) for _ in range(2))
        old_id, new_id = token_hex(8), token_hex(8)
        flashed = package.model_copy(update={"mqtt_port": old.port, "connection_id": old_id})
        cut = cell.fault if isinstance(cell.fault, CrashPoint) else None
        device = MovingDevice(flashed, self.folder / client_id, lambda it: it != HOME, cut)
        device.forget()
        for road in (old, new):
            await road.open()
        await device.on()
        try:
            yield Move(device, self.offers, old, new, old_id, new_id)
        finally:
            self.offers.wanted.pop(client_id, None)
            await device.off()
            for road in (old, new):
                await road.close()


@dataclass(frozen=True, slots=True)
class Cell:
    """A scenario and a fault: a power cut, or the fault of the n-th message on a topic."""

    scenario: Scenario
    fault: CrashPoint | tuple[str, int, MessageFault] | None = None
    wire: Wire = field(default_factory=Wire)


def faults(steps: list[str], wire: Wire) -> Iterator[CrashPoint | tuple[str, int, MessageFault]]:
    """Yield all faults of a move that took these steps and messages."""
    steps = steps[steps.index("connection.begin:after") + 1 :]
    kept = [it for it in steps if it.startswith(("connection.", "publish.config.get")) and "written" not in it]
    for death in deaths(kept):
        if death.step.startswith("connection.") or death.nth <= ENOUGH:
            yield death
    for short in MESSAGES:
        for nth in range(1, min(wire.counts[short], ENOUGH) + 1):
            for fault in MessageFault:
                yield short, nth, fault


@pytest.fixture
async def ground(fleet: Fleet, system: System, tmp_path: Path) -> AsyncIterator[Ground]:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(SIDE_BY_SIDE)]
    async with offering(system.stack.endpoints) as offers:
        yield Ground(system.stack, offers, tmp_path, packages)


async def test_a_device_that_moves_is_reached_by_one_of_its_profiles_whatever_fails(
    ground: Ground, scenarios: list[Scenario]
) -> None:
    cells = [Cell(scenario) for scenario in scenarios]
    whole = await asyncio.gather(
        *(ground.play(package, cell) for package, cell in zip(ground.packages, cells, strict=False))
    )
    crossed = [
        Cell(cell.scenario, fault, Wire(fault if isinstance(fault, tuple) else None))
        for number, (cell, device) in enumerate(zip(cells, whole, strict=True))
        for turn, fault in enumerate(faults(device.steps, cell.wire))
        if cell.scenario.is_kept or ALL_FAULTS or (number + turn) % EACH == 0
    ]
    matrix = Matrix("a device moves to another connection profile")
    await ground.run(matrix, iter(crossed))
    matrix.end()
