"""Records the events of all services, so that tests wait for events, not for fixed times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from cli.client import Admin
from dev.waiting import MAX_SHOWN, PATIENCE_S, NotSeenError
from shared.protocol import events
from shared.protocol.messages import Event

_BURST_S: Final = 0.05
"""Events come together: one look is enough for them."""
T = TypeVar("T")
Named = events.EventType[Any, Any] | str
"""A declared event, or its name."""


class EventRecorder:
    """Stores each event until a test has consumed it."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []
        self._count = 0
        self._news = asyncio.Condition()

    async def listen(self, admin: Admin) -> None:
        """Collect events until cancelled."""
        async for noun, verb, event in admin.events():
            async with self._news:
                self._count += 1
                self._events.append((f"{noun}/{verb}", event))
                self._news.notify_all()

    async def seen(self, client_id: str | None, event: Named, **data: object) -> Event:
        """Wait for an event of a device, or of none, also a past one, and consume it. Raise NotSeenError."""
        name = _name(event, data)
        try:
            async with asyncio.timeout(PATIENCE_S), self._news:
                while (found := self._place(client_id, name, data)) is None:
                    await self._news.wait()
                return self._events.pop(found)[1]
        except TimeoutError:
            raise NotSeenError(f"no {name} {data or ''} of {client_id} in {PATIENCE_S:g} s") from None

    def forget(self, client_id: str | None) -> None:
        """Consume all events of a device that have come so far."""
        self._events = [(name, event) for name, event in self._events if event.client_id != client_id]

    def remembers(self, client_id: str | None, event: Named, **data: object) -> bool:
        """Return whether there is such an event that was not consumed."""
        return self._place(client_id, _name(event, data), data) is not None

    def _place(self, client_id: str | None, name: str, data: dict[str, object]) -> int | None:
        for number, (event_name, event) in enumerate(self._events):
            if (event_name, event.client_id) == (name, client_id) and data.items() <= event.data.items():
                return number
        return None

    async def until(self, look: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
        """Evaluate a condition after each event until it holds. Raise NotSeenError with the last value."""
        known = self._count
        last = await look()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds(last):
                    async with self._news:
                        await self._news.wait_for(lambda seen=known: self._count > seen)  # type: ignore[misc]
                    await asyncio.sleep(_BURST_S)
                    known = self._count
                    last = await look()
        except TimeoutError:
            raise NotSeenError(f"not so within {PATIENCE_S:g} s: {str(last)[:MAX_SHOWN]}") from None
        return last


def _name(event: Named, data: dict[str, object]) -> str:
    """Return an event's name; raise KeyError if there is no such event, or it lacks one of these fields."""
    declared = events.EVENTS[event] if isinstance(event, str) else event
    if unknown := data.keys() - declared.facts.model_fields.keys():
        raise KeyError(f"{declared.name} has no field {', '.join(unknown)}")
    return declared.name


@asynccontextmanager
async def watching(admin: Admin) -> AsyncIterator[EventRecorder]:
    """Collect events while the block runs."""
    witness = EventRecorder()
    task = asyncio.create_task(witness.listen(admin), name="events")
    try:
        yield witness
    finally:
        task.cancel()
