"""The flaws of devices' messages: stored, and logged once for each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import delete, not_, select
from sqlalchemy.dialects.postgresql import insert

from shared.database import device_refs
from shared.database.arrays import one_of
from shared.database.engine import Database
from shared.database.tables import Device, DeviceFlaw, DeviceModel
from shared.protocol.flaws import Flaw
from shared.protocol.topics import Topic

log = structlog.get_logger()
_NONE: Final = frozenset[str]()
_TRUSTED_S: Final = 600
"""How long the rows are known: replicas share the messages of a device, and change the rows as well."""


@dataclass(slots=True)
class FlawRecorder:
    """Keeps the rows of `device_flaws` as the last message of each device and topic; a row lasts until then."""

    database: Database
    clock: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, str], frozenset[str]] | None = None
    """The fields in the rows, by client id and topic; None until they are read."""
    _read_at: float = 0.0

    async def note(self, client_id: str, topic: Topic[Any], flaws: Sequence[Flaw]) -> None:
        """Store the flaws of a message if they are about other fields than those of the previous one."""
        await self.set(client_id, topic.short, flaws)

    async def set(self, client_id: str, topic: str, flaws: Sequence[Flaw]) -> None:
        """Store the flaws of a topic if they are about other fields than before; a name may be no device's."""
        if not device_refs.is_client_id(client_id):
            return
        known = await self._all_known()
        fields = frozenset(flaw.field for flaw in flaws)
        if fields == known.get((client_id, topic), _NONE):
            return
        await self._store(client_id, topic, flaws)
        known.pop((client_id, topic), None)
        if fields:
            known[client_id, topic] = fields
            log.warning("device.flaws", client_id=client_id, topic=topic, flaws=dict(flaws))

    async def _store(self, client_id: str, topic: str, flaws: Sequence[Flaw]) -> None:
        device = select(Device.id).join(DeviceModel, DeviceModel.id == Device.model_id)
        async with self.database.transaction() as session:
            device_id = await session.scalar(device.where(device_refs.named(client_id)))
            if device_id is None:
                return
            rest = one_of(DeviceFlaw.field, (flaw.field for flaw in flaws))
            await session.execute(
                delete(DeviceFlaw).where(DeviceFlaw.device_id == device_id, DeviceFlaw.topic == topic, not_(rest))
            )
            if flaws:
                rows = [{"device_id": device_id, "topic": topic, **flaw._asdict()} for flaw in flaws]
                # Another replica may have stored them before.
                await session.execute(insert(DeviceFlaw).on_conflict_do_nothing(), rows)

    async def _all_known(self) -> dict[tuple[str, str], frozenset[str]]:
        """Return the fields in the rows, as last read: a message without flaws must clear them."""
        if self._known is None or self.clock() > self._read_at + _TRUSTED_S:
            began_at = self.clock()
            async with self.database.transaction() as session:
                rows = await device_refs.with_client_ids(session, device_refs.owned(DeviceFlaw))
            if self._known is None or began_at > self._read_at:
                known: dict[tuple[str, str], set[str]] = {}
                for row, client_id in rows:
                    known.setdefault((client_id, row.topic), set()).add(row.field)
                self._known = {key: frozenset(fields) for key, fields in known.items()}
                self._read_at = self.clock()
        return self._known
