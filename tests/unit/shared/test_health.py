from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.runtime import health


def status(file: Path) -> int:
    return subprocess.run([sys.executable, "-m", "shared.runtime.health", file], check=False).returncode


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def test_the_file_is_there_while_the_service_works(tmp_path: Path) -> None:
    file, working = tmp_path / "healthy", asyncio.Event()

    async def works() -> bool:
        return working.is_set()

    async with health.kept_fresh(file, works, every_s=0):
        assert not file.exists()
        working.set()
        await until(file.exists)
        working.clear()
        await until(lambda: not file.exists())


async def test_what_fails_in_the_check_is_not_swallowed(tmp_path: Path) -> None:
    async def works() -> bool:
        raise LookupError("broken")

    async def serve() -> None:
        async with health.kept_fresh(tmp_path / "healthy", works):
            await asyncio.sleep(0)

    with pytest.raises(LookupError, match="broken"):
        await serve()


def test_only_a_fresh_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "healthy"
    assert status(file) == 1
    file.touch()
    assert status(file) == 0
    old = time.time() - health.FRESH_S
    os.utime(file, (old, old))
    assert status(file) == 1
