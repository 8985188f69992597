"""Devices are found as people name them, and the audit log page by page."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from dev.fleet import Fleet
from shared.protocol import admin
from tests.claims import new_claim, new_uid, switched_on


async def found(fleet: Fleet, text: str) -> list[str]:
    return [it.client_id for it in (await fleet.ask(admin.DEVICE_FIND, text=text)).devices]


async def test_a_device_is_found_by_id_key_name_or_the_beginning_of_its_id(fleet: Fleet) -> None:
    model, name = await fleet.model(), f"Küche {uuid4().hex[:8]}"
    first = (await fleet.ask(admin.DEVICE_ADD, model=model, name=name)).client_id
    second = (await fleet.ask(admin.DEVICE_ADD, model=model, name=name.upper())).client_id
    key = first[-8:]
    for text in (first, key, key.upper(), name):
        assert await found(fleet, text) == [first], text
    assert await found(fleet, name.upper()) == [second]
    assert await found(fleet, name.swapcase()) == [first, second]
    assert await found(fleet, f"iotdevice-{model}-") == [first, second]
    assert first in await found(fleet, key[:7])
    assert await found(fleet, f"{name}%") == await found(fleet, "_") == []


async def test_a_device_is_found_by_the_mac_address_on_its_board(fleet: Fleet, tmp_path: Path) -> None:
    claim, uid = await new_claim(fleet), new_uid()
    package = await switched_on(claim, uid, tmp_path / "state")
    assert package is not None
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="renamed")
    pairs = [uid[place : place + 2] for place in range(0, len(uid), 2)]
    for text in (uid, ":".join(pairs).upper(), "-".join(pairs)):
        assert await found(fleet, text) == [package.client_id], text


async def test_an_ambiguous_text_lists_the_first_candidates(fleet: Fleet) -> None:
    model = await fleet.model()
    for _ in range(21):
        await fleet.ask(admin.DEVICE_ADD, model=model, name=f"of {model}")
    many = await fleet.ask(admin.DEVICE_FIND, text=f"of {model}")
    assert (len(many.devices), many.is_cut) == (20, True)


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_audit_log_is_read_page_by_page(fleet: Fleet, limit: int) -> None:
    device = (await fleet.ask(admin.DEVICE_ADD, model=await fleet.model())).client_id
    for name in ("a", "b"):
        await fleet.ask(admin.DEVICE_UPDATE, device=device, name=name)
    entries, before = [], None
    while True:
        page = await fleet.ask(admin.AUDIT_LIST, subject=device, limit=limit, before=before)
        entries += page.entries
        if page.next is None:
            break
        before = page.next
    assert [it.action for it in entries] == ["device.update", "device.update", "device.add"]
