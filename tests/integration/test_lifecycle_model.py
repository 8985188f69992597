"""A device's life in any order, against a model of what must be true of it after each deed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from cli.client import AnswerError
from dev import credentials
from dev.fleet import Fleet
from dev.stack import Stack
from shared.protocol import admin
from shared.protocol.admin import DeviceView, Package
from tests.integration.test_registry import traces


class Deed(StrEnum):
    """What an admin does with the device."""

    RENAME = "rename"
    TAG = "tag"
    DISABLE = "disable"
    ENABLE = "enable"
    REISSUE = "reissue"
    CONFIGURE = "configure"
    ROLL_BACK = "roll back"
    REMOVE = "remove"
    REPAIR = "repair"


@dataclass(slots=True)
class Model:
    """The device as it should be; all its secrets, of which only the last one counts."""

    packages: list[Package] = field(default_factory=list)
    name: str = ""
    tags: list[str] = field(default_factory=list)
    enabled: bool = True
    overrides: list[dict[str, object]] = field(default_factory=lambda: [{}])

    @property
    def package(self) -> Package:
        return self.packages[-1]


async def add(fleet: Fleet, code: str) -> Model:
    added = await fleet.ask(admin.DEVICE_ADD, model=code)
    return Model([await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)])


async def do(fleet: Fleet, model: Model, deed: Deed, number: int) -> None:
    device = model.package.client_id
    match deed:
        case Deed.RENAME:
            model.name = f"name {number}"
            await fleet.ask(admin.DEVICE_UPDATE, device=device, name=model.name)
        case Deed.TAG:
            model.tags = [f"tag{number}"]
            await fleet.ask(admin.DEVICE_UPDATE, device=device, tags=model.tags)
        case Deed.DISABLE | Deed.ENABLE:
            model.enabled = deed is Deed.ENABLE
            await fleet.ask(admin.DEVICE_UPDATE, device=device, enabled=model.enabled)
        case Deed.REISSUE:
            model.packages.append(await fleet.ask(admin.DEVICE_REISSUE, device=device))
        case Deed.CONFIGURE:
            model.overrides.append({"number": number})
            await fleet.ask(admin.CONFIG_SET, device=device, overrides=model.overrides[-1], replace=True)
        case Deed.ROLL_BACK:
            if model.overrides[-1] != model.overrides[0]:
                model.overrides.append(model.overrides[0])
            await fleet.ask(admin.CONFIG_ROLLBACK, device=device, version=1)
        case Deed.REPAIR:
            await fleet.ask(admin.DOCTOR_REPAIR)


async def check(fleet: Fleet, model: Model) -> None:
    view: DeviceView = await fleet.show(model.package)
    assert (view.name, view.tags, view.enabled) == (model.name, model.tags, model.enabled)
    assert view.secret_generation == len(model.packages)
    assert view.config_version == len(model.overrides)
    config = await fleet.ask(admin.CONFIG_GET, device=view.client_id)
    assert config.document == model.overrides[-1]
    assert await credentials.keycloak_accepts(model.package) == model.enabled
    assert await credentials.broker_accepts(model.package) == model.enabled
    for dead in model.packages[:-1]:
        assert not await credentials.keycloak_accepts(dead)
        assert not await credentials.broker_accepts(dead)


@settings(max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True)
@given(deeds=st.lists(st.sampled_from(Deed), min_size=4, max_size=12))
async def test_a_device_is_what_was_done_with_it_in_any_order(
    fleet: Fleet, stack: Stack, deeds: list[Deed]
) -> None:
    code = await fleet.model()
    model: Model | None = None
    for number, deed in enumerate(deeds):
        if model is None:
            model = await add(fleet, code)
        if deed is Deed.REMOVE:
            await fleet.ask(admin.DEVICE_REMOVE, device=model.package.client_id)
            with pytest.raises(AnswerError, match="there is no device"):
                await fleet.show(model.package)
            assert not await credentials.keycloak_accepts(model.package)
            model = None
        else:
            await do(fleet, model, deed, number)
            await check(fleet, model)
        clients, accounts, rows = await traces(stack, code)
        assert (clients, accounts, len(rows)) == (
            ([model.package.client_id], [model.package.client_id], 1) if model else ([], [], 0)
        )
