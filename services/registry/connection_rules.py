"""Rules of connection profiles, without I/O: the profile that is wanted, and what a device's report means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from shared.database.tables import ConnectionLayer
from shared.protocol.admin import ConnectionProgress
from shared.protocol.messages import ConnectionState, RefusedConnection

TRIAL_SECONDS: Final = 300
"""The trial of a profile whose layers set none: enough to join a network and log in, a few times."""
RESENT_AFTER: Final = timedelta(minutes=55)
"""A device asks every hour, give or take: an hour here would become two."""
_ID: Final = 16


class Scope(NamedTuple):
    """The devices of a layer: `settings`, `all`, `tag` or `device`, with the tag or the device's id."""

    kind: str
    tag: str | None = None
    device_id: int | None = None

    def __str__(self) -> str:
        return self.kind if self.tag is None else f"tag {self.tag}"


def connection_id(document: Mapping[str, Any]) -> str:
    """Return the id of a profile, which is derived from its content.

    A Wi-Fi network counts with its name and its random id: a password could be guessed from the hash.
    """
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID]


@dataclass(frozen=True, slots=True)
class WantedProfile:
    """The profile that a device should use, and the layer that each of its fields is from.

    `document` is as in `ConnectionLayer`; `wifi` is the ciphertext of its networks.
    """

    connection_id: str
    document: dict[str, Any]
    trial_seconds: int
    sources: Mapping[str, ConnectionLayer]

    @property
    def wifi(self) -> bytes | None:
        """The ciphertext of its networks."""
        return self.sources["wifi"].wifi if "wifi" in self.sources else None


@dataclass(slots=True)
class ConnectionLayers:
    """The layers in force: that of the settings, then all's, those of tags, those of devices.

    The tags' apply by priority, then by name, as the layers of configurations do; a later one takes precedence.
    Until that of the settings is recorded, `base` is in its place. `revision` identifies this set of layers.
    """

    rows: Sequence[ConnectionLayer]
    base: Mapping[str, Any]
    revision: int | None = None
    _common: list[ConnectionLayer] = field(default_factory=list)
    _by_tag: list[ConnectionLayer] = field(default_factory=list)
    _by_device: dict[int, ConnectionLayer] = field(default_factory=dict)
    _merged: dict[tuple[int, ...], WantedProfile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = self.rows
        # Compared byte by byte, as the configurations' layers are by the database.
        self._by_tag = sorted(
            (it for it in rows if it.tag is not None), key=lambda it: (it.priority, (it.tag or "").encode())
        )
        self._common = sorted((it for it in rows if it.scope in _COMMON), key=lambda it: _COMMON.index(it.scope))
        if not self._common or self._common[0].scope != "settings":
            self._common.insert(0, ConnectionLayer(number=0, scope="settings", document=dict(self.base)))
        self._by_device = {it.device_id: it for it in rows if it.device_id is not None}

    def changed(self, layer: ConnectionLayer) -> ConnectionLayers:
        """Return these layers with one in the place of the former one of its scope, or without that."""
        scope = scope_of(layer)
        others = [it for it in self.rows if scope_of(it) != scope]
        return ConnectionLayers(others if layer.removed else [*others, layer], self.base, self.revision)

    def at(self, scope: Scope) -> ConnectionLayer | None:
        """Return the layer of a scope."""
        return next((it for it in self.rows if scope_of(it) == scope), None)

    @property
    def of_devices(self) -> list[int]:
        """The ids of the devices that have a layer."""
        return list(self._by_device)

    def of(self, device_id: int | None, tags: Iterable[str]) -> list[ConnectionLayer]:
        """Return the layers that apply to a device, in order."""
        tags = set(tags)
        own = None if device_id is None else self._by_device.get(device_id)
        return [*self._common, *(it for it in self._by_tag if it.tag in tags), *([own] if own else [])]

    def wanted(self, device_id: int | None, tags: Iterable[str]) -> WantedProfile:
        """Return the profile that is wanted for a device, or for a new one with these tags."""
        layers = self.of(device_id, tags)
        numbers = tuple(it.number for it in layers)
        found = self._merged.get(numbers)
        if found is None:
            found = self._merged[numbers] = _merged(layers)
        return found


_COMMON: Final = ("settings", "all")


def scope_of(layer: ConnectionLayer) -> Scope:
    """Return the devices of a layer."""
    return Scope(layer.scope, layer.tag, layer.device_id)


def _merged(layers: Iterable[ConnectionLayer]) -> WantedProfile:
    document: dict[str, Any] = {}
    sources: dict[str, ConnectionLayer] = {}
    trial_seconds = TRIAL_SECONDS
    for layer in layers:
        document |= layer.document
        sources |= dict.fromkeys(layer.document, layer)
        trial_seconds = layer.trial_seconds or trial_seconds
    return WantedProfile(connection_id(document), document, trial_seconds, sources)


class StoredConnection(NamedTuple):
    """A device's connection as it is stored, see `DeviceConnection`; all None if nothing is."""

    first: str | None = None
    fallback: str | None = None
    in_use: str | None = None
    refused_id: str | None = None
    refused_outcome: str | None = None
    refused_reason: str | None = None
    refused_at: datetime | None = None
    reported_at: datetime | None = None
    sent_id: str | None = None
    sent_at: datetime | None = None

    def is_reported(self, state: ConnectionState) -> bool:
        """Return whether a report changes nothing."""
        return (
            self.reported_at is not None
            and (self.first, self.fallback, self.in_use) == (state.first, state.fallback, state.in_use)
            and (self.refused_id, self.refused_outcome, self.refused_reason) == _refused(state.refused)
        )

    def may_be_sent(self, wanted: str, now: datetime) -> bool:
        """Return whether a device may be sent a profile: the same one only once in an hour."""
        return self.sent_id != wanted or self.sent_at is None or self.sent_at <= now - RESENT_AFTER

    @property
    def is_on_fallback(self) -> bool:
        """Whether the device has gone back to the former profile: it cannot connect with the first."""
        return (
            self.reported_at is not None
            and self.in_use == self.fallback != self.first
            and (self.in_use is None or self.in_use != self.sent_id)
        )

    def refuses(self, wanted: str) -> bool:
        """Return whether the device has last reported that it did not keep this profile."""
        return self.refused_id == wanted != self.in_use


REPORTED: Final = ("first", "fallback", "in_use", "refused_id", "refused_outcome", "refused_reason")
"""The fields of a `StoredConnection` that a device reports."""
SEPARATOR: Final = "|"


def report_text(state: ConnectionState) -> str:
    """Return a report as one text, to be compared with the stored one; the database makes the same of that."""
    facts = (state.first, state.fallback, state.in_use, *_refused(state.refused))
    return "".join(f"{it or ''}{SEPARATOR}" for it in facts)


def progress(stored: StoredConnection, wanted: str) -> ConnectionProgress:
    """Return how far a device is with the wanted profile."""
    if stored.reported_at is None:
        return "as provisioned"
    if stored.in_use == wanted:
        return "in use"
    if stored.is_on_fallback:
        return "fallback"
    return "refused" if stored.refuses(wanted) else "waiting"


def reported(stored: StoredConnection, state: ConnectionState, now: datetime) -> StoredConnection:
    """Return what to store after a report.

    A refusal that is reported again after the profile was sent again is a new one.
    """
    refused_id, outcome, reason = _refused(state.refused)
    is_same = (stored.refused_id, stored.refused_outcome, stored.refused_reason) == (refused_id, outcome, reason)
    is_again = stored.sent_id == refused_id and _is_after(stored.sent_at, stored.refused_at)
    return stored._replace(
        first=state.first,
        fallback=state.fallback,
        in_use=state.in_use,
        refused_id=refused_id,
        refused_outcome=outcome,
        refused_reason=reason,
        refused_at=None if refused_id is None else stored.refused_at if is_same and not is_again else now,
        reported_at=now,
    )


def has_applied(before: StoredConnection, after: StoredConnection) -> bool:
    """Return whether a device has kept another profile, or uses its own again after its fallback.

    Its first report, of the profile of its package, is neither.
    """
    return (
        after.first is not None
        and after.first == after.in_use
        and (after.first != before.first or before.is_on_fallback)
        and (before.reported_at is not None or before.sent_id == after.first)
    )


def has_refused(before: StoredConnection, after: StoredConnection) -> bool:
    """Return whether a device has reported a new refusal."""
    return after.refused_at is not None and after.refused_at != before.refused_at


def has_fallen_back(before: StoredConnection, after: StoredConnection) -> bool:
    """Return whether a device has begun to use its fallback."""
    return after.is_on_fallback and not (before.is_on_fallback and before.in_use == after.in_use)


def _refused(refused: RefusedConnection | None) -> tuple[str | None, str | None, str | None]:
    return (None, None, None) if refused is None else (refused.connection_id, refused.outcome, refused.reason)


def _is_after(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and (other is None or one > other)
