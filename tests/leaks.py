"""Looks for secrets in all that a system leaves behind: its database, the broker's memory, events."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import Iterable, Mapping

from cli.client import Admin
from dev.database import run
from dev.stack import Stack


class Heard:
    """All events, as they came."""

    def __init__(self) -> None:
        self.text = b""

    async def listen(self, admin: Admin) -> None:
        async for noun, verb, event in admin.events():
            self.text += f"{noun}/{verb} {event.model_dump_json()}\n".encode()


def spellings(secret: str) -> Iterable[bytes]:
    """Yield a secret as text, as PostgreSQL writes bytes, and in base64 wherever it may begin."""
    plain = secret.encode()
    yield plain
    yield plain.hex().encode()
    for shift in range(3):
        yield base64.b64encode(b"\0" * shift + plain)[4 : len(plain)]


def leaks(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> list[str]:
    """Say which secret stands in which place, without saying the secret."""
    return [
        f"{whose}: in {place}"
        for whose, secret in secrets.items()
        for place, text in places.items()
        if any(spelling in text for spelling in spellings(secret))
    ]


async def database(stack: Stack) -> bytes:
    """Return every row of every table of ours."""
    tables = await run(stack, "SELECT tablename FROM pg_tables WHERE schemaname = 'mdm' ORDER BY 1")
    assert tables
    rows = [row for (table,) in tables for row in await run(stack, f"SELECT t::text FROM mdm.{table} t")]  # noqa: S608
    return "\n".join(str(row[0]) for row in rows).encode()


async def memory_of_broker(stack: Stack) -> bytes:
    """Return what the broker keeps on disk: retained messages, and what waits for clients that are away."""
    file = stack.folder / "mosquitto/data/mosquitto.db"
    before = file.stat().st_mtime_ns if file.exists() else 0
    stack.broker.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(30):
        while not file.exists() or file.stat().st_mtime_ns == before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return file.read_bytes()
