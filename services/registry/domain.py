"""Rules of models, devices and configurations, without I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import NotFoundError

KEY_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY_LENGTH: Final = 8
_NAME: Final = re.compile(r"(?:iotdevice-(?P<model>[a-z0-9_]{1,50})-)?(?P<key>[a-z0-9]{8})")


@dataclass(frozen=True, slots=True)
class DeviceName:
    """What a client id says: the device's key, and its model's code when given whole."""

    key: str
    model: str | None


def client_id(model: str, key: str) -> str:
    """Return the name of a device in Keycloak, in the broker and in topics."""
    return f"iotdevice-{model}-{key}"


def parse_name(name: str) -> DeviceName:
    """Return what a key or a client id names, or raise NotFoundError: nothing else can be a device."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise NotFoundError(f"there is no device {name}", device=name)
    return DeviceName(found["key"], found["model"])


def new_key(choose: Callable[[str], str]) -> str:
    """Return a new device key; `choose` picks a character at random."""
    return "".join(choose(KEY_ALPHABET) for _ in range(KEY_LENGTH))


def merge(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `target` changed by `patch` as RFC 7396 says: null removes, objects merge, all else replaces."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged
