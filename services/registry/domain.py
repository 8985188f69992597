"""Rules of models, devices and configurations, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

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


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long a device may be offline and silent before its health is called so."""

    warning: timedelta
    critical: timedelta
    inactive: timedelta


Health = Literal["healthy", "warning", "critical", "inactive"]


def health(*, online: bool, last_seen_at: datetime | None, now: datetime, thresholds: Thresholds) -> Health:
    """Return healthy, warning, critical or inactive."""
    if online:
        return "healthy"
    silent_for = now - last_seen_at if last_seen_at else timedelta.max
    if silent_for > thresholds.inactive:
        return "inactive"
    if silent_for > thresholds.critical:
        return "critical"
    return "warning" if silent_for > thresholds.warning else "healthy"
