from __future__ import annotations

import json
from uuid import UUID

import pytest

from cli import device_text, vitals
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

ID = "iotdevice-lamp-abcd1234"
VITALS = admin.DeviceVitals(
    client_id=ID,
    vitals=[
        admin.VitalView(name="heap_free_bytes", last=90112.0, at=fakes.NOW, low=80000, mean=85000.5, high=91000)
    ],
    points=[admin.VitalPoint(at=fakes.NOW, version="1.0.0", low=-75, mean=-61.25, high=-60)],
)
COMPARED = admin.VitalsCompared(
    model="lamp",
    vitals=[
        admin.VitalOfVersion(name="heap_free_bytes", version="1.1.0", devices=3, mean=1, p5=2, median=3.5, p95=4)
    ],
)


def test_the_vitals_of_a_device_are_a_line_each(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers = {"firmware.vitals.show": VITALS}
    shown = mdm("device", "vitals", ID, "--since", "30d")
    assert shown.stdout.splitlines() == [
        "VITAL            LAST   AT                    LOW    MEAN   HIGH",
        "heap_free_bytes  90112  2025-02-01 12:34:56Z  80000  85000  91000",
    ]
    (asked,) = fake.sent("firmware.vitals")
    assert asked == admin.VitalsShow(device=ID, since_s=30 * 86400, request_id=asked.request_id)


def test_one_vital_is_shown_by_the_hour(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers = {"firmware.vitals.show": VITALS}
    (_, line) = mdm("device", "vitals", ID, "rssi_dbm").stdout.splitlines()
    assert line.split() == ["2025-02-01", "12:34:56Z", "-75", "-61.25", "-60", "1.0.0"]
    refused = mdm("device", "vitals", ID, "Free-Heap")
    assert (refused.exit_code, "NAME: must be 1 to 40 of a-z" in refused.stderr) == (2, True)


def test_firmware_is_compared_by_its_vitals(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers = {"firmware.vitals.compare": COMPARED}
    (_, line) = mdm("firmware", "vitals", "lamp", "heap_free_bytes").stdout.splitlines()
    assert line.split() == ["heap_free_bytes", "1.1.0", "3", "2", "3.50", "4", "1"]
    # Numbers are written as JavaScript would write them: the page reads the same answer.
    (vital,) = json.loads(mdm("--json", "firmware", "vitals", "lamp").stdout)["vitals"]
    assert [repr(vital[name]) for name in ("mean", "median")] == ["1", "3.5"]


@pytest.mark.parametrize(
    ("value", "text"), [(90112.0, "90112"), (12345.678, "12346"), (21.456, "21.46"), (-61, "-61"), (0.0, "0")]
)
def test_a_number_has_the_decimals_that_matter(value: float, text: str) -> None:
    assert vitals.number(value) == text


def test_what_has_happened_to_a_device_is_a_line_each(fake: fakes.FakeAdmin, mdm: Run) -> None:
    data = {"version": 3, "outcome": "rejected", "error": None, "rotation_id": "7", "sha256": "ab"}
    event = admin.EventView(
        event_id=UUID(int=1), at=fakes.NOW, noun="config", verb="reported", client_id=ID, data=data
    )
    fake.answers = {"registry.event.list": admin.Events(events=[event])}
    (_, line) = mdm("device", "events", ID).stdout.splitlines()
    assert line == "2025-02-01 12:34:56Z  config reported  version=3, outcome=rejected"


def test_a_device_shows_its_signal_its_address_and_since_when_it_runs(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers = {
        "firmware.device.show": admin.DevicesFirmware(devices=[]),
        "registry.device.show": fakes.details(
            rssi_dbm=-72, ip="192.168.1.7", reset_reason="panic", up_since=fakes.NOW, secret_generation_reported=4
        ),
    }
    lines = {
        line.partition("  ")[0]: line.partition("  ")[2].strip()
        for line in mdm("device", "show", ID).stdout.splitlines()
    }
    assert lines["signal"] == "weak, -72 dBm"
    assert (lines["address"], lines["last start"]) == ("192.168.1.7", "panic")
    assert lines["running since"] == "2025-02-01 12:34:56Z"
    assert lines["secret"].endswith("; it uses generation 4")


def test_a_signal_in_words() -> None:
    assert [device_text.signal(it) for it in (-60, -61, -71, -81)] == ["strong", "good", "weak", "very weak"]
