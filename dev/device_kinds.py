"""The three devices of the product, as the demo and the tests of faults run them: alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from dev.crash_injection import CrashPoint
from dev.devices import TURN_MS, c_device, micropython, micropython_device
from dev.fleet import HOOKS, OPTIONS, powered
from device.options import Done
from shared.protocol.admin import Package


class Powered(Protocol):
    """A device that has power."""

    @property
    def steps(self) -> list[str]:
        """The points around durable writes and publications that it has reached."""

    async def failed(self) -> None:
        """Wait until it has reached the point of its power cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """How a device is run: to which point, with which image in an empty flash, and where its own lines go."""

    cut_at: CrashPoint | None = None
    image: bytes | None = None
    log: Path | None = None


Runs = Callable[[Package, Path, Supply], AbstractAsyncContextManager[Powered]]


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A device under test: `secrets` and `profiles` are the names of its records of slots and of profiles.

    Each knows the command `echo`.
    """

    name: str
    run: Runs
    secrets: str
    profiles: str

    def __str__(self) -> str:
        return self.name

    def powered(
        self,
        package: Package,
        state: Path,
        *,
        cut_at: CrashPoint | None = None,
        image: bytes | None = None,
        log: Path | None = None,
    ) -> AbstractAsyncContextManager[Powered]:
        """Run a device until the block ends, or its power is cut at a point; an empty flash has `image`."""
        return self.run(package, state, Supply(cut_at=cut_at, image=image, log=log))


def _reference(package: Package, state: Path, supply: Supply) -> AbstractAsyncContextManager[Powered]:
    options = replace(OPTIONS, backoff_max_s=2, fallback_after_s=TURN_MS / 1000)
    hooks = replace(HOOKS, commands={"echo": lambda arguments: Done(result=arguments)})
    return powered(package, state, options=options, hooks=hooks, cut_at=supply.cut_at, image=supply.image)


@asynccontextmanager
async def _c(package: Package, state: Path, supply: Supply) -> AsyncIterator[Powered]:
    options: list[str | Path] = []
    if supply.image is not None:
        file = state.with_suffix(".bin")
        file.write_bytes(supply.image)
        options = ["--image", file]
    async with c_device(package, state, cut_at=supply.cut_at, options=options, log=supply.log) as board:
        yield board


@asynccontextmanager
async def _micropython(package: Package, state: Path, supply: Supply) -> AsyncIterator[Powered]:
    if supply.image is not None and not (state / "flash" / "ota_0.bin").exists():
        (state / "flash").mkdir(parents=True)
        (state / "flash" / "ota_0.bin").write_bytes(supply.image)
    async with micropython_device(package, state, cut_at=supply.cut_at, log=supply.log) as board:
        yield board


REFERENCE: Final = DeviceKind("python", _reference, "slots.", "connection.")
C: Final = DeviceKind("c", _c, "identity:", "place")
MICROPYTHON: Final = DeviceKind("micropython", _micropython, "slots:", "connection:")
ALL: Final = {
    str(kind): kind for kind in (REFERENCE, C, MICROPYTHON) if kind is not MICROPYTHON or micropython() is not None
}
"""The kinds that can run here, by name."""
