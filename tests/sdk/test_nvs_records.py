"""The records of an NVS image, as a board is flashed with it, are those from which the core in C starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.protocol import admin, nvs
from tests import nvs_reader
from tests.sdk.core import Core, said
from tests.sdk.packages import CLIENT, SECRET, package

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n" + ("A" * 64 + "\n") * 50 + "-----END CERTIFICATE-----\n"
UID = "a0b1c2d3e4f5"


def records(rows: list[nvs.NvsRow]) -> dict[str, bytes]:
    """Return the blobs of an image, in the order of its size for the partition `mdm`."""
    found = nvs_reader.read(nvs.image(rows, size_bytes=0x20000))["mdm"]
    return {name: value for name, value in found.items() if isinstance(value, bytes)}


def test_a_blank_board_with_the_image_of_a_package_is_the_device() -> None:
    given = admin.Package.model_validate_json(package(ca_certificate=CERTIFICATE))
    core = Core(records(nvs.rows(given, nvs.network("home", "correct horse"))), firmware_version="1.0.0")
    (login,) = [action.login for action in core.run() if action.kind == "CONNECT"]
    assert (login["client_id"], login["password"], login["host"]) == (CLIENT, SECRET, "broker.example")
    assert login["ca_certificate"] == CERTIFICATE
    assert said(core.accept(), "status")[0]["online"]


def test_a_blank_board_with_the_image_of_a_claim_requests_an_identity() -> None:
    claim = admin.ClaimPackage(
        account="claim-4k2m9x1q",
        password="p" * 43,
        mqtt_host="broker.example",
        mqtt_port=8884,
        mqtt_tls=True,
        ca_certificate=CERTIFICATE,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    core = Core(records(nvs.claim_rows(claim, None)), uid=UID)
    (login,) = [action.login for action in core.run() if action.kind == "CONNECT"]
    assert (login["username"], login["password"], login["port"]) == (claim.account, claim.password, 8884)
    (request,) = [action.json for action in core.accept() if action.topic.endswith("/request")]
    assert request["uid"] == UID
