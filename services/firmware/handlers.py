"""Which message reaches which deed of the firmware service."""

from __future__ import annotations

from functools import partial

from services.firmware.rollouts import Rollouts
from services.firmware.service import Firmware, ImageNotForDeviceError
from services.firmware.trials import Trials
from services.firmware.uploads import Uploads
from shared import admin, messages, topics
from shared.mqtt import Connection, Route, device_route
from shared.requests import Desk

GROUP = "firmware"


def routes(firmware: Firmware, desk: Desk) -> list[Route]:
    """Return the routes of all messages that the firmware service takes."""
    connection, uploads, rollouts = desk.connection, Uploads(firmware), Rollouts(firmware)
    return [
        device_route(topics.FIRMWARE_CHECK, partial(on_check, firmware, connection), group=GROUP),
        device_route(topics.FIRMWARE_CHUNK, partial(on_chunk, firmware, connection), group=GROUP),
        device_route(topics.FIRMWARE_REPORT, partial(on_report, firmware), group=GROUP),
        device_route(topics.STATUS, partial(on_status, Trials(firmware)), group=GROUP),
        desk.route(admin.UPLOAD_BEGIN, uploads.begin, group=GROUP),
        desk.route(admin.UPLOAD_CHUNK, uploads.keep_chunk, group=GROUP),
        desk.route(admin.UPLOAD_FINISH, uploads.finish, group=GROUP),
        desk.route(admin.IMAGE_LIST, uploads.list_images, group=GROUP),
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
    offer = await firmware.answer_check(client_id, check)
    await connection.send(topics.FIRMWARE_OFFER, offer, client_id=client_id)


async def on_chunk(
    firmware: Firmware, connection: Connection, client_id: str, request: messages.FirmwareChunkRequest
) -> None:
    """Send a device a piece of an image, or the reason why it will never get it."""
    try:
        data = await firmware.read_chunk(client_id, request)
    except ImageNotForDeviceError as error:
        cancelled = messages.FirmwareCancelled(sha256=request.sha256, reason=error.message)
        await connection.send(topics.FIRMWARE_CANCELLED, cancelled, client_id=client_id)
        return
    topic = topics.FIRMWARE_CHUNK_DATA
    await connection.publish(
        topic.of(client_id=client_id, sha256=request.sha256, offset=request.offset), data, qos=topic.qos
    )


async def on_report(firmware: Firmware, client_id: str, report: messages.FirmwareReport) -> None:
    """Take a device's progress."""
    await firmware.record_report(client_id, report)


async def on_status(trials: Trials, client_id: str, status: messages.Status) -> None:
    """Take what a device says of itself when it connects."""
    await trials.look(client_id, status)
