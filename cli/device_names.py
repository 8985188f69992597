"""Devices as people name them: client id or key, the beginning of either, display name, or MAC address."""

from __future__ import annotations

import re
from typing import Final, TypeVar

from cli import client
from shared.errors import InvalidInputError, NotFoundError
from shared.protocol import admin

R = TypeVar("R", bound="admin.Request")

ANY: Final = "any"
"""Takes the place of a device in a request that is checked before there is a connection."""
_CLIENT_ID: Final = re.compile(r"iotdevice-[a-z0-9_]{1,50}-[a-z0-9]{8}")


async def resolve(connection: client.Admin, text: str, *, timeout_s: float) -> str:
    """Return the client id of the device that is named so.

    Raise NotFoundError if there is none, InvalidInputError naming the candidates if there are several.
    """
    if _CLIENT_ID.fullmatch(text):
        return text
    found = await connection.call(
        admin.DEVICE_FIND, client.build(admin.DEVICE_FIND, text=text), timeout_s=timeout_s
    )
    match found.devices:
        case []:
            raise NotFoundError(f"there is no device {text}", device=text)
        case [one]:
            return one.client_id
        case several:
            names = ", ".join(f"{one.client_id} ({one.name})" if one.name else one.client_id for one in several)
            more = ", ..." if found.is_cut else ""
            raise InvalidInputError(f"{text} may be any of {names}{more}")


async def named(connection: client.Admin, request: R, text: str | None, *, timeout_s: float) -> R:
    """Return a request with the device that is named so, or the request itself without a name."""
    if text is None:
        return request
    return request.model_copy(update={"device": await resolve(connection, text, timeout_s=timeout_s)})
