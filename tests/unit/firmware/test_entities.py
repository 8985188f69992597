from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from services.firmware.homeassistant import bridge, discovery
from shared.database.tables import Device, DeviceHealth, DeviceModel, Presence
from shared.protocol import topics
from shared.protocol.events import EVENTS, DeviceEvent

CLIENT_ID = "iotdevice-blink-mw9agw5m"
SEEN = datetime(2026, 11, 1, tzinfo=UTC)
UPDATE_KEYS = {
    "installed_version",
    "latest_version",
    "title",
    "release_summary",
    "release_url",
    "entity_picture",
    "in_progress",
    "update_percentage",
}
"""Those of MQTT_JSON_UPDATE_SCHEMA in Home Assistant's core: with any other the message is dropped."""


def device(*, name: str = "", rotation_state: str = "OK") -> Device:
    return Device(key="mw9agw5m", name=name, config_version=3, secret_generation=2, rotation_state=rotation_state)


def told(
    *, running: str | None = "1.0", wanted: str | None = None, stage: str | None = None, percent: int | None = None
) -> dict[str, Any]:
    message = discovery.update(running=running, wanted=wanted, stage=stage, percent=percent)
    return dict(json.loads(topics.HOMEASSISTANT_UPDATE.encode(message)))


def discovered() -> dict[str, Any]:
    model = DeviceModel(code="blink", name="Blink", chip="esp32")
    message = discovery.discovery(CLIENT_ID, device(name="kitchen light"), model)
    return dict(json.loads(topics.HOMEASSISTANT_DISCOVERY.encode(message)))


def test_a_device_without_an_image_to_fetch_is_up_to_date() -> None:
    assert told() == {
        "installed_version": "1.0",
        "latest_version": "1.0",
        "in_progress": False,
        "update_percentage": None,
    }


@pytest.mark.parametrize(
    ("stage", "percent", "in_progress", "said"),
    [
        (None, None, False, None),
        ("offered", None, False, None),
        ("downloading", None, True, None),
        ("downloading", 40, True, 40),
        ("verifying", 100, True, None),
        ("rebooting", 100, True, None),
        ("confirmed", 100, False, None),
        ("failed", 40, False, None),
    ],
)
def test_how_far_a_device_is_follows_from_its_reports(
    stage: str | None, percent: int | None, in_progress: bool, said: int | None
) -> None:
    message = told(wanted="2.0", stage=stage, percent=percent)
    assert message == {
        "installed_version": "1.0",
        "latest_version": "2.0",
        "in_progress": in_progress,
        "update_percentage": said,
    }


def test_a_version_that_nobody_knows_is_left_out_and_never_null() -> None:
    assert told(running=None) == {"in_progress": False, "update_percentage": None}
    assert "installed_version" not in told(running=None, wanted="2.0")


def test_home_assistant_knows_each_field_of_an_update() -> None:
    assert told(wanted="2.0").keys() <= UPDATE_KEYS


def test_what_a_device_has_not_said_is_null() -> None:
    presence = Presence(online=False, status=None, config_version=None, config_outcome=None)
    said = json.loads(topics.HOMEASSISTANT_DIAGNOSTICS.encode(discovery.diagnostics(device(), presence)))
    assert said == {
        "present": False,
        "config_version": 3,
        "config_problem": False,
        "secret_generation": 2,
        "rotation_state": "OK",
        "reset_reason": None,
        "rssi_dbm": None,
        "ip": None,
        "health": None,
        "health_reasons": None,
        "problem": False,
    }


def test_a_device_that_is_not_healthy_is_a_problem_and_says_why() -> None:
    presence = Presence(online=False)
    sick = DeviceHealth(health="critical", reasons=["clash", "core_dump"])
    said = discovery.diagnostics(device(), presence, sick)
    assert (said.problem, said.health, said.health_reasons) == (True, "critical", "clash, core dump")
    new = discovery.diagnostics(device(), presence, DeviceHealth(health="never_seen", reasons=[]))
    assert (new.problem, new.health, new.health_reasons) == (False, "never_seen", "")
    component = discovered()["components"]["problem"]
    assert (component["platform"], component["device_class"]) == ("binary_sensor", "problem")


def test_a_device_that_is_asleep_is_present() -> None:
    asleep = Presence(online=False, asleep_until=datetime(2026, 1, 1, tzinfo=UTC))
    assert discovery.diagnostics(device(), asleep).present
    assert not discovery.diagnostics(device(), Presence(online=False)).present


@pytest.mark.parametrize(
    ("version", "outcome", "problem"), [(3, "applied", False), (2, "applied", True), (3, "rejected", True)]
)
def test_a_configuration_that_is_not_applied_is_a_problem(version: int, outcome: str, problem: bool) -> None:
    status = {"online": True, "rssi_dbm": -60, "config_version": 1, "secret_generation": 1, "chip": "esp32"}
    presence = Presence(
        online=True, last_seen_at=SEEN, status=status, config_version=version, config_outcome=outcome
    )
    said = discovery.diagnostics(device(rotation_state="QUEUED"), presence)
    assert (said.config_problem, said.config_version, said.secret_generation) == (problem, 3, 2)
    assert (said.rssi_dbm, said.rotation_state) == (-60, "QUEUED")


def test_a_device_is_discovered_as_home_assistant_documents_it() -> None:
    said = discovered()
    assert said["device"] == {
        "identifiers": [CLIENT_ID],
        "name": "kitchen light",
        "model": "Blink",
        "hw_version": "esp32",
        "serial_number": "mw9agw5m",
    }
    assert said["origin"] == {"name": "device-mdm"}
    assert said["components"]["firmware"] == {
        "platform": "update",
        "unique_id": f"{CLIENT_ID}_firmware",
        "name": "Firmware",
        "state_topic": f"mdm/v1/homeassistant/{CLIENT_ID}/update",
        "device_class": "firmware",
        "entity_category": "diagnostic",
    }


def test_a_device_without_names_is_called_by_its_ids() -> None:
    said = discovery.discovery(CLIENT_ID, device(), DeviceModel(code="blink", name="", chip="esp32"))
    assert (said.device.name, said.device.model) == (CLIENT_ID, "blink")


def test_each_entity_has_its_own_id_and_reads_what_is_said() -> None:
    components = discovered()["components"]
    fields = json.loads(
        topics.HOMEASSISTANT_DIAGNOSTICS.encode(
            discovery.diagnostics(device(), Presence(online=True, status=None))
        )
    )
    assert len({component["unique_id"] for component in components.values()}) == len(components) > 5
    for name, component in components.items():
        templates = [value for key, value in component.items() if key.endswith("_template")]
        assert templates or name == "firmware"
        assert {field for text in templates for field in re.findall(r"value_json\.(\w+)", text)} <= fields.keys()


def test_nothing_can_be_changed_from_home_assistant() -> None:
    assert "command_topic" not in json.dumps(discovered())


def test_what_is_looked_at_after_an_event_goes_by_nouns_of_events_of_devices() -> None:
    assert {*bridge._CHANGED} <= {it.noun for it in EVENTS.values() if isinstance(it, DeviceEvent)}
