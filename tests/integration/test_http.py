"""Images over HTTPS on the real stack: the right bytes, for who may have them, and nobody holds up the others."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dev import http_helpers
from dev.fleet import Fleet
from dev.http_helpers import served
from dev.servers.base import HOST, Process
from dev.servers.fork_server import run_forked
from dev.system import System
from dev.uploads import upload
from dev.waiting import logged, until
from device import image_builder
from shared.protocol import messages, topics
from shared.protocol.admin import ImageView, Package
from tests.downloads import check
from tests.raw import RawDevice

SIZE = 200_000
LARGE = 6 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shelf:
    """A model's image, one of its devices, and a client with the device's token."""

    image: bytes
    view: ImageView
    package: Package
    client: httpx.AsyncClient

    @property
    def path(self) -> str:
        return f"/firmware/{self.view.sha256}"

    @property
    def etag(self) -> str:
        return f'"{self.view.sha256}"'


@pytest.fixture
async def shelf(fleet: Fleet, system: System) -> AsyncIterator[Shelf]:
    model = await fleet.model()
    image = image_builder.build(version="1.1.0", project=model, size_bytes=SIZE)
    package = await fleet.device(model)
    view = await upload(fleet, model, image)
    async with http_helpers.visiting(system, await http_helpers.token(package)) as client:
        yield Shelf(image, view, package, client)


@pytest.mark.parametrize("latest", [False, True], ids=["by sha256", "latest"])
async def test_an_image_comes_whole_with_what_a_client_needs_to_resume_it(shelf: Shelf, *, latest: bool) -> None:
    path = "/firmware/latest" if latest else shelf.path
    answer = await shelf.client.get(path)
    assert answer.status_code == 200
    assert answer.content == shelf.image
    head = await shelf.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for headers in (answer.headers, head.headers):
        assert headers["etag"] == shelf.etag
        assert headers["accept-ranges"] == "bytes"
        assert headers["content-length"] == str(SIZE)
        assert headers["content-type"] == "application/octet-stream"


async def test_parts_put_together_are_the_image(shelf: Shelf) -> None:
    pieces = b""
    while len(pieces) < SIZE:
        wanted = f"bytes={len(pieces)}-{len(pieces) + 70_000 - 1}"
        answer = await shelf.client.get(shelf.path, headers={"Range": wanted, "If-Range": shelf.etag})
        assert answer.status_code == 206
        end = len(pieces) + len(answer.content)
        assert answer.headers["content-range"] == f"bytes {len(pieces)}-{end - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["etag"] == shelf.etag
        pieces += answer.content
    assert pieces == shelf.image


async def test_a_suffix_is_the_end_and_several_ranges_get_the_whole(shelf: Shelf) -> None:
    suffix = await shelf.client.get(shelf.path, headers={"Range": "bytes=-100"})
    assert (suffix.status_code, suffix.content) == (206, shelf.image[-100:])
    several = await shelf.client.get(shelf.path, headers={"Range": "bytes=0-1,4-5"})
    assert (several.status_code, several.content) == (200, shelf.image)


async def test_a_part_of_an_image_that_was_replaced_meanwhile_is_not_mixed_in(fleet: Fleet, shelf: Shelf) -> None:
    newer = image_builder.build(version="1.2.0", project=shelf.view.model, size_bytes=SIZE)
    await upload(fleet, shelf.view.model, newer)
    headers = {"Range": f"bytes={SIZE // 2}-", "If-Range": shelf.etag}
    answer = await shelf.client.get("/firmware/latest", headers=headers)
    assert (answer.status_code, answer.content) == (200, newer)


async def test_a_range_behind_the_end_says_how_long_the_image_is(shelf: Shelf) -> None:
    answer = await shelf.client.get(shelf.path, headers={"Range": f"bytes={SIZE}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


async def test_who_has_the_current_image_gets_no_bytes(shelf: Shelf) -> None:
    answer = await shelf.client.get("/firmware/latest", headers={"If-None-Match": shelf.etag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", shelf.etag)
    other = await shelf.client.get(shelf.path, headers={"If-Match": '"other"'})
    assert other.status_code == 412


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused_with_those_there_are(shelf: Shelf, method: str) -> None:
    answer = await shelf.client.request(method, shelf.path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", [f"/firmware/{'0' * 64}", "/firmware/..%2f..%2fetc", "/firmware/", "/firmware", "/assets/", "/metrics"]
)
async def test_what_is_not_there_is_not_found(shelf: Shelf, path: str) -> None:
    assert (await shelf.client.get(path)).status_code == 404


async def test_a_model_without_an_image_has_no_latest(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with http_helpers.visiting(system, await http_helpers.token(package)) as client:
        assert (await client.get("/firmware/latest")).status_code == 404


@contextmanager
def lost(system: System, view: ImageView) -> Iterator[None]:
    """Take an image out of the store for the block."""
    file = Path(system.stack.folder, "assets", "images", f"{view.sha256}.bin")
    elsewhere = file.rename(file.with_suffix(".lost"))
    try:
        yield
    finally:
        elsewhere.rename(file)


async def test_an_image_that_the_store_lost_is_not_found(shelf: Shelf, system: System) -> None:
    with lost(system, shelf.view):
        assert (await shelf.client.get(shelf.path)).status_code == 404
    assert (await shelf.client.get(shelf.path)).status_code == 200


async def test_a_store_that_fails_in_the_middle_cuts_a_download_off_and_the_rest_comes_later(
    system: System, large: tuple[Package, ImageView]
) -> None:
    package, view = large
    path, received = f"/firmware/{view.sha256}", hashlib.sha256()
    async with http_helpers.visiting(system, await http_helpers.token(package)) as client:
        async with client.stream("GET", path) as answer:
            pieces = answer.aiter_raw()
            received.update(await anext(pieces))
            with lost(system, view), pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - what came counts
                async for piece in pieces:
                    received.update(piece)
        count = answer.num_bytes_downloaded
        assert 0 < count < LARGE
        rest = await client.get(path, headers={"Range": f"bytes={count}-", "If-Range": f'"{view.sha256}"'})
    assert rest.status_code == 206
    received.update(rest.content)
    assert received.hexdigest() == view.sha256
    line = (await served(system, package, least=2))[0]
    assert (line["status"], line["reason"]) == (200, "cut off: the image is gone")


async def test_another_models_image_is_not_there(fleet: Fleet, system: System, shelf: Shelf) -> None:
    stranger = await fleet.device()
    async with http_helpers.visiting(system, await http_helpers.token(stranger)) as client:
        assert (await client.get(shelf.path)).status_code == 404


async def test_an_older_image_is_only_for_who_was_offered_it(fleet: Fleet, system: System, shelf: Shelf) -> None:
    offered = await fleet.device(shelf.view.model)
    async with RawDevice(offered) as device:
        offer = await device.ask(topics.FIRMWARE_CHECK, check(shelf.view.model), topics.FIRMWARE_OFFER)
    assert offer.url == f"https://{HOST}:{system.http_ports['firmware']}{shelf.path}"
    await upload(fleet, shelf.view.model, image_builder.build(version="1.2.0", project=shelf.view.model))
    assert (await shelf.client.get(shelf.path)).status_code == 403
    async with http_helpers.visiting(system, await http_helpers.token(offered)) as client:
        assert (await client.get(shelf.path)).content == shelf.image


async def test_an_image_that_a_device_rolled_back_is_not_its_latest(fleet: Fleet, shelf: Shelf) -> None:
    async with RawDevice(shelf.package) as device:
        report = messages.FirmwareReport(sha256=shelf.view.sha256, stage=messages.FirmwareStage.ROLLED_BACK)
        await device.send(topics.FIRMWARE_REPORT, report)
        await fleet.seen(shelf.package, "firmware/reported", stage="rolled_back")
    assert (await shelf.client.get("/firmware/latest")).status_code == 403


async def test_many_at_once_all_get_the_image_and_the_bytes_are_counted(shelf: Shelf, system: System) -> None:
    def counted() -> float:
        samples = system.samples("firmware", "mdm_firmware_bytes_total")
        return sum(sample.value for sample in samples if sample.labels["road"] == "http")

    before = await asyncio.to_thread(counted)
    answers = await asyncio.gather(*(shelf.client.get(shelf.path) for _ in range(20)))
    assert {hashlib.sha256(answer.content).hexdigest() for answer in answers} == {shelf.view.sha256}
    # They are counted when the service is done with a request, which may be after its last byte has come.
    await until(lambda: asyncio.to_thread(counted), lambda count: count >= before + 20 * SIZE)


async def start(system: System, *, max_parallel: int = 10, stall_s: int = 60) -> Process:
    narrow = {"MDM_HTTP_MAX_PARALLEL": str(max_parallel), "MDM_HTTP_STALL_S": str(stall_s)}
    return await asyncio.to_thread(lambda: system.start("firmware", name="narrow", fate=None, **narrow))


@pytest.fixture
async def large(fleet: Fleet) -> tuple[Package, ImageView]:
    model = await fleet.model(slot_size_bytes=2 * LARGE)
    package = await fleet.device(model)
    view = await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=LARGE))
    return package, view


@pytest.fixture
def narrow(system: System) -> Iterator[None]:
    """Stop the service of this name at the end."""
    yield
    if "narrow" in system.services:
        system.stop("narrow")


def dawdle(system: System, token: str, path: str) -> ssl.SSLSocket:
    """Ask for an image, and take no more of it than the answer's first byte."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    plain.connect((HOST, system.http_ports["narrow"]))
    trust = ssl.create_default_context(cafile=system.stack.endpoints.ca_file)
    taken = trust.wrap_socket(plain, server_hostname=HOST)
    taken.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert taken.recv(1)
    return taken


@pytest.mark.usefixtures("narrow")
async def test_a_client_that_takes_nothing_is_cut_off_and_until_then_others_are_told_to_come_again(
    system: System, large: tuple[Package, ImageView]
) -> None:
    package, view = large
    token = await http_helpers.token(package)
    process = await start(system, max_parallel=1, stall_s=3)
    async with http_helpers.visiting(system, token, name="narrow") as client:
        # It has its connection before: once the slow one stalls, time runs.
        assert (await client.head(f"/firmware/{view.sha256}")).status_code == 200
        slow = await asyncio.to_thread(dawdle, system, token, f"/firmware/{view.sha256}")
        busy = await client.head(f"/firmware/{view.sha256}")
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
        await logged(process, "cut off: the client read nothing for 3 s")
        assert len((await client.get(f"/firmware/{view.sha256}")).content) == LARGE
    slow.close()
    assert token not in process.log_file.read_text()


@pytest.mark.usefixtures("narrow")
async def test_a_service_that_stops_cuts_downloads_off_and_the_rest_comes_from_another(
    system: System, large: tuple[Package, ImageView]
) -> None:
    package, view = large
    token = await http_helpers.token(package)
    process = await start(system)
    slow = await asyncio.to_thread(dawdle, system, token, f"/firmware/{view.sha256}")
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await asyncio.to_thread(process.wait)
    assert "cut off: the service stops" in process.log_tail(10)
    assert "Traceback" not in process.log_file.read_text()
    slow.close()
    async with http_helpers.visiting(system, token) as client:
        rest = await client.get(f"/firmware/{view.sha256}", headers={"Range": f"bytes={LARGE - 10}-"})
        assert (rest.status_code, len(rest.content)) == (206, 10)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "MDM_HTTP_HOST, MDM_HTTP_PORT: cannot listen on"),
        ({"MDM_HTTP_KEY_FILE": "/etc/hostname"}, "MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE: cannot be used"),
        ({"MDM_HTTP_KEY_FILE": "/nowhere"}, "MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE: cannot be used"),
        (
            {"MDM_HTTP_ACCEL": "/stored", "MDM_ASSETS_URL": "memory:///"},
            "MDM_HTTP_ACCEL: nginx cannot read images in memory",
        ),
    ],
    ids=["port taken", "no key", "no file", "no files for nginx"],
)
def test_a_service_that_cannot_listen_does_not_start(
    system: System, settings: dict[str, str], reason: str
) -> None:
    environment = {**system.environment("firmware"), **system.http("firmware"), **settings}
    ran = run_forked("services.firmware.main", environment=environment, folder=Path("/"))
    assert ran.status == 1
    assert reason in ran.errors
    assert "Traceback" not in ran.errors


async def test_the_log_says_who_fetched_what_and_holds_no_token(system: System, shelf: Shelf) -> None:
    await shelf.client.get(shelf.path, headers={"Range": "bytes=0-9"})
    await shelf.client.get("/firmware/a%0ab?token=hidden", headers={"Range": "x" * 1000})
    part, wrong = await served(system, shelf.package, least=2)
    facts = (part["sha256"], part["range"], part["status"], part["bytes"])
    assert facts == (shelf.view.sha256, "bytes=0-9", 206, 10)
    assert (wrong["path"], wrong["status"]) == ("/firmware/a%0ab", 404)
    log = system.services["firmware"].log_file.read_text()
    for secret in ("hidden", "Bearer", shelf.client.headers["Authorization"].rpartition(".")[2]):
        assert secret not in log
