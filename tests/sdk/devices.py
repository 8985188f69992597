"""Devices in unit tests that have come to a certain point."""

from __future__ import annotations

from uuid import uuid4

from tests.sdk.core import Action, Core, said
from tests.sdk.packages import RECOVERY, package


def online(core: Core) -> list[Action]:
    """Log in, have the key registered and the configuration answered; return all that was said."""
    actions = core.log_in()
    (key,) = said(actions, "key") or [None]
    if key is not None:
        actions += core.message("key", {"public_key": key["public_key"], "recovery": RECOVERY})
    return actions + answered(core, actions)


def answered(core: Core, actions: list[Action], **fields: object) -> list[Action]:
    """Answer the request of the configuration."""
    request = said(actions, "config/get")[-1]["request_id"]
    usual = {
        "request_id": request,
        "version": 1,
        "document": {},
        "secret_generation": 1,
        "time": "2026-11-25T15:00:00Z",
    }
    return core.message("config", usual | fields)


def started(records: dict[str, bytes] | None = None, **facts: object) -> Core:
    """Start a device."""
    return Core({"package": package()} if records is None else records, firmware_version="1.0.0", **facts)


def command(name: str = "blink", **fields: object) -> dict[str, object]:
    """Return a new command."""
    usual: dict[str, object] = {"command_id": str(uuid4()), "name": name, "arguments": {"times": 3}}
    return usual | {"expires_at": "2030-01-01T00:00:00Z"} | fields
