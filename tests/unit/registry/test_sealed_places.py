"""The places of a schema that are writeOnly, and what is refused because it has no fixed place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.registry.validation import places, schemas
from shared.errors import InvalidInputError

DRAFT7 = "http://json-schema.org/draft-07/schema#"
HIDDEN: dict[str, Any] = {"type": "string", "writeOnly": True}


def check(schema: dict[str, Any]) -> list[places.Place]:
    return schemas.check_schema(json.loads(json.dumps(schema)))


def found(schema: dict[str, Any]) -> list[str]:
    return [places.name_of(place) for place in check(schema)]


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"properties": {"a": {"type": "string"}}}, []),
        ({"properties": {"a": {"writeOnly": False}}}, []),
        ({"properties": {"wifi": {"properties": {"psk": HIDDEN, "ssid": {}}}}}, ["wifi.psk"]),
        ({"properties": {"wifi": {"writeOnly": True, "properties": {"psk": HIDDEN}}}}, ["wifi"]),
        ({"writeOnly": True}, ["everything"]),
        ({"$ref": "#/$defs/w", "$defs": {"w": {"properties": {"psk": HIDDEN}}}}, ["psk"]),
        ({"properties": {"a": {"$ref": "#/$defs/w"}}, "$defs": {"w": HIDDEN}}, ["a"]),
        ({"properties": {"a": {"$ref": "#w"}}, "$defs": {"w": {"$anchor": "w", **HIDDEN}}}, ["a"]),
        ({"$schema": DRAFT7, "properties": {"a": {"$ref": "#/definitions/w"}}, "definitions": {"w": HIDDEN}},
         ["a"]),
        ({"$schema": DRAFT7, "properties": {"a": {"$ref": "#/definitions/w", "writeOnly": True}},
          "definitions": {"w": {"type": "string"}}}, ["a"]),
        ({"allOf": [{"properties": {"a": HIDDEN}}, {"properties": {"a": HIDDEN, "b": HIDDEN}}]}, ["a", "b"]),
        ({"patternProperties": {"^key_": HIDDEN}}, ["/^key_/"]),
        ({"properties": {"a": {}}, "additionalProperties": HIDDEN}, ["*"]),
        ({"properties": {"nets": {"items": {"properties": {"psk": HIDDEN}}}}}, ["nets[].psk"]),
        ({"properties": {"pair": {"prefixItems": [{}, HIDDEN], "items": HIDDEN}}}, ["pair[1]", "pair[2...]"]),
        ({"$schema": DRAFT7, "properties": {"p": {"items": [{}, HIDDEN], "additionalItems": HIDDEN}}},
         ["p[1]", "p[2...]"]),
        # Nothing refers to it.
        ({"$defs": {"w": HIDDEN}, "properties": {"a": {}}}, []),
        ({"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}},
          "properties": {"tree": {"$ref": "#/$defs/node"}, "psk": HIDDEN}}, ["psk"]),
    ],
)  # fmt: skip
def test_a_place_is_found_wherever_it_always_applies(schema: dict[str, Any], names: list[str]) -> None:
    assert sorted(found(schema)) == names


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"anyOf": [{"properties": {"a": HIDDEN}}]}, r"\.anyOf\[0\]"),
        ({"oneOf": [{"properties": {"a": HIDDEN}}]}, r"\.oneOf\[0\]"),
        ({"not": {"properties": {"a": HIDDEN}}}, r"\.not"),
        ({"if": {"properties": {"a": HIDDEN}}, "then": {}}, r"\.if"),
        ({"if": {}, "then": {"properties": {"a": HIDDEN}}}, r"\.then"),
        ({"if": {}, "else": {"properties": {"a": HIDDEN}}}, r"\.else"),
        ({"dependentSchemas": {"b": {"properties": {"a": HIDDEN}}}}, r"\.dependentSchemas\.b"),
        ({"$schema": DRAFT7, "dependencies": {"b": {"properties": {"a": HIDDEN}}}}, r"\.dependencies\.b"),
        ({"properties": {"a": {"contains": HIDDEN}}}, r"\.properties\.a\.contains"),
        ({"propertyNames": HIDDEN}, r"\.propertyNames"),
        ({"unevaluatedProperties": HIDDEN}, r"\.unevaluatedProperties"),
        ({"properties": {"a": {"unevaluatedItems": HIDDEN}}}, r"\.properties\.a\.unevaluatedItems"),
        ({"anyOf": [{"$ref": "#/$defs/w"}], "$defs": {"w": {"properties": {"a": HIDDEN}}}}, r"\.anyOf\[0\]"),
        ({"$dynamicRef": "#/$defs/w", "$defs": {"w": HIDDEN}}, r"\.\$dynamicRef"),
    ],
)
def test_a_place_that_depends_on_the_document_is_refused_with_the_reason(
    schema: dict[str, Any], where: str
) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"^config_schema{where}: has a writeOnly, but whether it applies"
    ):
        check(schema)


def test_places_without_end_are_refused() -> None:
    node = {"properties": {"psk": HIDDEN, "next": {"$ref": "#/$defs/node"}}}
    with pytest.raises(InvalidInputError, match=r"^config_schema\.\$ref\.properties\.next\.\$ref: refers to"):
        check({"$ref": "#/$defs/node", "$defs": {"node": node}})


def test_places_that_are_too_many_are_refused() -> None:
    properties = {f"{'n' * 50}{number}": HIDDEN for number in range(600)}
    with pytest.raises(InvalidInputError, match=r"^config_schema: its writeOnly are too many: .* of 32768"):
        check({"properties": properties})


@pytest.mark.parametrize("dialect", [DRAFT7, "https://json-schema.org/draft/2020-12/schema"])
def test_a_word_that_is_no_boolean_seals_nothing_and_is_refused(dialect: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^config_schema\.properties\.a\.writeOnly: "):
        check({"$schema": dialect, "properties": {"a": {"writeOnly": "true"}}})


SECRET = "correct-horse"


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"minLength": 20}, SECRET, "configuration.a: must fit minLength 20; the value is sealed and not shown"),
        ({"pattern": "^x"}, SECRET, 'configuration.a: must fit pattern "^x"; the value is sealed and not shown'),
        ({"enum": ["x"]}, SECRET, "configuration.a: must fit enum; the value is sealed and not shown"),
        ({"const": "x"}, SECRET, 'configuration.a: must fit const "x"; the value is sealed and not shown'),
        (False, SECRET, "configuration: must fit the schema; the value is sealed and not shown"),
        ({"anyOf": [{"type": "integer"}, {"maxLength": 3}]}, SECRET, "configuration.a: must fit"),
        ({"items": False}, [SECRET], "configuration.a: must fit items false"),
        ({"uniqueItems": True}, [SECRET, SECRET], "configuration.a: must fit uniqueItems true"),
        ({"items": {"type": "integer"}}, [SECRET], 'configuration.a[0]: must fit type "integer"'),
        ({"type": "integer"}, {"b": SECRET}, 'configuration.a: must fit type "integer"'),
        ({"maxProperties": 0}, {"b": SECRET}, "configuration.a: must fit maxProperties 0"),
        ({"required": ["c"]}, {"b": SECRET}, "configuration.a: 'c' is a required property"),
        ({"propertyNames": {"maxLength": 0}}, {"b": SECRET}, "configuration.a: must fit maxLength 0"),
    ],
)
def test_a_fault_of_a_sealed_value_names_the_rule_and_not_the_value(
    schema: object, value: object, message: str
) -> None:
    sealed: list[Any] = [["a", "b"]] if isinstance(value, dict) else [["a"]]
    with pytest.raises(InvalidInputError) as caught:
        schemas.check({"a": value}, {"properties": {"a": schema}}, field="configuration", sealed=sealed)
    assert caught.value.message.startswith(message)
    assert SECRET not in caught.value.message


def test_a_fault_of_the_whole_document_does_not_quote_a_sealed_value_in_it() -> None:
    with pytest.raises(InvalidInputError) as caught:
        schemas.check({"a": SECRET}, {"maxProperties": 0}, field="configuration", sealed=[["a"]])
    assert caught.value.message == "configuration: must fit maxProperties 0; the value is sealed and not shown"


def test_a_fault_next_to_a_sealed_value_is_named_as_ever() -> None:
    schema = {"properties": {"b": {"type": "integer"}}}
    with pytest.raises(InvalidInputError, match=r"^configuration\.b: 'x' is not of type 'integer'$"):
        schemas.check({"a": SECRET, "b": "x"}, schema, field="configuration", sealed=[["a"]])
