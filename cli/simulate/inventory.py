"""Simulated devices in the system: added, found again, removed; each has a folder with its package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from cli import batches, client, output
from device import durable
from device import package as packages
from shared.protocol import admin
from shared.protocol.admin import ModelView, Package

TAG: Final = "simulated"
_PACKAGE: Final = "package.json"


async def model(connection: client.Admin, code: str, *, timeout_s: float) -> ModelView:
    """Return the model; add it if it is missing."""
    found = await connection.call(admin.MODEL_LIST, client.build(admin.MODEL_LIST), timeout_s=timeout_s)
    for one in found.models:
        if one.code == code:
            return one
    add = client.build(admin.MODEL_ADD, code=code, chip="esp32", name="simulated devices")
    return await connection.call(admin.MODEL_ADD, add, timeout_s=timeout_s)


async def devices(
    connection: client.Admin, code: str, count: int, folder: Path, *, timeout_s: float
) -> list[Package]:
    """Return the packages of `count` devices of a model; add missing devices first."""
    known = (await _known(connection, code, timeout_s=timeout_s))[:count]

    async def add(_: int) -> None:
        request = client.build(admin.DEVICE_ADD, model=code, tags=[TAG])
        added = await connection.call(admin.DEVICE_ADD, request, timeout_s=timeout_s)
        await fetch(added.client_id)
        known.append(added.client_id)

    async def fetch(client_id: str) -> None:
        request = client.build(admin.DEVICE_PROVISION, device=client_id)
        package = await connection.call(admin.DEVICE_PROVISION, request, timeout_s=timeout_s)
        place = _place(folder, client_id)
        durable.make_folder(place.parent)
        output.write_private(place, package.model_dump_json(indent=2) + "\n", replace=True)

    lost = [client_id for client_id in known if not _place(folder, client_id).exists()]
    if lost:
        await batches.each(lost, fetch, label="packages")
    if missing := count - len(known):
        await batches.each(range(missing), add, label="devices")
    return [packages.load(_place(folder, client_id)) for client_id in known]


async def remove(connection: client.Admin, code: str, folder: Path, *, timeout_s: float) -> list[str]:
    """Remove all devices of the model that have the tag, and their files; return their client ids."""
    known = await _known(connection, code, timeout_s=timeout_s)

    async def forget(client_id: str) -> None:
        request = client.build(admin.DEVICE_REMOVE, device=client_id)
        await connection.call(admin.DEVICE_REMOVE, request, timeout_s=timeout_s)
        shutil.rmtree(folder / client_id, ignore_errors=True)

    await batches.each(known, forget, label="devices")
    return known


async def _known(connection: client.Admin, code: str, *, timeout_s: float) -> list[str]:
    """Return the client ids of the devices of a model that have the tag, oldest first."""
    names: list[str] = []
    after: int | None = 0
    while after is not None:
        request = client.build(admin.DEVICE_LIST, model=code, tag=TAG, after=after)
        page = await connection.call(admin.DEVICE_LIST, request, timeout_s=timeout_s)
        names += [device.client_id for device in page.devices]
        after = page.next
    return names


def _place(folder: Path, client_id: str) -> Path:
    return folder / client_id / _PACKAGE
