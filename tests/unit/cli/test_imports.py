"""The devices in a file, line by line, as spreadsheets write it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

from cli import imports
from cli.client import AnswerError, NoAnswerError
from shared.errors import InvalidInputError
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import FakeAdmin

CASES: Final = Path(__file__).parents[2] / "spreadsheets.json"
GERMAN = "name;tags\nKüche;attic north\nGröße 5 €;\n"
READ = [
    (2, {"model": "lamp", "name": "Küche", "tags": ["attic", "north"]}),
    (3, {"model": "lamp", "name": "Größe 5 €"}),
]


def lines(tmp_path: Path, name: str, text: str | bytes, *, model: str | None = "lamp") -> list[imports.Line]:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(imports.read(file, model=model))


def valid(found: list[imports.Line]) -> list[tuple[int, dict[str, object]]]:
    assert [line.fault for line in found] == [None] * len(found)
    return [(line.number, line.fields) for line in found]


def test_a_csv_line_gives_model_name_and_tags(tmp_path: Path) -> None:
    found = lines(tmp_path, "d.csv", "model,name,tags\nlamp,hall,attic north\n,stairs,\n", model="other")
    assert valid(found) == [
        (2, {"model": "lamp", "name": "hall", "tags": ["attic", "north"]}),
        (3, {"model": "other", "name": "stairs"}),
    ]


def test_a_json_line_gives_the_same(tmp_path: Path) -> None:
    found = lines(tmp_path, "d.jsonl", '{"name": "hall", "tags": ["attic"]}\n\n{"name": "a", "model": "x"}\n')
    assert valid(found) == [
        (1, {"model": "lamp", "name": "hall", "tags": ["attic"]}),
        (3, {"model": "x", "name": "a"}),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_each_encoding_and_separator_of_a_spreadsheet_is_read(
    tmp_path: Path, encoding: str, newline: str, separator: str
) -> None:
    text = GERMAN.replace("\n", newline).replace(";", separator)
    assert valid(lines(tmp_path, "d.csv", text.encode(encoding))) == READ


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_both_byte_orders_of_utf_16_are_read(tmp_path: Path, order: str) -> None:
    assert valid(lines(tmp_path, "d.csv", f"\ufeff{GERMAN}".encode(order))) == READ


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nname;tags\nhall, left;a b\n",
        "SEP=;\r\nname;tags\r\nhall, left;a b\r\n",
        "\n\n Name ;TAGS\n\n;\nhall, left; a  b \n;;\n",
        'name;tags\n"hall, left";"a,b"\n',
        'name,tags\n"hall, left","a;b"\n',
        "Name;Comment;Tags\nhall, left;bought 1,5 kg;a, b\n",
        'Name;Comment;Tags\nhall, left;"one\ntwo; three";a b\n',
        "name;tags;\nhall, left;a b;\n",
        "tags;name\na b;hall, left;;;\n",
    ],
)
def test_a_table_is_read_in_each_form(tmp_path: Path, text: str) -> None:
    found = valid(lines(tmp_path, "d.csv", text))
    assert [fields for _, fields in found] == [{"model": "lamp", "name": "hall, left", "tags": ["a", "b"]}]


@pytest.mark.parametrize("case", json.loads(CASES.read_text()), ids=lambda case: case["about"])
def test_the_cases_that_the_page_reads_too(tmp_path: Path, case: dict[str, Any]) -> None:
    content = case["text"].encode(case.get("encoding", "utf8"))
    if "error" in case:
        with pytest.raises(InvalidInputError, match=case["error"]):
            lines(tmp_path, "d.csv", content, model="fan")
        return
    assert [
        [it.number, it.fields["model"], it.fields["name"], it.fields.get("tags", [])]
        if it.fault is None
        else [it.number, it.fault]
        for it in lines(tmp_path, "d.csv", content, model="fan")
    ] == case["rows"]


def test_umlauts_of_a_mac_are_those_of_other_systems(tmp_path: Path) -> None:
    assert valid(lines(tmp_path, "d.csv", "name\nKu\u0308che\n")) == [(2, {"model": "lamp", "name": "K\u00fcche"})]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("d.csv", "name\na,b\n", "has 2 fields, but the first line 1"),
        ("d.csv", "name;tags\n;x\n", "name: must not be empty"),
        ("d.csv", "name;tags\nhall;no/tag\n", "tags.0: "),
        ("d.csv", "name;model\nhall;no model\n", "model: "),
        ("d.csv", 'name;tags\n"hall;x\n', "has a quotation mark too many or too few"),
        ("d.csv", 'name;tags\n"hall"s;x\n', "has a quotation mark too many or too few"),
        ("d.csv", "name\na\x07\n", "name: "),
        ("d.jsonl", "{", "is not JSON"),
        ("d.jsonl", "[1]", "must be a JSON object"),
        ("d.jsonl", '{"name": ["a"]}', "name: "),
        ("d.jsonl", '{"key": 1}', "name: must not be empty"),
    ],
)
def test_an_invalid_line_has_a_reason(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (found,) = lines(tmp_path, name, text)
    assert found.fault is not None
    assert fault in found.fault


@pytest.mark.parametrize(
    "bad", [b'"hall;x', b'"ha"ll;x', b'hall"', b";x", b"a;b;c", b"hall;no/tag", "Küche;".encode("cp1252")]
)
@pytest.mark.parametrize("end", [b"", b'"quoted";x\n', b'two";x\n"lines";x\n'])
def test_a_bad_line_never_costs_the_lines_around_it(tmp_path: Path, bad: bytes, end: bytes) -> None:
    text = "name;tags\nFlur süd;x\n".encode() + bad + b"\nstairs;x\nattic;x\n" + end
    found = lines(tmp_path, "d.csv", text)
    assert found[1].number == 3
    assert found[1].fault is not None
    assert [line.fields["name"] for line in found if line.fault is None][:3] == ["Flur süd", "stairs", "attic"]


def test_a_second_line_of_one_name_is_refused_with_the_first(tmp_path: Path) -> None:
    found = lines(tmp_path, "d.csv", "model,name\nlamp,hall\nfan,hall\n,hall\n")
    assert [line.fault for line in found] == [None, None, "name: is that of line 2 too"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its first line must name the columns: model, name, tags"),
        (b"hall;attic\n", "its first line must name the columns"),
        (b"name;Name\nhall;attic\n", "has the column name twice"),
        (b"PK\x03\x04\x14\x00\x06\x00", "is a workbook; save it as CSV"),
        ("name;tags\n".encode("utf-16-le"), "must be text in UTF-8, UTF-16 with a byte order mark"),
        (b"\xff\xfen", "begins as UTF-16, but is not"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        lines(tmp_path, "d.csv", content)


def add(request: admin.DeviceAdd) -> admin.DeviceView:
    """Answer like a registry that has the device `hall`, and refuses the device `bad`."""
    assert request.unique_name
    if request.name == "hall":
        details: dict[str, object] = {"client_id": "iotdevice-lamp-hall0000"}
        raise AnswerError("conflict", "name: is taken", details)
    if request.name == "bad":
        raise AnswerError("invalid", "configuration: is refused", {})
    if request.name == "lost":
        raise NoAnswerError("no answer")
    return fakes.device(name=request.name, client_id=f"iotdevice-lamp-{request.name:0<8}")


def test_the_summary_names_what_was_added_what_was_there_and_what_failed(
    mdm: Run, fake: FakeAdmin, tmp_path: Path
) -> None:
    fake.answers["registry.device.add"] = add
    file = tmp_path / "d.csv"
    file.write_text("name;Room\nhall;1\nattic;2\n;3\nbad;4\n")

    told = mdm("device", "import", str(file), "--model", "lamp", "--yes")

    assert told.exit_code == 1
    assert [line.split() for line in told.stdout.splitlines()] == [
        ["DEVICE", "NAME", "LINE", "RESULT"],
        ["iotdevice-lamp-attic000", "attic", "3", "added"],
        ["iotdevice-lamp-hall0000", "hall", "2", "present"],
        ["added", "1"],
        ["already", "present", "1"],
        ["refused", "2"],
        ["not", "done", "0"],
    ]
    assert told.stderr.splitlines() == [
        "ignored columns: room",
        "line 4: name: must not be empty; it identifies the device if the file is imported again",
        "line 5: configuration: is refused",
    ]


def test_the_summary_as_json_has_client_ids_and_lines(mdm: Run, fake: FakeAdmin, tmp_path: Path) -> None:
    fake.answers["registry.device.add"] = add
    file = tmp_path / "d.csv"
    file.write_text("name\nhall\nattic\nbad\n")

    assert json.loads(mdm("--json", "device", "import", str(file), "--model", "lamp", "--yes").stdout) == {
        "added": ["iotdevice-lamp-attic000"],
        "present": ["iotdevice-lamp-hall0000"],
        "refused": [{"line": 4, "reason": "configuration: is refused"}],
        "open": 0,
    }


def test_a_lost_connection_ends_the_import_with_a_summary_of_what_is_done(
    mdm: Run, fake: FakeAdmin, tmp_path: Path
) -> None:
    fake.answers["registry.device.add"] = add
    file = tmp_path / "d.csv"
    file.write_text("name\nattic\nlost\n" + "".join(f"lamp{number}\n" for number in range(50)))

    told = mdm("--json", "device", "import", str(file), "--model", "lamp", "--yes")

    assert told.exit_code == 1
    summary = json.loads(told.stdout)
    assert summary["added"][0] == "iotdevice-lamp-attic000"
    assert summary["open"] == 52 - len(summary["added"]) > 0
    note, error = told.stderr.splitlines()
    assert (note, json.loads(error)["error"]["code"]) == ("the same command completes the import", "no_answer")


def test_a_dry_run_checks_each_line_and_adds_none(mdm: Run, fake: FakeAdmin, tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text('name\nhall\n""\nattic\nhall\n')

    told = mdm("device", "import", str(file), "--model", "lamp", "--dry-run", "--output", str(tmp_path / "o.csv"))

    assert (told.exit_code, fake.requests) == (1, [])
    assert told.stdout.splitlines()[0].split() == ["valid,", "not", "added", "2"]
    assert told.stderr == "line 5: name: is that of line 2 too\n"
    assert not (tmp_path / "o.csv").exists()


def test_an_import_of_several_devices_is_asked_for(mdm: Run, fake: FakeAdmin, tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text("name\nhall\nattic\n")

    refused = mdm("device", "import", str(file), "--model", "lamp", typed="n\n")

    assert (refused.exit_code, fake.requests) == (2, [])
    assert "add 2 devices, unless they exist? [y/N]" in refused.stderr


def test_ids_are_written_next_to_the_lines(mdm: Run, fake: FakeAdmin, tmp_path: Path) -> None:
    fake.answers["registry.device.add"] = add
    file, target = tmp_path / "d.csv", tmp_path / "ids.csv"
    file.write_text("name;tags\nhall;\nattic;up left\n;\nbad;\n;x\n")
    words = ("device", "import", str(file), "--model", "lamp", "--output", str(target), "--yes")

    assert mdm(*words).exit_code == 1

    assert target.read_text().splitlines() == [
        "line,client_id,result,model,name,tags,reason",
        "2,iotdevice-lamp-hall0000,present,lamp,hall,,",
        "3,iotdevice-lamp-attic000,added,lamp,attic,up left,",
        "5,,refused,lamp,bad,,configuration: is refused",
        "6,,refused,lamp,,x,name: must not be empty; it identifies the device if the file is imported again",
    ]
    assert target.stat().st_mode & 0o777 == 0o600
    assert mdm(*words).stderr == f"error: --output: {target} exists; name another file\n"


@pytest.mark.parametrize("name", ["packages", "packages.zip"])
def test_packages_of_all_are_for_their_owner_only(mdm: Run, fake: FakeAdmin, tmp_path: Path, name: str) -> None:
    fake.answers["registry.device.add"] = add
    fake.answers["registry.device.provision"] = lambda request: fakes.package().model_copy(
        update={"client_id": request.device}
    )
    file, target = tmp_path / "d.csv", tmp_path / name
    file.write_text("name\nhall\nattic\nbad\n")

    told = mdm("device", "import", str(file), "--model", "lamp", "--packages", str(target), "--yes")

    assert told.exit_code == 1
    assert fakes.package().secret not in told.output
    names = ["iotdevice-lamp-attic000.json", "iotdevice-lamp-hall0000.json"]
    if name.endswith(".zip"):
        assert target.stat().st_mode & 0o777 == 0o600
        with zipfile.ZipFile(target) as archive:
            entries = {it.filename: archive.read(it).decode() for it in archive.infolist()}
    else:
        assert {it.stat().st_mode & 0o777 for it in target.iterdir()} == {0o600}
        entries = {it.name: it.read_text() for it in target.iterdir()}
    assert sorted(entries) == names
    assert [admin.Package.model_validate_json(entries[it]).client_id for it in names] == [it[:-5] for it in names]
