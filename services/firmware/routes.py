"""Routes of the firmware service."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from services.firmware.assignment.progress import Reports
from services.firmware.assignment.service import Assignment
from services.firmware.context import GROUP, Firmware
from services.firmware.delivery.chunks import Chunks
from services.firmware.delivery.notifier import Notifier
from services.firmware.images.doctor import FirmwareDoctor
from services.firmware.images.service import ImageService
from services.firmware.images.signing_keys import TrustedKeys
from services.firmware.images.uploads import Uploads
from services.firmware.rollouts.service import RolloutService
from shared.mqtt.connection import Connection, Route, dated_route, device_route
from shared.protocol import admin, events, messages, topics
from shared.server.rpc import RpcServer


def routes(firmware: Firmware, rpc: RpcServer, chunks: Chunks, notices: Notifier, reports: Reports) -> list[Route]:
    """Return the routes of all messages to the firmware service."""
    connection, uploads, rollouts = rpc.connection, Uploads(firmware), RolloutService(firmware)
    images, trust, doctor = ImageService(firmware), TrustedKeys(firmware), FirmwareDoctor(firmware)
    note = firmware.flaws.note
    return [
        dated_route(topics.FIRMWARE_CHECK, partial(on_check, firmware, connection), group=GROUP, note=note),
        device_route(topics.FIRMWARE_CHUNK, chunks.enqueue, group=GROUP),
        device_route(topics.FIRMWARE_REPORT, reports.store, group=GROUP, note=note),
        Route(events.FIRMWARE_RELEASED.topic, notices.on_released, GROUP),
        rpc.route(admin.UPLOAD_BEGIN, uploads.begin, group=GROUP),
        rpc.route(admin.UPLOAD_CHUNK, uploads.store_chunk, group=GROUP),
        rpc.route(admin.UPLOAD_FINISH, uploads.finish, group=GROUP),
        rpc.route(admin.IMAGE_LIST, images.list_page, group=GROUP),
        rpc.route(admin.IMAGE_SHOW, images.show, group=GROUP),
        rpc.route(admin.FIRMWARE_DOCTOR, doctor.run, group=GROUP),
        rpc.route(admin.FIRMWARE_DOCTOR_REPAIR, doctor.repair, group=GROUP),
        rpc.route(admin.FIRMWARE_OF, Assignment(firmware).firmware_of, group=GROUP),
        rpc.route(admin.IMAGE_READ, images.read, group=GROUP),
        rpc.route(admin.IMAGE_RELEASE, images.release, group=GROUP),
        rpc.route(admin.IMAGE_WITHDRAW, images.withdraw, group=GROUP),
        rpc.route(admin.IMAGE_PIN, images.pin, group=GROUP),
        rpc.route(admin.IMAGE_UNPIN, images.unpin, group=GROUP),
        rpc.route(admin.IMAGE_DELETE, images.delete, group=GROUP),
        rpc.route(admin.KEY_ADD, trust.add, group=GROUP),
        rpc.route(admin.KEY_LIST, trust.list_all, group=GROUP),
        rpc.route(admin.KEY_REMOVE, trust.remove, group=GROUP),
        rpc.route(admin.ROLLOUT_PREFLIGHT, rollouts.preflight, group=GROUP),
        rpc.route(admin.ROLLOUT_START, rollouts.start, group=GROUP),
        rpc.route(admin.ROLLOUT_STATUS, rollouts.status, group=GROUP),
        rpc.route(admin.ROLLOUT_LIST, rollouts.list_newest, group=GROUP),
        rpc.route(admin.ROLLOUT_PAUSE, rollouts.pause, group=GROUP),
        rpc.route(admin.ROLLOUT_RESUME, rollouts.resume, group=GROUP),
        rpc.route(admin.ROLLOUT_ABORT, rollouts.abort, group=GROUP),
    ]


async def on_check(
    firmware: Firmware,
    connection: Connection,
    client_id: str,
    check: messages.FirmwareCheck,
    received_at: datetime,
) -> None:
    """Answer a device's request for an image."""
    offer = await Assignment(firmware).answer_check(client_id, check, received_at)
    await connection.send(topics.FIRMWARE_OFFER, offer, client_id=client_id)
