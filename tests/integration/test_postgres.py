"""What transactions hold is free again, whatever becomes of the process that began them."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text

from dev.stack import Stack
from dev.waiting import PATIENCE_S
from shared.database import engine
from shared.errors import UnavailableError

LOCK = func.pg_advisory_xact_lock(func.hashtext("held by a frozen process"))


async def test_a_transaction_that_says_nothing_more_holds_its_locks_for_a_while_only(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = SecretStr(stack.endpoints.database_url)

    async def hold_and_say_nothing() -> None:
        async with frozen.transaction() as silent:
            await silent.execute(select(LOCK))
            async with another.transaction() as session:
                await session.execute(select(LOCK))
            await silent.execute(select(1))

    async with engine.connected(url) as another:
        monkeypatch.setattr(engine, "_SILENT_S", 1)
        async with engine.connected(url) as frozen, asyncio.timeout(PATIENCE_S):
            with pytest.raises(UnavailableError):
                await hold_and_say_nothing()
            assert await frozen.answers()


async def test_a_transaction_with_long_deeds_outside_may_be_silent(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SILENT_S", 1)
    async with engine.connected(SecretStr(stack.endpoints.database_url)) as patient:
        async with patient.transaction() as session:
            await engine.allow_silence(session)
            await asyncio.sleep(2)
            assert await session.scalar(select(1)) == 1
        async with patient.transaction() as session:
            assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "1s"
