"""Rules of models, devices and configurations, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

KEY_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY_LENGTH: Final = 8


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
