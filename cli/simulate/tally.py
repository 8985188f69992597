"""What is counted of simulated devices, from the events that they tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Fate(StrEnum):
    """A way to fail: hears no message, takes it late, falls back to the old image, proves nothing."""

    SILENT = "silent"
    SLOW = "slow"
    ROLLED_BACK = "rolled back"
    WRONG_PROOF = "wrong proof"

    @property
    def field(self) -> str:
        """Its name in an error."""
        return self.value.replace(" ", "_")


_FAILURES: Final = {
    "message.unheard": Fate.SILENT,
    "message.late": Fate.SLOW,
    "firmware.rolled_back": Fate.ROLLED_BACK,
    "rotation.wrong_proof": Fate.WRONG_PROOF,
}


@dataclass(slots=True)
class Tally:
    """How the devices stand, and what has happened since the start."""

    failing: Mapping[str, Fate]
    devices: int
    connected: set[str] = field(default_factory=set)
    configured: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    """Devices whose files cannot be used, and why."""

    def saw(self, client_id: str, event: str, facts: Mapping[str, object]) -> None:
        """Count an event of a device."""
        self.happened[event] += 1
        match event:
            case "login.accepted":
                self.connected.add(client_id)
            case "link.lost" | "link.closed":
                self.connected.discard(client_id)
            case "config.applied":
                self.configured.add(client_id)
            case "device.booted":
                self.versions[client_id] = str(facts["version"])
                if facts["config_version"] is not None:
                    self.configured.add(client_id)

    def failures(self) -> dict[Fate, tuple[int, int]]:
        """Return of each way to fail how many devices have it, and how often it has happened."""
        devices = Counter(self.failing.values())
        return {fate: (devices[fate], self.happened[event]) for event, fate in _FAILURES.items() if devices[fate]}

    def facts(self) -> dict[str, Any]:
        """Return all of it for a script."""
        return {
            "devices": self.devices,
            "connected": len(self.connected),
            "configured": len(self.configured),
            "rotations": self.happened["rotation.promoted"],
            "commands": self.happened["command.done"],
            "firmware": dict(sorted(Counter(self.versions.values()).items())),
            "failures": {
                fate.value: {"devices": devices, "times": times}
                for fate, (devices, times) in self.failures().items()
            },
            "broken": self.broken,
        }

    def counts(self) -> dict[str, int]:
        """Return the counts by name, as people read them; failures are not among them."""
        facts = self.facts()
        return {
            **{name: value for name, value in facts.items() if isinstance(value, int)},
            **{f"firmware {version}": count for version, count in facts["firmware"].items()},
            **({"broken": len(self.broken)} if self.broken else {}),
        }
