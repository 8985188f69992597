"""The resources of the registry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.registry import queries
from services.registry.clashes import Clashes
from services.registry.health import HealthThresholds
from services.registry.identity import Identities
from services.registry.instance import Installation
from services.registry.validation.checker import Checker
from shared.database.engine import Database
from shared.database.flaws import FlawRecorder
from shared.database.outbox import Outbox
from shared.runtime.settings import RegistrySettings


@dataclass(slots=True)
class Registry:
    """Settings, stores and the observed state of the broker.

    `broker_started_at` is None until the broker publishes it; `wake` wakes the housekeeping, which compares
    everything if it is due, or if it is to `compare_at_once`, as after a start. `connection_base` is the profile
    of the settings; `push_connections` wakes the search for devices that want another one. `certificates`
    is what is wrong with certificates, by place, None until they were looked at. By client id: logins that the
    broker has refused, until they are stored, and logins that the registry itself has tried.
    """

    settings: RegistrySettings
    database: Database
    identities: Identities
    outbox: Outbox
    instance: Installation
    checker: Checker
    flaws: FlawRecorder
    broker_started_at: datetime | None = None
    connection_base: dict[str, Any] = field(default_factory=dict)
    push_connections: asyncio.Event = field(default_factory=asyncio.Event)
    certificates: dict[str, str] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    compare_at_once: bool = True
    refused_at: dict[str, datetime] = field(default_factory=dict)
    tried_at: dict[str, datetime] = field(default_factory=dict)
    clashes: Clashes = field(default_factory=Clashes)

    def compare_soon(self) -> None:
        """Compare everything now, or again if a comparison is in progress."""
        self.compare_at_once = True
        self.wake.set()

    async def count_devices(self) -> dict[str, int]:
        """Return the number of devices of each model, by its code."""
        async with self.database.transaction() as session:
            return await queries.count_devices(session)

    @property
    def claim_window(self) -> timedelta:
        """How long a repeated request of a machine gets the same identity."""
        return timedelta(seconds=self.settings.claim_window_s)

    @property
    def thresholds(self) -> HealthThresholds:
        """How long a device may be silent."""
        return HealthThresholds(
            warning=timedelta(seconds=self.settings.health_warning_s),
            critical=timedelta(seconds=self.settings.health_critical_s),
            inactive=timedelta(seconds=self.settings.health_inactive_s),
        )
