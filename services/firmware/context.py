"""The resources of the firmware service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.engine import Database
from shared.database.flaws import FlawRecorder
from shared.database.outbox import Outbox
from shared.runtime.settings import FirmwareSettings
from shared.storage.images import Store

GROUP: Final = "firmware"
"""The group name of the replicas in shared subscriptions."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """Settings, database, image store, outbox and recorder of flaws; `changed` wakes the pruning of images."""

    settings: FirmwareSettings
    database: Database
    store: Store
    outbox: Outbox
    flaws: FlawRecorder
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def prune_soon(self, session: AsyncSession) -> None:
        """Wake the pruning of images once the session's transaction has committed."""
        event.listen(session.sync_session, "after_commit", lambda _: self.changed.set(), once=True)
