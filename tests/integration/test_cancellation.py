"""A cancelled task ends, also if its connection breaks at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import aiomqtt
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from dev.stack import Stack
from services.rotator import leader
from shared.database.engine import Database, Transactions
from shared.errors import FleetError
from shared.mqtt.client import Account, entered

T = TypeVar("T")


async def ends(held: Callable[[], AbstractAsyncContextManager[T]], cut: Callable[[T], Awaitable[object]]) -> None:
    """Cancel a task that holds something, whose connection is cut before the task gives it back: it must end."""
    begun = asyncio.Event()

    async def work() -> None:
        # As all who repeat their work after an outage.
        with contextlib.suppress(FleetError, aiomqtt.MqttError, TimeoutError):
            async with held() as it:
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await cut(it)
        raise AssertionError("the cancellation is lost")

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def transaction_ends(transactions: Transactions, database: Database) -> None:
    async def cut(session: AsyncSession) -> None:
        process = await session.scalar(text("SELECT pg_backend_pid()"))
        async with database.transaction() as other:
            await other.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})

    await ends(transactions.transaction, cut)


async def test_a_cancelled_transaction_ends(database: Database) -> None:
    await transaction_ends(database, database)


async def test_a_cancelled_transaction_of_the_leader_ends(database: Database) -> None:
    url = SecretStr(database.engine.url.render_as_string(hide_password=False))
    async with leader.elected(url, database, poll_s=0.1, lease_s=60) as leadership:
        await transaction_ends(leadership, database)


async def test_a_cancelled_connection_to_a_broker_that_does_not_answer_ends(stack: Stack) -> None:
    endpoints = stack.endpoints
    password = SecretStr(endpoints.accounts["admin"])
    client = await Account(endpoints.mqtt_host, endpoints.mqtt_port, "admin", password).client("cancelled")

    async def cut(_: object) -> None:
        stack.broker.send_signal(signal.SIGSTOP)
        # More than the sockets hold, so that the DISCONNECT after it has to wait.
        client.post("admin/admin/none", bytes(20_000_000), qos=0, retain=False)

    try:
        await ends(lambda: entered(client, timeout_s=1), cut)
    finally:
        stack.broker.send_signal(signal.SIGCONT)
