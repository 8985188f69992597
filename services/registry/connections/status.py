"""Which connection profiles and authorities devices use, and who depends on what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import connection_rules
from services.registry.connection_rules import ConnectionLayers
from services.registry.connections import overview_queries
from services.registry.connections.overview_queries import AlikeDevices
from shared import authorities
from shared.protocol import admin


async def status(session: AsyncSession, layers: ConnectionLayers) -> admin.ConnectionStatus:
    """Return which profiles and authorities devices have, want, and depend on."""
    tally = ConnectionTally(layers)
    for group in await overview_queries.alike(session, layers.of_devices):
        tally.add(group)
    claims = await overview_queries.live_claims(session, now=datetime.now(UTC))
    ids = {*tally.uses, *(one for ids in tally.trusting for one in ids), *claims.values()}
    documents = {**await overview_queries.profiles(session, ids), **tally.wanted}
    profiles = sorted(
        (_profile_use(one, documents.get(one), counts) for one, counts in tally.uses.items()),
        key=lambda it: (-it.in_use - it.waiting - it.refused - it.fallback, it.connection_id),
    )
    return admin.ConnectionStatus(
        profiles=profiles[: admin.MAX_PROFILES],
        more=len(profiles[admin.MAX_PROFILES :]),
        authorities=_authority_uses(tally, claims, documents),
        as_provisioned=tally.as_provisioned,
        without_package=tally.without_package,
        on_fallback=tally.on_fallback,
    )


@dataclass(slots=True)
class ConnectionTally:
    """Counts of devices; `trusting` are those that use or keep a set of profiles, `wanted` the wanted ones."""

    layers: ConnectionLayers
    uses: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    trusting: Counter[frozenset[str]] = field(default_factory=Counter)
    wanted: dict[str, dict[str, Any]] = field(default_factory=dict)
    as_provisioned: int = 0
    without_package: int = 0
    on_fallback: int = 0

    def add(self, group: AlikeDevices) -> None:
        """Count a group of devices."""
        wanted = self.layers.wanted(group.device_id, group.tags)
        self.wanted[wanted.connection_id] = wanted.document
        stored, count = group.stored, group.devices
        for name, one in (("in_use", stored.in_use), ("fallback", stored.fallback)):
            if one is not None:
                self.uses[one][name] += count
        progress = connection_rules.progress(stored, wanted.connection_id)
        if progress == "as provisioned":
            self.as_provisioned += count
            self.without_package += 0 if group.has_package else count
        elif progress != "in use":
            self.uses[wanted.connection_id]["refused" if progress == "refused" else "waiting"] += count
        self.on_fallback += count if stored.is_on_fallback else 0
        self.trusting[frozenset(it for it in (stored.first, stored.in_use) if it is not None)] += count


def _profile_use(
    connection_id: str, document: Mapping[str, Any] | None, counts: Mapping[str, int]
) -> admin.ProfileUse:
    known = document or {}
    return admin.ProfileUse(
        connection_id=connection_id,
        known=document is not None,
        mqtt_host=known.get("mqtt_host"),
        mqtt_port=known.get("mqtt_port"),
        authorities=[it.subject for it in trusted(known)],
        wifi=[it["ssid"] for it in known.get("wifi", [])],
        in_use=counts["in_use"],
        fallback=counts["fallback"],
        waiting=counts["waiting"],
        refused=counts["refused"],
    )


def _authority_uses(
    tally: ConnectionTally, claims: Mapping[str, str], documents: Mapping[str, Mapping[str, Any]]
) -> list[admin.AuthorityUse]:
    """Return each authority with the number of devices that trust it, or in some profile it alone."""
    by_id = {one: trusted(document) for one, document in documents.items()}
    views = {it.fingerprint: it for found in by_id.values() for it in found}
    devices: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for ids, count in tally.trusting.items():
        sets = [{it.fingerprint for it in by_id[one]} for one in ids if one in by_id]
        devices.update(dict.fromkeys(set().union(*sets), count))
        alone.update(dict.fromkeys({it for one in sets if len(one) == 1 for it in one}, count))
    only_in = {claim: {it.fingerprint for it in by_id[one]} for claim, one in claims.items() if one in by_id}
    return [
        admin.AuthorityUse(
            **dict(view),
            devices=devices[fingerprint],
            alone=alone[fingerprint],
            claims=sorted(claim for claim, found in only_in.items() if found == {fingerprint}),
        )
        for fingerprint, view in sorted(views.items(), key=lambda it: it[1].ends_at)
    ]


def trusted(document: Mapping[str, Any]) -> list[admin.AuthorityView]:
    """Return the authorities of a profile."""
    pem = document.get("ca_certificate")
    return [
        admin.AuthorityView(
            subject=authorities.subject(it),
            fingerprint=authorities.fingerprint(it),
            ends_at=it.not_valid_after_utc,
        )
        for it in (authorities.read(pem, field="ca_certificate") if pem else ())
    ]
