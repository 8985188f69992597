"""Routes of core dumps, logs and vitals."""

from __future__ import annotations

from functools import partial

from services.firmware.context import GROUP, Firmware
from services.firmware.diagnostics.coredumps import CoreDumpService
from services.firmware.diagnostics.logs import Logs
from services.firmware.diagnostics.vitals import VitalService
from shared.mqtt.connection import Connection, Delivery, Route, device_route
from shared.protocol import admin, messages, topics
from shared.server.rpc import RpcServer


def routes(
    firmware: Firmware, dumps: CoreDumpService, logs: Logs, vitals: VitalService, rpc: RpcServer
) -> list[Route]:
    """Return the routes of all messages except devices' lines and vitals, which have a connection of their own."""
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
        rpc.route(admin.VITALS_SHOW, vitals.show, group=GROUP),
        rpc.route(admin.VITALS_COMPARE, vitals.compare, group=GROUP),
    ]


def reports(firmware: Firmware, logs: Logs, vitals: VitalService) -> list[Route]:
    """Return the routes of the devices' lines and vitals."""
    return [
        device_route(topics.LOG, logs.store, group=GROUP, note=firmware.flaws.note),
        Route(topics.VITALS, partial(on_vitals, firmware, vitals), GROUP),
    ]


async def on_vitals(firmware: Firmware, vitals: VitalService, delivery: Delivery) -> None:
    """Handle what a device measures of itself."""
    client_id = delivery.names["client_id"]
    message, flaws = topics.VITALS.read(delivery.payload)
    too_many = await vitals.store(client_id, message, delivery.received_at)
    await firmware.flaws.note(client_id, topics.VITALS, [*flaws, *too_many])


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
