from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from services.registry import configuration
from shared.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = {
    "type": "object",
    "properties": {
        "interval_s": {"type": "integer", "minimum": 1},
        "wifi": {
            "type": "object",
            "required": ["ssid"],
            "properties": {"ssid": {"type": "string"}, "channels": {"items": {"enum": [1, 6, 11]}}},
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def other_host() -> Iterator[tuple[str, list[bool]]]:
    """A host that notes each connection made to it."""
    visits: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                visits.append(bool(connection.recv(4)))

        thread = threading.Thread(target=accept)
        thread.start()
        port = server.getsockname()[1]
        yield f"http://127.0.0.1:{port}/schema", visits
        with socket.create_connection(("127.0.0.1", port)):
            pass
        thread.join(timeout=5)


def refusal(document: dict[str, Any], schema: dict[str, Any]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        configuration.check(document, schema, field="configuration")
    return caught.value.message


def schema_refusal(schema: dict[str, Any]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        configuration.check_schema(schema)
    return caught.value.message


@pytest.mark.parametrize(
    "document", [{}, {"other": 1}, {"interval_s": 1, "wifi": {"ssid": "home", "channels": [1, 11]}}]
)
def test_a_document_that_fits_is_taken(document: dict[str, Any]) -> None:
    configuration.check_schema(SCHEMA)
    configuration.check(document, SCHEMA, field="configuration")


def test_without_a_schema_every_document_is_taken() -> None:
    configuration.check({"anything": [None]}, None, field="configuration")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"interval_s": 0}, "configuration.interval_s: 0 is less than the minimum of 1"),
        ({"interval_s": "1"}, "configuration.interval_s: '1' is not of type 'integer'"),
        ({"wifi": {}}, "configuration.wifi: 'ssid' is a required property"),
        ({"wifi": {"ssid": "home", "channels": [1, 2]}}, "configuration.wifi.channels[1]: 2 is not one of"),
        ({"wifi": {"ssid": "home", "pass": ""}}, "configuration.wifi: Additional properties are not allowed"),
    ],
)
def test_what_does_not_fit_is_named_by_path_and_rule(document: dict[str, Any], reason: str) -> None:
    assert refusal(document, SCHEMA).startswith(reason)


def test_what_does_not_fit_as_a_whole_is_named_by_the_field() -> None:
    assert refusal({}, {"required": ["a"]}) == "configuration: 'a' is a required property"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "text"}, "config_schema.type: 'text' is not valid"),
        (
            {"properties": {"a": {"minimum": "1"}}},
            "config_schema.properties.a.minimum: '1' is not of type 'number'",
        ),
        ({"properties": []}, "config_schema.properties: [] is not of type 'object'"),
        ({"allOf": [{}, {"required": "a"}]}, "config_schema.allOf[1].required: 'a' is not of type 'array'"),
        ({"pattern": "("}, "config_schema.pattern: '(' is not a 'regex'"),
        ({"multipleOf": 0}, "config_schema.multipleOf: 0 is less than or equal to the minimum of 0"),
    ],
)
def test_what_is_wrong_with_a_schema_is_named_by_path_and_rule(schema: dict[str, Any], reason: str) -> None:
    assert schema_refusal(schema).startswith(reason)


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(1000):
        schema = {"not": schema}

    assert schema_refusal(schema) == "config_schema: is nested too deeply"


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_reference_to_another_host_is_refused_and_never_fetched(
    keyword: str, other_host: tuple[str, list[bool]]
) -> None:
    url, visits = other_host

    assert refusal({"a": 1}, {"properties": {"a": {keyword: url}}}).startswith("config_schema: can not resolve")
    assert visits == []


def test_a_reference_relative_to_an_id_on_another_host_is_refused_and_never_fetched(
    other_host: tuple[str, list[bool]],
) -> None:
    url, visits = other_host

    assert refusal({}, {"$id": url, "$ref": "other"}).startswith("config_schema: can not resolve")
    assert visits == []


@pytest.mark.parametrize("reference", ["#/nowhere", "#nowhere", "file:///etc/passwd", "other.json"])
def test_a_reference_to_nowhere_is_refused(reference: str) -> None:
    assert refusal({}, {"$ref": reference}).startswith("config_schema: can not resolve")


def test_a_reference_inside_the_schema_is_followed() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/port"}}, "$defs": {"port": {"maximum": 65535}}}

    configuration.check({"a": 1}, schema, field="configuration")
    assert refusal({"a": 65536}, schema) == "configuration.a: 65536 is greater than the maximum of 65535"


def test_a_schema_that_refers_to_itself_without_end_is_refused() -> None:
    assert refusal({}, {"$ref": "#"}) == "config_schema: refers to itself without end"


def test_a_recursive_schema_is_followed_as_deep_as_a_document_can_be() -> None:
    schema = {"additionalProperties": {"$ref": "#"}, "type": "object"}
    document: dict[str, Any] = {}
    for _ in range(63):
        document = {"a": document}

    configuration.check(document, schema, field="configuration")
    assert refusal({"a": {"a": 1}}, schema) == "configuration.a.a: 1 is not of type 'object'"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/type", "type": "object"},
        {"$ref": "#/type/x", "type": "object"},
        {"$ref": "#/x", "x": {"patternProperties": {"(": {}}}},
    ],
)
def test_a_reference_to_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    configuration.check_schema(schema)

    assert refusal({"a": 1}, schema) == "config_schema: a $ref points at something that is no schema"


def test_a_number_too_large_to_check_is_refused() -> None:
    schema = {"properties": {"a": {"multipleOf": 0.5}}}

    assert refusal({"a": 10**400}, schema) == "configuration: has a number that is too large to check"
