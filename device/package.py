"""Loads and checks the provisioning package of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from pydantic import SecretStr, ValidationError

from device.rotation import Slot
from shared.errors import InvalidInputError
from shared.protocol.admin import ClaimPackage, Package
from shared.protocol.topics import explain

P = TypeVar("P", Package, ClaimPackage)
_PORT_MAX: Final = 65535
_PREFIX: Final = "iotdevice-"


def load(path: Path) -> Package:
    """Return the package in `path`, or raise InvalidInputError naming each field and the broken rule."""
    package = _read(path, Package)
    check(package)
    return package


def load_claim(path: Path) -> ClaimPackage:
    """Return the claim package in `path`, or raise InvalidInputError naming each field and the broken rule."""
    return _read(path, ClaimPackage)


def _read(path: Path, kind: type[P]) -> P:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        # No cause: it would show the input and with it the secret.
        raise InvalidInputError(f"{path}: {explain(error)}") from None


def check(package: Package) -> None:
    """Raise InvalidInputError unless a device can connect with the package."""
    for name in ("client_id", "secret", "mqtt_host"):
        if not getattr(package, name):
            raise InvalidInputError(f"{name}: must not be empty")
    if set("/+#") & set(package.client_id):
        raise InvalidInputError("client_id: must be one level of a topic, without / + #")
    if not 1 <= package.mqtt_port <= _PORT_MAX:
        raise InvalidInputError(f"mqtt_port: must be from 1 to {_PORT_MAX}, is {package.mqtt_port}")
    if package.secret_generation < 0:
        raise InvalidInputError("secret_generation: must not be negative")


def provisioned_slot(package: Package) -> Slot:
    """Return the package's secret as a slot."""
    return Slot(SecretStr(package.secret), package.secret_generation)


def model_of(package: Package) -> str:
    """Return the code of the device's model, which is a part of its client id."""
    return package.client_id.removeprefix(_PREFIX).removesuffix(f"-{package.device_key}")
