import base64
import hashlib
import json
from pathlib import Path

import pytest

from cli import logs, output
from shared.protocol import admin
from shared.protocol.messages import LogLevel
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

MEMORY = bytes(range(256)) * 2


def dump(**facts: object) -> admin.CoreDumpView:
    usual: dict[str, object] = {
        "id": 7,
        "client_id": "iotdevice-lamp-abcd1234",
        "sha256": hashlib.sha256(MEMORY).hexdigest(),
        "size_bytes": len(MEMORY),
        "elf_sha256": fakes.SHA256,
        "reason": "panic",
        "firmware_version": "1.2.3",
        "image_model": "lamp",
        "image_version": "1.2.3",
        "image_sha256": fakes.SHA256,
        "stored_at": fakes.NOW,
    }
    return admin.CoreDumpView.model_validate({**usual, **facts})


def line(**facts: object) -> admin.LogLineView:
    usual: dict[str, object] = {
        "client_id": "iotdevice-lamp-abcd1234",
        "received_at": fakes.NOW,
        "level": "warning",
        "tag": "wifi",
        "message": "lost",
        "time": None,
        "uptime_ms": 5,
        "boot": 1,
        "number": 2,
    }
    return admin.LogLineView.model_validate({**usual, **facts})


def reading(request: admin.CoreDumpRead) -> admin.CoreDumpBytes:
    return admin.CoreDumpBytes(data=base64.b64encode(MEMORY[request.offset : request.offset + 100]))


def test_a_dump_is_fetched_piece_by_piece(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers = {"firmware.coredump.show": dump(), "firmware.coredump.read": reading}
    target = tmp_path / "core.bin"
    assert mdm("coredump", "get", "7", "-o", str(target)).exit_code == 0
    assert target.read_bytes() == MEMORY
    offsets = [it.offset for _, it in fake.requests if isinstance(it, admin.CoreDumpRead)]
    assert offsets == [0, 100, 200, 300, 400, 500]


def test_a_dump_with_another_hash_is_not_written(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers = {"firmware.coredump.show": dump(sha256="0" * 64), "firmware.coredump.read": reading}
    ran = mdm("coredump", "get", "7", "-o", str(tmp_path / "core.bin"))
    assert (ran.exit_code, list(tmp_path.glob("*.bin"))) == (1, [])
    assert "sha256: expected 0000" in ran.stderr


def test_a_file_is_replaced_only_on_demand(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers = {"firmware.coredump.show": dump(), "firmware.coredump.read": reading}
    target = tmp_path / "core.bin"
    target.write_bytes(b"mine")
    assert mdm("coredump", "get", "7", "-o", str(target)).exit_code == 1
    assert (fake.requests, target.read_bytes()) == ([], b"mine")
    assert mdm("coredump", "get", "7", "-o", str(target), "--force").exit_code == 0
    assert target.read_bytes() == MEMORY


def test_a_list_shows_which_image_crashed(fake: fakes.FakeAdmin, mdm: Run) -> None:
    unknown = dump(id=6, image_model=None, image_version=None, image_sha256=None, reason="a\x1b[31m")
    fake.answers["firmware.coredump.list"] = admin.CoreDumps(dumps=[dump(), unknown])
    known, other = mdm("coredump", "list").stdout.splitlines()[1:]
    assert known.split()[-4:] == ["lamp", "1.2.3", "panic", fakes.SHA256[:12]]
    assert "unknown image" in other
    assert "\x1b" not in other


def test_since_is_a_duration(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["firmware.log.list"] = admin.LogLines(lines=[line()], next=1)
    shown = mdm("log", "show", "abcd1234", "--since", "1h", "--level", "warning")
    assert shown.stdout == "2025-02-01 12:34:56Z iotdevice-lamp-abcd1234 WARNING wifi: lost\n"
    [(_, request)] = fake.requests
    assert isinstance(request, admin.LogList)
    assert (request.since_s, request.level) == (3600, LogLevel.WARNING)
    assert mdm("log", "show", "abcd1234", "--since", "soon").exit_code == 2


def test_tail_goes_on_from_where_it_was(fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_S", 0)
    answers = iter(
        [
            admin.LogLines(lines=[line(message="one")], next=5),
            admin.LogLines(lines=[], next=8),
            admin.LogLines(lines=[line(message="two"), line(message="too many")], next=9),
        ]
    )
    fake.answers["firmware.log.list"] = lambda _: next(answers)
    ran = mdm("log", "tail", "--count", "2", "--json")
    assert [json.loads(it)["message"] for it in ran.stdout.splitlines()] == ["one", "two"]
    asked = [it for _, it in fake.requests if isinstance(it, admin.LogList)]
    assert [(it.after, it.all) for it in asked] == [(None, True), (5, True), (8, True)]


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\u202e", "\x7f", "\U000e0001", "a\r\nb"])
def test_json_holds_nothing_that_drives_a_terminal(text: str) -> None:
    said = output.as_json({"it": text, "fine": "Küche \U0001f600"}, indent=2)
    assert all(it.isprintable() or it == "\n" for it in said)
    assert "Küche \U0001f600" in said
    assert json.loads(said)["it"] == text
