"""What stands before a cluster: `python -m tests.cluster.balancer PORT NODE...`, the ports of nodes, best first.

Each connection goes to the first node that takes it, and ends with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from dev.servers.base import HOST

_PIECE_BYTES = 65536


async def balance(port: int, nodes: Sequence[int]) -> None:
    """Serve until cancelled."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            for node in nodes:
                with contextlib.suppress(OSError):
                    inner_reader, inner_writer = await asyncio.open_connection(HOST, node)
                    with contextlib.closing(inner_writer):
                        await join(reader, writer, inner_reader, inner_writer)
                    return

    server = await asyncio.start_server(serve, HOST, port)
    await server.serve_forever()


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    inner_reader: asyncio.StreamReader,
    inner_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until one side ends."""
    ways = (_carry(reader, inner_writer), _carry(inner_reader, writer))
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> asyncio.Future[None]:
    async def carry() -> None:
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()

    return asyncio.ensure_future(carry())


if __name__ == "__main__":
    asyncio.run(balance(int(sys.argv[1]), [int(node) for node in sys.argv[2:]]))
