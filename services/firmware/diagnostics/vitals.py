"""The vitals of devices: summed up by the hour, written in batches, kept for a while, and read by admins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from services.firmware import queries
from services.firmware.context import Firmware
from services.firmware.diagnostics import queries as diagnostics_queries
from services.firmware.diagnostics import vital_hours, vital_queries
from services.firmware.diagnostics.vital_hours import StoredHour, Stretch
from shared.database import device_refs
from shared.errors import MessageRefusedError, NotFoundError
from shared.mqtt.rates import Buckets, Rate
from shared.protocol import admin, messages
from shared.protocol.flaws import MOST, Flaw
from shared.runtime.microbatch import MicroBatcher
from shared.server.rpc import RequestContext

EVERY_S: Final = 10
_RATE: Final = Rate(1 / EVERY_S, burst=10)
_TOO_MANY: Final = f"must be one of at most {vital_hours.NAMES_MAX} vitals in an hour"


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedVitals:
    """A device's message, and when it was received."""

    client_id: str
    numbers: dict[str, float]
    received_at: datetime


@dataclass(slots=True)
class VitalService:
    """Stores numbers: one writer, so that many devices at once cost few transactions."""

    firmware: Firmware
    clock: Callable[[], float] = time.monotonic
    _messages: MicroBatcher[ReceivedVitals, list[str] | None] = field(default_factory=MicroBatcher)
    _buckets: Buckets = field(default_factory=lambda: Buckets(_RATE))

    async def store(self, client_id: str, message: messages.Vitals, received_at: datetime) -> list[Flaw]:
        """Store a device's numbers, and return which are too many; return when they are durable.

        Raise MessageRefusedError if the device sends too often.
        """
        if not self._buckets.take(client_id, self.clock()):
            raise MessageRefusedError(f"message: must be one in {EVERY_S} s, apart from {_RATE.burst} at once")
        too_many = await self._messages.submit(ReceivedVitals(client_id, message.root, received_at))
        if too_many is None:
            raise device_refs.unknown(client_id)
        return [Flaw(name, _TOO_MANY) for name in too_many[:MOST]]

    async def run(self) -> None:
        """Write the numbers that have gathered since the last write, until cancelled."""
        await self._messages.run(self._write)

    async def forget(self) -> None:
        """Delete hours past their retention."""
        keep = timedelta(days=self.firmware.settings.vitals_keep_days)
        async with self.firmware.database.transaction() as session:
            await vital_queries.forget(session, before=datetime.now(UTC) - keep)

    async def show(self, context: RequestContext, request: admin.VitalsShow) -> admin.DeviceVitals:
        """Return all vitals of a device in a time, and how one of them went."""
        since = _since(request.since_s)
        client_id, hours = await vital_queries.of_device(context.session, request.device, since=since)
        names = sorted({name for hour in hours.values() for name in hour.vitals})
        if request.name is not None and request.name not in names:
            raise NotFoundError(f"name: {client_id} has not reported {request.name} in this time; {_known(names)}")
        wanted = [] if request.name is None else _stretches(hours, request.name)
        return admin.DeviceVitals(
            client_id=client_id,
            vitals=[_view(hours, name) for name in names],
            points=[
                admin.VitalPoint(
                    at=it.at,
                    version=it.version,
                    low=it.summary.low,
                    mean=it.summary.mean,
                    high=it.summary.high,
                )
                for it in vital_hours.thinned(wanted)
            ],
        )

    async def compare(self, context: RequestContext, request: admin.VitalsCompare) -> admin.VitalsCompared:
        """Return the vitals of a model's devices by the firmware that they ran."""
        await queries.model(context.session, request.model)
        found = await vital_queries.compared(context.session, request, since=_since(request.since_s))
        return admin.VitalsCompared(model=request.model, vitals=[_compared(it) for it in found])

    async def _write(self, batch: Sequence[ReceivedVitals]) -> Sequence[list[str] | None]:
        """Add all numbers to their hours; return the names that are too many, None for an unknown device."""
        async with self.firmware.database.transaction() as session:
            # One writer at a time, also among replicas: it reads what it replaces.
            await diagnostics_queries.lock(session, "device_vitals")
            devices = await vital_queries.reporting(session, {it.client_id for it in batch})
            known = [it for it in batch if it.client_id in devices and it.numbers]
            keys = {(devices[it.client_id].device_id, vital_hours.begin(it.received_at)) for it in known}
            hours = await vital_queries.hours(session, keys)
            too_many: dict[ReceivedVitals, list[str]] = {}
            for it in known:
                device_id, version = devices[it.client_id]
                key = (device_id, vital_hours.begin(it.received_at))
                added = vital_hours.added(hours.get(key), it.numbers, version=version, at=it.received_at)
                hours[key], too_many[it] = added
            if hours:
                await vital_queries.store(session, hours)
        return [too_many.get(it, []) if it.client_id in devices else None for it in batch]


def _since(seconds: int) -> datetime:
    """Return the begin of the hour in which this age begins."""
    return vital_hours.begin(datetime.now(UTC) - timedelta(seconds=seconds))


def _known(names: Sequence[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there are no others"


def _stretches(hours: Mapping[datetime, StoredHour], name: str) -> list[Stretch]:
    return [Stretch(at, it.version, it.vitals[name]) for at, it in hours.items() if name in it.vitals]


def _view(hours: Mapping[datetime, StoredHour], name: str) -> admin.VitalView:
    found = _stretches(hours, name)
    whole = vital_hours.joined(it.summary for it in found)
    at = found[-1].at + timedelta(seconds=whole.second)
    return admin.VitalView(name=name, last=whole.last, at=at, low=whole.low, mean=whole.mean, high=whole.high)


def _compared(found: vital_queries.Comparison) -> admin.VitalOfVersion:
    p5, median, p95 = found.quantiles
    return admin.VitalOfVersion(
        name=found.name,
        version=found.version,
        devices=found.devices,
        mean=found.mean,
        p5=p5,
        median=median,
        p95=p95,
    )
