"""Which message reaches which deed of the registry."""

from __future__ import annotations

from functools import partial

from services.registry.service import Registry
from shared import admin, messages, topics
from shared.mqtt import Connection, Route, device_route
from shared.requests import Caller, Desk

GROUP = "registry"


def routes(registry: Registry, desk: Desk) -> list[Route]:
    """Return the routes of all messages that the registry takes.

    `up/status` is not shared between replicas: what is retained must reach a registry that was away.
    """
    connection = desk.connection
    return [
        device_route(topics.STATUS, partial(on_status, registry)),
        device_route(topics.CONFIG_GET, partial(on_config_get, registry, connection), group=GROUP),
        device_route(topics.CONFIG_REPORT, partial(on_config_report, registry), group=GROUP),
        desk.route(admin.MODEL_ADD, registry.add_model, group=GROUP),
        desk.route(admin.MODEL_LIST, partial(on_model_list, registry), group=GROUP),
        desk.route(admin.DEVICE_ADD, registry.add_device, group=GROUP),
        desk.route(admin.DEVICE_LIST, partial(on_device_list, registry), group=GROUP),
        desk.route(admin.DEVICE_SHOW, partial(on_device_show, registry), group=GROUP),
        desk.route(admin.DEVICE_PROVISION, partial(on_device_provision, registry), group=GROUP),
        desk.route(admin.CONFIG_SET, registry.set_config, group=GROUP),
    ]


async def on_status(registry: Registry, client_id: str, status: messages.Status) -> None:
    """Take what a device, or its last will, says of it."""
    await registry.record_status(client_id, status)


async def on_config_get(
    registry: Registry, connection: Connection, client_id: str, request: messages.ConfigGet
) -> None:
    """Answer a device's question for its configuration."""
    answer = await registry.answer_config(client_id, request)
    await connection.send(topics.CONFIG, answer, client_id=client_id)


async def on_config_report(registry: Registry, client_id: str, report: messages.ConfigReport) -> None:
    """Take what a device did with a configuration."""
    await registry.record_config_report(client_id, report)


async def on_model_list(registry: Registry, caller: Caller, _: admin.Nothing) -> admin.Models:
    """List the models."""
    return await registry.list_models(caller)


async def on_device_list(registry: Registry, caller: Caller, _: admin.Nothing) -> admin.Devices:
    """List the devices."""
    return await registry.list_devices(caller)


async def on_device_show(registry: Registry, caller: Caller, request: admin.DeviceRef) -> admin.DeviceView:
    """Show a device."""
    return await registry.show_device(caller, request.device)


async def on_device_provision(registry: Registry, caller: Caller, request: admin.DeviceRef) -> admin.Package:
    """Hand out a device's package."""
    return await registry.provision(caller, request.device)
