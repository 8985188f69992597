"""Crash injection: runs a service that records each external step and kills itself with SIGKILL at a selected one.

`python -m dev.crash_injection services.registry.main`, with the folder for records in MORTAL_FOLDER. A step is a
commit, a request to Keycloak, a command to the broker, a change of the image store, or a publication; each is
recorded before and after it.
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator.leader import Leadership
from shared.broker.mosquitto import BrokerAccounts
from shared.database.engine import Database
from shared.mqtt.connection import Connection
from shared.storage.images import Store

FOLDER: Final = "MORTAL_FOLDER"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLUMBING: Final = frozenset({"transaction", "attempt"})


@dataclass(frozen=True, slots=True, order=True)
class CrashPoint:
    """A crash point: the n-th time that a service reaches a step after it was armed."""

    step: str
    nth: int

    def __str__(self) -> str:
        return self.step if self.nth == 1 else f"{self.step} ({self.nth})"


@dataclass(frozen=True, slots=True)
class CrashPlan:
    """The recorded steps of a service and its crash point, in a folder that both processes share."""

    folder: Path

    @property
    def _steps(self) -> Path:
        return self.folder / "steps"

    @property
    def _sentence(self) -> Path:
        return self.folder / "sentence"

    def steps(self, begun: int = 0) -> list[str]:
        """Return the recorded steps in order, without the given number of first ones."""
        return self._steps.read_text().splitlines()[begun:] if self._steps.exists() else []

    def condemn(self, death: CrashPoint) -> None:
        """Arm a crash point; steps are counted from now on."""
        fresh = self.folder / "sentence.new"
        fresh.write_text(f"{death.nth} {death.step}")
        fresh.replace(self._sentence)

    def pardon(self) -> None:
        """Disarm the crash point."""
        self._sentence.unlink(missing_ok=True)

    def record(self, step: str) -> None:
        """Record a step."""
        with self._steps.open("a") as file:
            file.write(f"{step}\n")

    def sentence(self) -> CrashPoint | None:
        """Return the armed crash point, if any."""
        try:
            nth, step = self._sentence.read_text().split(" ", 1)
        except FileNotFoundError:
            return None
        return CrashPoint(step, int(nth))


def deaths(steps: Iterable[str], *, noise: Iterable[str] = ()) -> list[CrashPoint]:
    """Return the crash points of a run; for periodic steps (`noise`) only the first.

    After one step and before the next is one crash point, because the state outside the service is the same.
    """
    seen: Counter[str] = Counter()
    found = []
    often = set(noise)
    after = False
    for step in steps:
        if _began_earlier(step, seen):
            continue
        seen[step] += 1
        counts = seen[step] == 1 or step not in often
        if counts and not (after and step.endswith(":before")):
            found.append(CrashPoint(step, seen[step]))
        after = counts and step.endswith(":after")
    return found


def _began_earlier(step: str, counts: Counter[str]) -> bool:
    """Whether a step ends an operation that started before the count, as an answer is read before its PUBACK."""
    name, _, moment = step.rpartition(":")
    return moment == "after" and counts[step] == counts[f"{name}:before"]


class _CrashInjector:
    """Intercepts a service's external steps."""

    def __init__(self, fate: CrashPlan) -> None:
        self._fate = fate
        self._counts: Counter[str] = Counter()

    def reach(self, step: str) -> None:
        self._fate.record(step)
        death = self._fate.sentence()
        if death is None:
            self._counts.clear()
            return
        if _began_earlier(step, self._counts):
            return
        self._counts[step] += 1
        if (step, self._counts[step]) == (death.step, death.nth):
            os.kill(os.getpid(), signal.SIGKILL)

    def take_hold(self) -> None:
        self._commits(Database)
        self._commits(Leadership)
        self._calls(BrokerAccounts, "command", lambda arguments: f"broker {arguments[0]}")
        self._calls(Connection, "publish", lambda arguments: _publication(arguments[0]))
        self._calls(asyncpg.Connection, "copy_to_table", lambda arguments: f"copy {arguments[0]}")
        self._calls(Store, "put", lambda _: "store put")
        self._calls(Store, "delete", lambda _: "store delete")
        self._calls(httpx.AsyncClient, "send", lambda arguments: _request(arguments[0]))

    def _commits(self, kind: Any) -> None:  # noqa: ANN401 - two classes that only look alike
        original = kind.transaction

        @asynccontextmanager
        async def transaction(inner: object) -> AsyncIterator[AsyncSession]:
            name = f"commit {_who()}"
            async with original(inner) as session:
                yield session
                self.reach(f"{name}:before")
            self.reach(f"{name}:after")

        kind.transaction = transaction

    def _calls(self, kind: Any, method: str, name_of: Any) -> None:  # noqa: ANN401 - methods of several classes
        original = getattr(kind, method)

        async def call(inner: object, *arguments: object, **options: object) -> object:
            name = name_of(arguments)
            if name is None:
                return await original(inner, *arguments, **options)
            self.reach(f"{name}:before")
            result = await original(inner, *arguments, **options)
            self.reach(f"{name}:after")
            return result

        setattr(kind, method, call)


def _who() -> str:
    """Return the product's function that commits."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        module, code = frame.f_globals.get("__name__", ""), frame.f_code
        if module.startswith(("services.", "shared.")) and code.co_name not in _PLUMBING:
            return code.co_qualname
        frame = frame.f_back
    return "main"


def _publication(topic: str) -> str | None:
    parts = topic.removeprefix("mdm/v1/").split("/")
    match parts[0]:
        case "$CONTROL":
            return None  # the command itself is the step
        case "d":
            # Without the image and the offset of a chunk.
            return f"publish {'/'.join(parts[2:5])}"
        case "replies":
            return "publish reply"
        case _:
            return f"publish {'/'.join(parts)}"


def _request(request: httpx.Request) -> str:
    path = _UUID.sub("...", request.url.path)
    if path.endswith("/token"):
        return f"keycloak token of a {'device' if b'client_id=iotdevice-' in request.content else 'service'}"
    return f"keycloak {request.method} {path}"


if __name__ == "__main__":
    module = sys.argv.pop(1)
    _CrashInjector(CrashPlan(Path(os.environ[FOLDER]))).take_hold()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
