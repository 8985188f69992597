"""Which message reaches which deed of the firmware service."""

from __future__ import annotations

from functools import partial

from services.firmware.assignment.service import Assignment
from services.firmware.context import GROUP, Firmware
from services.firmware.delivery.chunks import Chunks
from services.firmware.delivery.notifier import RELEASED, Notices
from services.firmware.delivery.rollback_detection import Trials
from services.firmware.images.service import Images
from services.firmware.images.signing_keys import Trust
from services.firmware.images.uploads import Uploads
from services.firmware.rollouts.service import Rollouts
from shared.mqtt.connection import Connection, Route, device_route
from shared.protocol import admin, messages, topics
from shared.server.rpc import Desk


def routes(firmware: Firmware, desk: Desk, chunks: Chunks, notices: Notices, trials: Trials) -> list[Route]:
    """Return the routes of all messages that the firmware service takes."""
    connection, uploads, rollouts = desk.connection, Uploads(firmware), Rollouts(firmware)
    images, trust = Images(firmware), Trust(firmware)
    return [
        device_route(topics.FIRMWARE_CHECK, partial(on_check, firmware, connection), group=GROUP),
        device_route(topics.FIRMWARE_CHUNK, chunks.take, group=GROUP),
        device_route(topics.FIRMWARE_REPORT, trials.reports.take, group=GROUP),
        device_route(topics.STATUS, partial(on_status, trials), group=GROUP),
        Route(RELEASED, notices.on_released, GROUP),
        desk.route(admin.UPLOAD_BEGIN, uploads.begin, group=GROUP),
        desk.route(admin.UPLOAD_CHUNK, uploads.keep_chunk, group=GROUP),
        desk.route(admin.UPLOAD_FINISH, uploads.finish, group=GROUP),
        desk.route(admin.IMAGE_LIST, images.list_page, group=GROUP),
        desk.route(admin.IMAGE_SHOW, images.show, group=GROUP),
        desk.route(admin.IMAGE_READ, images.read, group=GROUP),
        desk.route(admin.IMAGE_RELEASE, images.release, group=GROUP),
        desk.route(admin.IMAGE_WITHDRAW, images.withdraw, group=GROUP),
        desk.route(admin.IMAGE_PIN, images.pin, group=GROUP),
        desk.route(admin.IMAGE_UNPIN, images.unpin, group=GROUP),
        desk.route(admin.IMAGE_DELETE, images.delete, group=GROUP),
        desk.route(admin.KEY_ADD, trust.add, group=GROUP),
        desk.route(admin.KEY_LIST, trust.list_all, group=GROUP),
        desk.route(admin.KEY_REMOVE, trust.remove, group=GROUP),
        desk.route(admin.ROLLOUT_PREFLIGHT, rollouts.look_ahead, group=GROUP),
        desk.route(admin.ROLLOUT_START, rollouts.start, group=GROUP),
        desk.route(admin.ROLLOUT_STATUS, rollouts.status, group=GROUP),
        desk.route(admin.ROLLOUT_LIST, rollouts.list_newest, group=GROUP),
        desk.route(admin.ROLLOUT_PAUSE, rollouts.pause, group=GROUP),
        desk.route(admin.ROLLOUT_RESUME, rollouts.resume, group=GROUP),
        desk.route(admin.ROLLOUT_ABORT, rollouts.abort, group=GROUP),
    ]


async def on_check(
    firmware: Firmware, connection: Connection, client_id: str, check: messages.FirmwareCheck
) -> None:
    """Answer a device that asks for an image."""
    offer = await Assignment(firmware).answer_check(client_id, check)
    await connection.send(topics.FIRMWARE_OFFER, offer, client_id=client_id)


async def on_status(trials: Trials, client_id: str, status: messages.Status) -> None:
    """Take what a device says of itself when it connects."""
    await trials.look(client_id, status)
