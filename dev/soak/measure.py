"""Memory and processor time of processes, and whether memory is flat."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

GROWTH_MAX: Final = 0.10
"""Maximum growth from the first third to the last."""
STEP_MAX: Final = 0.02
"""Maximum growth from one third to the next; if both steps exceed it, memory keeps growing."""
ALL: Final = "Pss"
SHARED: Final = "Pss_Shmem"
"""Kinds of memory, by their names in smaps_rollup; the second is shared by processes, as PostgreSQL's buffers."""
_MIB: Final = 1024 * 1024
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[Path]:
    """Yield the folders in /proc of a process and its children, which may end meanwhile."""
    folder = Path(f"/proc/{pid}")
    yield folder
    for thread in folder.glob("task/*/children"):
        with suppress(OSError):
            for child in thread.read_text().split():
                yield from tree(int(child))


def memory_bytes(pid: int, kind: str = ALL) -> int:
    """Return the memory of a process and its children, with shared memory counted proportionally (PSS)."""
    total = 0
    for folder in tree(pid):
        with suppress(OSError):
            [kib] = re.findall(rf"^{kind}:\s+(\d+) kB$", (folder / "smaps_rollup").read_text(), re.MULTILINE)
            total += int(kib) * 1024
    return total


def cpu_s(pid: int) -> float:
    """Return the processor time in seconds of a process and its children, including ended ones."""
    ticks = 0
    for folder in tree(pid):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


@dataclass(slots=True)
class Series:
    """Samples of a kind of one process's memory in bytes with times in seconds; `judged` ones must be flat."""

    name: str
    judged: bool
    kind: str = ALL
    memory: list[tuple[float, int]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, at_s: float, pid: int) -> None:
        """Take a sample."""
        self.memory.append((at_s, memory_bytes(pid, self.kind)))
        self.cpu.append(cpu_s(pid))

    @property
    def thirds(self) -> tuple[float, float, float]:
        """The medians of the first, the middle and the last third."""
        values = [value for _, value in self.memory]
        third = len(values) // 3
        parts = values[:third], values[third:-third], values[-third:]
        first, middle, last = (statistics.median(part) for part in parts)
        return first, middle, last

    @property
    def growth(self) -> float:
        """Growth from the first third to the last, as a share of the first."""
        first, _, last = self.thirds
        return last / first - 1

    @property
    def slope_bytes_per_min(self) -> float:
        """Slope of the least-squares line."""
        times, values = zip(*self.memory, strict=True)
        return statistics.linear_regression(times, values).slope * 60

    @property
    def is_flat(self) -> bool:
        """Whether it grew by less than GROWTH_MAX, and not by more than STEP_MAX in both steps."""
        first, middle, last = self.thirds
        return self.growth < GROWTH_MAX and not (middle / first - 1 > STEP_MAX and last / middle - 1 > STEP_MAX)

    @property
    def load(self) -> float:
        """The share of one core that the process used."""
        return (self.cpu[-1] - self.cpu[0]) / (self.memory[-1][0] - self.memory[0][0])

    def facts(self) -> dict[str, Any]:
        """Return the figures for programs."""
        first, middle, last = self.thirds
        return {
            "name": self.name,
            "first_bytes": round(first),
            "middle_bytes": round(middle),
            "last_bytes": round(last),
            "growth": round(self.growth, 4),
            "slope_bytes_per_min": round(self.slope_bytes_per_min),
            "load": round(self.load, 3),
            "flat": self.is_flat if self.judged else None,
        }


def table(title: str, all_series: Sequence[Series]) -> Table:
    """Return the figures for people."""
    columns = ("process", "first third", "middle", "last third", "growth", "MiB/min", "core", "flat")
    shown = Table(*columns, title=title, caption="memory in MiB (PSS, with children), medians")
    for series in all_series:
        facts = series.facts()
        shown.add_row(
            series.name,
            *(f"{facts[f'{part}_bytes'] / _MIB:.1f}" for part in ("first", "middle", "last")),
            f"{facts['growth']:+.1%}",
            f"{facts['slope_bytes_per_min'] / _MIB:+.2f}",
            f"{facts['load']:.0%}",
            "" if facts["flat"] is None else "yes" if facts["flat"] else "NO",
        )
    return shown
