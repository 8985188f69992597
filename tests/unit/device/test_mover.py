from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr

from deploy import certificates
from device import package as packages
from device.agent import Agent
from device.board import Board
from device.options import Hooks, Options
from device.uplink import Ending, Uplink
from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionProfile, ConnectionState, WifiNetwork
from tests.unit.device.kit import CLIENT_ID, Killed, Surroundings, package

OLD, NEW, OTHER = ("a" * 16, "b" * 16, "c" * 16)
OPTIONS = Options(fallback_after_s=3600, silent_after_s=86400, answer_timeout_s=10, fallback_starts=2)
PROFILE = ConnectionProfile(mqtt_host="new.example.org", mqtt_port=8883, mqtt_tls=False, token_url="http://k/t")
PACKAGE = package(connection_id=OLD)


class BootedDevice:
    """A device, its surroundings, and short words for what happens to it."""

    def __init__(self, folder: Path, *, options: Options = OPTIONS, flashed: Package = PACKAGE) -> None:
        self.around = Surroundings()
        self.folder, self.options, self.package = folder, options, flashed
        self.boot()

    def boot(self) -> None:
        self.around.uplink = Uplink(CLIENT_ID, self.around.hooks)
        self.around.link.sent.clear()
        self.board = Board(
            self.package, self.folder, self.around.uplink, self.options, image=None, reset_reason="sw"
        )

    def connect(self) -> messages.ConfigGet:
        """Log in, send what is due, and return the request of the configuration."""
        self.around.uplink.reset()
        self.around.link.sent.clear()
        self.board.on_connected(packages.provisioned_slot(self.package))
        return self.asked()

    def asked(self) -> messages.ConfigGet:
        (request,) = self.around.take(topics.CONFIG_GET)
        return cast("messages.ConfigGet", request)

    def answer(self, request: messages.ConfigGet, **changes: object) -> None:
        facts = {"request_id": request.request_id, "version": 1, "document": {}, "secret_generation": 1}
        self.deliver("config", {**facts, **changes})

    def offer(self, connection_id: str = NEW, trial_seconds: int = 60, **changes: object) -> None:
        profile = PROFILE.model_dump(exclude_none=True) | changes
        self.deliver(
            "connection",
            {"connection_id": connection_id, "trial_seconds": trial_seconds, "profile": profile},
        )

    def deliver(self, topic: str, facts: dict[str, Any]) -> None:
        self.board.on_message(f"mdm/v1/d/{CLIENT_ID}/down/{topic}", json.dumps(facts).encode())

    def wait(self, seconds: float) -> None:
        """Let time pass, as the agent's waiting does."""
        self.around.time_s += seconds
        for at, handle in self.board.deadlines():
            if self.around.time_s >= at:
                handle()

    @property
    def port(self) -> int:
        return self.board.mover.package.mqtt_port

    @property
    def ending(self) -> Ending | None:
        return self.around.uplink.ending


@pytest.fixture
def device(tmp_path: Path) -> BootedDevice:
    return BootedDevice(tmp_path)


@pytest.fixture
def moved(device: BootedDevice) -> BootedDevice:
    """A device that works with a new profile and has the package's as its fallback."""
    device.answer(device.connect())
    device.offer()
    device.answer(device.connect())
    device.around.uplink.reset()
    return device


def test_a_device_says_with_which_profile_it_asks(device: BootedDevice) -> None:
    assert device.connect().connection == ConnectionState(first=OLD, in_use=OLD)


def test_a_package_without_an_id_is_a_profile_without_one(tmp_path: Path) -> None:
    assert BootedDevice(tmp_path, flashed=package()).connect().connection == ConnectionState()


def test_an_offer_ends_the_connection_and_an_answer_over_the_new_one_keeps_it(device: BootedDevice) -> None:
    device.answer(device.connect())
    device.offer()
    assert (device.ending, device.port) == (Ending.SWITCH, 8883)
    device.around.flush()

    request = device.connect()
    assert request.connection == ConnectionState(first=OLD, in_use=NEW)
    assert device.board.mover.on_trial
    device.answer(request)

    assert device.asked().connection == ConnectionState(first=NEW, fallback=OLD, in_use=NEW)
    device.wait(10**6)
    assert device.port != 8883, "after so long without an answer"


def test_only_the_answer_to_the_request_of_this_very_connection_proves_it(device: BootedDevice) -> None:
    earlier = device.connect()
    device.offer()
    request = device.connect()

    device.answer(earlier)
    device.answer(request, request_id=None)
    device.deliver("config", {"version": 9, "document": {"late": True}, "secret_generation": 1})

    assert device.board.mover.on_trial
    assert device.board.configuration.version is None
    device.answer(request)
    assert not device.board.mover.on_trial


def test_what_is_sent_once_is_sent_after_the_proof(device: BootedDevice) -> None:
    device.connect()
    device.offer()
    request = device.connect()
    device.deliver("firmware/offer", {"up_to_date": False, "sha256": "0" * 64, "size_bytes": 300, "version": "2",
                                      "chunk_size_bytes": 256, "window": 1})  # fmt: skip
    assert device.around.take(topics.FIRMWARE_CHECK) == []
    assert device.around.take(topics.FIRMWARE_REPORT) == []

    device.answer(request)

    assert len(device.around.take(topics.FIRMWARE_CHECK)) == 1


def test_a_trial_that_is_not_answered_in_time_is_reverted_and_reported(device: BootedDevice) -> None:
    device.connect()
    device.offer(trial_seconds=60)
    device.connect()
    device.wait(59)
    assert (device.ending, device.port) == (None, 8883)

    device.wait(1)

    assert (device.ending, device.port) == (Ending.SWITCH, 1883)
    state = device.connect().connection
    assert state is not None
    assert (state.first, state.fallback, state.in_use) == (OLD, None, OLD)
    assert state.refused is not None
    assert (state.refused.connection_id, state.refused.outcome) == (NEW, "reverted")


def test_a_restart_reverts_a_trial_and_the_profile_may_be_offered_again(device: BootedDevice) -> None:
    device.connect()
    device.offer()
    device.boot()
    assert "connection.reverted" in device.around.names()
    assert device.port == 1883

    request = device.connect()
    assert request.connection is not None
    assert request.connection.refused is not None
    device.offer()
    assert device.port == 8883


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ca_certificate": "no PEM"}, "ca_certificate: must be certificates in PEM"),
        ({"mqtt_auth": "kerberos"}, "mqtt_auth: must be 'password' or 'token'"),
        ({"mqtt_port": 0}, "mqtt_port: must be at least 1"),
        ({"wifi": [{"ssid": "home", "password": "short"}]}, "wifi.0.password: must be"),
    ],
)
def test_a_profile_that_cannot_be_used_is_rejected_and_the_connection_continues(
    device: BootedDevice, changes: dict[str, Any], reason: str
) -> None:
    device.answer(device.connect())

    device.offer(**changes)

    assert (device.ending, device.port) == (None, 1883)
    state = device.asked().connection
    assert state is not None
    assert state.refused is not None
    assert (state.refused.connection_id, state.refused.outcome) == (NEW, "rejected")
    assert str(state.refused.reason).startswith(reason)
    assert "short" not in str(state.refused.reason)


def test_the_same_rejection_is_neither_written_nor_reported_again(device: BootedDevice) -> None:
    device.answer(device.connect())
    device.offer(mqtt_port=0)
    device.answer(device.asked())
    device.around.points.clear()

    device.offer(mqtt_port=0)

    assert device.around.take(topics.CONFIG_GET) == []
    assert not [it for it in device.around.points if it.startswith("connection.")]


@pytest.mark.parametrize(("keyless", "port"), [(False, 8883), (True, 1883)])
def test_a_sealed_profile_is_opened_with_the_devices_key(tmp_path: Path, keyless: bool, port: int) -> None:
    device = BootedDevice(tmp_path, options=replace(OPTIONS, keyless=keyless))
    device.connect()
    public = crypto.public_half(crypto.new_key_pair()) if device.board.key is None else device.board.key.public
    jwe = crypto.seal(SecretStr(PROFILE.model_dump_json()), public)

    device.deliver("connection", {"connection_id": NEW, "trial_seconds": 60, "jwe": jwe})

    assert device.port == port


def test_what_is_sealed_for_another_device_is_rejected(device: BootedDevice) -> None:
    device.connect()
    jwe = crypto.seal(SecretStr(PROFILE.model_dump_json()), crypto.public_half(crypto.new_key_pair()))

    device.deliver("connection", {"connection_id": NEW, "trial_seconds": 60, "jwe": jwe})

    state = device.asked().connection
    assert state is not None
    assert state.refused is not None
    assert state.refused.reason == "jwe: cannot be opened with this device's key"


def test_authorities_of_a_profile_are_trusted(device: BootedDevice, tmp_path: Path) -> None:
    one, two = (certificates.ensure_authority(tmp_path / name).certificate for name in ("one", "two"))
    device.connect()

    device.offer(ca_certificate=one.read_text() + two.read_text())

    assert device.board.mover.package.ca_certificate == one.read_text() + two.read_text()


def test_an_offer_waits_while_a_configuration_is_on_trial(device: BootedDevice) -> None:
    device.answer(device.connect(), trial_seconds=60)

    device.offer()
    assert device.port == 1883

    device.connect()
    device.offer()
    assert device.port == 8883


def test_an_offer_waits_while_an_image_is_on_trial(device: BootedDevice) -> None:
    flash = device.board._flash
    flash.path_of(flash.inactive).write_bytes(flash.path_of(1 - flash.inactive).read_bytes())
    flash.activate()
    device.boot()
    request = device.connect()

    device.offer()
    assert device.port == 1883

    device.answer(request)
    device.offer()
    assert device.port == 8883


def test_a_trial_of_a_configuration_waits_for_the_proof_of_the_connection(device: BootedDevice) -> None:
    device.connect()
    device.offer()
    request = device.connect()
    device.deliver("config", {"version": 5, "document": {}, "secret_generation": 1, "trial_seconds": 60})
    assert device.board.configuration.trial_by is None

    device.answer(request, version=5, trial_seconds=60)

    assert not device.board.mover.on_trial
    assert device.board.configuration.trial_by is not None


def test_an_hour_without_a_connection_passes_the_turn_and_an_answer_keeps_it(moved: BootedDevice) -> None:
    moved.board.mover.on_lost()
    moved.wait(3599)
    moved.board.mover.on_lost()  # a login that got no subscription is no connection
    assert moved.port == 8883
    moved.wait(1)
    assert (moved.ending, moved.port) == (Ending.SWITCH, 1883)
    moved.wait(3600)
    assert moved.port == 8883
    moved.wait(3600)

    moved.answer(moved.connect())

    moved.board.mover.on_lost()
    moved.boot()
    assert moved.port == 1883
    assert moved.connect().connection == ConnectionState(first=NEW, fallback=OLD, in_use=OLD)


def test_a_connection_without_an_answer_is_left_after_a_day(moved: BootedDevice) -> None:
    moved.board.mover.on_lost()
    moved.connect()
    moved.wait(3600)
    assert moved.port == 8883
    moved.board.mover.on_lost()
    moved.connect()
    moved.wait(86400 - 3600)

    assert (moved.ending, moved.port) == (Ending.SWITCH, 1883)


def test_a_device_that_never_runs_for_an_hour_gets_to_its_fallback(moved: BootedDevice) -> None:
    ports = []
    for _ in range(6):
        moved.boot()
        ports.append(moved.port)
        moved.wait(10)

    assert ports == [8883, 8883, 1883, 1883, 8883, 8883]


def test_a_start_that_fails_costs_one_write_and_one_that_is_answered_none(moved: BootedDevice) -> None:
    moved.around.points.clear()
    moved.boot()
    for _ in range(100):
        moved.wait(10)
    assert [it for it in moved.around.points if it.startswith("connection.")] == [
        f"connection.count:{moment}" for moment in ("before", "written", "after")
    ]
    moved.answer(moved.connect())

    moved.around.points.clear()
    moved.boot()
    moved.answer(moved.connect())
    moved.wait(1000)
    assert not [it for it in moved.around.points if it.startswith("connection.")]


@pytest.mark.parametrize("moment", ["before", "written", "after"])
def test_a_power_cut_at_the_proof_leaves_a_device_that_works(device: BootedDevice, moment: str) -> None:
    device.answer(device.connect())
    device.offer()
    request = device.connect()
    device.around.kill_at = f"connection.works:{moment}"

    with pytest.raises(Killed):
        device.answer(request)
    device.boot()

    assert device.port == (8883 if moment == "after" else 1883)


def test_a_new_package_is_used_at_once_and_the_former_profile_is_its_fallback(moved: BootedDevice) -> None:
    moved.package = package(connection_id=OTHER, mqtt_port=1999)
    moved.boot()

    assert moved.port == 1999
    assert moved.connect().connection == ConnectionState(first=OTHER, fallback=NEW, in_use=OTHER)


async def test_a_device_in_whose_range_no_network_is_does_not_connect(tmp_path: Path) -> None:
    networks = [WifiNetwork(ssid=name, password="12345678") for name in ("home", "garage")]
    tried: list[str] = []
    errors: list[object] = []

    def joins(network: WifiNetwork) -> bool:
        tried.append(network.ssid)
        return False

    def on_event(name: str, facts: Mapping[str, object]) -> None:
        if name == "login.failed":
            errors.append(facts["error"])
            agent.stop()

    agent = Agent(package(wifi=networks), tmp_path, hooks=Hooks(on_event=on_event, joins=joins))
    await agent.run()

    assert tried == ["home", "garage"]
    assert errors == ["no Wi-Fi network can be joined"]
