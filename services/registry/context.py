"""The registry's tools, as all its nouns use them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from services.registry.credentials import rules as credential_rules
from services.registry.identity import Identities
from services.registry.instance import Instance
from services.registry.validation.checker import Checker
from shared.auth.keycloak import Identity
from shared.broker.mosquitto import DeviceAccount
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.protocol import messages, topics
from shared.runtime.settings import RegistrySettings


class Seen(Protocol):
    """What is known of a device's connection."""

    @property
    def online(self) -> bool:
        """Whether it has said so last."""

    @property
    def last_seen_at(self) -> datetime | None:
        """When it was heard last."""

    @property
    def refused_at(self) -> datetime | None:
        """When the broker last refused a login in its name."""


class Recorded(Protocol):
    """What the row says of a device's secret."""

    @property
    def secret_generation(self) -> int:
        """Its number."""

    @property
    def secret_fingerprint(self) -> str | None:
        """What tells it from others, None if not known."""


@dataclass(slots=True)
class Registry:
    """What models, devices, configurations and presence are kept with.

    `broker_started_at` is None until the broker says it; `compare` wakes the reconciler. By client id: whom the
    broker has refused, until it is stored, and in whose name the registry itself has tried to log in.
    """

    settings: RegistrySettings
    database: Database
    identities: Identities
    outbox: Outbox
    instance: Instance
    checker: Checker
    broker_started_at: datetime | None = None
    compare: asyncio.Event = field(default_factory=asyncio.Event)
    refused_at: dict[str, datetime] = field(default_factory=dict)
    tried_at: dict[str, datetime] = field(default_factory=dict)

    def places(
        self,
        presence: Seen,
        row: Recorded,
        identity: Identity,
        account: DeviceAccount | None,
        *,
        said: int | None,
    ) -> credential_rules.Places:
        """Return what each place holds of a device; `account` is None where the broker keeps none.

        `said` is the generation with which the device says that it logged in last.

        The broker's start ended all connections, whatever devices had said before.
        """
        started_at, seen = self.broker_started_at, presence.last_seen_at
        connected = presence.online and (started_at is None or (seen is not None and seen >= started_at))
        refused = presence.refused_at is not None and (seen is None or presence.refused_at > seen)
        return credential_rules.Places(
            row=credential_rules.recorded(row.secret_generation, row.secret_fingerprint, identity.held),
            keycloak=identity.held,
            broker=identity.held if account is None else account.held,
            connected=connected,
            refused=refused and not connected,
            said=said,
            accounts=self.identities.broker.keeps_accounts,
        )

    async def count_devices(self) -> dict[str, int]:
        """Return how many devices each model has, by its code."""
        async with self.database.transaction() as session:
            return await queries.count_devices(session)

    @property
    def claim_window(self) -> timedelta:
        """How long a claimed identity is given to the same machine again."""
        return timedelta(seconds=self.settings.claim_window_s)

    @property
    def thresholds(self) -> rules.Thresholds:
        """How long a device may be silent."""
        return rules.Thresholds(
            warning=timedelta(seconds=self.settings.health_warning_s),
            critical=timedelta(seconds=self.settings.health_critical_s),
            inactive=timedelta(seconds=self.settings.health_inactive_s),
        )


def tell_offline(outbox: Outbox, session: AsyncSession, client_id: str) -> None:
    """Tell it for a device that cannot; what it had said before must not be kept by the broker."""
    outbox.tell(session, "device/offline", client_id)
    outbox.put(session, topics.STATUS, messages.Status(online=False), client_id=client_id)
