"""Routes of the rotator; only the leader subscribes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from services.rotator.campaigns import Campaigns
from services.rotator.context import Rotator
from services.rotator.exchange import Exchange
from services.rotator.rekey import RekeyService
from services.rotator.scheduler import Scheduler
from shared.mqtt.connection import Connection, Delivery, Route, device_route
from shared.protocol import admin, events, messages, topics
from shared.server.rpc import RpcServer

SECRET_KEPT_S: Final = 60.0
Reply = messages.RotationSecret | messages.RotationSwitch | messages.RotationDone | messages.RotationCancelled


def routes(rotator: Rotator, exchange: Exchange, scheduler: Scheduler, rpc: RpcServer) -> list[Route]:
    """Return the routes of all messages to the leader."""
    connection = rpc.connection
    # Operations that would hold up the leader's own connection use another one.
    beside = RpcServer(rotator.database, connection)
    campaigns = Campaigns(rotator)
    statuses = device_route(topics.STATUS, partial(on_status, exchange, connection))
    return [
        replace(statuses, wanted=lambda names: names["client_id"] in rotator.in_rotation),
        Route(events.DEVICE_ONLINE.topic, partial(on_online, exchange), wanted=lambda _: rotator.queue.is_set()),
        device_route(topics.ROTATION_REQUEST, partial(on_request, exchange, connection)),
        device_route(topics.ROTATION_STORED, partial(on_stored, exchange, connection)),
        device_route(topics.ROTATION_ACK, partial(on_ack, exchange, connection)),
        rpc.route(admin.ROTATION_START, campaigns.start, group=None),
        rpc.route(admin.ROTATION_CANCEL, campaigns.cancel, group=None),
        rpc.route(admin.SCHEDULE_SHOW, scheduler.show, group=None),
        rpc.route(admin.SCHEDULE_SET, scheduler.change, group=None),
        rpc.route(admin.SCHEDULE_CLEAR, scheduler.clear, group=None),
        beside.route(admin.ROTATION_STATUS, campaigns.status, group=None),
        beside.route(admin.ROTATION_HISTORY, campaigns.history, group=None),
        beside.route(admin.SECRETS_REKEY, RekeyService(rotator).rekey, group=None),
    ]


async def on_status(exchange: Exchange, connection: Connection, client_id: str, status: messages.Status) -> None:
    """Repeat the offer to a device that has come online and has not accepted it yet."""
    offer = await exchange.offer_again(client_id, status)
    if offer is not None:
        left_s = (offer.deadline - datetime.now(UTC)).total_seconds()
        await connection.send(topics.ROTATION_OFFER, offer, expires_in_s=left_s, client_id=client_id)


async def on_online(exchange: Exchange, delivery: Delivery) -> None:
    """Handle that a device is online for all who read the row."""
    event = events.DEVICE_ONLINE.topic.decode(delivery.payload)
    if event.client_id is not None:
        await exchange.on_online(event.client_id)


async def on_request(
    exchange: Exchange, connection: Connection, client_id: str, request: messages.RotationRequest
) -> None:
    """Answer a device's request for its new secret."""
    await _reply(connection, client_id, await exchange.deliver(client_id, request))


async def on_stored(
    exchange: Exchange, connection: Connection, client_id: str, stored: messages.RotationStored
) -> None:
    """Handle a device's proof that it stored its new secret."""
    await _reply(connection, client_id, await exchange.accept_stored(client_id, stored))


async def on_ack(exchange: Exchange, connection: Connection, client_id: str, ack: messages.RotationAck) -> None:
    """Handle a device's proof that it logged in with its new secret."""
    await _reply(connection, client_id, await exchange.accept_ack(client_id, ack))


async def _reply(connection: Connection, client_id: str, reply: Reply | None) -> None:
    match reply:
        case messages.RotationSecret():
            # It must not wait in the broker's memory: a device that misses it requests it again.
            await connection.send(topics.ROTATION_SECRET, reply, expires_in_s=SECRET_KEPT_S, client_id=client_id)
        case messages.RotationSwitch():
            await connection.send(topics.ROTATION_SWITCH, reply, client_id=client_id)
        case messages.RotationDone():
            await connection.send(topics.ROTATION_DONE, reply, client_id=client_id)
        case messages.RotationCancelled():
            await connection.send(topics.ROTATION_CANCELLED, reply, client_id=client_id)
