"""The payloads of Home Assistant's MQTT integration, as far as they are used here.

Source, in Home Assistant's documentation:

- https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload: the topic
  `homeassistant/device/{object_id}/config`, retained; `device` and `origin` must be there; each of `components`
  needs `platform` and `unique_id`; `qos` may be set at the root; an empty payload removes the device;
- https://www.home-assistant.io/integrations/update.mqtt: the JSON of the update entity's `state_topic`. Core
  checks it (MQTT_JSON_UPDATE_SCHEMA in homeassistant/components/mqtt/update.py): a field that it does not know, or
  a null in one but `update_percentage`, makes it drop the message; a field that is absent keeps its old value;
- https://www.home-assistant.io/integrations/sensor.mqtt, binary_sensor.mqtt: `value_template`; `ON` and `OFF`; a
  number becomes unknown by `None`; `availability_topic` with `online` and `offline`.

There is no `command_topic`: Home Assistant only displays.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from shared.protocol.messages import Count, Line, Message, Version

PREFIX: Final = "homeassistant"
"""Home Assistant's default discovery prefix."""
QOS: Final = 1


def _is_absent(value: object) -> bool:
    return value is None


KnownVersion = Annotated[Version | None, Field(exclude_if=_is_absent)]


class Update(Message):
    """The firmware: the running version, the desired version, and the progress of the update.

    An unknown version is left out; `update_percentage` is null unless an image is being fetched.
    """

    installed_version: KnownVersion = None
    latest_version: KnownVersion = None
    in_progress: bool
    update_percentage: Annotated[int, Field(ge=0, le=100)] | None


class Diagnostics(Message):
    """The state of a device; an unknown value is null.

    `present`: it is connected, or asleep and not overdue. `config_problem`: the desired configuration is not the
    one that the device has reported as applied. `problem`: there are reasons why its health is not good.
    """

    present: bool
    config_version: Count
    config_problem: bool
    secret_generation: Count
    rotation_state: str
    reset_reason: Line | None
    rssi_dbm: int | None
    ip: Line | None
    health: str | None = None
    health_reasons: str | None = None
    problem: bool = False


class Component(Message):
    """An entity; fields that are absent are Home Assistant's defaults."""

    platform: str
    unique_id: str
    name: str
    state_topic: str
    value_template: str | None = None
    device_class: str | None = None
    unit_of_measurement: str | None = None
    entity_category: str = "diagnostic"
    availability_topic: str | None = None
    availability_template: str | None = None


class DeviceInfo(Message):
    """The device that the entities belong to."""

    identifiers: list[str]
    name: str
    model: str
    hw_version: str
    serial_number: str


class Origin(Message):
    """The application that publishes the discovery message."""

    name: str = "device-mdm"


class Discovery(Message):
    """A device with its entities."""

    device: DeviceInfo
    origin: Origin = Origin()
    components: dict[str, Component]
    qos: int = QOS
