"""A device, and where its package went, as people read them."""

from __future__ import annotations

from pathlib import Path

from cli import output, session, tables
from shared.protocol import admin


def print_written(here: session.Session, package: admin.Package, target: Path) -> None:
    """Say where a package went, and nothing of what is in it."""
    if here.as_json:
        output.print_json({"client_id": package.client_id, "output": str(target)})
    else:
        tables.print_facts({"device": package.client_id, "package": str(target)})


def print_device(device: admin.DeviceView) -> None:
    """Print a device as facts."""
    tables.print_facts(
        {
            "device": device.client_id,
            "key": device.key,
            "model": device.model,
            "name": device.name,
            "tags": device.tags,
            "enabled": device.enabled,
            "online": device.online,
            "last seen": device.last_seen_at,
            "firmware": device.firmware_version,
            "config": config_state(device),
            "config error": device.config_error,
            "secret": f"generation {device.secret_generation} of {output.cell(device.secret_created_at)}",
            "recovery": "by its own key" if device.has_key else "it has no key: mdm device reissue",
            "rotation": device.rotation_state,
        }
    )


def config_state(device: admin.DeviceView) -> str:
    """Return the wanted version, and the reported one where it differs or was not applied."""
    wanted = str(device.config_version)
    if device.config_version_reported is None:
        return wanted if device.config_version == 0 else f"{wanted} (unreported)"
    if device.config_version_reported != device.config_version or device.config_outcome != "applied":
        return f"{wanted} ({device.config_version_reported} {device.config_outcome or 'unknown'})"
    return f"{wanted} applied"
