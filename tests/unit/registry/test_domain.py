from __future__ import annotations

import copy
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import rules

NOW = datetime(2026, 11, 25, tzinfo=UTC)
NAMES = st.sampled_from("abcd")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
APPENDIX_A: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
"""The examples of RFC 7396, but the one whose result is null."""


def null_paths(document: dict[str, Any]) -> set[tuple[str, ...]]:
    """Where an object has a null, not counting what is inside arrays."""
    found: set[tuple[str, ...]] = set()
    for name, value in document.items():
        if value is None:
            found.add((name,))
        elif isinstance(value, dict):
            found |= {(name, *path) for path in null_paths(value)}
    return found


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [example for example in APPENDIX_A if all(isinstance(part, dict) for part in example)],
)
def test_an_example_of_the_rfc_gives_its_result(
    target: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    assert rules.merge(target, patch) == result


@pytest.mark.parametrize(("target", "patch", "result"), APPENDIX_A)
def test_an_example_of_the_rfc_gives_its_result_inside_a_document(
    target: object, patch: object, result: object
) -> None:
    assert rules.merge({"x": target, "y": 1}, {"x": patch}) == {"x": result, "y": 1}


def test_null_removes_an_object_with_all_that_is_in_it() -> None:
    assert rules.merge({"x": {"a": {"b": 1}}}, {"x": None}) == {}


@given(document=DOCUMENTS)
def test_an_empty_patch_changes_nothing(document: dict[str, Any]) -> None:
    assert rules.merge(document, {}) == document


@given(document=DOCUMENTS, patch=DOCUMENTS)
def test_the_same_patch_again_changes_nothing(document: dict[str, Any], patch: dict[str, Any]) -> None:
    once = rules.merge(document, patch)

    assert rules.merge(once, patch) == once


@given(document=DOCUMENTS, patch=DOCUMENTS)
def test_no_null_of_a_patch_stays(document: dict[str, Any], patch: dict[str, Any]) -> None:
    assert null_paths(rules.merge(document, patch)) <= null_paths(document)
    assert null_paths(rules.merge({}, patch)) == set()


@given(document=DOCUMENTS, patch=DOCUMENTS)
def test_what_a_patch_names_is_taken_and_the_rest_is_kept(document: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = rules.merge(document, patch)

    assert set(merged) == (set(document) | set(patch)) - {name for name in patch if patch[name] is None}
    for name in set(document) - set(patch):
        assert merged[name] == document[name]
    for name, value in patch.items():
        if value is not None and not isinstance(value, dict):
            assert merged[name] == value


@given(document=DOCUMENTS, patch=DOCUMENTS)
def test_neither_the_document_nor_the_patch_is_changed(document: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((document, patch))
    rules.merge(document, patch)

    assert (document, patch) == before


def test_a_new_key_is_made_of_what_is_chosen() -> None:
    offered: list[str] = []

    def choose(alphabet: str) -> str:
        offered.append(alphabet)
        return alphabet[len(offered)]

    assert rules.new_key(choose) == "bcdefghi"
    assert offered == ["abcdefghijklmnopqrstuvwxyz0123456789"] * 8


def test_a_random_key_is_one_that_the_database_takes() -> None:
    keys = {rules.new_key(secrets.choice) for _ in range(100)}

    assert len(keys) == 100
    assert all(re.fullmatch(r"[a-z0-9]{8}", key) for key in keys)
