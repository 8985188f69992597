from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from device import key
from device.key import DeviceKeyPair, load_or_make
from device.slots import StateUnreadableError
from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import DeviceKeyKnown, Recovery
from tests.unit.device.kit import Killed, Surroundings, package

HERE = Recovery(port=8884, account="recover", password="recover", server_key="A" * 43)
THERE = HERE.model_copy(update={"port": 18884})
PACKAGE = package()
SECRET = SecretStr(PACKAGE.secret)


def boot(folder: Path, around: Surroundings, package: Package = PACKAGE) -> DeviceKeyPair:
    pair = load_or_make(folder, fault=around.hooks.fault)
    return DeviceKeyPair(package, folder, pair, around.uplink, lambda: SECRET)


@pytest.mark.parametrize("point", ["device.key:before", "device.key:written", "device.key:after"])
def test_the_key_is_whole_or_not_there_when_the_power_fails(tmp_path: Path, point: str) -> None:
    around = Surroundings()
    around.kill_at = point
    with pytest.raises(Killed):
        load_or_make(tmp_path, fault=around.hooks.fault)
    stored = (tmp_path / key.KEY_FILE).exists()
    assert stored == (point == "device.key:after")
    around = Surroundings()
    made = load_or_make(tmp_path, fault=around.hooks.fault)
    again = load_or_make(tmp_path, fault=around.hooks.fault)
    assert crypto.private_half(made) == crypto.private_half(again)
    assert (tmp_path / key.KEY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{}", '{"kty": "oct", "k": "AAAA"}'])
def test_a_key_file_of_something_else_is_no_key(tmp_path: Path, content: str) -> None:
    (tmp_path / key.KEY_FILE).write_text(content)
    with pytest.raises(StateUnreadableError, match="is no key of this device"):
        load_or_make(tmp_path, fault=Surroundings().hooks.fault)


def test_a_device_that_came_by_a_claim_before_keeps_its_key(tmp_path: Path) -> None:
    pair = crypto.new_key_pair()
    (tmp_path / "claim_key.json").write_text(json.dumps(pair.as_dict(private=True)))
    assert boot(tmp_path, Surroundings()).public == crypto.public_half(pair)


def test_the_key_is_said_until_it_is_known_once_a_start_and_each_day(tmp_path: Path) -> None:
    around = Surroundings()
    device = boot(tmp_path, around)
    device.on_connected()
    proof = crypto.key_proof(SECRET, device.public)
    assert around.take(topics.KEY) == [messages.DeviceKey(public_key=device.public, proof=proof)]
    assert len(around.take(topics.KEY, 5)) == 1
    device.on_known(DeviceKeyKnown(public_key=device.public, recovery=HERE))
    assert around.take(topics.KEY, 15) == []

    device.on_connected()
    assert around.take(topics.KEY) == []
    around.flush(after_s=24 * 3600)
    device.on_connected()
    assert len(around.take(topics.KEY)) == 1
    device.on_known(DeviceKeyKnown(public_key=device.public, recovery=HERE))

    device = boot(tmp_path, around)
    device.on_connected()
    assert len(around.take(topics.KEY)) == 1
    assert device.recovery == HERE


def test_what_the_server_said_last_goes_before_the_package(tmp_path: Path) -> None:
    given = PACKAGE.model_copy(update={"recovery": HERE})
    device = boot(tmp_path, Surroundings(), given)
    assert device.recovery == HERE
    device.on_known(DeviceKeyKnown(public_key=device.public, recovery=THERE))
    assert boot(tmp_path, Surroundings(), given).recovery == THERE


def test_a_device_whose_key_is_not_the_registered_one_does_not_say_it_for_ever(tmp_path: Path) -> None:
    around = Surroundings()
    device = boot(tmp_path, around)
    device.on_connected()
    around.take(topics.KEY)
    device.on_known(DeviceKeyKnown(public_key=crypto.public_half(crypto.new_key_pair()), recovery=HERE))
    assert around.take(topics.KEY, 15) == []
    assert device.recovery is None
