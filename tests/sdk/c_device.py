"""The device in C as a process: built once for a run of the tests, with sanitizers."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final

from device import image_builder
from shared.protocol.admin import ClaimPackage, Package

SOURCES: Final = Path(__file__).parents[2] / "sdk/c"
HURRY: Final = 10
"""All pauses of the device are shorter by this factor."""


CHECKED: Final = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"


@cache
def build_with(target: str, folder: str, flags: str) -> Path:
    """Build a target of sdk/c with these flags of the compiler, and return its file."""
    made = subprocess.run(
        ["make", "-C", SOURCES, f"BUILD=build/{folder}", f"CFLAGS={flags}", f"build/{folder}/{target}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return SOURCES / "build" / folder / target


def build(target: str) -> Path:
    """Build a program with AddressSanitizer and UndefinedBehaviorSanitizer."""
    return build_with(target, "checked", CHECKED)


def image_file(folder: Path, model: str) -> tuple[str, ...]:
    """Return the options for app partitions, the first of which has an image 1.0.0."""
    file = folder / f"{model}.bin"
    file.write_bytes(image_builder.build(version="1.0.0", project=model))
    return "--image", str(file)


@asynccontextmanager
async def _running(*options: str | Path, die_at: int | None) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = dict(os.environ) | ({} if die_at is None else {"MDM_DIE_AT": str(die_at)})
    process = await asyncio.create_subprocess_exec(
        await asyncio.to_thread(build, "mdm-device"), *options, "--hurry", str(HURRY), env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def powered(
    package: Package, folder: Path, *, die_at: int | None = None, options: tuple[str, ...] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the device until the block ends, or its power is cut at the `die_at`th change of its flash."""
    file, state = folder / f"{package.client_id}.json", folder / package.client_id
    file.write_text(package.model_dump_json())
    async with _running("--package", file, "--state", state, *options, die_at=die_at) as process:
        yield process


@asynccontextmanager
async def switched_on(
    claim: ClaimPackage, uid: str, folder: Path, *, die_at: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a machine without an identity, in the same way."""
    file = folder / f"{uid}.json"
    file.write_text(claim.model_dump_json())
    async with _running("--claim", file, "--uid", uid, "--state", folder / uid, die_at=die_at) as process:
        yield process
