"""Counts of simulated devices, from the events that they emit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class FailureMode(StrEnum):
    """A way to fail: receive no messages, process them late, roll back images, send wrong proofs."""

    SILENT = "silent"
    SLOW = "slow"
    ROLLED_BACK = "rolled back"
    WRONG_PROOF = "wrong proof"

    @property
    def field(self) -> str:
        """The name in errors."""
        return self.value.replace(" ", "_")


_FAILURES: Final = {
    "message.unheard": FailureMode.SILENT,
    "message.late": FailureMode.SLOW,
    "firmware.rolled_back": FailureMode.ROLLED_BACK,
    "rotation.wrong_proof": FailureMode.WRONG_PROOF,
}


@dataclass(slots=True)
class Tally:
    """The states of the devices, and the number of events since the start."""

    failing: Mapping[str, FailureMode]
    devices: int
    connected: set[str] = field(default_factory=set)
    asleep: set[str] = field(default_factory=set)
    configured: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)
    event_counts: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    """Devices with unusable files, and the reason."""

    def record(self, client_id: str, event: str, facts: Mapping[str, object]) -> None:
        """Record an event of a device."""
        self.event_counts[event] += 1
        match event:
            case "login.accepted":
                self.connected.add(client_id)
                self.asleep.discard(client_id)
            case "link.lost" | "link.closed":
                self.connected.discard(client_id)
            case "device.asleep":
                self.asleep.add(client_id)
            case "config.applied":
                self.configured.add(client_id)
            case "device.booted":
                self.versions[client_id] = str(facts["version"])
                if facts["config_version"] is not None:
                    self.configured.add(client_id)

    def failures(self) -> dict[FailureMode, tuple[int, int]]:
        """Return the number of devices and of failures for each failure mode."""
        devices = Counter(self.failing.values())
        return {
            mode: (devices[mode], self.event_counts[event]) for event, mode in _FAILURES.items() if devices[mode]
        }

    def facts(self) -> dict[str, Any]:
        """Return all counts for a script."""
        return {
            "devices": self.devices,
            "connected": len(self.connected),
            "asleep": len(self.asleep),
            "configured": len(self.configured),
            "rotations": self.event_counts["rotation.promoted"],
            "commands": self.event_counts["command.done"],
            "firmware": dict(sorted(Counter(self.versions.values()).items())),
            "failures": {
                mode.value: {"devices": devices, "times": times}
                for mode, (devices, times) in self.failures().items()
            },
            "broken": self.broken,
        }

    def counts(self) -> dict[str, int]:
        """Return the counts by name for people, without failures."""
        facts = self.facts()
        return {
            **{name: value for name, value in facts.items() if isinstance(value, int)},
            **{f"firmware {version}": count for version, count in facts["firmware"].items()},
            **({"broken": len(self.broken)} if self.broken else {}),
        }
