"""The registry's tools, as all its nouns use them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.registry import db, domain
from services.registry.configuration import Checker
from services.registry.identity import Identities
from services.registry.instance import Instance
from shared.outbox import Outbox
from shared.postgres import Database
from shared.settings import RegistrySettings


@dataclass(slots=True)
class Registry:
    """What models, devices, configurations and presence are kept with.

    `broker_started_at` is None until the broker says it; `compare` wakes the reconciler. Whom the broker has
    refused is in `refused_at`, by client id, until it is stored; in `tried_at` whose login was tried by the registry itself.
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

    def is_connected(
        self, online: bool, last_seen_at: datetime | None, refused_at: datetime | None
    ) -> tuple[bool, bool]:
        """Return whether a device is connected, and whether it is not and the broker has refused it since.

        The broker's start ended all connections, whatever devices had said before.
        """
        started_at = self.broker_started_at
        connected = online and (started_at is None or (last_seen_at is not None and last_seen_at >= started_at))
        refused = refused_at is not None and (last_seen_at is None or refused_at > last_seen_at)
        return connected, refused and not connected

    async def count_devices(self) -> dict[str, int]:
        """Return how many devices each model has, by its code."""
        async with self.database.transaction() as session:
            return await db.count_devices(session)

    @property
    def claim_window(self) -> timedelta:
        """How long a claimed identity is given to the same machine again."""
        return timedelta(seconds=self.settings.claim_window_s)

    @property
    def thresholds(self) -> domain.Thresholds:
        """How long a device may be silent."""
        return domain.Thresholds(
            warning=timedelta(seconds=self.settings.health_warning_s),
            critical=timedelta(seconds=self.settings.health_critical_s),
            inactive=timedelta(seconds=self.settings.health_inactive_s),
        )
