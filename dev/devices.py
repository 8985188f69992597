"""The three devices of the product as processes with a folder as their flash, whose power can be cut anywhere.

Each reports on standard output what it comes to, a word and a value to a line: `step` and a point around a durable
write, such as `identity:written`. The reference device runs in this process, see `powered` in dev/fleet.py.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from dev.crash_injection import CrashPoint
from dev.waiting import PATIENCE_S
from shared.protocol.admin import ClaimPackage, Package

ROOT: Final = Path(__file__).parents[1]
C_SOURCES: Final = ROOT / "sdk/c"
MICROPYTHON_SDK: Final = ROOT / "sdk/micropython"
PROGRAMS: Final = Path(__file__).parent / "micropython"
OLDEST: Final = (1, 25)
HURRY: Final = 10
"""All pauses of the device in C are shorter by this factor."""
TURN_MS: Final = 4000
"""Instead of the hour after which the other connection profile has its turn."""
CHECKED: Final = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
TIMES: Final = {"keepalive_s": 5, "retry_ms": 300, "claim_retry_ms": 300, "pause_ms": 100, "pause_max_ms": 500}
_RESTART: Final = 3


@cache
def build(target: str, flags: str = CHECKED, folder: str = "checked") -> Path:
    """Build a target of sdk/c with these flags of the compiler, and return its file."""
    C_SOURCES.joinpath("build").mkdir(exist_ok=True)
    with C_SOURCES.joinpath("build/.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others who test need it too
        return _made(target, flags, folder)


def _made(target: str, flags: str, folder: str) -> Path:
    made = subprocess.run(
        ["make", "-C", C_SOURCES, f"BUILD=build/{folder}", f"CFLAGS={flags}", f"build/{folder}/{target}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return C_SOURCES / "build" / folder / target


@cache
def micropython() -> str | None:
    """Return the unix port among the development packages, else one of the system that is new enough, or None."""
    beside = Path(sys.executable).parent / "micropython"
    if beside.exists():
        return str(beside)
    found = shutil.which("micropython")
    asked = "import sys; print(sys.implementation.version >= %r)" % (OLDEST,)  # noqa: UP031 - a tuple
    if found is None or subprocess.run([found, "-c", asked], capture_output=True, check=False).stdout != b"True\n":
        return None
    return found


@dataclass(slots=True)
class DeviceProcess:
    """A running device: the lines of its output, a word and a value each."""

    said: list[tuple[str, str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    """The points of durable writes that it has come to."""
    is_cut: bool = False
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hear(self, word: str, value: str) -> None:
        """Note a line."""
        async with self._news:
            self.said.append((word, value))
            if word == "step":
                self.steps.append(value)
            self._news.notify_all()

    async def says(self, word: str, value: str | None = None) -> str:
        """Wait for a line with a word, and with this value if one is given; return the value."""

        def found() -> str | None:
            return next((it for said, it in self.said if said == word and value in {None, it}), None)

        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: found() is not None)
        return str(found())

    async def reached(self, step: str, nth: int) -> None:
        """Wait until it has come to a point so many times."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.steps.count(step) >= nth)

    async def cut(self) -> None:
        """Note that it has lost its power."""
        async with self._news:
            self.is_cut = True
            self._news.notify_all()

    async def failed(self) -> None:
        """Wait until it has reached the point of its power cut."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.is_cut)


@asynccontextmanager
async def running(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    cut_at: CrashPoint | None = None,
    log: Path | None = None,
) -> AsyncIterator[DeviceProcess]:
    """Run a device until the block ends; then, or at `cut_at`, its power is cut. It ends only to be restarted."""
    board = DeviceProcess()
    async with asyncio.TaskGroup() as group:  # a device that fails ends the test at once
        living = group.create_task(_live(board, command, environment, cut_at, log))
        try:
            yield board
        finally:
            living.cancel()


async def _live(
    board: DeviceProcess,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    cut_at: CrashPoint | None,
    log: Path | None,
) -> None:
    """Run the device, from each start to the next; its standard error goes to the end of a file."""
    returncode = _RESTART
    while returncode == _RESTART:
        left = "" if cut_at is None else f"{cut_at.step}#{cut_at.nth - board.steps.count(cut_at.step)}"
        process = _start(command, {**environment, "MDM_CUT_AT": left}, log)
        try:
            await _listen(board, process, cut_at)
            returncode = await asyncio.to_thread(process.wait)
        finally:
            process.kill()
            process.wait()
    assert returncode == -signal.SIGKILL, "\n".join(" ".join(said) for said in board.said[-30:])
    await board.cut()


def _start(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path | None
) -> subprocess.Popen[bytes]:
    """Start a process; asyncio's own may lose its code to whoever else reaps."""
    with (log or Path(os.devnull)).open("ab") as errors:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=None if log is None else errors,
            env={**os.environ, **environment},
        )


async def _listen(board: DeviceProcess, process: subprocess.Popen[bytes], cut_at: CrashPoint | None) -> None:
    """Note a device's output, until it ends; at its cut, end it, if it has not done so itself."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), process.stdout)
    try:
        async for line in lines:
            word, _, value = line.decode().rstrip().partition(" ")
            await board.hear(word, value)
            if cut_at is not None and (value, board.steps.count(value)) == (cut_at.step, cut_at.nth):
                process.kill()
    finally:
        transport.close()


@asynccontextmanager
async def c_device(
    package: Package | ClaimPackage,
    folder: Path,
    *,
    cut_at: CrashPoint | None = None,
    options: Sequence[str | Path] = (),
    log: Path | None = None,
) -> AsyncIterator[DeviceProcess]:
    """Run the device in C with its records in `folder`; `options` are those of mdm-device."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    file = folder.with_suffix(".json")
    await asyncio.to_thread(file.write_text, package.model_dump_json())
    kind = "--package" if isinstance(package, Package) else "--claim"
    times = ["--hurry", str(HURRY), "--turn-ms", str(TURN_MS)]
    program = await asyncio.to_thread(build, "mdm-device")
    command: list[str | Path] = [program, kind, file, "--state", folder, *times, *options]
    async with running(command, {}, cut_at=cut_at, log=log) as board:
        yield board


@asynccontextmanager
async def micropython_device(
    package: Package | ClaimPackage,
    folder: Path,
    *,
    cut_at: CrashPoint | None = None,
    path: Path = MICROPYTHON_SDK,
    log: Path | None = None,
    **settings: Any,  # noqa: ANN401 - JSON
) -> AsyncIterator[DeviceProcess]:
    """Run a device for MicroPython with its flash in `folder`; `settings` are those of dev/micropython/device.py.

    A restart of the board is a new process.
    """
    given = {
        "path": [str(PROGRAMS), str(path)],
        "folder": str(folder),
        "state": str(folder / "mdm"),
        "times": TIMES | {"turn_ms": TURN_MS} | settings.pop("times", {}),
        **settings,
    }
    await asyncio.to_thread(_prepare, folder, package, given)
    command: list[str | Path] = [str(micropython()), PROGRAMS / "device.py", folder / "settings.json"]
    async with running(command, {"FLASH": str(folder / "flash")}, cut_at=cut_at, log=log) as board:
        yield board


def _prepare(folder: Path, package: Package | ClaimPackage, settings: dict[str, Any]) -> None:
    """Put on the board what its owner does."""
    (folder / "flash").mkdir(parents=True, exist_ok=True)
    name = "package.json" if isinstance(package, Package) else "claim.json"
    (folder / name).write_text(package.model_dump_json())
    (folder / "settings.json").write_text(json.dumps(settings))
