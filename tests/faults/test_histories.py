"""Random histories on the real three stores, for as long as the tests have time for them."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

import pytest

from dev.device_kinds import ALL
from dev.fleet import Fleet
from dev.system import System
from tests import keycloak_proxy
from tests.faults.histories import SETTINGS, Runner
from tests.matrix import reports

SECONDS = float(os.environ.get("HISTORIES_S", "30"))
MOST = int(os.environ["HISTORIES"]) if "HISTORIES" in os.environ else None
ONLY = os.environ.get("HISTORIES_DEVICE")


@pytest.fixture
async def runner(system: System, fleet: Fleet) -> AsyncIterator[Runner]:
    real = system.stack.endpoints.keycloak_url
    seed = int(os.environ.get("HISTORIES_SEED") or secrets.randbelow(2**20))
    async with keycloak_proxy.running(real) as proxy:
        urls = {"MDM_KEYCLOAK_URL": proxy.url, "MDM_KEYCLOAK_PUBLIC_URL": real}
        settings = urls | SETTINGS
        async with (
            system.altered("registry", fate=None, **settings),
            system.altered("rotator", fate=None, **settings),
        ):
            yield Runner(fleet, system, proxy, seed, [kind for kind in ALL.values() if ONLY in {None, kind.name}])


@pytest.mark.timeout(0)  # as many and as long as is wanted; each history has limits of its own
async def test_no_device_is_lost_in_random_histories(runner: Runner) -> None:
    await runner.run(SECONDS, MOST)
    reports.append(runner.report())
    assert runner.outcomes, "no history has ended"
    assert not runner.failures, "\n".join(runner.failures)
