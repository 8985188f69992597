"""Reports of benchmarks: the same rows for people and programs."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_FILE_COLUMNS: Final = 200
_LIBRARIES: Final = ("aiomqtt", "paho-mqtt", "asyncpg", "sqlalchemy", "pydantic", "uvicorn", "starlette")


@dataclass(frozen=True, slots=True)
class Report:
    """A table; all rows have the same names, which include the unit, and the ratio to the baseline."""

    title: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def table(self) -> Table:
        """The rows for people."""
        shown = Table(*(name.replace("_", " ") for name in self.rows[0]), title=self.title)
        for row in self.rows:
            shown.add_row(*map(_text, row.values()))
        return shown


def console() -> Console:
    """Return the console for tables: in a file they are as wide as they need."""
    return Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)


def figures(reports: Mapping[str, Report], *, seconds: float) -> dict[str, Any]:
    """Return all reports by name of the benchmark, with the machine and versions."""
    [processor, *_] = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE) or [
        "?"
    ]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "processor": processor, "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "seconds": round(seconds),
        "benches": {name: asdict(report) for name, report in reports.items()},
    }


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        case list():
            return " ".join(map(_text, value))
        case _:
            return str(value)
