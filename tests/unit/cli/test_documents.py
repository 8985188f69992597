import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import documents
from shared.errors import InvalidInputError


@pytest.mark.parametrize(
    ("assignments", "document"),
    [
        ([], {}),
        (["a=1"], {"a": 1}),
        (["a=1.5", "b=true", "c=null", 'd="1"'], {"a": 1.5, "b": True, "c": None, "d": "1"}),
        (["a=word", "b=two words", "c="], {"a": "word", "b": "two words", "c": ""}),
        (["a=b=c"], {"a": "b=c"}),
        (['a=[1, {"b": 2}]'], {"a": [1, {"b": 2}]}),
        (["wifi.ssid=home", "wifi.retry.max=3"], {"wifi": {"ssid": "home", "retry": {"max": 3}}}),
        (["host=10.0.0.1"], {"host": "10.0.0.1"}),
        (["a=NaN", "b=Infinity"], {"a": "NaN", "b": "Infinity"}),
        (["a={", "b=[1,"], {"a": "{", "b": "[1,"}),
        (["a={}", "a.b=1"], {"a": {"b": 1}}),
    ],
)
def test_assignments_make_a_document(assignments: list[str], document: dict[str, Any]) -> None:
    assert documents.assign(assignments) == document


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["a"], "KEY=VALUE: expected a form such as wifi.ssid=home, found 'a'"),
        (["=1"], "found '=1'"),
        (["a..b=1"], "found 'a..b=1'"),
        ([".a=1"], "found '.a=1'"),
        (["a=1", "a=2"], "a: given twice"),
        (["a.b=1", "a.b=1"], "a.b: given twice"),
        (["a=1", "a.b=2"], "a.b: a already has a value"),
        (["a.b=1", "a.b.c.d=2"], "a.b.c.d: a.b already has a value"),
        (["a.b=1", "a=2"], "a: given twice"),
        (["a.b=0.1234567890123456789"], "a.b: 0.1234567890123456789: would become 0.12345678901234568"),
        (['a={"b": [1e400]}'], "a: b[0]: 1e400: a number of 1e16 or more must be an integer in digits"),
        (["a=-0"], "a: -0: zero must have no sign"),
        ([f"a={'9' * 5000}"], "must have at most 4300 digits"),
    ],
)
def test_a_bad_assignment_is_named(assignments: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        documents.assign(assignments)
    assert message in caught.value.message


def test_a_value_nested_without_end_is_a_string() -> None:
    text = "[" * 100_000
    assert documents.assign([f"a={text}"]) == {"a": text}


@given(
    st.dictionaries(
        st.text('aZ09_- äß\n"[', min_size=1),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers())),
    )
)
def test_what_is_written_as_json_comes_back(document: dict[str, Any]) -> None:
    assert documents.assign(f"{key}={json.dumps(value)}" for key, value in document.items()) == document


@given(st.lists(st.text()))
def test_any_words_are_a_document_or_invalid_input(words: list[str]) -> None:
    try:
        assert isinstance(documents.assign(words), dict)
    except InvalidInputError as error:
        assert error.message  # noqa: PT017 - either end is right


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_file_is_read_as_any_editor_saves_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"type": "object", "title": "Küche"}', encoding)
    assert documents.read(path, field="schema") == {"type": "object", "title": "Küche"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "must contain a JSON object, contains a list"),
        (b"{", "is not valid JSON"),
        (b'{"a": NaN}', "is not valid JSON: NaN is not JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON: nested too deeply"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        documents.read(path, field="schema")
    assert caught.value.message.startswith(f"schema: {path} ")
    assert message in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"schema: .* cannot be read: No such file"):
        documents.read(tmp_path / "none.json", field="schema")
