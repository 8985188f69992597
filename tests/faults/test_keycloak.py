"""What is not Keycloak's own word on a client changes nothing: a proxy, a missing realm, calls that are slow."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import PATIENCE_S, logged
from shared.protocol import admin
from tests.faults.promise import expire
from tests.keycloak_proxy import Fault, Proxy

TIMES = 25
SLOW_S = 5.0
"""Longer than the tool waits until it repeats its request."""


@pytest.mark.parametrize(
    "answer",
    [
        Response("no such page", status_code=404),
        JSONResponse({"error": "Realm does not exist"}, status_code=404),
        HTMLResponse("<html>log in to the network</html>"),
        JSONResponse({"clients": []}),
    ],
    ids=["404 of a proxy", "404 of a missing realm", "200 of a captive portal", "an object"],
)
async def test_a_rotation_waits_while_somebody_else_answers_in_keycloaks_place(
    fleet: Fleet, proxy: Proxy, system: System, answer: Response
) -> None:
    package = await fleet.device()
    stack, rotator = system.stack, system.services["rotator"]
    begun = asyncio.Event()

    def from_the_switch_on(method: str, path: str) -> Fault | None:
        if method == "PUT":
            begun.set()
        return Fault(answer) if begun.is_set() and "/clients" in path else None

    written = rotator.log_size
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        proxy.judge = from_the_switch_on
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await begun.wait()
        await expire(stack, package)
        await logged(rotator, "rotation.deferred", package.client_id, beyond=written)
        assert await credentials.broker_accepts(package)
        assert await credentials.keycloak_accepts(package)
        proxy.judge = lambda _method, _path: None
        view = await fleet.until(package, lambda view: view.rotation_state != "PENDING")
        valid = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    assert valid.secret_generation == view.secret_generation
    assert await credentials.keycloak_accepts(valid)
    assert await credentials.broker_accepts(valid)


async def test_a_reissue_that_is_repeated_while_keycloak_is_slow_is_done_once_and_answered_twice(
    fleet: Fleet, proxy: Proxy, stack: Stack
) -> None:
    package = await fleet.device()
    request = admin.DeviceRef(request_id=uuid4().hex, device=package.client_id)
    proxy.judge = lambda method, _path: Fault(wait_s=SLOW_S) if method == "PUT" else None
    first, second = await asyncio.gather(
        *(fleet.admin.call(admin.DEVICE_REISSUE, request, timeout_s=PATIENCE_S) for _ in range(2))
    )
    assert (first.secret, first.secret_generation) == (second.secret, second.secret_generation)
    assert await credentials.keycloak_accepts(first)
    assert await credentials.broker_accepts(first)
    (row,) = await run(
        stack, "SELECT answer::text FROM mdm.admin_requests WHERE request_id = $1", request.request_id
    )
    assert first.secret not in row[0]


async def test_what_is_changed_of_a_client_at_once_is_not_lost(fleet: Fleet) -> None:
    """Of two updates of one client at the same time Keycloak keeps only parts, now and then."""
    package = await fleet.device()
    for _ in range(TIMES):
        renewed, _ = await asyncio.gather(
            fleet.ask(admin.DEVICE_REISSUE, device=package.client_id),
            fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False),
        )
        assert not await credentials.keycloak_accepts(renewed)
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=True)
        assert await credentials.keycloak_accepts(renewed)


async def test_a_generation_that_a_person_has_overwritten_ends_no_service_and_no_rotation(
    fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    pids = {name: process.pid for name, process in system.services.items()}
    async with credentials.client_in_keycloak(system.stack.endpoints, package) as (http, path, found):
        (mapper,) = (it for it in found["protocolMappers"] if it["name"] == "secret_gen")
        mapper["config"]["claim.value"] = "by hand"
        (await http.put(path, json=found)).raise_for_status()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    assert {name: process.pid for name, process in system.services.items() if process.running} == pids
