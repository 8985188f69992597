"""The options of a command that writes a package, checked before any secret is requested."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import passwords
from shared.errors import ConflictError, InvalidInputError
from shared.protocol import nvs

if TYPE_CHECKING:
    from pydantic import BaseModel

    from shared.protocol.messages import WifiNetwork

NVS_SIZE: Final = "0x6000"
STDOUT: Final = Path("-")


class PackageFormat(StrEnum):
    """Format of a package."""

    JSON = "json"
    NVS = "nvs"
    CSV = "csv"


Format = Annotated[
    PackageFormat,
    typer.Option("--format", help="JSON, an NVS image to flash, or a CSV file for ESP-IDF's NVS generator."),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="BYTES", help=f"Size of the NVS partition; the default is {NVS_SIZE}."),
]
WifiName = Annotated[str | None, typer.Option(metavar="NAME", help="Name of a Wi-Fi network, for NVS or CSV.")]
# No option for the password itself, as all users of the machine can read command lines.
WifiPassword = Annotated[
    Path | None,
    typer.Option(
        "--wifi-password-file",
        metavar="FILE",
        help="File with the Wi-Fi password or PSK; - for stdin. Without this option the network is open.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How to write a package; raises InvalidInputError or ConflictError for options that do not fit."""

    target: Path
    form: PackageFormat
    size: str | None
    wifi_ssid: str | None
    wifi_password: Path | None
    force: bool = False

    def check(self) -> WifiNetwork | None:
        """Return the network to join first, which may be prompted for."""
        if self.size is not None and self.form is not PackageFormat.NVS:
            raise InvalidInputError("--size: requires --format nvs")
        nvs.size_bytes(self.size or NVS_SIZE)
        if self.form is PackageFormat.NVS and self.target == STDOUT and sys.stdout.isatty():
            raise InvalidInputError("--output: cannot write an image to a terminal; name a file")
        if self.target != STDOUT and self.target.exists() and not self.force:
            raise ConflictError(f"--output: {self.target} exists; --force replaces it")
        return self._wifi()

    def content(self, package: BaseModel, rows: Callable[[], Sequence[nvs.NvsRow]]) -> str | bytes:
        """Return the file of a package, whose rows in NVS are given by `rows`."""
        match self.form:
            case PackageFormat.JSON:
                return package.model_dump_json(indent=2) + "\n"
            case PackageFormat.CSV:
                return nvs.csv_text(rows())
            case PackageFormat.NVS:
                return nvs.image(rows(), size_bytes=nvs.size_bytes(self.size or NVS_SIZE))

    def _wifi(self) -> WifiNetwork | None:
        ssid, file = self.wifi_ssid, self.wifi_password
        if self.form is PackageFormat.JSON and (ssid is not None or file is not None):
            raise InvalidInputError("--wifi-ssid, --wifi-password-file: require --format nvs or csv")
        if ssid is None:
            if file is not None:
                raise InvalidInputError("--wifi-password-file: requires --wifi-ssid")
            return None
        open_network = nvs.network(ssid)  # check the name before prompting for the password
        if file is None:
            return open_network
        password = passwords.from_file(file, what="--wifi-password")
        if not password:
            raise InvalidInputError(
                "--wifi-password-file: is empty; for an open network leave out --wifi-password-file"
            )
        return nvs.network(ssid, password)
