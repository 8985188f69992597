"""The proxy before the broker's listener for claims: one address cannot keep new machines out."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy import claim_proxy
from deploy.claim_proxy import MAX_CONNECTIONS, Proxy
from dev.credentials import broker_accepts
from dev.fleet import OPTIONS, Fleet
from dev.servers.base import HOST, Leash, Process, free_port
from dev.stack import Stack
from device.claim import Machine
from device.options import Hooks
from shared.protocol import admin
from shared.runtime import listener
from shared.runtime.settings import ClaimProxySettings
from tests.claims import new_claim, new_uid
from tests.connections import ELSEWHERE, ended, held

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def proxy(stack: Stack) -> Iterator[int]:
    """Run the proxy before the real broker; its port."""
    port = free_port()
    leash = Leash()
    process = Process(
        "claim-proxy",
        stack.folder / "logs/claim-proxy.log",
        lambda: b"claim_proxy.listens" in process.log_since(),
        [sys.executable, "-m", "deploy.claim_proxy"],
        leash=leash,
        environment={
            "MDM_MQTT_HOST": stack.endpoints.mqtt_host,
            "MDM_CLAIM_PROXY_PORT": str(port),
            "MDM_CLAIM_PROXY_BROKER_PORT": str(stack.endpoints.claim_mqtt_port),
            "PYTHONPATH": str(ROOT),
        },
    )
    process.start()
    yield port
    process.stop()
    leash.close()


@pytest.mark.parametrize("tls", [False, True], ids=["without a byte", "with TLS"])
async def test_idle_connections_of_one_address_leave_room_for_a_machine_of_another(
    fleet: Fleet, stack: Stack, proxy: int, tmp_path: Path, *, tls: bool
) -> None:
    claim = (await new_claim(fleet)).model_copy(update={"mqtt_port": proxy})
    trust = ssl.create_default_context(cafile=stack.endpoints.ca_file) if tls else None
    events: list[str] = []
    hooks = Hooks(on_event=lambda event, _: events.append(event))
    async with held(proxy, [ELSEWHERE] * MAX_CONNECTIONS, tls=trust):
        package = await Machine(claim, new_uid(), tmp_path / "machine", OPTIONS, hooks).package()
    assert events == ["claim.granted", "claim.stored"]
    assert await broker_accepts(package)


async def test_who_does_not_go_on_with_the_handshake_is_cut_off(stack: Stack, proxy: int) -> None:
    async def silent(start: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, proxy)
        writer.write(start)
        await ended(reader)
        writer.transport.abort()

    outgoing = ssl.MemoryBIO()
    trust = ssl.create_default_context(cafile=stack.endpoints.ca_file)
    handshake = trust.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    await asyncio.gather(silent(b""), silent(b"\x16"), silent(outgoing.read()))


@asynccontextmanager
async def in_process(stack: Stack) -> AsyncIterator[int]:
    settings = ClaimProxySettings(
        mqtt_host=stack.endpoints.mqtt_host, claim_proxy_broker_port=stack.endpoints.claim_mqtt_port
    )
    listening = listener.listening_on(HOST, 0, settings="port")
    port = listening.getsockname()[1]
    limits = {"max_connections": MAX_CONNECTIONS, "max_per_address": settings.claim_proxy_max_per_address}
    running = asyncio.create_task(listener.Listener(listening, Proxy(settings).serve, **limits).run())
    try:
        yield port
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("limit", ["LIFETIME_S", "IDLE_S"])
async def test_a_machine_that_waits_for_approval_is_cut_off_and_comes_back_for_its_identity(
    fleet: Fleet, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(claim_proxy, limit, 0.3)
    uid, cut_off = new_uid(), asyncio.Event()
    served = Proxy.serve

    async def serve(self: Proxy, connection: object) -> None:
        await served(self, connection)  # type: ignore[arg-type]
        cut_off.set()

    monkeypatch.setattr(Proxy, "serve", serve)
    async with in_process(stack) as port:
        claim = (await new_claim(fleet, needs_approval=True)).model_copy(update={"mqtt_port": port})
        machine = asyncio.create_task(Machine(claim, uid, tmp_path / "machine", OPTIONS).package())
        await fleet.witness.until(
            lambda: fleet.ask(admin.CLAIM_REQUESTS, claim=claim.account),
            lambda found: [one.uid for one in found.requests] == [uid],
        )
        async with asyncio.timeout(30):
            await cut_off.wait()
        await fleet.ask(admin.CLAIM_APPROVE, uid=uid)
        async with asyncio.timeout(60):
            package = await machine
    assert await broker_accepts(package)
