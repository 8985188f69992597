"""The registry's tools, as all its nouns use them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.registry import db, domain
from services.registry.identity import Identities
from shared.outbox import Outbox
from shared.postgres import Database
from shared.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Registry:
    """What models, devices, configurations and presence are kept with."""

    settings: RegistrySettings
    database: Database
    identities: Identities
    outbox: Outbox

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
