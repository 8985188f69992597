from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import structlog

from deploy import certificates
from device import __main__ as command_line
from device import image_builder, link, reading
from device import package as packages
from device.agent import Agent, backoff_s
from device.board import Board
from device.options import Options
from device.rotation import Slot
from device.uplink import Uplink
from shared.errors import InvalidInputError
from shared.protocol import messages, topics
from shared.protocol.messages import WifiNetwork
from tests.unit.device.kit import CLIENT_ID, EPOCH, Killed, Surroundings, finish, package, same


def board(folder: Path, around: Surroundings, *, image: bytes | None = None) -> Board:
    return Board(package(), folder, around.uplink, Options(), image=image, reset_reason="poweron")


def slot() -> Slot:
    return packages.provisioned_slot(package())


def deliver(device: Board, topic: str, message: messages.Message) -> None:
    device.on_message(f"mdm/v1/d/{CLIENT_ID}/down/{topic}", message.model_dump_json().encode())


def test_a_connected_device_says_what_it_is_and_asks_what_is_new(tmp_path: Path) -> None:
    around = Surroundings()
    device = board(tmp_path, around)

    device.on_connected(slot())

    (status,) = around.take(topics.STATUS)
    assert same(status, online=True, firmware_version="1.0.0", chip="esp32", project="blink")
    assert same(status, config_version=None, secret_generation=1, reset_reason="poweron")
    assert len(around.take(topics.CONFIG_GET)) == 1
    assert len(around.take(topics.FIRMWARE_CHECK)) == 1


def test_the_status_is_said_again_only_when_its_facts_change(tmp_path: Path) -> None:
    around = Surroundings()
    device = board(tmp_path, around)
    device.on_connected(slot())
    around.take(topics.STATUS)

    config = messages.Config(version=3, document={}, secret_generation=1)
    deliver(device, "config", config)
    (status,) = around.take(topics.STATUS)
    assert status.config_version == 3
    deliver(device, "config", config)
    assert around.take(topics.STATUS) == []


def test_deadlines_are_judged_by_the_servers_time_alone(tmp_path: Path) -> None:
    around = Surroundings()
    device = board(tmp_path, around)
    device.on_connected(slot())

    def command(expires_at: datetime) -> messages.CommandResult:
        sent = messages.Command(command_id=uuid4(), name="identify", expires_at=expires_at)
        deliver(device, "command", sent)
        (result,) = around.take(topics.COMMAND_RESULT)
        return cast("messages.CommandResult", result)

    assert command(EPOCH - timedelta(days=900)).ok, "no time is known yet"
    (request,) = around.take(topics.CONFIG_GET)
    facts: dict[str, Any] = {"version": 3, "document": {}, "secret_generation": 1}
    deliver(device, "config", messages.Config(**facts, request_id=request.request_id, time=EPOCH))
    deliver(device, "config", messages.Config(**facts, time=EPOCH - timedelta(days=3)))
    assert command(EPOCH).error == "expired"
    assert command(EPOCH + timedelta(seconds=1)).ok
    (check,) = around.take(topics.FIRMWARE_CHECK)
    later = EPOCH + timedelta(seconds=60)
    offer = messages.FirmwareOffer(request_id=check.request_id, up_to_date=True, time=later)
    deliver(device, "firmware/offer", offer)
    assert command(later).error == "expired"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("config", b"{"),
        ("config", b'{"version": -1}'),
        ("rotation/secret", b"{}"),
        ("firmware/offer", b'{"up_to_date": false}'),
        ("firmware/chunk/x/-1", b"data"),
        ("firmware/chunk/x/0", bytes(70_000)),
        ("nonsense", b""),
    ],
)
def test_a_message_that_breaks_the_protocol_is_dropped(tmp_path: Path, topic: str, payload: bytes) -> None:
    around = Surroundings()
    device = board(tmp_path, around)
    device.on_connected(slot())
    around.flush()
    around.link.sent.clear()

    device.on_message(f"mdm/v1/d/{CLIENT_ID}/down/{topic}", payload)

    assert around.flush().sent == []


def test_what_a_device_does_not_hear_changes_nothing(tmp_path: Path) -> None:
    around = Surroundings()
    around.hooks = replace(around.hooks, accepts=lambda topic: not topic.endswith("/config"))
    around.uplink = Uplink(CLIENT_ID, around.hooks)
    device = board(tmp_path, around)
    device.on_connected(slot())
    around.flush()
    around.link.sent.clear()

    deliver(device, "config", messages.Config(version=3, document={}, secret_generation=1))

    assert around.flush().sent == []
    assert device.configuration.version is None
    assert ("message.unheard", {"topic": f"mdm/v1/d/{CLIENT_ID}/down/config"}) in around.events


def test_devices_of_one_authority_share_its_trust(tmp_path: Path) -> None:
    authority = certificates.ensure_authority(tmp_path).certificate.read_text()
    one, other = (package(mqtt_tls=True, ca_certificate=authority, client_id=name) for name in ("a", "b"))
    assert link.tls_context(one) is link.tls_context(other)
    assert link.tls_context(package(mqtt_tls=True)) is not link.tls_context(one)
    assert link.tls_context(package(ca_certificate=authority)) is None


def test_an_image_fills_an_empty_flash(tmp_path: Path) -> None:
    image = image_builder.build(version="3.1.4", project="pie", chip="esp32s3")

    status = board(tmp_path, Surroundings(), image=image).status()

    assert same(status, firmware_version="3.1.4", project="pie", chip="esp32s3")


def test_what_the_broker_did_not_take_is_said_again_after_a_kill(tmp_path: Path) -> None:
    around = Surroundings()
    device = board(tmp_path, around)
    device.on_connected(slot())
    around.kill_at = "publish.status:before"

    with pytest.raises(Killed):
        finish(around.uplink.flush(around.link))
    assert around.link.sent == []
    around.uplink.reset()
    device.on_connected(slot())
    assert len(around.take(topics.STATUS)) == 1


def test_the_pause_grows_up_to_its_limit_and_is_spread() -> None:
    options = Options(backoff_min_s=1, backoff_max_s=60)

    assert [backoff_s(failures, options, 1.0) for failures in (1, 2, 3, 7, 99)] == [1, 2, 4, 60, 60]
    assert backoff_s(3, options, 0.0) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mqtt_port": 0}, "mqtt_port"),
        ({"mqtt_host": ""}, "mqtt_host"),
        ({"client_id": "a/b"}, "client_id"),
        ({"secret": ""}, "secret"),
        ({"secret_generation": -1}, "secret_generation"),
        ({"mqtt_tls": True, "ca_certificate": "no pem"}, "ca_certificate"),
    ],
)
async def test_a_package_that_cannot_work_is_refused(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        Agent(package(**change), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "Invalid JSON"),
        (json.dumps({"client_id": "x", "secret": "hush"}), "device_key: is missing"),
        (json.dumps(package().model_dump() | {"mqtt_port": 70000}), "mqtt_port: must be from 1 to 65535"),
    ],
)
def test_the_command_line_names_what_is_wrong_with_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "package.json"
    if content is not None:
        path.write_text(content)

    try:
        assert command_line.main(["--package", str(path), "--state", str(tmp_path / "state")]) == 2
    finally:
        structlog.reset_defaults()

    shown = capsys.readouterr().err
    assert message in shown
    assert "hush" not in shown


def test_networks_on_the_command_line_are_those_in_range() -> None:
    joins = command_line._hooks(["home=pass=word", "guests"]).joins

    assert joins(WifiNetwork(ssid="home", password="pass=word"))
    assert joins(WifiNetwork(ssid="guests"))
    assert not joins(WifiNetwork(ssid="home", password="another1"))
    assert not joins(WifiNetwork(ssid="garage"))
    assert command_line._hooks(None).joins(WifiNetwork(ssid="garage"))


async def test_a_device_without_a_broker_backs_off_and_stops_when_told(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    around = Surroundings()
    agent: Agent

    def on_event(name: str, _facts: object) -> None:
        if name == "login.failed":
            agent.stop()

    hooks = type(around.hooks)(on_event=on_event)
    agent = Agent(package(mqtt_port=unused_tcp_port), tmp_path, hooks=hooks)
    await agent.run()
    assert (tmp_path / "slots.json").exists()


def test_a_device_publishes_a_reading_on_its_own_topics_if_it_is_to(tmp_path: Path) -> None:
    around = Surroundings()
    options = Options(reading_s=10)
    device = Board(package(), tmp_path, around.uplink, options, image=None, reset_reason="poweron")

    around.time_s = 5
    device.on_connected(slot())
    assert [it.uptime_s for it in around.take(reading.READING)] == [5]
    around.time_s = 14
    assert around.take(reading.READING) == []
    around.time_s = 15
    assert [it.uptime_s for it in around.take(reading.READING)] == [15]


def test_a_device_publishes_no_reading_by_itself(tmp_path: Path) -> None:
    around = Surroundings()
    board(tmp_path, around).on_connected(slot())
    assert around.take(reading.READING) == []
    assert not [topic for topic, _ in around.link.sent if not topic.startswith("mdm/")]


def test_a_device_reports_its_uptime_and_what_its_hooks_measure_if_it_is_to(tmp_path: Path) -> None:
    around = Surroundings()
    around.uplink.hooks = replace(around.hooks, measure=lambda: {"heap_free_bytes": 90_000})
    options = Options(vitals_s=60)
    device = Board(package(), tmp_path, around.uplink, options, image=None, reset_reason="poweron")

    around.time_s = 5
    device.on_connected(slot())
    assert [it.root for it in around.take(topics.VITALS)] == [{"uptime_s": 5, "heap_free_bytes": 90_000}]
    assert around.take(topics.VITALS, after_s=59) == []
    assert [it.root["uptime_s"] for it in around.take(topics.VITALS, after_s=1)] == [65]


def test_a_device_reports_no_vitals_by_itself(tmp_path: Path) -> None:
    around = Surroundings()
    board(tmp_path, around).on_connected(slot())
    assert around.take(topics.VITALS) == []


def test_a_vital_on_the_command_line_must_be_a_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "package.json"
    place.write_text(package().model_dump_json())
    words = ["--package", str(place), "--state", str(tmp_path / "state"), "--vital", "heap_free_bytes=much"]
    assert command_line.main(words) == 2
    assert "--vital: heap_free_bytes: must be a number" in capsys.readouterr().err
