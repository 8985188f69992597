"""A simulated fleet with devices of each failure, on the real stack: campaign and rollout end as they should."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.client import Admin
from cli.simulate import failure_modes, inventory
from cli.simulate.tally import FailureMode
from dev import waiting
from dev.database import run
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.simulator import Simulator, simulating
from dev.stack import Stack
from dev.system import System
from shared.protocol import admin
from shared.protocol.admin import DeviceView
from tests.integration.test_rollouts import AT_ONCE, expire, fit, stands, stored, until

DEVICES = 25
EACH = 2
"""So many devices of each failure: 8%."""
PERCENTS = dict.fromkeys(FailureMode, 8.0)
PATIENCE_S = 120.0
SOAK_S = 3600
"""So long that a rollout does not end before its silent devices are given up; nobody waits for it."""


async def devices(fleet: Fleet, model: str) -> dict[str, DeviceView]:
    page = await fleet.ask(admin.DEVICE_LIST, model=model, tag=inventory.TAG)
    return {device.client_id: device for device in page.devices}


@pytest.fixture(scope="module")
async def simulated(
    admin: Admin, system: System, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, Simulator]]:
    """Simulate a fleet with failures, all of it connected; yield its model too."""
    folder = tmp_path_factory.mktemp("crowd")
    settings = {"MDM_ROTATION_MAX_PARALLEL": "20", "MDM_ROTATION_DEADLINE_S": "20"}
    async with watching(admin) as witness:
        model = await Fleet(admin, witness, folder).model()
    shares = [word for mode in FailureMode for word in (f"--{mode.field.replace('_', '-')}", "8%")]
    async with (
        system.altered("rotator", fate=None, **settings),
        simulating(system, folder, "--devices", DEVICES, "--model", model, "--slow-s", 0.5, *shares) as simulator,
    ):
        await simulator.until(lambda it: it["connected"] == DEVICES, patience_s=PATIENCE_S)
        yield model, simulator


async def test_all_but_the_silent_ones_are_configured(simulated: tuple[str, Simulator], fleet: Fleet) -> None:
    model, simulator = simulated
    counts = await simulator.until(lambda it: it["configured"] == DEVICES - EACH, patience_s=PATIENCE_S)
    assert {mode: counts["failures"][mode]["devices"] for mode in FailureMode} == dict.fromkeys(FailureMode, EACH)
    found = await fleet.witness.until(
        lambda: devices(fleet, model),
        lambda views: (
            Counter(view.config_outcome for view in views.values())["applied"] == DEVICES - EACH
            and all(view.online for view in views.values())
        ),
    )
    failing = failure_modes.assign(list(found), PERCENTS)
    assert {name for name, mode in failing.items() if mode is FailureMode.SILENT} == {
        name for name, view in found.items() if view.config_outcome is None
    }


async def test_a_campaign_gives_a_secret_to_all_that_hear_and_can_prove_it(
    simulated: tuple[str, Simulator], fleet: Fleet
) -> None:
    model, simulator = simulated
    await fleet.ask(admin.ROTATION_START, model=model)
    found = await waiting.until(
        lambda: devices(fleet, model),
        lambda views: {view.rotation_state for view in views.values()} == {"OK", "TIMEOUT"},
        within_s=PATIENCE_S,
    )
    failing = failure_modes.assign(list(found), PERCENTS)
    lost = {name for name, mode in failing.items() if mode in {FailureMode.SILENT, FailureMode.WRONG_PROOF}}
    assert {name for name, view in found.items() if view.rotation_state == "TIMEOUT"} == lost
    assert {view.secret_generation for name, view in found.items() if name not in lost} == {2}
    failed = (FailureMode.SILENT, FailureMode.SLOW, FailureMode.WRONG_PROOF)
    await simulator.until(
        lambda it: (
            (it["connected"], it["rotations"]) == (DEVICES, DEVICES - 2 * EACH)
            and all(it["failures"][mode]["times"] > 0 for mode in failed)
        ),
        patience_s=PATIENCE_S,
    )
    for name, mode in failing.items():
        if mode is FailureMode.WRONG_PROOF:
            [attempt] = (await fleet.ask(admin.ROTATION_HISTORY, device=name)).rotations
            assert attempt.refused_proofs > 0


async def test_a_rollout_reaches_all_that_hear_and_keep_it(
    simulated: tuple[str, Simulator], fleet: Fleet, stack: Stack
) -> None:
    model, simulator = simulated
    await stored(fleet, model)
    await fit(fleet, model, DEVICES)
    plan = {**AT_ONCE, "waves": ["100%"], "success_percent": 80, "failure_limit": "20%", "soak_s": SOAK_S}
    rollout = (await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan)).rollout
    kept = DEVICES - 2 * EACH
    await until(
        fleet, rollout, lambda it: (stands(it).get("confirmed"), stands(it).get("rolled_back")) == (kept, EACH)
    )
    await expire(stack, rollout)
    expected = {"confirmed": kept, "rolled_back": EACH, "silent": EACH}
    await until(fleet, rollout, lambda it: stands(it) == expected)
    await run(stack, "UPDATE mdm.rollouts SET met_at = met_at - interval '1 day' WHERE id = $1", rollout)
    ended = await until(fleet, rollout, lambda it: it.state == "COMPLETED")
    assert stands(ended) == expected
    # Its counts come once in a while: the last ones may be older than what the services know.
    counts = await simulator.until(
        lambda it: (it["connected"], it["firmware"]) == (DEVICES, {"1.0.0": 2 * EACH, "1.1.0": kept}),
        patience_s=PATIENCE_S,
    )
    assert counts["failures"][FailureMode.ROLLED_BACK]["times"] == EACH


async def test_a_rollout_that_allows_fewer_failures_halts(simulated: tuple[str, Simulator], fleet: Fleet) -> None:
    model, _ = simulated
    await stored(fleet, model, "1.2.0")
    await fit(fleet, model, DEVICES, "1.2.0")
    plan = {**AT_ONCE, "waves": ["100%"], "failure_limit": str(EACH - 1)}
    rollout = (await fleet.ask(admin.ROLLOUT_START, model=model, version="1.2.0", plan=plan)).rollout
    assert (await until(fleet, rollout, lambda it: it.state == "HALTED")).failure_count >= EACH


async def mdm(system: System, folder: Path, *words: object) -> dict[str, list[str]]:
    profile = folder / "profile.toml"
    system.profile.save(profile)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("mdm"),
        *map(str, ("--json", "--profile", profile, *words)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, list[str]] = json.loads(output)
    return found


async def test_the_same_devices_come_back_and_go_when_they_are_removed(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model = await fleet.model()
    stranger = await fleet.device(model)
    async with simulating(system, tmp_path, "--devices", 3, "--model", model) as simulator:
        await simulator.until(lambda it: it["configured"] == 3, patience_s=PATIENCE_S)
        assert await simulator.interrupt() == 0
    first = await devices(fleet, model)
    assert len(first) == 3
    found = await fleet.witness.until(
        lambda: devices(fleet, model), lambda views: not any(view.online for view in views.values())
    )
    assert {view.config_outcome for view in found.values()} == {"applied"}
    state = simulator.folder
    assert {path.stat().st_mode & 0o777 for path in state.rglob("package.json")} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o700}

    # One package is lost, and one device more is wanted.
    (state / next(iter(first)) / "package.json").unlink()
    async with simulating(system, tmp_path, "--devices", 4, "--model", model) as simulator:
        await simulator.until(lambda it: it["connected"] == it["configured"] == 4, patience_s=PATIENCE_S)
    second = await devices(fleet, model)
    assert len(second) == 4
    assert set(second) > set(first)

    removed = await mdm(system, tmp_path, "simulate", "--remove", "--yes", "--model", model, "--state", state)
    assert set(removed["removed"]) == set(second)
    assert list(state.iterdir()) == []
    left = await fleet.ask(admin.DEVICE_LIST, model=model)
    assert [device.client_id for device in left.devices] == [stranger.client_id]


async def test_a_simulation_ends_by_itself_and_a_broken_device_ends_only_itself(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model = await fleet.model()
    async with simulating(system, tmp_path, "--devices", 2, "--model", model) as simulator:
        await simulator.until(lambda it: it["connected"] == 2, patience_s=PATIENCE_S)
    victim = next(iter(await devices(fleet, model)))
    (simulator.folder / victim / "slots.json").write_text("{")
    async with simulating(system, tmp_path, "--devices", 2, "--model", model, "--minutes", 0.05) as simulator:
        assert await simulator.process.wait() == 1
    assert list(simulator.counts["broken"]) == [victim]


async def test_a_simulation_ends_when_nobody_reads_its_counts_any_more(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model = await fleet.model()
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    words = ("--profile", profile, "simulate", "--devices", 1, "--model", model, "--state", tmp_path / "state")
    command = shlex.join(map(str, (Path(sys.executable).with_name("mdm"), *words)))
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        counts, notes = await process.communicate()
    assert process.returncode == 0
    assert counts.startswith(b"devices ")
    assert b"Traceback" not in notes
    found = await fleet.witness.until(
        lambda: devices(fleet, model), lambda views: not any(view.online for view in views.values())
    )
    assert len(found) == 1
