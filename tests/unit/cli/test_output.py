import json
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import output, tables
from shared.errors import ConflictError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (0, "0"),
        (True, "yes"),
        (False, "no"),
        (["a", "b"], "a, b"),
        ({"ü": [1, None]}, '{"ü": [1, null]}'),
        (datetime(2025, 2, 1, 13, 0, tzinfo=timezone(timedelta(hours=1))), "2025-02-01 12:00:00Z"),
        ("two\nlines\x1b[31m", "two lines\ufffd[31m"),
    ],
)
def test_a_value_is_shown_as_people_read_it(value: object, shown: str) -> None:
    assert output.cell(value) == shown


@given(st.text())
def test_nothing_drives_the_terminal(text: str) -> None:
    assert output.clean(text).isprintable()


@pytest.mark.parametrize(
    ("size_bytes", "shown"), [(512, "0.5 KiB"), (300_000, "293.0 KiB"), (1536 * 1024, "1.50 MiB")]
)
def test_sizes(size_bytes: int, shown: str) -> None:
    assert output.size(size_bytes) == shown


def test_a_table_in_a_pipe_is_aligned_text_of_any_width(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [SimpleNamespace(name="a", text="[red]x" * 50), SimpleNamespace(name="longer", text=1)]
    tables.print_table(rows, ("name", "text"))
    assert capsys.readouterr().out.splitlines() == [
        "NAME    TEXT",
        "a       " + "[red]x" * 50,
        "longer  1",
    ]


def test_a_table_on_a_terminal_does_not_break_what_names_the_thing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    row = SimpleNamespace(client_id="iotdevice-lamp-abcd1234", text="word " * 20)
    tables.print_table([row], ("device=client_id", "text"))
    assert "iotdevice-lamp-abcd1234" in capsys.readouterr().out


def test_a_column_is_an_attribute_a_path_of_attributes_or_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    thing = SimpleNamespace(last_seen=1, counts=SimpleNamespace(failed=2), layer=None)
    columns: list[tables.Column[SimpleNamespace]] = ["last_seen", "failed=counts.failed", "tag=layer.tag"]
    columns.append(("sum", lambda it: it.last_seen + it.counts.failed))
    tables.print_table([thing], columns)
    tables.print_facts(thing, columns)
    assert capsys.readouterr().out.splitlines() == [
        "LAST SEEN  FAILED  TAG  SUM",
        "1          2       -    3",
        *("last seen  1", "failed     2", "tag        -", "sum        3"),
    ]


def test_a_table_without_rows_is_a_note_if_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table([], ("name",), none="no devices yet")
    assert capsys.readouterr() == ("", "no devices yet\n")
    tables.print_table([], ("name",))
    assert capsys.readouterr() == ("NAME\n", "")


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_all({"a": 1, "long name": None})
    assert capsys.readouterr().out == "a          1\nlong name  -\n"


def test_json_keeps_its_letters(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": "ü"}, indent=None)
    assert capsys.readouterr().out == '{"a": "ü"}\n'


def test_a_private_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    output.write_private(path, "ü\n", replace=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text("utf-8") == "ü\n"


def test_a_file_is_replaced_only_with_replace(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    path.write_text("old")
    path.chmod(0o644)
    with pytest.raises(ConflictError, match=f"output: {path} exists; --force replaces it"):
        output.write_private(path, "new", replace=False)
    assert path.read_text() == "old"
    output.write_private(path, "new", replace=True)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["package.json"]


def test_a_file_that_cannot_be_written_is_named_and_leaves_no_draft(tmp_path: Path) -> None:
    with pytest.raises(output.CannotWriteError, match="cannot be written: No such file"):
        output.write_private(tmp_path / "none" / "x", "text", replace=False)
    taken = tmp_path / "taken"
    (taken / "in").mkdir(parents=True)
    with pytest.raises(output.CannotWriteError, match="cannot be written"):
        output.write_private(taken, "text", replace=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_the_present_is_utc() -> None:
    assert output.cell(datetime(2025, 7, 1, tzinfo=UTC)) == "2025-07-01 00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3600 * 23.9, "23 h ago"),
        (86400 * 59, "59 d ago"),
        (86400 * 60, "2025-04-02"),
        (-90, "in 1 min"),
        (-86400 * 3, "in 3 d"),
    ],
)
def test_times_are_shown_as_people_say_them(seconds: float, shown: str) -> None:
    now = datetime(2025, 6, 1, 12, tzinfo=UTC)
    assert output.cell(now - timedelta(seconds=seconds), now=now) == shown


def test_a_document_that_does_not_fit_into_a_line_has_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}}
    tables.print_facts(SimpleNamespace(short={"a": 1}, schema=schema), ("short", "schema"))
    shown = capsys.readouterr().out
    assert shown.startswith('short   {"a": 1}\nschema  {\n          "type": "object",\n')
    assert json.loads(shown.partition("schema")[2]) == schema
