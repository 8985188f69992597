"""Routes of core dumps and logs."""

from __future__ import annotations

from functools import partial

from services.firmware.context import GROUP, Firmware
from services.firmware.diagnostics.coredumps import CoreDumpService
from services.firmware.diagnostics.logs import Logs
from shared.mqtt.connection import Connection, Route, device_route
from shared.protocol import admin, messages, topics
from shared.server.rpc import RpcServer


def routes(firmware: Firmware, dumps: CoreDumpService, logs: Logs, rpc: RpcServer) -> list[Route]:
    """Return the routes of all messages except devices' lines, which have a connection of their own."""
    return [
        device_route(
            topics.COREDUMP_OFFER,
            partial(on_offer, dumps, rpc.connection),
            group=GROUP,
            note=firmware.flaws.note,
        ),
        device_route(topics.COREDUMP_CHUNK, dumps.store_chunk, group=GROUP),
        rpc.route(admin.COREDUMP_LIST, dumps.list_newest, group=GROUP),
        rpc.route(admin.COREDUMP_SHOW, dumps.show, group=GROUP),
        rpc.route(admin.COREDUMP_READ, dumps.read, group=GROUP),
        rpc.route(admin.COREDUMP_DELETE, dumps.delete, group=GROUP),
        rpc.route(admin.COREDUMP_REKEY, dumps.rekey, group=GROUP),
        rpc.route(admin.LOG_LIST, logs.list_lines, group=GROUP),
    ]


def log_route(firmware: Firmware, logs: Logs) -> Route:
    """Return the route of the devices' lines."""
    return device_route(topics.LOG, logs.store, group=GROUP, note=firmware.flaws.note)


async def on_offer(
    dumps: CoreDumpService, connection: Connection, client_id: str, offer: messages.CoreDumpOffer
) -> None:
    """Answer a device that offers a core dump."""
    answer = await dumps.answer_offer(client_id, offer)
    match answer:
        case messages.CoreDumpWanted():
            await connection.send(topics.COREDUMP_WANTED, answer, client_id=client_id)
        case messages.CoreDumpStored():
            await connection.send(topics.COREDUMP_STORED, answer, client_id=client_id)
        case messages.CoreDumpRefused():
            await connection.send(topics.COREDUMP_REFUSED, answer, client_id=client_id)
