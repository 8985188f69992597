"""The name of a device, derived from model and key: its client id in Keycloak, in the broker and in topics."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Select, Text, and_, any_, bindparam, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.tables import Base, Device, DeviceModel
from shared.errors import NotFoundError

R = TypeVar("R", bound=Base)
PREFIX: Final = "iotdevice-"
_NAME: Final = re.compile(rf"(?:{PREFIX}(?P<model>[a-z0-9_]{{1,50}})-)?(?P<key>[a-z0-9]{{8}})")


def client_id(model_code: str, key: str) -> str:
    """Return the client id of a device; it is derived, and stored nowhere."""
    return f"{PREFIX}{model_code}-{key}"


def is_client_id(name: str) -> bool:
    """Return whether this is a well-formed client id; a key alone is not."""
    found = _NAME.fullmatch(name)
    return found is not None and found["model"] is not None


def named(name: str) -> ColumnElement[bool]:
    """Return the condition on Device and DeviceModel for a key or a client id.

    Raise NotFoundError for a malformed name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise unknown(name)
    model_code = found["model"]
    return and_(Device.key == found["key"], DeviceModel.code == model_code if model_code else true())


AMONG: Final = Device.key == any_(bindparam("keys", type_=ARRAY(Text)))
"""The condition on Device for `keys`, whatever the models in their client ids."""


def keys(client_ids: Iterable[str]) -> list[str]:
    """Return the keys in client ids; malformed ones are left out."""
    return [found["key"] for found in map(_NAME.fullmatch, client_ids) if found is not None]


def selected(name: str | None, *, tag: str | None = None, model: str | None = None) -> ColumnElement[bool]:
    """Return the condition on Device and DeviceModel that combines all filters; None does not filter.

    Raise NotFoundError for a malformed name.
    """
    return and_(
        true() if name is None else named(name),
        true() if tag is None else Device.tags.contains([tag]),
        true() if model is None else DeviceModel.code == model,
    )


def owned(table: type[R]) -> Select[R, str, str]:
    """Return a query for the rows of a table with a `device_id`, as input of `with_client_ids`."""
    return (
        select(table, DeviceModel.code, Device.key)
        .join(Device, Device.id == table.__table__.c.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
    )


async def with_client_ids(session: AsyncSession, query: Select[R, str, str]) -> list[tuple[R, str]]:
    """Return the rows of a query by `owned`, each with its device's client id."""
    return [(row, client_id(code, key)) for row, code, key in await session.execute(query)]


def unknown(name: str) -> NotFoundError:
    """Return the error for a device that does not exist."""
    return NotFoundError(f"there is no device {name}", device=name)
