"""A device may be named in several ways; what is ambiguous lists the candidates."""

from __future__ import annotations

import json

import pytest

from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

HALL = admin.DeviceMatch(client_id="iotdevice-lamp-abcd1234", name="hall")
OTHER = admin.DeviceMatch(client_id="iotdevice-lamp-abce1234", name="")


@pytest.fixture(autouse=True)
def _answers(fake: fakes.FakeAdmin) -> None:
    fake.answers |= {
        "registry.device.find": admin.DevicesFound(devices=[HALL]),
        "registry.device.show": lambda request: fakes.details(client_id=request.device),
        "registry.device.remove": lambda request: admin.Removed(removed=request.device),
        "registry.config.history": admin.ConfigVersions(client_id=HALL.client_id, desired=1, versions=[]),
        "registry.command.list": admin.Commands(commands=[]),
    }


@pytest.mark.parametrize("name", ["hall", "abc", "A0:B7:65:01:02:03", "Küche links", "../x"])
@pytest.mark.parametrize("words", [("device", "show"), ("config", "history"), ("command", "list")])
def test_any_name_becomes_the_client_id(
    fake: fakes.FakeAdmin, mdm: Run, name: str, words: tuple[str, ...]
) -> None:
    assert mdm(*words, name).exit_code == 0
    (find, request, *_) = (request for _, request in fake.requests)
    assert isinstance(find, admin.DeviceFind)
    assert (find.text, request.device) == (name, HALL.client_id)  # type: ignore[attr-defined]


def test_a_client_id_is_not_looked_up(fake: fakes.FakeAdmin, mdm: Run) -> None:
    assert mdm("device", "show", HALL.client_id).exit_code == 0
    assert fake.sent("registry.device.find") == []


def test_candidates_of_an_ambiguous_name_are_listed(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.find"] = admin.DevicesFound(devices=[HALL, OTHER], is_cut=True)
    result = mdm("device", "remove", "abc", "--yes")
    several = f"{HALL.client_id} (hall), {OTHER.client_id}, ..."
    assert (result.exit_code, result.stderr) == (2, f"error: abc may be any of {several}\n")
    assert fake.sent("registry.device.remove") == []


def test_an_unknown_name_is_an_error_that_names_the_list(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.find"] = admin.DevicesFound(devices=[])
    result = mdm("device", "show", "attic")
    assert (result.exit_code, result.stderr) == (1, "error: there is no device attic; see `mdm device list`\n")
    said = json.loads(mdm("--json", "device", "show", "attic").stderr)["error"]
    assert said == {"code": "not_found", "message": "there is no device attic", "hint": "see `mdm device list`"}


def test_a_removal_asks_with_the_client_id(mdm: Run) -> None:
    assert f"remove {HALL.client_id} permanently? [y/N]" in mdm("device", "remove", "hall", typed="n\n").stderr
