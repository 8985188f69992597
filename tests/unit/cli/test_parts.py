"""Commands that ask two services show what one of them knows while the other does not answer."""

from __future__ import annotations

import pytest

from cli.client import AnswerError, NoAnswerError, NotAllowedError
from shared.protocol.admin import Devices, Diagnosis, Finding
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

REFUSALS = [
    NoAnswerError("no answer within 30 s"),
    AnswerError("unavailable", "the database does not answer; retry", {}),
    NotAllowedError("your account alice may not do this"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.code)
def test_doctor_shows_what_the_registry_has_found_and_fails(
    fake: fakes.FakeAdmin, mdm: Run, error: Exception
) -> None:
    finding = Finding(subject="iotdevice-lamp-abcd1234", problem="is split", remedy="rotate it")
    fake.answers["registry.doctor.run"] = Diagnosis(devices=1, findings=[finding])
    fake.answers["firmware.doctor.run"] = error
    shown = mdm("doctor")
    assert "is split" in shown.stdout
    assert (shown.exit_code, str(error) in shown.stderr) == (1, True)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.code)
def test_list_shows_the_devices_and_says_what_is_missing(
    fake: fakes.FakeAdmin, mdm: Run, error: Exception
) -> None:
    fake.answers["registry.device.list"] = Devices(devices=[fakes.device()], next=None)
    fake.answers["firmware.device.show"] = error
    shown = mdm("device", "list")
    assert (shown.exit_code, "iotdevice-lamp-abcd1234" in shown.stdout) == (0, True)
    assert shown.stderr == f"what is wanted for devices is not shown: {error}\n"
