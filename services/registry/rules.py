"""Rules of models, devices and configurations, without I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from shared.errors import ConflictError
from shared.protocol.admin import CommandOutcome

KEY_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY_LENGTH: Final = 8


def new_key(choose: Callable[[str], str]) -> str:
    """Return a new device key; `choose` picks a character at random."""
    return "".join(choose(KEY_ALPHABET) for _ in range(KEY_LENGTH))


def refuse_in_rotation(client_id: str, rotation_state: str) -> None:
    """Raise ConflictError for a device that is between two secrets."""
    if rotation_state == "PENDING":
        raise ConflictError(f"a rotation of {client_id} is in progress; retry when it has ended")


def merge(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `target` changed by `patch` according to RFC 7396: null removes, objects merge, all else replaces."""
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


def layered(
    defaults: Mapping[str, Any], layers: Iterable[Mapping[str, Any]], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the model's defaults changed by each layer in turn, and last by the device's own overrides."""
    document = dict(defaults)
    for layer in layers:
        document = merge(document, layer)
    return merge(document, overrides)


def same(left: object, right: object) -> bool:
    """Return whether two documents are the same JSON; unlike `==`, for which true equals 1."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """A difference between two documents at a path."""

    path: tuple[str, ...]
    kind: Literal["added", "removed", "changed"]
    before: object = None
    after: object = None


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DocumentChange]:
    """Return the differences by path; objects are compared name by name, all else as a whole."""
    changes: list[DocumentChange] = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            changes.append(DocumentChange((name,), "removed", before=before[name]))
        elif name not in before:
            changes.append(DocumentChange((name,), "added", after=after[name]))
        elif isinstance(before[name], Mapping) and isinstance(after[name], Mapping):
            inner = diff(before[name], after[name])
            changes += [replace(change, path=(name, *change.path)) for change in inner]
        elif not same(before[name], after[name]):
            changes.append(DocumentChange((name,), "changed", before=before[name], after=after[name]))
    return changes


BUILT_IN_COMMANDS: Final = ("identify", "reboot")


def known_commands(listed: Iterable[str]) -> list[str]:
    """Return the names of all commands of a model that lists these."""
    return sorted({*BUILT_IN_COMMANDS, *listed})


def command_outcome(*, ok: bool | None, expires_at: datetime, now: datetime) -> CommandOutcome:
    """Return the outcome of a command: a late answer counts too."""
    if ok is not None:
        return "ok" if ok else "failed"
    return "expired" if expires_at <= now else "waiting"
