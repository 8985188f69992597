"""Histories of connection profiles."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from device import connection
from device.connection import ConnectionSlots, OfferedProfile
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionProfile
from tools.traces.board import LONGEST, Step, package

STARTS_MAX: Final = 6
TRIAL_S: Final = 60


@dataclass
class ProfileHistory:
    """A device's connection profiles, and what may happen to them now."""

    draw: random.Random
    written: Package
    slots: ConnectionSlots
    is_early: bool = True
    """Neither an answer nor an offer since the start, nor a turn: the start may still be counted."""

    def events(self) -> list[str]:
        """Return what may happen."""
        if self.slots.trial is not None:
            return ["start", "offer", "answer", "answer", "trial over"]
        counts = ["count", "six starts"] if self.is_early else []
        return ["start", "package", "offer", "offer", "answer", "answer", "offline", "silent", *counts]

    def happen(self, event: str) -> Iterator[Step]:
        """Let an event happen; yield the steps that it takes."""
        if event == "six starts":
            for _ in range(STARTS_MAX):
                yield from self.happen("start")
                yield from self.happen("count")
            return
        facts: Step = {}
        match event:
            case "start" | "package":
                if event == "package":
                    self.written = package(self.draw.randint(1, 4), self.draw.choice([None, "1" * 16, "2" * 16]))
                    facts["package"] = self.written.model_dump(mode="json", exclude_none=True)
                self.is_early = True
                fresh = connection.of_package(self.written)
                self.slots = connection.started(self.slots, fresh, starts_max=STARTS_MAX)
            case "offer":
                facts["message"] = self._offer()
            case "answer":
                self.is_early, self.slots = False, connection.answered(self.slots)
            case "trial over":
                self.slots = connection.reverted(self.slots, "")
            case _ if self.slots.fallback is None:
                pass
            case "count":
                self.is_early, self.slots = False, connection.counted(self.slots)
            case _:
                self.is_early, self.slots = False, connection.turned(self.slots)
        yield {"event": "start" if event == "package" else event, **facts, "then": self.seen()}

    def _offer(self) -> Step:
        connection_id, port = self.draw.choice("0123") * 16, self.draw.randint(0, 4)
        profile = package(max(port, 1)).model_dump(include=set(ConnectionProfile.model_fields), mode="json")
        verdict = connection.judge(self.slots, connection_id, busy=False)
        if verdict is OfferedProfile.TRY and port == 0:  # which no rule allows
            self.slots = connection.rejected(self.slots, connection_id, "")
        elif verdict is OfferedProfile.TRY:
            offered = connection.of_offer(connection_id, ConnectionProfile.model_validate(profile))
            self.is_early, self.slots = False, connection.tried(self.slots, offered)
        profile = {name: value for name, value in profile.items() if value is not None}
        return {
            "connection_id": connection_id,
            "trial_seconds": TRIAL_S,
            "profile": {**profile, "mqtt_port": port},
        }

    def seen(self) -> Step:
        """Return where the device connects, and what it reports, without its reasons."""
        state = connection.state(self.slots).model_dump(mode="json", exclude_none=True)
        state.get("refused", {}).pop("reason", None)
        return {"mqtt_port": connection.in_use(self.slots).mqtt_port, "connection": state}


def history(seed: int) -> list[Step]:
    """Return a history of connection profiles."""
    draw = random.Random(seed)  # noqa: S311 - examples
    written = package()
    device = ProfileHistory(draw, written, connection.begun(connection.of_package(written)))
    steps = [
        {"event": "start", "package": written.model_dump(mode="json", exclude_none=True), "then": device.seen()}
    ]
    for _ in range(draw.randint(3, LONGEST)):
        steps += device.happen(draw.choice(device.events()))
    return steps
