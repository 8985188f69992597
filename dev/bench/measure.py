"""Measurements and their formatting."""

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
    """The result of one run, and the peak memory of the serving process; None for the broker's."""

    size_bytes: int
    seconds: float
    rss_peak_bytes: int | None

    @property
    def bytes_per_s(self) -> float:
        """The throughput of all clients."""
        return self.size_bytes / self.seconds


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one way; `baseline` is the name of the way to compare with."""

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

    def facts(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the figures for people, including the ratio to the baseline."""
        of_baseline = next((self.bytes_per_s / row.bytes_per_s for row in rows if row.name == self.baseline), None)
        return {
            "name": self.name,
            "bytes_per_s": round(self.bytes_per_s),
            "baseline": self.baseline,
            "of_baseline": of_baseline and round(of_baseline, 3),
            "rss_peak_bytes": self.rss_peak_bytes,
            "runs_s": [round(run.seconds, 3) for run in self.runs],
        }


async def timed(operation: Callable[[], Awaitable[object]]) -> float:
    """Return the duration of an operation in seconds."""
    began = time.perf_counter()
    await operation()
    return time.perf_counter() - began


def rss_peak_bytes(pid: int) -> int:
    """Return the peak memory of a process (VmHWM)."""
    [found] = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) * 1024
