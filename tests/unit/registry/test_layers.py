from __future__ import annotations

import copy
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import rules
from services.registry.config import versions
from services.registry.validation import checker as checker_module
from shared import crypto
from shared.database.tables import ConfigLayer, DeviceModel
from shared.errors import InvalidInputError

NAMES = st.sampled_from("abcd")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0]) | st.text(max_size=2),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)


def apply(document: dict[str, Any], changes: Iterable[rules.DocumentChange]) -> dict[str, Any]:
    result = copy.deepcopy(document)
    for change in changes:
        place = result
        for name in change.path[:-1]:
            place = place[name]
        if change.kind == "removed":
            del place[change.path[-1]]
        else:
            place[change.path[-1]] = change.after
    return result


@given(before=DOCUMENTS, after=DOCUMENTS)
def test_the_changes_of_a_diff_make_one_document_of_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert rules.same(apply(before, rules.diff(before, after)), after)


@given(before=DOCUMENTS, after=DOCUMENTS)
def test_there_is_no_difference_exactly_between_the_same_documents(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert rules.diff(before, before) == []
    assert (rules.diff(before, after) == []) == rules.same(before, after)


@given(before=DOCUMENTS, after=DOCUMENTS)
def test_a_diff_the_other_way_round_is_its_mirror(before: dict[str, Any], after: dict[str, Any]) -> None:
    mirror = {"added": "removed", "removed": "added", "changed": "changed"}
    there, back = rules.diff(before, after), rules.diff(after, before)

    assert [(it.path, mirror[it.kind], it.after, it.before) for it in there] == [
        (it.path, it.kind, it.before, it.after) for it in back
    ]


def test_a_diff_names_the_innermost_path_and_tells_true_from_one() -> None:
    before = {"led": {"on": 1, "color": "red"}, "list": [1, {"a": 1}]}
    after = {"led": {"on": True, "pin": 3}, "list": [1, {"a": 2}]}

    assert rules.diff(before, after) == [
        rules.DocumentChange(("led", "color"), "removed", before="red"),
        rules.DocumentChange(("led", "on"), "changed", before=1, after=True),
        rules.DocumentChange(("led", "pin"), "added", after=3),
        rules.DocumentChange(("list",), "changed", before=[1, {"a": 1}], after=[1, {"a": 2}]),
    ]


def test_a_later_layer_wins_over_an_earlier_one_and_the_device_over_all() -> None:
    merged = rules.layered(
        {"a": 0, "b": 0, "c": 0, "d": 0}, [{"a": 1, "b": 1, "c": 1}, {"b": 2, "c": 2, "d": None}], {"c": 3}
    )

    assert merged == {"a": 1, "b": 2, "c": 3}


@given(defaults=DOCUMENTS, overrides=DOCUMENTS)
def test_without_layers_the_overrides_are_merged_into_the_defaults(
    defaults: dict[str, Any], overrides: dict[str, Any]
) -> None:
    assert rules.layered(defaults, [], overrides) == rules.merge(defaults, overrides)


async def test_only_layers_of_the_devices_own_tags_count_and_a_broken_rule_is_named_with_its_path() -> None:
    schema = {"properties": {"level": {"maximum": 5}}}
    model = DeviceModel(code="lamp", config_defaults={"level": 1}, config_schema=schema)
    layers = [ConfigLayer(tag="attic", document={"level": 9}), ConfigLayer(tag="cellar", document={"level": 4})]

    async with checker_module.checker() as checker:
        vault = crypto.Vault([crypto.new_data_key()])
        registry: Any = SimpleNamespace(checker=checker, instance=SimpleNamespace(vault=vault))
        assert await versions.document_of(registry, model, ["cellar", "other"], {}, layers=layers) == {"level": 4}
        with pytest.raises(InvalidInputError, match=r"^configuration\.level: 9 is greater"):
            await versions.document_of(registry, model, ["attic"], {}, layers=layers)
