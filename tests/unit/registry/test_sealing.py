"""Sealed values in documents: sealed at their places, kept by placeholders, opened only where they belong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import rules
from services.registry.config import sealing
from services.registry.config.sealing import Seals
from services.registry.validation import schemas
from services.registry.validation.places import Place
from shared.crypto import SecretUnreadableError, Vault, new_data_key
from shared.errors import InvalidInputError
from shared.protocol import sealed

CLIENT = "iotdevice-lamp-abcdefgh"
OTHER = "iotdevice-lamp-zyxwvuts"
VAULT = Vault([new_data_key()])
HIDDEN = {"writeOnly": True}
PSK: list[Place] = [["wifi", "psk"]]


def seals(owner: str = CLIENT) -> Seals:
    return Seals(VAULT, owner)


def sealed_paths(document: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str | int, ...]]:
    stored = seals().seal(document, schemas.check_schema(schema))
    found = sealing.opened(VAULT, stored, CLIENT)
    assert found.document == document
    return found.sealed


@pytest.mark.parametrize(
    ("schema", "document", "paths"),
    [
        ({"properties": {"a": HIDDEN}}, {"a": "x", "b": "y"}, [("a",)]),
        ({"properties": {"a": HIDDEN}}, {"a": None, "b": "y"}, []),
        ({"properties": {"a": HIDDEN}}, {"a": {"b": 1, "c": {"d": True, "e": {}}}}, [("a", "b"), ("a", "c", "d")]),
        ({"properties": {"a": HIDDEN}}, {"a": [1, {"b": "x"}]}, [("a",)]),
        ({"writeOnly": True}, {"a": 1.5, "b": ["x"]}, [("a",), ("b",)]),
        ({"properties": {"n": {"items": {"properties": {"k": HIDDEN}}}}}, {"n": [{"k": 1, "s": 2}, {"k": 3}, 4]},
         [("n", 0, "k"), ("n", 1, "k")]),
        ({"properties": {"n": {"prefixItems": [{}, HIDDEN]}}}, {"n": ["a", "b", "c"]}, [("n", 1)]),
        ({"properties": {"n": {"prefixItems": [{}], "items": HIDDEN}}}, {"n": ["a", "b"]}, [("n", 1)]),
        ({"patternProperties": {"^k": HIDDEN}}, {"k1": 1, "ak": 2}, [("k1",)]),
        ({"properties": {"a": {}}, "patternProperties": {"^k": {}}, "additionalProperties": HIDDEN},
         {"a": 1, "k": 2, "c": 3}, [("c",)]),
        ({"properties": {"a": {"properties": {"b": HIDDEN}}}}, {"a": "b", "b": "c"}, []),
    ],
)  # fmt: skip
def test_what_is_at_a_place_is_sealed_and_opens_for_the_device(
    schema: dict[str, Any], document: dict[str, Any], paths: list[tuple[str | int, ...]]
) -> None:
    assert sealed_paths(document, schema) == paths


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_of_a_document_that_is_sealed_as_a_whole_nothing_but_names_and_nulls_is_left(
    document: dict[str, Any],
) -> None:
    stored = seals().seal(document, [[]])
    assert rules.same(sealing.opened(VAULT, stored, CLIENT).document, document)
    shown = sealed.shown(stored)

    def leaves(value: object) -> list[object]:
        return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]

    assert all(leaf is None or sealed.parse(leaf) for leaf in leaves(shown))


def test_a_placeholder_has_no_token_and_is_what_it_was_when_it_is_shown_again() -> None:
    shown = sealed.shown(seals().seal({"wifi": {"psk": "hunter2"}}, PSK))
    text = sealed.parse(shown["wifi"]["psk"])
    assert text is not None
    assert text.token is None
    assert sealed.shown(shown) == shown


def test_the_same_secret_at_the_same_place_keeps_its_seal_and_another_gets_another() -> None:
    first = seals().seal({"wifi": {"psk": "hunter2"}}, PSK)
    again = seals()
    again.know(first)
    assert again.seal({"wifi": {"psk": "hunter2"}}, PSK) == first
    changed = again.seal({"wifi": {"psk": "hunter3"}}, PSK)
    assert sealed.shown(changed) != sealed.shown(first)
    # Nothing reveals that it is the same at two places, or of two devices.
    assert sealed.shown(seals(OTHER).seal({"wifi": {"psk": "hunter2"}}, PSK)) != sealed.shown(first)


def test_a_placeholder_keeps_the_value_and_items_may_change_their_order() -> None:
    places: list[Place] = [["nets", {"from": 0}, "psk"]]
    document = {"nets": [{"ssid": "a", "psk": "one-secret"}, {"ssid": "b", "psk": "two-secret"}]}
    old = seals().seal(document, places)
    edited = sealed.shown(old)
    edited["nets"].reverse()
    kept = seals().accept(edited, old, where="overrides")
    assert kept == {"nets": old["nets"][::-1]}
    assert sealing.opened(VAULT, kept, CLIENT).document == {"nets": document["nets"][::-1]}


@pytest.mark.parametrize(
    "given",
    [
        {"wifi": {"psk": "(sealed 000000000000)"}},
        {"motd": "{psk}"},
        {"wifi": {"psk": ["{psk}"]}},
        {"wifi": {"psk": "{stored}"}},
        {"wifi": {"other": "{psk}"}},
        {"pair": ["{second}", "x"]},
    ],
)
def test_a_placeholder_that_names_no_value_of_this_place_is_refused(given: dict[str, Any]) -> None:
    old = seals().seal({"wifi": {"psk": "hunter2"}, "pair": ["a", "b"]}, [*PSK, ["pair", 1]])
    words = {"psk": sealed.shown(old)["wifi"]["psk"], "stored": old["wifi"]["psk"]}
    words["second"] = sealed.shown(old)["pair"][1]
    text = json.dumps(given)
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value)
    with pytest.raises(InvalidInputError, match=r"^overrides\.\w+.*is not the placeholder of a sealed value"):
        seals().accept(json.loads(text), old, where="overrides")


def test_a_ciphertext_opens_only_for_its_owner_and_at_its_place() -> None:
    stored = seals().seal({"wifi": {"psk": "hunter2"}}, PSK)
    for moved, client in (
        (stored, OTHER),
        ({"motd": stored["wifi"]["psk"]}, CLIENT),
        ({"wifi": {"ssid": stored["wifi"]["psk"]}}, CLIENT),
        ({"wifi": {"psk": [stored["wifi"]["psk"]]}}, CLIENT),
    ):
        with pytest.raises(SecretUnreadableError, match="was sealed for another place or device"):
            sealing.opened(VAULT, moved, client)
    layer = seals(sealing.of_layer("home")).seal({"psk": "hunter2"}, [["psk"]])
    model = seals(sealing.of_model("lamp")).seal({"psk": "hunter2"}, [["psk"]])
    for document in (layer, model):
        assert sealing.opened(VAULT, document, OTHER).document == {"psk": "hunter2"}
    for client in ("iotdevice-lamps-abcdefgh", "iotdevice-lam-abcdefgh"):
        with pytest.raises(SecretUnreadableError):
            sealing.opened(VAULT, model, client)
    with pytest.raises(SecretUnreadableError):
        sealing.opened(Vault([new_data_key()]), stored, CLIENT)


def test_sealed_values_merge_as_open_ones_do() -> None:
    places: list[Place] = [["wifi"]]
    defaults = seals(sealing.of_model("lamp")).seal({"wifi": {"ssid": "a", "psk": "one"}, "on": True}, places)
    layer = seals(sealing.of_layer("home")).seal({"wifi": {"psk": "two", "extra": ["x"]}}, places)
    overrides = seals().seal({"wifi": {"extra": None, "ssid": "b"}}, places)
    merged = sealing.opened(VAULT, rules.layered(defaults, [layer], overrides), CLIENT)
    assert merged.document == {"wifi": {"ssid": "b", "psk": "two"}, "on": True}
    assert merged.sealed == [("wifi", "ssid"), ("wifi", "psk")]


def test_documents_are_the_same_by_their_values_and_one_that_no_key_opens_is_another() -> None:
    first, again = (seals().seal({"wifi": {"psk": "hunter2"}}, PSK) for _ in range(2))
    other = seals().seal({"wifi": {"psk": "hunter3"}}, PSK)
    assert first != again
    assert sealing.same(VAULT, first, again, CLIENT)
    assert sealing.same(VAULT, first, {"wifi": {"psk": "hunter2"}}, CLIENT)
    assert not sealing.same(VAULT, first, other, CLIENT)
    lost = Seals(Vault([new_data_key()]), CLIENT).seal({"wifi": {"psk": "hunter2"}}, PSK)
    assert not sealing.same(VAULT, first, lost, CLIENT)


def test_an_array_that_is_sealed_in_part_stays_readable_when_all_of_it_is_sealed() -> None:
    stored = seals().seal({"nets": [{"ssid": "a", "psk": "one"}]}, [["nets", {"from": 0}, "psk"]])
    again = seals().seal(stored, [["nets"]])
    assert sealing.opened(VAULT, again, CLIENT).document == {"nets": [{"ssid": "a", "psk": "one"}]}
    assert len(sealing.opened(VAULT, again, CLIENT).sealed) == 2


def test_a_new_master_key_opens_what_it_has_encrypted_anew_and_the_labels_stay() -> None:
    old, new = new_data_key(), new_data_key()
    stored = Seals(Vault([old]), CLIENT).seal({"wifi": {"psk": "hunter2"}}, PSK)
    again = sealing.reencrypted(Vault([new, old]), stored)
    assert sealed.shown(again) == sealed.shown(stored)
    assert sealing.opened(Vault([new]), again, CLIENT).document == {"wifi": {"psk": "hunter2"}}
    with pytest.raises(SecretUnreadableError):
        sealing.reencrypted(Vault([new]), stored)


def test_a_devices_words_are_kept_without_the_secrets_that_they_quote() -> None:
    document = {"wifi": {"psk": "hunter2"}, "pins": ["00174711", 31337], "on": True}
    found = sealing.opened(VAULT, seals().seal(document, [["wifi"], ["pins"], ["on"]]), CLIENT)
    text = "wifi: 'hunter2' is weak; pin 31337 and 00174711 are taken; on is true"
    assert (
        sealing.unquoted(text, found)
        == "wifi: '(sealed)' is weak; pin (sealed) and (sealed) are taken; on is (sealed)"
    )
