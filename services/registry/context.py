"""What the registry is made of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.registry import queries, rules
from services.registry.identity import Identities
from services.registry.instance import Installation
from services.registry.validation.checker import Checker
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.runtime.settings import RegistrySettings


@dataclass(slots=True)
class Registry:
    """Settings, stores and what is known of the broker.

    `broker_started_at` is None until the broker says it; `wake` wakes the housekeeping, which compares all from
    `compare_at_s` on, by the loop's clock. By client id: whom the broker has refused, until it is stored, and in
    whose name the registry itself has tried to log in.
    """

    settings: RegistrySettings
    database: Database
    identities: Identities
    outbox: Outbox
    instance: Installation
    checker: Checker
    broker_started_at: datetime | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    compare_at_s: float = 0
    refused_at: dict[str, datetime] = field(default_factory=dict)
    tried_at: dict[str, datetime] = field(default_factory=dict)

    def compare_soon(self) -> None:
        """Have all compared now, or once more if that is under way."""
        self.compare_at_s = 0
        self.wake.set()

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
