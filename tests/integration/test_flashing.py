"""What the page flashes: an image read in pieces, and a device's package as an image of NVS."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from cli.client import AnswerError
from dev import credentials
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import build, upload
from device import image_builder
from shared.protocol import admin
from tests import nvs_reader
from tests.integration.test_images import stored_at


async def read(fleet: Fleet, sha256: str, size_bytes: int, **fields: object) -> bytes:
    """Return a whole image, piece by piece."""
    data = b""
    while len(data) < size_bytes:
        data += (await fleet.ask(admin.IMAGE_READ, sha256=sha256, offset=len(data), **fields)).data
    return data


@pytest.mark.parametrize("length", [{}, {"length": 50_000}])
async def test_the_pieces_of_an_image_are_the_image_that_was_uploaded(
    fleet: Fleet, length: dict[str, object]
) -> None:
    model = await fleet.model()
    image = image_builder.build(version="1.0.0", project=model, payload=2 * admin.MAX_IMAGE_PIECE_BYTES)
    view = await upload(fleet, model, image, release=False)
    assert await read(fleet, view.sha256, view.size_bytes, **length) == image


async def test_a_piece_ends_where_the_image_ends(fleet: Fleet) -> None:
    model = await fleet.model()
    image = build(model, "1.0.0")
    view = await upload(fleet, model, image)
    piece = await fleet.ask(admin.IMAGE_READ, sha256=view.sha256, offset=len(image) - 1, length=2)
    assert piece.data == image[-1:]
    with pytest.raises(AnswerError, match="offset: must be less than the image's 1024 bytes, is 1024"):
        await fleet.ask(admin.IMAGE_READ, sha256=view.sha256, offset=len(image))


async def test_an_image_that_is_not_there_is_not_read(fleet: Fleet) -> None:
    unknown = hashlib.sha256(b"no such image").hexdigest()
    with pytest.raises(AnswerError, match=f"sha256: there is no image {unknown}") as refused:
        await fleet.ask(admin.IMAGE_READ, sha256=unknown)
    assert refused.value.answer_code == "not_found"


async def test_a_stored_image_that_is_cut_short_is_named_as_damaged(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    image = build(model, "1.0.0")
    view = await upload(fleet, model, image)
    await asyncio.to_thread(stored_at(system, image).write_bytes, image[:-1])
    with pytest.raises(AnswerError, match=f"sha256: the stored image {view.sha256} is damaged"):
        await fleet.ask(admin.IMAGE_READ, sha256=view.sha256)
    # Another test looks at all that is stored.
    await upload(fleet, model, image)


@pytest.mark.parametrize("length", [0, admin.MAX_IMAGE_PIECE_BYTES + 1])
async def test_a_piece_is_bounded(fleet: Fleet, length: int) -> None:
    request = admin.ImageRead.model_construct(request_id="x" * 32, sha256="0" * 64, offset=0, length=length)
    with pytest.raises(AnswerError, match="length: "):
        await fleet.admin.call(admin.IMAGE_READ, request)


async def test_the_nvs_image_holds_the_package_that_counts_and_the_network(fleet: Fleet) -> None:
    package = await fleet.device()
    image = await fleet.ask(admin.DEVICE_NVS, device=package.device_key, size_bytes=0x4000)
    assert (image.client_id, image.secret_generation, len(image.data)) == (package.client_id, 1, 0x4000)
    facts = nvs_reader.read(image.data)["mdm"]
    assert facts["secret"] == package.secret
    assert "wifi_ssid" not in facts
    renewed = await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    wifi = {"wifi_ssid": "home", "wifi_password": "correct horse"}
    facts = nvs_reader.read((await fleet.ask(admin.DEVICE_NVS, device=package.client_id, **wifi)).data)["mdm"]
    blob = facts.pop("package")
    assert isinstance(blob, bytes)
    assert admin.Package.model_validate_json(blob) == renewed
    recovery = package.recovery
    assert recovery is not None
    assert facts == {
        "device_key": package.device_key,
        "client_id": package.client_id,
        "secret": renewed.secret,
        "secret_gen": 2,
        "token_url": package.token_url,
        "mqtt_host": package.mqtt_host,
        "mqtt_port": package.mqtt_port,
        "mqtt_tls": int(package.mqtt_tls),
        **({"ca_cert": package.ca_certificate} if package.ca_certificate else {}),
        "rec_account": recovery.account,
        "rec_pass": recovery.password,
        "rec_key": recovery.server_key,
        "rec_port": recovery.port,
        "conn_id": renewed.connection_id,
        "wifi_ssid": "home",
        "wifi_pass": "correct horse",
    }
    assert await credentials.keycloak_accepts(package, str(facts["secret"]))


async def test_who_took_an_nvs_image_stands_in_the_audit_log_without_what_is_in_it(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.seen(package, "device/provisioned")
    await fleet.ask(admin.DEVICE_NVS, device=package.client_id, wifi_ssid="home", wifi_password="correct horse")
    await fleet.seen(package, "device/provisioned")
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=package.client_id)).entries
    assert [(entry.actor, entry.action, entry.after) for entry in entries[:2]] == [
        ("admin", "device.provision", None)
    ] * 2


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"wifi_ssid": ""}, "wifi_ssid: must be 1 to 32 bytes of UTF-8"),
        (
            {"wifi_ssid": "home", "wifi_password": "short"},
            "wifi_password: must be empty, 8 to 63 printable ASCII characters",
        ),
        ({"wifi_password": "correct horse"}, "wifi_password: needs wifi_ssid"),
    ],
)
async def test_a_network_that_cannot_be_hands_out_nothing(
    fleet: Fleet, fields: dict[str, object], rule: str
) -> None:
    package = await fleet.device()
    with pytest.raises(AnswerError, match=rule) as refused:
        await fleet.ask(admin.DEVICE_NVS, device=package.client_id, **fields)
    assert "horse" not in str(refused.value)
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=package.client_id)).entries
    assert [entry.action for entry in entries] == ["device.provision", "device.add"]


@pytest.mark.parametrize("size_bytes", [0x2000, 0x6001, 0x4_1000])
async def test_a_size_that_is_no_partitions_is_refused(fleet: Fleet, size_bytes: int) -> None:
    request = admin.DeviceNvs.model_construct(
        request_id="x" * 32, device="x", size_bytes=size_bytes, wifi_ssid=None, wifi_password=""
    )
    with pytest.raises(AnswerError, match="size_bytes: "):
        await fleet.admin.call(admin.DEVICE_NVS, request)


@pytest.mark.usefixtures("patient")
async def test_no_nvs_image_is_handed_out_in_the_middle_of_a_rotation(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    with pytest.raises(AnswerError, match=f"a rotation of {package.client_id} is in progress"):
        await fleet.ask(admin.DEVICE_NVS, device=package.client_id)
    with pytest.raises(AnswerError, match=f"a rotation of {package.client_id} is in progress"):
        await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
