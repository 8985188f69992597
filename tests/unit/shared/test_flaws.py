from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from shared.errors import MessageRefusedError
from shared.protocol import messages, topics
from shared.protocol.topics import Topic

SHA256 = "ab" * 32


def read(topic: Topic[Any], **facts: object) -> tuple[Any, dict[str, str]]:
    message, flaws = topic.read(json.dumps(facts).encode())
    return message, dict(flaws)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("firmware_version", "v1.2.3-45-gabcdef0-dirty of the night build"),
        ("firmware_sha256", "da39a3ee"),
        ("chip", 32),
        ("slot_size_bytes", -1),
        ("slot_size_bytes", 0),
        ("config_version", 1.5),
        ("secret_generation", "first"),
        ("rssi_dbm", 12345),
        ("rssi_dbm", float("nan")),
        ("ip", ["192.168.1.7"]),
    ],
)
def test_one_odd_field_of_a_status_is_left_out_and_the_rest_counts(field: str, value: object) -> None:
    status, flaws = read(topics.STATUS, **{"online": True, "reset_reason": "panic", field: value})
    assert status == messages.Status(online=True, reset_reason="panic")
    assert list(flaws) == [field]
    assert str(value) not in flaws[field]


@pytest.mark.parametrize("online", [None, "perhaps", 7, {}])
def test_a_status_is_refused_if_it_does_not_tell_whether_the_device_is_online(online: object) -> None:
    with pytest.raises(MessageRefusedError, match="online"):
        read(topics.STATUS, online=online, rssi_dbm=-61)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"7", b"null", b'"online"', b'{"online":true}x'])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageRefusedError):
        topics.STATUS.read(payload)


@pytest.mark.parametrize("lines", [[5, {"message": 7}], [{"message": 7}, 5], [{"message": "x", "level": 7}, 5]])
def test_lines_of_which_one_is_no_object_are_refused(lines: list[object]) -> None:
    with pytest.raises(MessageRefusedError, match=r"lines\.\d"):
        read(topics.LOG, boot=1, first=0, lines=lines)


def test_of_vitals_each_number_counts_for_itself() -> None:
    vitals, flaws = read(
        topics.VITALS,
        uptime_s=86400,
        rssi_dbm="-61",
        heap_free_bytes="much",
        battery_mv=None,
        door_open=True,
        voltage=float("nan"),
        far=1e300,
        Temperature=21.5,
        nested={"a": 1},
    )
    assert vitals.root == {"uptime_s": 86400, "rssi_dbm": -61, "door_open": 1}
    assert list(flaws) == ["heap_free_bytes", "voltage", "far", "Temperature", "nested"]
    assert flaws["Temperature"] == "must be 1 to 40 of a-z, 0-9 and _, and begin with a letter"


@pytest.mark.parametrize("bare", ["nan", "-nan", "NaN", "inf", "-inf", "-Infinity", "+inf"])
def test_a_number_as_printf_writes_it_costs_no_other(bare: str) -> None:
    vitals, flaws = topics.VITALS.read(f'{{"t_celsius": {bare},"uptime_s":7}}'.encode())
    assert (vitals.root, [flaw.field for flaw in flaws]) == ({"uptime_s": 7}, ["t_celsius"])
    status, flaws = topics.STATUS.read(f'{{"online":true,"rssi_dbm":{bare}}}'.encode())
    assert (status.online, status.rssi_dbm, [flaw.field for flaw in flaws]) == (True, None, ["rssi_dbm"])


def test_a_name_that_a_device_has_chosen_can_be_stored_and_shown() -> None:
    names = ["a\0b\x1b[31m", "x" * 500, *(f"No {number}" for number in range(50))]
    vitals, flaws = topics.VITALS.read(json.dumps(dict.fromkeys(names, 1)).encode())
    assert vitals.root == {}
    assert len(flaws) == 20
    assert all(flaw.field.isprintable() and len(flaw.field) <= 60 for flaw in flaws)


def test_bytes_that_are_no_utf_8_cost_at_most_their_own_field() -> None:
    payload = '{"online":true,"reset_reason":"Netzgerät","firmware_version":"1.ä","rssi_dbm":-61}'
    status, flaws = topics.STATUS.read(payload.encode("latin-1"))
    assert (status.online, status.reset_reason, status.rssi_dbm) == (True, "Netzger\ufffdt", -61)
    assert (status.firmware_version, [flaw.field for flaw in flaws]) == (None, ["firmware_version"])


def test_another_spelling_of_a_valid_value_is_no_flaw() -> None:
    status, flaws = read(
        topics.STATUS,
        online=1,
        firmware_version="",
        firmware_sha256=SHA256.upper(),
        chip="ESP32-D0WD-V3",
        slot_size_bytes=1.5e6,
        config_version=3.0,
        rssi_dbm=-61.5,
        ip="",
        reset_reason="brownout\n" * 50,
    )
    assert flaws == {}
    assert (status.firmware_version, status.ip, status.firmware_sha256) == (None, None, SHA256)
    assert (status.slot_size_bytes, status.config_version, status.rssi_dbm) == (1_500_000, 3, -62)
    assert status.chip == "ESP32-D0WD-V3"
    assert len(status.reset_reason) == 200
    assert "\n" not in status.reset_reason


def test_a_check_needs_only_the_image_that_runs() -> None:
    check, flaws = read(
        topics.FIRMWARE_CHECK, request_id="1", sha256=SHA256, version="", project="", chip="ESP32-S3"
    )
    assert (check.version, check.project, check.slot_size_bytes, check.chip) == (None, None, None, "ESP32-S3")
    assert flaws == {}


def test_an_outcome_counts_whatever_is_reported_with_it() -> None:
    report, flaws = read(
        topics.FIRMWARE_REPORT, sha256=SHA256, stage="failed", percent=100.4, error="E (12) ota:\r\nno space\n"
    )
    assert (report.percent, report.error, flaws) == (100, "E (12) ota:  no space ", {})
    report, flaws = read(topics.FIRMWARE_REPORT, sha256=SHA256, stage="downloading", percent=101, error=5)
    assert (report.percent, report.error, list(flaws)) == (None, None, ["percent", "error"])
    result, flaws = read(topics.COMMAND_RESULT, command_id=str(uuid4()), ok=True, result={"log": "x" * 40_000})
    assert (result.ok, result.result, list(flaws)) == (True, None, ["result"])


def test_one_odd_line_of_a_log_takes_no_other_line_with_it_and_keeps_its_number() -> None:
    log, flaws = read(
        topics.LOG,
        boot=1,
        first=7,
        lines=[
            {"level": "verbose", "message": "a", "time": "2026-01-01T00:00:00"},
            {"level": "WARNING", "message": "b\0" + "c" * 2000, "uptime_ms": 17.4, "tag": "a\tb"},
            {"message": "c", "time": "yesterday"},
        ],
    )
    assert [line.level for line in log.lines] == ["info", "warning", "info"]
    assert log.lines[1].message == "b" + "c" * 999
    assert (log.lines[1].uptime_ms, log.lines[1].tag) == (17, "a b")
    # One name for a field, wherever it is: else each message would be a change.
    assert list(flaws) == ["lines.level", "lines.time"]


@pytest.mark.parametrize(
    ("topic", "facts"),
    [
        (topics.ROTATION_REQUEST, {"rotation_id": str(uuid4()), "public_key": "no key"}),
        (topics.FIRMWARE_CHUNK, {"sha256": SHA256, "offset": 0.5, "length": 1}),
        (topics.CONFIG_REPORT, {"version": 1, "outcome": "perhaps"}),
        (topics.FIRMWARE_REPORT, {"sha256": SHA256, "stage": "flashing"}),
        (topics.FIRMWARE_CHECK, {"request_id": "1", "sha256": ""}),
    ],
)
def test_what_would_change_the_meaning_is_refused(topic: Topic[Any], facts: dict[str, object]) -> None:
    """Without its public key, a device would be sent its new secret in plain text."""
    with pytest.raises(MessageRefusedError):
        read(topic, **facts)
