"""Text about a device and its package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from cli import connection_text, output, session, tables
from shared.protocol import admin

D = TypeVar("D", bound="admin.DeviceView")
_SIGNALS: Final = ((-60, "strong"), (-70, "good"), (-80, "weak"))
"""From which dBm on a signal is called so."""


def print_written(here: session.Session, package: admin.Package, target: Path) -> None:
    """Print where a package was written, without its content."""
    if here.as_json:
        output.print_json({"client_id": package.client_id, "output": str(target)})
    else:
        tables.print_all({"device": package.client_id, "package": target})


def print_details(device: admin.DeviceDetails, firmware: admin.DeviceFirmware | None) -> None:
    """Print the facts of a device, and what it reports against the rules."""
    print_device(
        device,
        firmware,
        (
            ("connection", _connection),
            "running since=up_since, last start=reset_reason",
            ("signal", lambda it: None if it.rssi_dbm is None else f"{signal(it.rssi_dbm)}, {it.rssi_dbm} dBm"),
            "address=ip, chip",
        ),
    )
    if device.clashed_at is not None:
        at = output.cell(device.clashed_at)
        output.print_text(f"Two boards have this identity and end each other's connection, last at {at}.")
    tables.print_table_below(device.health_reasons, "reason, level, since, detail")
    tables.print_table_below(device.flaws, "flaw in=topic, field, rule, since=at")


def _connection(device: admin.DeviceDetails) -> str | None:
    return None if device.connection is None else connection_text.progress(device.connection)


def print_device(
    device: D, firmware: admin.DeviceFirmware | None = None, more: Sequence[tables.Column[D]] = ()
) -> None:
    """Print the facts of a device, and `more`."""
    tables.print_facts(
        device,
        (
            "device=client_id, key, model, name, tags, enabled",
            ("state", presence),
            "last seen=last_seen_at",
            ("health", health_state),
            ("firmware", lambda it: firmware_state(it, firmware)),
            ("config", config_state),
            "config_error",
            ("secret", secret_state),
            (
                "recovery",
                lambda it: "with its device key" if it.has_key else "device has no key: mdm device reissue",
            ),
            "rotation=rotation_state",
            *more,
        ),
    )


def secret_state(device: admin.DeviceView) -> str:
    """Return the generation of the secret in force, and the one that a device uses if that is another."""
    text = f"generation {device.secret_generation} of {output.cell(device.secret_created_at)}"
    used = getattr(device, "secret_generation_reported", None)
    return text if used in {None, device.secret_generation} else f"{text}; it uses generation {used}"


def signal(rssi_dbm: int) -> str:
    """Return the strength of a Wi-Fi signal in words."""
    return next((word for least, word in _SIGNALS if rssi_dbm >= least), "very weak")


def health_state(device: admin.DeviceView) -> str:
    """Return the health of a device, without its reasons."""
    return device.health.replace("_", " ")


def health_reasons(device: admin.DeviceView) -> str:
    """Return the names of the reasons of a device's health, the worst first."""
    return ", ".join(it.reason.replace("_", " ") for it in device.health_reasons)


def presence(device: admin.DeviceView) -> str:
    """Return whether a device is online, asleep or offline, and when one that sleeps is expected back."""
    sleeps = "" if device.wake_interval_s is None else f", wakes up every {device.wake_interval_s} s"
    if device.asleep_until is not None:
        return f"asleep until {output.cell(device.asleep_until)} at the latest{sleeps}"
    if device.presence == "offline" and device.last_seen_at is not None:
        return f"offline since {output.cell(device.last_seen_at)}{sleeps}"
    return f"{device.presence}{sleeps}"


def firmware_state(
    device: admin.DeviceView, firmware: admin.DeviceFirmware | None, *, brief: bool = False
) -> str | None:
    """Return what a device runs, and what is wanted for it if that is something else; `brief` without a reason."""
    runs = (firmware and firmware.runs) or device.firmware_version
    if firmware is None or firmware.up_to_date:
        return runs
    if firmware.withheld is not None:
        progress = "withheld" if brief else f"withheld: {firmware.withheld}"
    elif firmware.stage == "downloading" and firmware.percent is not None:
        progress = f"downloading, {firmware.percent} %"
    else:
        progress = firmware.stage or "not offered yet"
    return f"{runs or '-'} -> {firmware.wanted} ({progress})"


def config_state(device: admin.DeviceView) -> str:
    """Return the desired version, and the reported one if it differs or was not applied."""
    wanted = str(device.config_version)
    if device.config_version_reported is None:
        return wanted if device.config_version == 0 else f"{wanted} (unreported)"
    if device.config_version_reported != device.config_version or device.config_outcome != "applied":
        return f"{wanted} ({device.config_version_reported} {device.config_outcome or 'unknown'})"
    return f"{wanted} applied"
