"""One measurement, and how it is shown."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """What one run moved, and the most memory that the process which served it ever had; None for the broker's."""

    size_bytes: int
    seconds: float
    rss_peak_bytes: int | None

    @property
    def bytes_per_s(self) -> float:
        """The speed over all clients."""
        return self.size_bytes / self.seconds


@dataclass(frozen=True, slots=True)
class ResultRow:
    """All runs of one way; `baseline` names the way that it is held against."""

    name: str
    runs: Sequence[Run]
    baseline: str | None = None

    @property
    def bytes_per_s(self) -> float:
        """The median of all runs."""
        return statistics.median(run.bytes_per_s for run in self.runs)

    @property
    def rss_peak_bytes(self) -> int | None:
        """The highest of all runs."""
        return max((run.rss_peak_bytes for run in self.runs if run.rss_peak_bytes is not None), default=None)

    def facts(self, rows: Sequence[ResultRow]) -> dict[str, Any]:
        """Return what is to be read of it; the part of its baseline's speed among it."""
        of_baseline = next((self.bytes_per_s / row.bytes_per_s for row in rows if row.name == self.baseline), None)
        return {
            "name": self.name,
            "bytes_per_s": round(self.bytes_per_s),
            "baseline": self.baseline,
            "of_baseline": of_baseline and round(of_baseline, 3),
            "rss_peak_bytes": self.rss_peak_bytes,
            "runs_s": [round(run.seconds, 3) for run in self.runs],
        }


async def timed(deed: Callable[[], Awaitable[object]]) -> float:
    """Return how many seconds a deed took."""
    began = time.perf_counter()
    await deed()
    return time.perf_counter() - began


def rss_peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had, as Linux counts it (VmHWM)."""
    [found] = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) * 1024
