"""Text about a device and its package."""

from __future__ import annotations

from pathlib import Path

from cli import output, session, tables
from shared.protocol import admin


def print_written(here: session.Session, package: admin.Package, target: Path) -> None:
    """Print where a package was written, without its content."""
    if here.as_json:
        output.print_json({"client_id": package.client_id, "output": str(target)})
    else:
        tables.print_all({"device": package.client_id, "package": target})


def print_details(device: admin.DeviceDetails) -> None:
    """Print the facts of a device, and what it reports against the rules."""
    print_device(device)
    if device.clashed_at is not None:
        at = output.cell(device.clashed_at)
        output.print_line(f"Two boards have this identity and end each other's connection, last at {at}.")
    if device.flaws:
        tables.print_table(device.flaws, "left out of=topic, field, rule, since=at")


def print_device(device: admin.DeviceView) -> None:
    """Print the facts of a device."""
    tables.print_facts(
        device,
        (
            "device=client_id, key, model, name, tags, enabled, online, last seen=last_seen_at",
            "firmware=firmware_version",
            ("config", config_state),
            "config_error",
            ("secret", lambda it: f"generation {it.secret_generation} of {output.cell(it.secret_created_at)}"),
            (
                "recovery",
                lambda it: "with its device key" if it.has_key else "device has no key: mdm device reissue",
            ),
            "rotation=rotation_state",
        ),
    )


def config_state(device: admin.DeviceView) -> str:
    """Return the desired version, and the reported one if it differs or was not applied."""
    wanted = str(device.config_version)
    if device.config_version_reported is None:
        return wanted if device.config_version == 0 else f"{wanted} (unreported)"
    if device.config_version_reported != device.config_version or device.config_outcome != "applied":
        return f"{wanted} ({device.config_version_reported} {device.config_outcome or 'unknown'})"
    return f"{wanted} applied"
