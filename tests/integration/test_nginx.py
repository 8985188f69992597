"""Images through nginx, as owners configure it: nginx sends them, and the service decides who gets which."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dev import http_helpers
from dev.fleet import Fleet
from dev.http_helpers import bearer, served
from dev.servers.base import HOST, free_port, started
from dev.servers.nginx import before_images, nginx
from dev.servers.tools import MissingToolError
from dev.system import System
from dev.uploads import upload
from device import image_builder
from shared.protocol.admin import Package
from tests import s3_server

SIZE = 200_000


@dataclass(frozen=True, slots=True)
class Front:
    """nginx before the firmware service: an image, one of its devices, and a client with the device's token."""

    image: bytes
    sha256: str
    package: Package
    client: httpx.AsyncClient
    stranger: str
    """The token of another model's device."""


@pytest.fixture(params=["file", "s3"])
async def front(
    request: pytest.FixtureRequest, fleet: Fleet, system: System, tmp_path: Path
) -> AsyncIterator[Front]:
    port, certificates = free_port(), system.stack.endpoints.ca_file.parent
    settings = {"MDM_HTTP_ACCEL": "/stored"}
    async with AsyncExitStack() as stack:
        if request.param == "s3":
            process, theirs = s3_server.server(tmp_path, leash=system.leash)
            await stack.enter_async_context(started(process))
            settings |= {**theirs, "MDM_ASSETS_URL": s3_server.URL, "MDM_ASSETS_DIR": str(tmp_path / "shelf")}
            name = "images-s3.conf"
            examples = {"https://s3.eu-central-1.amazonaws.com/": f"{theirs['AWS_ENDPOINT']}/"}
        else:
            name = "images.conf"
            examples = {"/var/lib/mdm/": f"{system.stack.folder}/assets/"}
        service_port = system.http_ports["firmware"]
        server = before_images(name, examples, certificates=certificates, port=port, service_port=service_port)
        try:
            proxy = nginx(tmp_path / "nginx", server, port=port, leash=system.leash)
        except MissingToolError as error:
            pytest.skip(str(error))
        await stack.enter_async_context(started(proxy))
        await stack.enter_async_context(system.altered("firmware", fate=None, max_files=None, **settings))
        model, other = await fleet.model(), await fleet.model()
        package, stranger = await fleet.device(model), await fleet.device(other)
        image = image_builder.build(version="1.1.0", project=model, size_bytes=SIZE)
        view = await upload(fleet, model, image)
        trust = ssl.create_default_context(cafile=certificates / "ca.crt")
        url, headers = f"https://{HOST}:{port}", bearer(await http_helpers.token(package))
        async with httpx.AsyncClient(base_url=url, headers=headers, verify=trust, timeout=30) as client:
            yield Front(image, view.sha256, package, client, await http_helpers.token(stranger))


async def test_nginx_sends_what_the_service_permits(front: Front, system: System) -> None:
    path, etag = f"/firmware/{front.sha256}", f'"{front.sha256}"'
    for name in (path, "/firmware/latest"):
        whole = await front.client.get(name)
        assert (whole.status_code, whole.content) == (200, front.image)
        assert (whole.headers["etag"], whole.headers["accept-ranges"]) == (etag, "bytes")
        assert "x-accel-redirect" not in whole.headers
    part = await front.client.get(path, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, front.image[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{SIZE}"
    assert part.headers["etag"] == etag
    lines = await served(system, front.package, least=3)
    assert [(line["status"], line["bytes"]) for line in lines] == [(200, 0)] * 3


async def test_conditions_are_the_services(front: Front) -> None:
    path, etag = f"/firmware/{front.sha256}", f'"{front.sha256}"'

    async def answer(**headers: str) -> tuple[int, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answered = await front.client.get(path, headers=sent)
        return answered.status_code, answered.content

    assert await answer(If_None_Match=etag) == (304, b"")
    assert await answer(Range="bytes=10-19", If_Range=etag) == (206, front.image[10:20])
    assert await answer(Range="bytes=10-19", If_Range='"another"') == (200, front.image)
    assert (await answer(If_Match='"another"'))[0] == 412
    assert await answer(If_Match=etag) == (200, front.image)
    assert (await answer(Range=f"bytes={SIZE}-"))[0] == 416
    assert (await front.client.head(path)).headers["content-length"] == str(SIZE)


async def test_nobody_gets_an_image_past_the_service(front: Front) -> None:
    path = f"/firmware/{front.sha256}"
    assert (await front.client.get(path, headers={"Authorization": ""})).status_code == 401
    assert (await front.client.get(path, headers=bearer(front.stranger))).status_code == 404
    for stored in (f"/stored/images/{front.sha256}.bin", f"/stored/fleet/of/ours/images/{front.sha256}.bin"):
        assert (await front.client.get(stored)).status_code == 404
