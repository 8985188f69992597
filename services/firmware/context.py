"""What the firmware service is made of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.runtime.settings import FirmwareSettings
from shared.storage.images import Store

GROUP: Final = "firmware"
"""Replicas of the service share their messages under this name."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """Settings, database, image store and outbox; `changed` is set when images may have to be pruned."""

    settings: FirmwareSettings
    database: Database
    store: Store
    outbox: Outbox
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def prune_soon(self, session: AsyncSession) -> None:
        """Have images pruned once the session's transaction has committed."""
        event.listen(session.sync_session, "after_commit", lambda _: self.changed.set(), once=True)
