"""Routes of the registry."""

from __future__ import annotations

from functools import partial

from services.registry import audit, history
from services.registry.accounts.service import AccountService
from services.registry.claims.service import Claims
from services.registry.commands.service import CommandService
from services.registry.config.layers import LayerService
from services.registry.config.service import Configs
from services.registry.connections.changes import ConnectionChanges
from services.registry.connections.service import Connections
from services.registry.connections.views import ConnectionViews
from services.registry.context import Registry
from services.registry.devices.fleet import FleetService
from services.registry.devices.presence import Presences, ReceivedStatus
from services.registry.devices.recovery import Recoveries
from services.registry.devices.service import DeviceService
from services.registry.models import ModelService
from services.registry.notifications.service import NotificationService
from services.registry.reconciler.service import Reconciler
from services.registry.rekey import RekeyOfRegistry
from shared.mqtt.connection import Connection, Delivery, Route, device_route
from shared.protocol import admin, messages, topics
from shared.server.rpc import RpcServer

GROUP = "registry"


def routes(
    registry: Registry,
    rpc: RpcServer,
    *,
    configs: Configs,
    connections: Connections,
    presences: Presences,
    fleet: FleetService,
) -> list[Route]:
    """Return the routes of all messages to the registry.

    `up/status` is not shared among replicas: retained messages must reach a registry that was down.
    """
    connection = rpc.connection
    models, devices = ModelService(registry), DeviceService(registry)
    layers, commands = LayerService(registry), CommandService(registry)
    recoveries = Recoveries(registry, rpc.gate)
    claims, accounts, reconciler = Claims(registry, rpc.gate), AccountService(registry), Reconciler(registry)
    changes, views = ConnectionChanges(registry), ConnectionViews(registry)
    notifications = NotificationService(registry)
    note = registry.flaws.note
    return [
        Route(topics.STATUS, partial(on_status, registry, presences)),
        device_route(topics.CONFIG_GET, partial(on_config_get, configs, connections), group=GROUP, note=note),
        device_route(topics.CONFIG_REPORT, partial(on_config_report, configs), group=GROUP, note=note),
        device_route(topics.COMMAND_RESULT, partial(on_command_result, commands), group=GROUP, note=note),
        device_route(
            topics.CLAIM_REQUEST, partial(on_claim_request, claims, connection), group=GROUP, sender="claim_id"
        ),
        device_route(topics.KEY, partial(on_key, recoveries, connection), group=GROUP),
        Route(topics.RECOVER_REQUEST, partial(on_recover, recoveries, connection), GROUP),
        rpc.route(admin.MODEL_ADD, models.add, group=GROUP),
        rpc.route(admin.MODEL_LIST, models.list_all, group=GROUP),
        rpc.route(admin.DEVICE_ADD, devices.add, group=GROUP),
        rpc.route(admin.MODEL_UPDATE, models.update, group=GROUP),
        rpc.route(admin.MODEL_REMOVE, models.remove, group=GROUP),
        rpc.route(admin.DEVICE_LIST, devices.list_page, group=GROUP),
        rpc.route(admin.DEVICE_FIND, devices.find, group=GROUP),
        rpc.route(admin.FLEET_SHOW, fleet.show, group=GROUP),
        rpc.route(admin.DEVICE_UPDATE, devices.update, group=GROUP),
        rpc.route(admin.DEVICE_REMOVE, devices.remove, group=GROUP),
        rpc.route(admin.DEVICE_REISSUE, devices.reissue, group=GROUP),
        rpc.route(admin.RECOVERY_REKEY, RekeyOfRegistry(registry).rekey, group=GROUP),
        rpc.route(admin.DOCTOR, reconciler.on_doctor, group=GROUP),
        rpc.route(admin.DOCTOR_REPAIR, reconciler.on_repair, group=GROUP),
        rpc.route(admin.ACCOUNT_ADD, accounts.add, group=GROUP),
        rpc.route(admin.ACCOUNT_LIST, accounts.list_all, group=GROUP),
        rpc.route(admin.ACCOUNT_ROLE, accounts.set_role, group=GROUP),
        rpc.route(admin.ACCOUNT_PASSWORD, accounts.set_password, group=GROUP),
        rpc.route(admin.ACCOUNT_REMOVE, accounts.remove, group=GROUP),
        rpc.route(admin.ACCOUNT_WHOAMI, accounts.who_am_i, group=GROUP),
        rpc.route(admin.AUDIT_LIST, audit.list_newest, group=GROUP),
        rpc.route(admin.EVENT_LIST, history.list_newest, group=GROUP),
        rpc.route(admin.DEVICE_SHOW, devices.show, group=GROUP),
        rpc.route(admin.DEVICE_PROVISION, devices.provision, group=GROUP),
        rpc.route(admin.DEVICE_NVS, devices.nvs_image, group=GROUP),
        rpc.route(admin.CONFIG_SET, configs.set, group=GROUP),
        rpc.route(admin.CONFIG_GET, configs.get, group=GROUP),
        rpc.route(admin.CONFIG_HISTORY, configs.history, group=GROUP),
        rpc.route(admin.CONFIG_DIFF, configs.diff, group=GROUP),
        rpc.route(admin.CONFIG_ROLLBACK, configs.rollback, group=GROUP),
        rpc.route(admin.LAYER_SET, layers.set, group=GROUP),
        rpc.route(admin.LAYER_SHOW, layers.show, group=GROUP),
        rpc.route(admin.LAYER_LIST, layers.list_all, group=GROUP),
        rpc.route(admin.LAYER_REMOVE, layers.remove, group=GROUP),
        rpc.route(admin.CONNECTION_SET, changes.set, group=GROUP),
        rpc.route(admin.CONNECTION_REMOVE, changes.remove, group=GROUP),
        rpc.route(admin.CONNECTION_ROLLBACK, changes.rollback, group=GROUP),
        rpc.route(admin.CONNECTION_RETRY, changes.retry, group=GROUP),
        rpc.route(admin.CONNECTION_SHOW, views.show, group=GROUP),
        rpc.route(admin.CONNECTION_STATUS, views.status, group=GROUP),
        rpc.route(admin.CONNECTION_HISTORY, views.history, group=GROUP),
        rpc.route(admin.COMMAND_SEND, commands.send, group=GROUP),
        rpc.route(admin.COMMAND_SHOW, commands.show, group=GROUP),
        rpc.route(admin.COMMAND_LIST, commands.list_newest, group=GROUP),
        rpc.route(admin.CLAIM_ADD, claims.add, group=GROUP),
        rpc.route(admin.CLAIM_LIST, claims.list_newest, group=GROUP),
        rpc.route(admin.CLAIM_REVOKE, claims.revoke, group=GROUP),
        rpc.route(admin.CLAIM_REQUESTS, claims.list_requests, group=GROUP),
        rpc.route(admin.CLAIM_APPROVE, claims.approve, group=GROUP),
        rpc.route(admin.CLAIM_DENY, claims.deny, group=GROUP),
        rpc.route(admin.CLAIM_FORGET, claims.forget, group=GROUP),
        rpc.route(admin.NOTIFICATION_ADD, notifications.add, group=GROUP),
        rpc.route(admin.NOTIFICATION_LIST, notifications.list_all, group=GROUP),
        rpc.route(admin.NOTIFICATION_REMOVE, notifications.remove, group=GROUP),
        rpc.route(admin.NOTIFICATION_TEST, notifications.test, group=GROUP),
        rpc.route(admin.NOTIFICATION_HISTORY, notifications.history, group=GROUP),
    ]


async def on_status(registry: Registry, presences: Presences, delivery: Delivery) -> None:
    """Handle the status of a device, or its last will."""
    client_id = delivery.names["client_id"]
    status, flaws = topics.STATUS.read(delivery.payload)
    if status.online:
        # First: the event that it is online makes others read both.
        await registry.flaws.note(client_id, topics.STATUS, flaws)
    await presences.record(ReceivedStatus(client_id, status, delivery.received_at, delivery.retained))


async def on_key(recoveries: Recoveries, connection: Connection, client_id: str, key: messages.DeviceKey) -> None:
    """Register a device's key, and reply with the registered one."""
    known = await recoveries.register(client_id, key)
    if known is not None:
        await connection.send(topics.KEY_KNOWN, known, client_id=client_id)


async def on_recover(recoveries: Recoveries, connection: Connection, delivery: Delivery) -> None:
    """Answer a device whose secrets are all refused, if it authenticates itself."""
    request = topics.RECOVER_REQUEST.decode(delivery.payload)
    answer = await recoveries.answer(request)
    if answer is not None:
        account = delivery.names["account"]
        await connection.send(topics.RECOVER_ANSWER, answer, account=account, nonce=request.nonce)


async def on_config_get(
    configs: Configs, connections: Connections, client_id: str, request: messages.ConfigGet
) -> None:
    """Answer a device's request for its configuration, and send it another connection profile if one is wanted."""
    topic, answer, device = await configs.answer(client_id, request)
    # First: the answer proves to a device that its new connection works.
    await connections.connection.post(topic, answer, client_id=client_id)
    if request.connection is not None:
        await connections.on_report(client_id, request.connection, device)


async def on_config_report(configs: Configs, client_id: str, report: messages.ConfigReport) -> None:
    """Handle a device's report on a configuration."""
    await configs.record_report(client_id, report)


async def on_command_result(commands: CommandService, client_id: str, result: messages.CommandResult) -> None:
    """Handle a device's answer to a command."""
    await commands.record_result(client_id, result)


async def on_claim_request(
    claims: Claims, connection: Connection, claim_id: str, request: messages.ClaimRequest
) -> None:
    """Answer a machine's request for an identity."""
    answer = await claims.answer(claim_id, request)
    await connection.send(topics.CLAIM_ANSWER, answer, claim_id=claim_id, uid=request.uid)
