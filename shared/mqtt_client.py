"""What every client of the broker needs of aiomqtt: services, the admin's tool and devices alike."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiomqtt

TCP_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""A socket option: without it an answered request takes 25 ms on an idle network."""


@asynccontextmanager
async def entered(client: aiomqtt.Client, *, timeout_s: float) -> AsyncIterator[None]:
    """Connect a client whose own timeout is infinite, and disconnect it at the end; TimeoutError if it can not.

    A finite timeout of aiomqtt is an asyncio.wait_for, which loses a cancellation that comes at the same time as
    an answer (Python 3.11, bpo-37658): a service told to stop would then go on for ever.
    """
    async with asyncio.timeout(timeout_s):
        await client.__aenter__()
    try:
        yield
    finally:
        async with asyncio.timeout(timeout_s):
            await client.__aexit__(None, None, None)
