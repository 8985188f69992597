"""The metrics, as Prometheus scrapes them from the real services."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from dev import waiting
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from shared.protocol import admin


def by(system: System, name: str, metric: str, label: str, **labels: str) -> Counter[str]:
    """What a service serves of a metric, by the values of one label."""
    found: Counter[str] = Counter()
    for sample in system.samples(name, metric):
        if labels.items() <= sample.labels.items():
            found[sample.labels[label]] += int(sample.value)
    return found


async def until(look: Callable[[], Counter[str]], holds: Callable[[Counter[str]], object]) -> None:
    """Scrape until it holds."""
    await waiting.until(lambda: asyncio.to_thread(look), holds)


async def agree(look: Callable[[], Counter[str]], expected: Callable[[], Awaitable[Counter[str]]]) -> None:
    """Scrape until it is what is expected at that time."""

    async def both() -> tuple[Counter[str], Counter[str]]:
        return await asyncio.to_thread(look), await expected()

    await waiting.until(both, lambda found: found[0] == found[1])


async def presences(fleet: Fleet) -> Counter[str]:
    shown = await fleet.ask(admin.FLEET_SHOW)
    offline = shown.devices - shown.online - shown.asleep
    return Counter({"online": shown.online, "asleep": shown.asleep, "offline": offline})


async def states(stack: Stack) -> Counter[str]:
    statement = "SELECT rotation_state, count(*) FROM mdm.devices WHERE lifecycle = 'ACTIVE' GROUP BY 1"
    return Counter({row["rotation_state"]: row["count"] for row in await run(stack, statement)})


async def test_the_registry_counts_devices_by_model(fleet: Fleet, system: System) -> None:
    def served() -> Counter[str]:
        return by(system, "registry", "iot_device_count", "model_code")

    model = await fleet.model()
    await until(served, lambda counts: model in counts and counts[model] == 0)
    packages = [await fleet.device(model) for _ in range(2)]
    await until(served, lambda counts: counts[model] == 2)
    for package in packages:
        await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    await fleet.ask(admin.MODEL_REMOVE, code=model)
    await until(served, lambda counts: model not in counts)
    assert not by(system, "rotator", "iot_device_count", "model_code")


async def test_devices_are_counted_by_presence(fleet: Fleet, system: System) -> None:
    def served() -> Counter[str]:
        return by(system, "registry", "mdm_device_presence_count", "state")

    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        # Of other tests there may be devices that leave, or do not wake up, meanwhile.
        await agree(served, partial(presences, fleet))
        model = (await fleet.show(package)).model

        def of_model(metric: str, label: str) -> Counter[str]:
            return +by(system, "registry", metric, label, model_code=model)

        for metric, label, value in (
            ("mdm_device_health_count", "health", "healthy"),
            ("mdm_device_firmware_count", "version", "1.0.0"),
        ):
            await until(partial(of_model, metric, label), partial(Counter.__eq__, Counter([value])))
        [secret] = by(
            system, "registry", "mdm_oldest_secret_timestamp_seconds", "model_code", model_code=model
        ).values()
        assert secret == int((await fleet.show(package)).secret_created_at.timestamp())


async def test_the_leader_alone_counts_devices_by_state(fleet: Fleet, system: System, stack: Stack) -> None:
    def served(name: str) -> Counter[str]:
        return by(system, name, "iot_rotation_state_count", "state")

    package = await fleet.device()
    await fleet.offered(package)
    await fleet.seen(package, "rotation/timed_out")
    assert (await states(stack))["TIMEOUT"] >= 1
    await agree(partial(served, "rotator"), partial(states, stack))
    assert set(served("rotator")) == {"OK", "QUEUED", "PENDING", "TIMEOUT"}

    await asyncio.to_thread(lambda: system.start("rotator", name="standby"))
    frozen = system.services["rotator"]
    try:
        assert not served("standby")
        frozen.send_signal(signal.SIGSTOP)
        await agree(partial(served, "standby"), partial(states, stack))
        frozen.send_signal(signal.SIGCONT)
        await until(lambda: served("rotator"), lambda counts: not counts)
    finally:
        frozen.send_signal(signal.SIGCONT)
        await asyncio.to_thread(system.stop, "standby")


@pytest.mark.usefixtures("no_rotations")
async def test_requests_to_keycloak_and_rotations_are_counted(fleet: Fleet, system: System) -> None:
    def created() -> int:
        return by(system, "registry", "iot_keycloak_operations_total", "operation", status="ok")["create"]

    def ended() -> int:
        return by(system, "rotator", "iot_rotation_duration_seconds_count", "outcome")["TIMEOUT"]

    before, ended_before = created(), ended()
    package = await fleet.device()
    await fleet.offered(package)
    await fleet.seen(package, "rotation/timed_out")
    assert created() == before + 1
    assert ended() == ended_before + 1
    sample = system.samples("registry", "iot_keycloak_operations_total")[0]
    assert set(sample.labels) == {"operation", "status"}
