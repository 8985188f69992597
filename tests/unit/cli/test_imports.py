"""The devices in a file, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import imports


def lines(tmp_path: Path, name: str, text: str, *, model: str | None = "lamp") -> list[imports.Line]:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return list(imports.read(file, model=model))


def test_a_csv_line_gives_model_name_and_tags(tmp_path: Path) -> None:
    found = lines(tmp_path, "d.csv", "model,name,tags\nlamp,hall,attic north\n,stairs,\n", model="other")
    assert [line.fields for line in found] == [
        {"model": "lamp", "name": "hall", "tags": ["attic", "north"]},
        {"model": "other", "name": "stairs"},
    ]
    assert [line.number for line in found] == [2, 3]


def test_a_json_line_gives_the_same(tmp_path: Path) -> None:
    found = lines(tmp_path, "d.jsonl", '{"name": "hall", "tags": ["attic"]}\n\n{"model": "x"}\n')
    assert [(line.number, line.fields) for line in found] == [
        (1, {"model": "lamp", "name": "hall", "tags": ["attic"]}),
        (3, {"model": "x"}),
    ]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("d.csv", "name\na,b\n", "must have the 1 columns"),
        ("d.csv", "name,tags\na\n", "must have the 2 columns"),
        ("d.csv", "nam\na\n", "nam: is not one of model, name, tags"),
        ("d.jsonl", "{", "is not JSON"),
        ("d.jsonl", "[1]", "must be a JSON object"),
        ("d.jsonl", '{"key": 1}', "key: is not one of model, name, tags"),
    ],
)
def test_an_invalid_line_has_a_reason(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (found,) = lines(tmp_path, name, text)
    assert found.fault is not None
    assert fault in found.fault
