"""The entities of a device in Home Assistant, without I/O."""

from __future__ import annotations

from typing import Final

from shared.database import presences
from shared.database.tables import Device, DeviceHealth, DeviceModel, Presence
from shared.protocol import topics
from shared.protocol.homeassistant import Component, DeviceInfo, Diagnostics, Discovery, Update

UNDER_WAY: Final = frozenset({"downloading", "verifying", "rebooting"})
_PRESENT: Final = "{{ 'online' if value_json.present else 'offline' }}"


def discovery(client_id: str, device: Device, model: DeviceModel) -> Discovery:
    """Return a device with its entities; values that only the device knows are unavailable while it is offline."""
    state = topics.HOMEASSISTANT_DIAGNOSTICS.of(client_id=client_id)

    def component(ending: str, platform: str, title: str, template: str | None, **more: str) -> Component:
        return Component(
            platform=platform,
            unique_id=f"{client_id}_{ending}",
            name=title,
            value_template=template,
            **{"state_topic": state, **more},
        )

    present = {"availability_topic": state, "availability_template": _PRESENT}
    return Discovery(
        device=DeviceInfo(
            identifiers=[client_id],
            name=device.name or client_id,
            model=model.name or model.code,
            hw_version=model.chip,
            serial_number=device.key,
        ),
        components={
            "firmware": component(
                "firmware",
                "update",
                "Firmware",
                None,
                device_class="firmware",
                state_topic=topics.HOMEASSISTANT_UPDATE.of(client_id=client_id),
            ),
            "connection": component(
                "connection", "binary_sensor", "Connection", _yes("present"), device_class="connectivity"
            ),
            "problem": component("problem", "binary_sensor", "Problem", _yes("problem"), device_class="problem"),
            "health": component("health", "sensor", "Health", _text("health")),
            "health_reasons": component("health_reasons", "sensor", "Problems", _or("health_reasons", "none")),
            "configuration": component(
                "configuration", "binary_sensor", "Configuration", _yes("config_problem"), device_class="problem"
            ),
            "config_version": component(
                "config_version", "sensor", "Configuration version", _value("config_version")
            ),
            "secret_generation": component(
                "secret_generation", "sensor", "Secret generation", _value("secret_generation")
            ),
            "rotation": component("rotation", "sensor", "Rotation", _value("rotation_state")),
            "reset_reason": component("reset_reason", "sensor", "Reset reason", _text("reset_reason")),
            "signal": component(
                "signal",
                "sensor",
                "Signal",
                _value("rssi_dbm"),
                device_class="signal_strength",
                unit_of_measurement="dBm",
                **present,
            ),
            "address": component("address", "sensor", "Address", _text("ip"), **present),
        },
    )


def update(*, running: str | None, wanted: str | None, stage: str | None, percent: int | None) -> Update:
    """Return the state of the update entity.

    `running` is the running version; `wanted` the version to fetch, None if the device is to keep its own; `stage`
    and `percent` are the progress with that.
    """
    in_progress = wanted is not None and stage in UNDER_WAY
    return Update(
        installed_version=running,
        latest_version=running if wanted is None else wanted,
        in_progress=in_progress,
        update_percentage=percent if in_progress and stage == "downloading" else None,
    )


def diagnostics(device: Device, presence: Presence, health: DeviceHealth | None = None) -> Diagnostics:
    """Return the state of a device, by its row and its last status."""
    said = presence.status or {}
    in_step = (presence.config_version, presence.config_outcome) == (device.config_version, "applied")
    return Diagnostics(
        present=presences.state(presence) != "offline",
        config_version=device.config_version,
        config_problem=presence.last_seen_at is not None and not in_step,
        secret_generation=device.secret_generation,
        rotation_state=device.rotation_state,
        reset_reason=said.get("reset_reason"),
        rssi_dbm=said.get("rssi_dbm"),
        ip=said.get("ip"),
        health=health.health if health else None,
        health_reasons=", ".join(it.replace("_", " ") for it in health.reasons) if health else None,
        problem=bool(health and health.reasons),
    )


def _value(field: str) -> str:
    return f"{{{{ value_json.{field} }}}}"


def _text(field: str) -> str:
    return _or(field, "unknown")


def _or(field: str, nothing: str) -> str:
    return f"{{{{ value_json.{field} or '{nothing}' }}}}"


def _yes(field: str) -> str:
    return f"{{{{ 'ON' if value_json.{field} else 'OFF' }}}}"
