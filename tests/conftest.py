"""The real stack, the three services on it, an admin and a fleet: started once for all tests that ask for them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cli.client import Admin
from dev import stack as stack_module
from dev import system as system_module
from dev.database import run
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from shared.protocol import admin as protocol
from tests import keycloak_proxy, matrix
from tests.keycloak_proxy import Proxy

DEADLINE_S = 5
SHOWN_LINES = 20
"""Lines of each service's log that are shown with a failure."""
UNIT_TESTS = Path(__file__).parent / "unit"

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Let Ctrl-C end what the tests start, which a job in the background would teach them to ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run unit tests last: their files take seconds only, so that no worker ends long before the others."""
    items.sort(key=lambda item: UNIT_TESTS in item.path.parents)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the services logged last: the reason often stands there only."""
    report = yield
    system = getattr(item, "funcargs", {}).get("system")
    if report.failed and isinstance(system, System):
        for name, process in system.services.items():
            state = "running" if process.running else "not running"
            report.sections.append((f"log of {name} ({state})", process.log_tail(SHOWN_LINES)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the size and the result of each matrix of faults."""
    for report in matrix.reports:
        terminalreporter.write_line(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the matrices of a worker to the process that prints the summary."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["matrices"] = matrix.reports


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - xdist's
    """Take the matrices of a worker."""
    matrix.reports.extend(getattr(node, "workeroutput", {}).get("matrices", []))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with stack_module.scratch() as folder, stack_module.running(folder, durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def system(stack: Stack) -> Iterator[System]:
    settings = {"MDM_ROTATION_DEADLINE_S": str(DEADLINE_S), "MDM_LEADER_LEASE_S": "2"}
    with system_module.running(stack, **settings) as running:
        # It compares all on startup, and would repair what a test breaks.
        asyncio.run(running.compared())
        yield running


@pytest.fixture(scope="session")
async def admin(system: System) -> AsyncIterator[Admin]:
    async with Admin(system.profile) as connected:
        yield connected


@pytest.fixture
async def fleet(admin: Admin, stack: Stack, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with watching(admin) as witness:
        yield Fleet(admin, witness, tmp_path)
    # Else the firmware service would go on with them until the end of all tests.
    await run(stack, "DELETE FROM mdm.rollouts")


async def call_off_all(fleet: Fleet) -> None:
    """Call off whatever tests have left, and wait until it has ended."""
    await fleet.ask(protocol.ROTATION_CANCEL, all=True)
    await fleet.witness.until(
        partial(fleet.ask, protocol.ROTATION_STATUS), lambda found: not found.counts.queued + found.counts.pending
    )


@pytest.fixture
async def no_rotations(fleet: Fleet) -> None:
    """Begin without rotations of other tests, which may hold the only slot, and end at any time."""
    await call_off_all(fleet)


@pytest.fixture
async def patient(no_rotations: None, fleet: Fleet, system: System) -> AsyncIterator[None]:
    """Run a rotator with a deadline that no test reaches, and leave it no rotation."""
    del no_rotations
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="300"):
        yield
        await call_off_all(fleet)


@pytest.fixture
async def proxy(system: System) -> AsyncIterator[Proxy]:
    """Put a proxy between Keycloak and the services that change clients."""
    real = system.stack.endpoints.keycloak_url
    async with keycloak_proxy.running(real) as running:
        through = partial(system.altered, MDM_KEYCLOAK_URL=running.url, MDM_KEYCLOAK_PUBLIC_URL=real)
        async with through("registry"), through("rotator"):
            yield running
