import base64
import hashlib
import json
import stat
from pathlib import Path
from uuid import UUID

import pytest

from cli.client import AnswerError
from cli.firmware import WINDOW
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run
from tests.unit.firmware import images

UPLOAD_ID = UUID(int=7)


def only_request(fake: fakes.FakeAdmin) -> dict[str, object]:
    """Return the one request that was made, without its id and without what is at its default."""
    ((_, request),) = fake.requests
    return request.model_dump(mode="json", exclude={"request_id"}, exclude_unset=True)


def test_model_add_sends_what_is_given(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers["registry.model.add"] = fakes.model()
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (tmp_path / "defaults.json").write_text('{"on": true}')
    result = mdm(
        *("model", "add", "lamp", "--chip", "esp32c3", "--name", "Lamp", "--slot-size", "1966080"),
        *("--schema", str(tmp_path / "schema.json"), "--defaults", str(tmp_path / "defaults.json")),
    )
    assert result.exit_code == 0
    assert only_request(fake) == {
        "code": "lamp",
        "chip": "esp32c3",
        "name": "Lamp",
        "slot_size_bytes": 1966080,
        "config_schema": {"type": "object"},
        "config_defaults": {"on": True},
    }
    assert 'defaults          {"on": true}' in result.stdout


def test_model_list_is_a_table(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.model.list"] = admin.Models(models=[fakes.model()])
    assert mdm("model", "list").stdout.splitlines() == [
        "CODE  NAME  CHIP     SLOT      DEVICES",
        "lamp  Lamp  esp32c3  1.50 MiB  2",
    ]


@pytest.mark.parametrize(
    ("words", "operation", "empty"),
    [
        (("model", "list"), "registry.model.list", admin.Models(models=[])),
        (("device", "list"), "registry.device.list", admin.Devices(devices=[])),
        (("firmware", "list"), "firmware.image.list", admin.Images(images=[])),
    ],
)
def test_an_empty_list_prints_how_to_fill_it(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], operation: str, empty: admin.Result
) -> None:
    fake.answers[operation] = empty
    result = mdm(*words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert " yet; `mdm " in result.stderr


def test_device_add_sends_its_tags(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.add"] = fakes.device()
    result = mdm("device", "add", "--model", "lamp", "--name", "Küche", "--tag", "a", "--tag", "b")
    assert only_request(fake) == {"model": "lamp", "name": "Küche", "tags": ["a", "b"]}
    assert "iotdevice-lamp-abcd1234" in result.stdout


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, "3 applied"),
        ({"config_version": 0, "config_version_reported": None, "config_outcome": None}, "  0  "),
        ({"config_version_reported": None, "config_outcome": None}, "3 (unreported)"),
        ({"config_version_reported": 2}, "3 (2 applied)"),
        ({"config_outcome": "rejected"}, "3 (3 rejected)"),
        ({"enabled": False}, "disabled"),
        ({"name": "[red]"}, "[red]"),
    ],
)
def test_device_list_shows_each_state(
    fake: fakes.FakeAdmin, mdm: Run, facts: dict[str, object], shown: str
) -> None:
    fake.answers["registry.device.list"] = admin.Devices(devices=[fakes.device(**facts)])
    assert shown in mdm("device", "list").stdout


@pytest.mark.parametrize("words", [("--json", "device", "show", "x"), ("device", "show", "x", "--json")])
def test_json_may_be_before_and_after_the_command(fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...]) -> None:
    fake.answers["registry.device.show"] = fakes.details()
    shown = mdm(*words).stdout
    assert json.loads(shown) == {**fakes.details().model_dump(mode="json"), "firmware": None}


def test_device_show_names_a_clash_and_flaws(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.show"] = fakes.details()
    assert "left out" not in mdm("device", "show", "x").stdout
    fake.answers["registry.device.show"] = fakes.details(clashed_at=fakes.NOW)
    assert "Two boards have this identity" in mdm("device", "show", "x").stdout
    flaw = admin.FlawView(topic="up/status", field="rssi_dbm", rule="at most 100", at=fakes.NOW)
    fake.answers["registry.device.show"] = fakes.details(flaws=[flaw])
    heading, row = mdm("device", "show", "x").stdout.splitlines()[-2:]
    assert heading.split() == ["FLAW", "IN", "FIELD", "RULE", "SINCE"]
    assert row.split()[:5] == ["up/status", "rssi_dbm", "at", "most", "100"]


@pytest.mark.parametrize(
    ("words", "operation", "answer"),
    [
        (("model", "list"), "registry.model.list", admin.Models(models=[fakes.model()])),
        (("model", "add", "a", "--chip", "esp32"), "registry.model.add", fakes.model()),
        (("device", "list"), "registry.device.list", admin.Devices(devices=[fakes.device()])),
        (("firmware", "list"), "firmware.image.list", admin.Images(images=[fakes.image()])),
        (
            ("device", "config", "set", "x", "a=1"),
            "registry.config.set",
            admin.ConfigSetResult(client_id="x", version=1, changed=True, document={}),
        ),
    ],
)
def test_json_is_the_result_itself(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], operation: str, answer: admin.Result
) -> None:
    fake.answers[operation] = answer
    assert json.loads(mdm("--json", *words).stdout) == answer.model_dump(mode="json")


def test_config_set_takes_assignments_or_a_file(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers["registry.config.set"] = admin.ConfigSetResult(
        client_id="x", version=4, changed=False, document={"led": {"on": True}}
    )
    shown = mdm("device", "config", "set", "x", "led.on=true", "name=null").stdout
    assert "4 (unchanged)" in shown
    (tmp_path / "o.json").write_text('{"led": {"on": false}}')
    mdm("device", "config", "set", "x", "--file", str(tmp_path / "o.json"))
    sent = [request.model_dump()["overrides"] for _, request in fake.requests]
    assert sent == [{"led": {"on": True}, "name": None}, {"led": {"on": False}}]


def test_provision_writes_a_private_file_once(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    path = tmp_path / "package.json"
    result = mdm("device", "provision", "x", "--output", str(path))
    assert admin.Package.model_validate_json(path.read_text()) == fakes.package()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s" * 43 not in result.output
    again = mdm("device", "provision", "x", "--output", str(path))
    assert (again.exit_code, len(fake.requests)) == (1, 1)
    assert again.stderr == f"error: --output: {path} exists; --force replaces it\n"
    assert json.loads(mdm("device", "provision", "x", "--output", str(path), "--force", "--json").stdout) == {
        "client_id": "iotdevice-lamp-abcd1234",
        "output": str(path),
    }


def test_provision_prints_the_package_to_the_given_output(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    shown = mdm("device", "provision", "x", "--output", "-").stdout
    assert admin.Package.model_validate_json(shown) == fakes.package()


@pytest.mark.parametrize("arrived", [0, 5, 13])
def test_upload_sends_what_is_missing_and_finishes(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, arrived: int
) -> None:
    data = images.build(segments=[images.descriptor() + bytes(range(256)) * 50])
    offsets = list(range(0, len(data), 1024))
    path = tmp_path / "app.bin"
    path.write_bytes(data)
    received = {offset: data[offset : offset + 1024] for offset in offsets[:arrived]}

    def take(chunk: admin.UploadChunk) -> admin.Received:
        received[chunk.offset] = chunk.data
        return admin.Received()

    fake.answers = {
        "firmware.upload.begin": admin.Upload(
            upload_id=UPLOAD_ID, chunk_size_bytes=1024, missing=offsets[arrived:]
        ),
        "firmware.upload.chunk": take,
        "firmware.upload.finish": fakes.image(),
    }
    result = mdm("firmware", "upload", str(path), "--model", "lamp", "--version", "1.2.3", "--no-release")
    assert result.exit_code == 0
    assert b"".join(received[offset] for offset in offsets) == data
    assert len(fake.requests) == len(offsets) - arrived + 2
    begin, finish = fake.requests[0][1], fake.requests[-1][1]
    assert begin.model_dump(exclude={"request_id"}) == {
        "model": "lamp",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "version": "1.2.3",
    }
    assert finish.model_dump(exclude={"request_id"}) == {
        "upload_id": UPLOAD_ID,
        "release": False,
        "signature": None,
    }
    assert "lamp   1.2.3    current" in result.stdout
    assert len({request.request_id for _, request in fake.requests}) == len(fake.requests)


def test_upload_can_leave_the_release_for_later(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    (tmp_path / "app.bin").write_bytes(images.build())
    fake.answers = {
        "firmware.upload.begin": admin.Upload(upload_id=UPLOAD_ID, chunk_size_bytes=1024, missing=[]),
        "firmware.upload.finish": fakes.image(current=False),
    }
    shown = mdm("firmware", "upload", str(tmp_path / "app.bin"), "--model", "lamp", "--no-release", "--json")
    assert json.loads(shown.stdout)["current"] is False
    assert fake.requests[-1][1].model_dump()["release"] is False


def test_a_refused_piece_ends_the_upload_with_its_reason(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    (tmp_path / "app.bin").write_bytes(images.build())
    fake.answers = {
        "firmware.upload.begin": admin.Upload(
            upload_id=UPLOAD_ID, chunk_size_bytes=1, missing=list(range(32 * WINDOW))
        ),
        "firmware.upload.chunk": AnswerError("not_found", "upload: has expired", {}),
    }
    result = mdm("firmware", "upload", str(tmp_path / "app.bin"), "--model", "lamp")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: upload: has expired")
    assert result.stderr.count("\n") == 1


def test_a_piece_on_the_wire_is_base64() -> None:
    chunk = admin.UploadChunk(request_id="r", upload_id=UPLOAD_ID, offset=0, data=base64.b64encode(b"\x00\xff"))
    assert json.loads(admin.UPLOAD_CHUNK.topic.encode(chunk))["data"].strip() == "AP8="
