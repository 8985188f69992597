"""`docker compose up` on a machine that has nothing: the main job through TLS, a new certificate, down and up.

Where no image registry is reached the official images are stand-ins of Debian packages: that their own entry
points do as compose.yaml expects is not shown then.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import aiomqtt
import httpx
import pytest

from cli.client import Admin
from dev.credentials import broker_accepts, device_client
from dev.event_recorder import EventRecorder, watching
from dev.fleet import OPTIONS, Fleet, powered
from dev.waiting import until
from device import image_builder
from device import package as packages
from device.claim import Machine
from device.options import Options
from shared.protocol import admin as operations
from shared.protocol import messages
from shared.protocol.admin import Package
from tests.compose.deployment import Deployment, certificate
from tests.compose.engine import ROOT

ONE_SHOT = {"init", "migrate"}
SIMULATED = 10
TWICE = {"registry", "rotator", "firmware"}
CHECKED = {"broker", "keycloak", "postgres", *TWICE, *(f"{service}-2" for service in TWICE)}
PREFERRING_HTTP = Options(
    **{name: getattr(OPTIONS, name) for name in ("retry_s", "backoff_min_s", "backoff_max_s")}, prefer_http=True
)


@pytest.fixture
async def witness(deployment: Deployment) -> AsyncIterator[EventRecorder]:
    async with Admin(await asyncio.to_thread(lambda: deployment.profile)) as admin, watching(admin) as made:
        yield made


@pytest.fixture(scope="module")
def package(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The package that the admin tool writes, as its user gets it."""
    folder = tmp_path_factory.mktemp("work")
    os.chown(folder, 4321, 4321)
    deployment.mdm(folder, "model", "add", "blink", "--chip", "esp32")
    added = deployment.mdm(folder, "device", "add", "--model", "blink")
    deployment.mdm(folder, "device", "provision", added["client_id"], "--output", "package.json")
    written = folder / "package.json"
    assert (written.stat().st_uid, written.stat().st_mode & 0o777) == (4321, 0o600)
    return Package.model_validate_json(written.read_bytes())


def provisioned(deployment: Deployment, client_id: str, folder: Path) -> Package:
    """Return a device's package as it is now."""
    deployment.mdm(folder, "device", "provision", client_id, "--output", "now.json", "--force")
    return Package.model_validate_json((folder / "now.json").read_bytes())


async def token_status(package: Package) -> int:
    """Return how Keycloak answers the device, by the URL and the authority in its package."""
    form = {"grant_type": "client_credentials", "client_id": package.client_id, "client_secret": package.secret}
    trust = ssl.create_default_context(cadata=package.ca_certificate)
    async with httpx.AsyncClient(verify=trust) as client:
        return (await client.post(package.token_url, data=form)).status_code


def test_all_containers_are_healthy_or_done(deployment: Deployment) -> None:
    states = {service: one["State"] for service, one in deployment.containers().items()}
    health = {name: state["Health"]["Status"] for name, state in states.items() if "Health" in state}
    assert health == dict.fromkeys(CHECKED, "healthy")
    assert {name for name, state in states.items() if not state["Running"]} == ONE_SHOT
    assert all(states[name]["ExitCode"] == 0 for name in ONE_SHOT)


def test_our_containers_have_no_rights(deployment: Deployment) -> None:
    for service, one in deployment.containers().items():
        if one["Config"]["Image"].startswith("device-mdm"):
            assert one["HostConfig"]["ReadonlyRootfs"], service
            assert one["HostConfig"]["CapDrop"] == ["ALL"], service
    for service in TWICE:
        said = deployment.docker("compose", "exec", "-T", service, "cat", "/proc/self/status")
        assert "Uid:\t10001\t" in said
        assert "CapEff:\t0000000000000000" in said


def test_no_secret_is_seen_from_outside(deployment: Deployment) -> None:
    secrets = deployment.secrets()
    assert len(secrets) > len(CHECKED)
    seen = json.dumps(list(deployment.containers().values())) + deployment.docker("compose", "logs")
    assert {secret for secret in secrets if secret in seen} == set()


def test_only_ports_with_tls_are_published(deployment: Deployment) -> None:
    published = {
        (service, inside)
        for service, one in deployment.containers().items()
        for inside, outside in one["NetworkSettings"]["Ports"].items()
        if outside
    }
    assert published == {
        ("broker", "8883/tcp"),
        ("claim-proxy", "8884/tcp"),
        ("broker", "8885/tcp"),
        ("keycloak", "8443/tcp"),
        ("firmware", "8444/tcp"),
    }


async def test_the_web_page_is_there_and_finds_the_broker(deployment: Deployment, package: Package) -> None:
    trust = ssl.create_default_context(cadata=package.ca_certificate)
    host, port = package.mqtt_host, deployment.port("MDM_PAGES_PORT")
    async with httpx.AsyncClient(verify=trust) as client:
        page = await client.get(f"https://{host}:{deployment.port('MDM_IMAGES_PORT')}/")
    assert page.status_code == httpx.codes.OK
    assert f"wss://{host}:{port}" in page.headers["content-security-policy"]
    profile = await asyncio.to_thread(lambda: deployment.profile)
    pages = aiomqtt.Client(
        host,
        port,
        username=profile.account,
        password=profile.password.get_secret_value(),
        transport="websockets",
        tls_context=trust,
    )
    async with pages:
        pass


async def test_simulated_devices_are_made_and_live(deployment: Deployment, witness: EventRecorder) -> None:
    def look() -> list[bool]:
        return [one["online"] for one in deployment.mdm(ROOT, "device", "list", "--model", "demo")["devices"]]

    await witness.until(lambda: asyncio.to_thread(look), lambda online: online == [True] * SIMULATED)


async def test_a_machine_gets_its_identity_by_a_claim(
    deployment: Deployment, package: Package, tmp_path: Path
) -> None:
    model = packages.model_of(package)
    deployment.mdm(
        tmp_path, "claim", "create", "--model", model, "--uses", "1", "--expires", "1d", "--output", "claim.json"
    )
    claim = packages.load_claim(tmp_path / "claim.json")
    assert claim.mqtt_port == deployment.port("MDM_CLAIMS_PORT")
    assert await broker_accepts(await Machine(claim, "de3000000001", tmp_path / "machine", OPTIONS).package())


async def test_the_main_job(
    deployment: Deployment, witness: EventRecorder, package: Package, tmp_path: Path
) -> None:
    name = package.client_id
    assert package.mqtt_tls
    assert package.mqtt_port == deployment.port("MDM_DEVICES_PORT")

    async def mdm(*arguments: str) -> None:
        await asyncio.to_thread(deployment.mdm, tmp_path, *arguments)

    assert await token_status(package) == httpx.codes.OK
    assert await broker_accepts(package)
    async with powered(package, tmp_path / "esp32", options=PREFERRING_HTTP):
        await witness.seen(name, "device/online")
        await mdm("config", "set", name, "interval_s=30")
        await witness.seen(name, "config/reported", version=2, outcome="applied")
        image = image_builder.build(version="1.1.0", project="blink", payload=200_000)
        (tmp_path / "blink.bin").write_bytes(image)
        await mdm("firmware", "upload", "blink.bin", "--model", "blink", "--yes")
        await witness.seen(name, "firmware/reported", stage="confirmed")
        await mdm("rotate", name)
        await witness.seen(name, "rotation/completed")
        assert await token_status(package) == httpx.codes.UNAUTHORIZED
        assert not await broker_accepts(package)
    answers = [
        json.loads(line[line.index("{") :])
        for line in deployment.docker("compose", "logs", "--no-log-prefix", "firmware").splitlines()
        if '"http.answered"' in line
    ]
    assert sum(one["bytes"] for one in answers if one.get("client_id") == name) == len(image)


async def test_a_new_certificate_ends_no_session(deployment: Deployment, tmp_path: Path) -> None:
    added = await asyncio.to_thread(deployment.mdm, tmp_path, "device", "add", "--model", "blink")
    package = await asyncio.to_thread(provisioned, deployment, added["client_id"], tmp_path)
    authority = package.ca_certificate or ""
    ports = [deployment.port("MDM_DEVICES_PORT"), deployment.port("MDM_IMAGES_PORT")]
    old = [certificate(package.mqtt_host, port, authority) for port in ports]
    async with device_client(package) as client:
        await client.subscribe(f"mdm/v1/d/{package.client_id}/down/#", qos=1)
        online = messages.Status(online=True).model_dump_json(exclude_none=True)
        await client.publish(f"mdm/v1/d/{package.client_id}/up/status", online, qos=1)
        renew = ("compose", "exec", "-T", "certificates", "python", "-m", "deploy.homelab.renewal", "--now")
        await asyncio.to_thread(deployment.docker, *renew)
        for port, before in zip(ports, old, strict=True):
            await until(
                partial(asyncio.to_thread, certificate, package.mqtt_host, port, authority),
                partial(operator.ne, before),
            )
        await asyncio.to_thread(deployment.mdm, tmp_path, "rotate", package.client_id)
        message = await anext(aiter(client.messages))
        assert str(message.topic).startswith(f"mdm/v1/d/{package.client_id}/down/")
    assert await broker_accepts(package)


async def test_down_and_up_again_keeps_all(deployment: Deployment, tmp_path: Path) -> None:
    def look() -> tuple[object, set[str]]:
        devices = deployment.mdm(tmp_path, "device", "list")["devices"]
        return sorted(device["client_id"] for device in devices), deployment.secrets()

    before = await asyncio.to_thread(look)
    await asyncio.to_thread(deployment.down)
    await asyncio.to_thread(deployment.up)
    assert await asyncio.to_thread(look) == before


async def test_all_is_lost_and_comes_back_from_a_backup(
    deployment: Deployment, package: Package, tmp_path: Path
) -> None:
    def authority(way: str) -> None:
        run = (
            "compose",
            "run",
            "--rm",
            "--no-deps",
            "-T",
            "-v",
            f"{tmp_path}:/backup",
            "--entrypoint",
            "tar",
            "init",
        )
        deployment.docker(*run, "-C", "/volumes", way, "/backup/authority.tar", "authority")

    def lose() -> None:
        deployment.mdm(tmp_path, "backup", "home.backup")
        authority("-cf")
        assert deployment.remains()
        deployment.down("--volumes")
        assert deployment.remains() == []

    def bring_back() -> None:
        authority("-xf")
        deployment.up()
        deployment.docker("compose", "stop", "broker", *sorted(CHECKED - {"postgres", "keycloak", "broker"}))
        deployment.mdm(tmp_path, "restore", "home.backup", "--replace")
        deployment.up()

    renewed = await asyncio.to_thread(provisioned, deployment, package.client_id, tmp_path)
    await asyncio.to_thread(lose)
    await asyncio.to_thread(bring_back)
    assert await token_status(renewed) == httpx.codes.OK
    assert await broker_accepts(renewed)
    assert (await asyncio.to_thread(provisioned, deployment, package.client_id, tmp_path)).secret == renewed.secret


async def test_a_new_authority_locks_nobody_out_and_waits_for_a_device_that_is_off(
    deployment: Deployment, witness: EventRecorder, tmp_path: Path
) -> None:
    def renew(*options: str) -> str:
        return deployment.docker("renew-authority", *options, program=ROOT / "scripts/mdm-compose")

    async def prepared(fleet: Fleet) -> list[Package]:
        """Return the packages of the only two devices; nothing else depends on the authority."""
        for device in (await fleet.ask(operations.DEVICE_LIST)).devices:
            await fleet.ask(operations.DEVICE_REMOVE, device=device.client_id)
        for claim in (await fleet.ask(operations.CLAIM_LIST)).claims:
            await fleet.ask(operations.CLAIM_REVOKE, claim=claim.claim)
        model = await fleet.model()
        return [await fleet.device(model) for _ in range(2)]

    def on(package: Package) -> AbstractAsyncContextManager[object]:
        return powered(package, tmp_path / package.client_id)

    async def moved(package: Package) -> None:
        await witness.seen(package.client_id, "connection/applied")

    async with Admin(await asyncio.to_thread(lambda: deployment.profile)) as admin:
        here, away = await prepared(Fleet(admin, witness, tmp_path))
    async with on(away):
        await witness.seen(away.client_id, "device/online")
    async with on(here):
        assert "There is a next authority" in await asyncio.to_thread(renew)
        await moved(here)
        assert "trust only the present authority: 1" in await asyncio.to_thread(renew)
    before = certificate(here.mqtt_host, here.mqtt_port, here.ca_certificate or "")
    async with on(here), on(away):
        await moved(away)
        assert "signs from now on" in await asyncio.to_thread(renew)
        both = await asyncio.to_thread(provisioned, deployment, here.client_id, tmp_path)
        trusted = both.ca_certificate or ""
        await until(
            partial(asyncio.to_thread, certificate, here.mqtt_host, here.mqtt_port, trusted),
            partial(operator.ne, before),
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            certificate(here.mqtt_host, here.mqtt_port, here.ca_certificate or "")
    witness.forget(here.client_id)
    witness.forget(away.client_id)
    async with on(here), on(away):
        for package in (here, away):
            await witness.seen(package.client_id, "device/online")
        assert "Done" in await asyncio.to_thread(renew)
        for package in (here, away):
            await moved(package)
    last = await asyncio.to_thread(provisioned, deployment, away.client_id, tmp_path)
    assert (last.ca_certificate or "").count("BEGIN CERTIFICATE") == 1
    assert await broker_accepts(last)
