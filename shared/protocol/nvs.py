"""A provisioning package or a claim package in ESP-IDF's NVS: rows, the CSV of Espressif's generator, an image.

Format: https://docs.espressif.com/projects/esp-idf/en/stable/esp32/api-reference/storage/nvs_partition_gen.html
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from typing import Final, NamedTuple

from pydantic import ValidationError

from shared.errors import InvalidInputError
from shared.protocol import admin, topics
from shared.protocol.messages import WifiNetwork

NAMESPACE: Final = "mdm"
MAX_SIZE_BYTES: Final = 0x100_0000
# The documented limit is 4000 bytes, but the generator's own check of the free room in a page refuses a string of
# more than 124 entries of 32 bytes, of which the last byte is a NUL.
MAX_STRING_BYTES: Final = 124 * 32 - 1
_COLUMNS: Final = ("key", "type", "encoding", "value")
_LARGEST: Final = {"u8": 0xFF, "u16": 0xFFFF, "u32": 0xFFFF_FFFF}


class NvsRow(NamedTuple):
    """A key with its encoding in NVS: u8, u16, u32 or string, or base64 for a blob."""

    key: str
    encoding: str
    value: str | int


def network(ssid: str, password: str = "") -> WifiNetwork:
    """Return a Wi-Fi network, or raise InvalidInputError naming `wifi_ssid` or `wifi_password` and the rule."""
    _check_text("wifi_ssid", ssid)
    try:
        return WifiNetwork(ssid=ssid, password=password)
    except ValidationError as error:
        raise InvalidInputError(f"wifi_{topics.explain(error)}") from None


def size_bytes(text: str) -> int:
    """Return a partition's size from decimal or 0x digits, or raise InvalidInputError."""
    try:
        size = int(text, 0)
    except ValueError:
        size = 0
    page, least = admin.NVS_PAGE_BYTES, admin.MIN_NVS_BYTES
    if size % page or not least <= size <= MAX_SIZE_BYTES:
        raise InvalidInputError(f"size: must be a multiple of {page:#x} from {least:#x} to {MAX_SIZE_BYTES:#x}")
    return size


def rows(package: admin.Package, wifi: WifiNetwork | None) -> list[NvsRow]:
    """Return the rows for the device's NVS, with a Wi-Fi network unless the package has its own.

    The libraries read the blob, firmware without them the other keys. Raise InvalidInputError for a value that NVS
    cannot store, and for a network that would be in the place of the package's: it would make another connection
    profile of it.
    """
    texts = {
        "device_key": package.device_key,
        "client_id": package.client_id,
        "secret": package.secret,
        "token_url": package.token_url,
        "mqtt_host": package.mqtt_host,
    }
    if package.mqtt_auth != "password":
        texts["mqtt_auth"] = package.mqtt_auth
    if package.recovery is not None:
        recovery = package.recovery
        texts |= {"rec_account": recovery.account, "rec_pass": recovery.password, "rec_key": recovery.server_key}
    if package.connection_id is not None:
        texts["conn_id"] = package.connection_id
    if wifi is not None and package.wifi:
        names = ", ".join(it.ssid for it in package.wifi)
        raise InvalidInputError(f"wifi_ssid: must be left out, as the device's connection profile has: {names}")
    texts |= _networks(package.wifi or ([wifi] if wifi else []))
    if package.ca_certificate is not None:
        texts["ca_cert"] = _pem(package.ca_certificate)  # the longest last: it needs a page almost to itself
    numbers = [
        NvsRow("secret_gen", "u32", package.secret_generation),
        NvsRow("mqtt_port", "u16", package.mqtt_port),
        NvsRow("mqtt_tls", "u8", int(package.mqtt_tls)),
    ]
    if package.recovery is not None:
        numbers.append(NvsRow("rec_port", "u16", package.recovery.port))
    for key, text in texts.items():
        _check_text(key, text)
    for key, encoding, value in numbers:
        if not 0 <= int(value) <= _LARGEST[encoding]:
            raise InvalidInputError(f"{key}: must be 0 to {_LARGEST[encoding]} ({encoding}), is {value}")
    return [_blob("package", package), *numbers, *(NvsRow(key, "string", text) for key, text in texts.items())]


def claim_rows(package: admin.ClaimPackage, wifi: WifiNetwork | None) -> list[NvsRow]:
    """Return the rows for machines without an identity, with the Wi-Fi network that they join first."""
    texts = _networks([wifi] if wifi else [])
    return [_blob("claim", package), *(NvsRow(key, "string", text) for key, text in texts.items())]


def _blob(key: str, package: admin.Package | admin.ClaimPackage) -> NvsRow:
    text = package.model_dump_json()
    return NvsRow(key, "base64", base64.b64encode(text.encode()).decode())


def _networks(networks: Sequence[WifiNetwork]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, one in enumerate(networks, start=1):
        place = str(number) if number > 1 else ""
        texts |= {f"wifi_ssid{place}": one.ssid, f"wifi_pass{place}": one.password}
    return texts


def csv_text(entries: Sequence[NvsRow]) -> str:
    """Return the CSV from which the generator makes the same image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerow((NAMESPACE, "namespace", "", ""))
    writer.writerows((row.key, "data", row.encoding, row.value) for row in entries)
    return text.getvalue()


def image(entries: Sequence[NvsRow], *, size_bytes: int) -> bytes:
    """Return a partition image, format version 2; raise InvalidInputError if the partition is too small.

    It is made in memory: no secret is written to a file that was not requested.
    """
    # Imported here as it loads a command line of its own, which would delay every other use of this module.
    from esp_idf_nvs_partition_gen import nvs_partition_gen as generator  # type: ignore[import-untyped]  # noqa: PLC0415

    result = io.BytesIO()
    try:
        # The generator adds the page that NVS keeps free.
        nvs = generator.nvs_open(result, size_bytes - admin.NVS_PAGE_BYTES, generator.Page.VERSION2)
        generator.write_entry(nvs, NAMESPACE, "namespace", "", "")
        for row in entries:
            generator.write_entry(nvs, row.key, "data", row.encoding, row.value)
        generator.nvs_close(nvs)
    except generator.InsufficientSizeError:
        raise InvalidInputError(f"size: {size_bytes:#x} bytes are too few for this package") from None
    return result.getvalue()


def _check_text(name: str, text: str) -> None:
    """Raise InvalidInputError for a string that an image or a CSV would alter."""
    try:
        found = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name}: must be UTF-8") from None
    if found > MAX_STRING_BYTES:
        hint = "; leave out an authority, or take the package as a file" if name == "ca_cert" else ""
        raise InvalidInputError(f"{name}: must be at most {MAX_STRING_BYTES} bytes for NVS, is {found}{hint}")
    if "\0" in text:
        raise InvalidInputError(f"{name}: must not hold a NUL, which ends a string in NVS")
    # The generator reads its CSV with universal newlines and takes each line with a leading # as a comment.
    if "\r" in text or "\n#" in text:
        raise InvalidInputError(
            f"{name}: must hold neither a carriage return nor a # after a newline: the generator would lose them"
        )


def _pem(text: str) -> str:
    """Return a PEM file with newlines only and without the comments between certificates."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line for line in lines if not line.startswith("#"))
