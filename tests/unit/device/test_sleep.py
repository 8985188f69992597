"""When a device that sleeps may sleep: all is answered, nothing is in progress, and it is quiet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
import structlog

from device import __main__ as command_line
from device import package as packages
from device.board import Board
from device.options import Options
from shared.protocol import messages, topics
from tests.unit.device.kit import CLIENT_ID, EPOCH, Surroundings, package, same

OPTIONS: Final = Options(wake_interval_s=3600)
QUIET_S: Final = OPTIONS.quiet_s
BUSY_S: Final = OPTIONS.awake_max_s
ROTATION_ID: Final = UUID(int=7)
OFFER: Final = messages.RotationOffer(
    rotation_id=ROTATION_ID, deadline=EPOCH + timedelta(hours=1), generation=2, current_generation=1
)
SECRET: Final = messages.RotationSecret(rotation_id=ROTATION_ID, generation=2, secret="n" * 43)
IMAGE: Final = messages.FirmwareOffer(
    sha256="5" * 64, size_bytes=100_000, version="2.0.0", chunk_size_bytes=16_384, window=4
)


class Awake:
    """A device that has connected and sent what is due."""

    def __init__(self, folder: Path, options: Options = OPTIONS) -> None:
        self.around = Surroundings()
        self.board = Board(package(), folder, self.around.uplink, options, image=None, reset_reason="poweron")
        self.board.on_connected(packages.provisioned_slot(package()))
        self.around.flush()

    def receive(self, topic: str, message: messages.Message) -> None:
        self.board.on_message(f"mdm/v1/d/{CLIENT_ID}/down/{topic}", message.model_dump_json().encode())
        self.around.flush()

    def answer_config(self, **facts: Any) -> None:  # noqa: ANN401 - any field
        (asked,) = self.around.link.take(topics.CONFIG_GET)
        usual = {"request_id": asked.request_id, "version": 1, "document": {}, "secret_generation": 1}
        self.receive("config", messages.Config.model_validate({**usual, **facts}))

    def answer_check(self) -> None:
        (asked,) = self.around.link.take(topics.FIRMWARE_CHECK)
        self.receive("firmware/offer", messages.FirmwareOffer(request_id=asked.request_id, up_to_date=True))

    def answer_all(self) -> None:
        self.receive("key", messages.DeviceKeyKnown(public_key=self.board.key.public if self.board.key else ""))
        self.answer_config()
        self.answer_check()

    @property
    def awake_s(self) -> float | None:
        return self.board.sleeps_at(0.0)


def test_a_device_without_a_wake_interval_never_sleeps(tmp_path: Path) -> None:
    awake = Awake(tmp_path, Options())
    awake.answer_all()
    assert awake.awake_s is None
    assert "wake_interval_s" not in topics.STATUS.encode(awake.board.status()).decode()


def test_a_device_says_its_wake_interval_and_that_it_sleeps(tmp_path: Path) -> None:
    awake = Awake(tmp_path)
    (status,) = awake.around.link.take(topics.STATUS)
    assert same(status, online=True, wake_interval_s=3600, asleep=None)
    assert same(awake.board.goodbye(asleep=True), online=False, asleep=True, secret_generation=1)
    assert same(awake.board.goodbye(asleep=False), online=False, asleep=None)


def test_it_sleeps_when_both_requests_are_answered(tmp_path: Path) -> None:
    awake = Awake(tmp_path)
    awake.receive("key", messages.DeviceKeyKnown(public_key=awake.board.key.public if awake.board.key else ""))
    assert awake.awake_s == BUSY_S
    awake.answer_config()
    assert awake.awake_s == BUSY_S
    awake.answer_check()
    assert awake.awake_s == QUIET_S


@pytest.mark.parametrize(
    "happens",
    [
        lambda awake: awake.receive("rotation/offer", OFFER),
        lambda awake: (awake.receive("rotation/offer", OFFER), awake.receive("rotation/secret", SECRET)),
        lambda awake: awake.receive("firmware/offer", IMAGE),
        lambda awake: awake.receive(
            "config", messages.Config(version=2, document={}, trial_seconds=60, secret_generation=1)
        ),
        lambda awake: awake.board.configuration.on_connected(),
    ],
    ids=["an offer is wanted", "the second slot is filled", "an image is fetched", "a trial", "a request"],
)
def test_it_stays_awake_while_something_is_in_progress(tmp_path: Path, happens: Callable[[Awake], object]) -> None:
    awake = Awake(tmp_path, Options(wake_interval_s=3600, keyless=True))
    awake.answer_config()
    awake.answer_check()
    assert awake.awake_s == QUIET_S
    happens(awake)
    assert awake.awake_s == BUSY_S


def test_it_stays_awake_after_a_rotation_only_until_it_is_done(tmp_path: Path) -> None:
    awake = Awake(tmp_path, Options(wake_interval_s=3600, keyless=True))
    awake.answer_config()
    awake.answer_check()
    awake.receive("rotation/offer", OFFER)
    awake.receive("rotation/secret", SECRET)
    awake.receive("rotation/done", messages.RotationDone(rotation_id=ROTATION_ID, generation=2))
    assert awake.awake_s == QUIET_S


@pytest.mark.parametrize("interval", ["0", "-5", "2592001"])
def test_a_wake_interval_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], interval: str) -> None:
    try:
        assert command_line.main(["--package", "none.json", "--wake-interval-s", interval]) == 2
    finally:
        structlog.reset_defaults()
    assert "--wake-interval-s: must be 1 to 2592000" in capsys.readouterr().err
