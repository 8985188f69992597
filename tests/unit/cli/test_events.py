import json

from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run


def test_events_are_printed_a_line_each(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.prepared = [
        ("device", "added", fakes.event(1)),
        ("rotation", "done", fakes.event(2, text="a\nb\x1b")),
        ("device", "removed", fakes.event(3)),
    ]
    assert mdm("events").stdout.splitlines() == [
        "2025-02-01 12:34:56Z device.added iotdevice-lamp-abcd1234",
        '2025-02-01 12:34:56Z rotation.done iotdevice-lamp-abcd1234 {"text": "a\\nb\\u001b"}',
        "2025-02-01 12:34:56Z device.removed iotdevice-lamp-abcd1234",
    ]
    assert len(mdm("events", "--count", "2").stdout.splitlines()) == 2
    lines = mdm("events", "--noun", "rotation", "--json").stdout.splitlines()
    assert [json.loads(line)["verb"] for line in lines] == ["done"]
