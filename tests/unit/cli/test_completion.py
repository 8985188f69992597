"""Completion of names that the services know."""

from __future__ import annotations

import subprocess

import pytest
from typer.testing import CliRunner

from cli import main
from cli.client import AnswerError, CannotConnectError
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.terminal import ENVIRONMENT, ROOT, mdm


def completed(words: str) -> list[str]:
    before = words.split(" ")
    environment = {"_MDM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(before) - 1)}
    result = CliRunner().invoke(main.app, [], prog_name="mdm", env=environment)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.fixture(autouse=True)
def _answers(fake: fakes.FakeAdmin) -> None:
    devices = [fakes.device(), fakes.device(client_id="iotdevice-lamp-zzzz0000", name="hall", tags=["up"])]
    fake.answers |= {
        "registry.device.list": admin.Devices(devices=devices),
        "registry.model.list": admin.Models(models=[fakes.model()]),
        "firmware.image.list": lambda request: admin.Images(
            images=[fakes.image(), fakes.image(version="2.0.0")] if request.model == "lamp" else []
        ),
    }


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("mdm device show ", ["hall", "iotdevice-lamp-abcd1234", "iotdevice-lamp-zzzz0000"]),
        ("mdm device show iotdevice-lamp-a", ["iotdevice-lamp-abcd1234"]),
        ("mdm device list --tag ", ["attic", "left", "up"]),
        ("mdm device add --tag u", ["up"]),
        ("mdm model show ", ["lamp"]),
        ("mdm firmware upload app.bin --model ", ["lamp"]),
        ("mdm firmware release lamp ", ["1.2.3", "2.0.0"]),
        ("mdm rollout start lamp 2", ["2.0.0"]),
        ("mdm config rollback hall ", []),
        ("mdm fleet ", ["show", "watch"]),
    ],
)
def test_names_are_completed(words: str, names: list[str]) -> None:
    assert completed(words) == names


@pytest.mark.parametrize("error", [CannotConnectError("none"), AnswerError("unavailable", "later", {})])
def test_completion_without_an_answer_is_empty_and_silent(fake: fakes.FakeAdmin, error: Exception) -> None:
    fake.answers["registry.device.list"] = error
    assert completed("mdm device show ") == []


def test_completion_does_not_wait_for_a_broker_that_is_not_there() -> None:
    given = {"_MDM_COMPLETE": "complete_bash", "COMP_WORDS": "mdm device show ", "COMP_CWORD": "3"}
    # No answer comes from this address (RFC 5737).
    for host in ("192.0.2.1", "none.invalid", ""):
        ended = subprocess.run(
            mdm(),
            env={**ENVIRONMENT, **given, "MDM_HOST": host},
            cwd=ROOT,
            capture_output=True,
            timeout=15,
            check=False,
        )
        assert (ended.stdout.strip(), ended.stderr) == (b"", b"")
