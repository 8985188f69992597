from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from services.registry.validation import schemas
from shared.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIALECTS = [
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]
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
        schemas.check(document, schema, field="configuration")
    return caught.value.message


def schema_refusal(schema: dict[str, Any]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        schemas.check_schema(schema)
    return caught.value.message


@pytest.mark.parametrize(
    "document", [{}, {"other": 1}, {"interval_s": 1, "wifi": {"ssid": "home", "channels": [1, 11]}}]
)
def test_a_document_that_fits_is_taken(document: dict[str, Any]) -> None:
    schemas.check_schema(SCHEMA)
    schemas.check(document, SCHEMA, field="configuration")


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
        ({"type": "text"}, "config_schema.type: 'text' is not one of ['array', 'boolean',"),
        (
            {"properties": {"a": {"minimum": "1"}}},
            "config_schema.properties.a.minimum: '1' is not of type 'number'",
        ),
        ({"properties": []}, "config_schema.properties: [] is not of type 'object'"),
        ({"allOf": [{}, {"required": "a"}]}, "config_schema.allOf[1].required: 'a' is not of type 'array'"),
        ({"pattern": "("}, "config_schema.pattern: '(' must be a pattern that RE2 can search: missing ): ("),
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

    assert refusal({"a": 1}, {"properties": {"a": {keyword: url}}}).startswith("config_schema: cannot resolve")
    assert visits == []


def test_a_reference_relative_to_an_id_on_another_host_is_refused_and_never_fetched(
    other_host: tuple[str, list[bool]],
) -> None:
    url, visits = other_host

    assert refusal({}, {"$id": url, "$ref": "other"}).startswith("config_schema: cannot resolve")
    assert visits == []


@pytest.mark.parametrize("reference", ["#/nowhere", "#nowhere", "file:///etc/passwd", "other.json"])
def test_a_reference_to_nowhere_is_refused(reference: str) -> None:
    assert refusal({}, {"$ref": reference}).startswith("config_schema: cannot resolve")


def test_a_reference_inside_the_schema_is_followed() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/port"}}, "$defs": {"port": {"maximum": 65535}}}

    schemas.check({"a": 1}, schema, field="configuration")
    assert refusal({"a": 65536}, schema) == "configuration.a: 65536 is greater than the maximum of 65535"


def test_a_schema_that_refers_to_itself_without_end_is_refused() -> None:
    assert refusal({}, {"$ref": "#"}) == "config_schema: refers to itself without end"


def test_a_recursive_schema_is_followed_as_deep_as_a_document_can_be() -> None:
    schema = {"additionalProperties": {"$ref": "#"}, "type": "object"}
    document: dict[str, Any] = {}
    for _ in range(63):
        document = {"a": document}

    schemas.check(document, schema, field="configuration")
    assert refusal({"a": {"a": 1}}, schema) == "configuration.a.a: 1 is not of type 'object'"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/type", "type": "object"},
        {"$ref": "#/type/x", "type": "object"},
        {"$ref": "#/x-1", "x-1": {"patternProperties": {"(": {}}}},
    ],
)
def test_a_reference_to_what_is_no_schema_is_refused_also_of_a_schema_that_was_stored(
    schema: dict[str, Any],
) -> None:
    assert "the $ref #/" in schema_refusal(schema)
    assert refusal({"a": 1}, schema) == "config_schema: a $ref points at something that is not a schema"


@pytest.mark.parametrize("reference", ["http://localhost/schema", "other.json", "#/nowhere", "#nowhere"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_schema_whose_reference_leaves_it_is_refused(dialect: str, reference: str) -> None:
    schema = {"$schema": dialect, "properties": {"a": {"items": {"$ref": reference}}}}

    assert schema_refusal(schema) == f"config_schema: the $ref {reference} must point into the schema itself"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_reference_by_name_is_followed(dialect: str) -> None:
    name = {"$id": "#port"} if dialect.endswith("draft-07/schema#") else {"$anchor": "port"}
    schema = {
        "$schema": dialect,
        "properties": {"a": {"$ref": "#port"}},
        "definitions": {"p": {**name, "maximum": 9}},
    }

    schemas.check_schema(schema)
    assert refusal({"a": 10}, schema) == "configuration.a: 10 is greater than the maximum of 9"


@pytest.mark.parametrize("reference", ["$ref", "$dynamicRef"])
def test_a_schema_whose_references_multiply_is_refused(reference: str) -> None:
    schema: dict[str, Any] = {"$ref": "#/$defs/s0", "$defs": {"s26": {"type": "object"}}}
    for step in range(26):
        schema["$defs"][f"s{step}"] = {"allOf": [{reference: f"#/$defs/s{step + 1}"}] * 2}

    assert "its $refs make it" in schema_refusal(schema)


def test_many_references_and_such_back_to_the_schema_are_allowed() -> None:
    port = {"$ref": "#/$defs/port"}
    schema = {
        "$defs": {"port": {"maximum": 65535, "allOf": [{"multipleOf": 1}]}},
        "properties": {f"p{number}": port for number in range(500)} | {"below": {"$ref": "#"}},
    }

    schemas.check_schema(schema)
    assert refusal({"below": {"p499": 70000}}, schema).startswith("configuration.below.p499: 70000 is greater")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_schema_is_checked_by_the_dialect_that_it_names(dialect: str) -> None:
    is_old = dialect.endswith("draft-07/schema#")
    keyword = "dependencies" if is_old else "dependentRequired"
    schema = {"$schema": dialect, keyword: {"a": ["b"]}}

    schemas.check_schema(schema)
    assert refusal({"a": 1}, schema) == "configuration: 'b' is a dependency of 'a'"
    assert schema_refusal({"$schema": dialect, keyword: {"a": [1]}}).startswith(f"config_schema.{keyword}.a")


@pytest.mark.parametrize("dialect", ["http://json-schema.org/draft-04/schema#", "https://example.org/own", 7])
def test_another_dialect_is_refused_where_it_is_named_and_goes_on_as_2020_12_where_it_was_stored(
    dialect: object,
) -> None:
    schema = {"$schema": dialect, "dependentRequired": {"a": ["b"]}}

    assert schema_refusal(schema).startswith("config_schema: $schema must be one of https://json-schema.org/")
    assert schema_refusal({"items": {"$schema": dialect}}).startswith("config_schema")
    assert refusal({"a": 1}, schema) == "configuration: 'b' is a dependency of 'a'"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("value", "factor", "fits"),
    [
        (0.3, 0.1, True),
        (4.35, 0.01, True),
        (0.35, 0.1, False),
        (10**400, 0.5, True),
        (1e308, 0.5, True),
        (7, 2, False),
        (1e308, 5e-324, True),
        (-0.3, 0.1, True),
        (0.0, 0.1, True),
        (1e-7, 1e-8, True),
        (1e22, 3, False),
        (9007199254740993, 2, False),
    ],
)
def test_a_multiple_is_one_as_the_numbers_are_written(
    dialect: str, value: float, factor: float, *, fits: bool
) -> None:
    schema = {"$schema": dialect, "properties": {"a": {"multipleOf": factor}, "below": {"$ref": "#"}}}

    for document in ({"a": value}, {"below": {"a": value}}):
        if fits:
            schemas.check(document, schema, field="configuration")
        else:
            assert "is not a multiple of" in refusal(document, schema)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"pattern": "PATTERN"}}}, "properties.a.pattern"),
        ({"patternProperties": {"PATTERN": {}}}, "patternProperties"),
        ({"propertyNames": {"pattern": "PATTERN"}}, "propertyNames.pattern"),
        ({"if": {"items": [{"pattern": "PATTERN"}]}}, "if.items[0].pattern"),
    ],
)
@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("^(?!x)", "invalid perl operator: (?!"),
        ("(?<=a)b", "invalid perl operator: (?<="),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("a{1001}", "invalid repetition size: {1001}"),
    ],
)
def test_a_pattern_that_needs_more_than_linear_time_is_refused_with_its_place_and_the_reason(
    dialect: str, schema: dict[str, Any], place: str, pattern: str, why: str
) -> None:
    if place.startswith("if") and dialect.endswith("2020-12/schema"):
        schema, place = {"if": {"prefixItems": schema["if"]["items"]}}, place.replace("items", "prefixItems")
    wanted = json.loads(json.dumps(schema).replace('"PATTERN"', json.dumps(pattern)))

    reason = schema_refusal({"$schema": dialect, **wanted})

    assert reason == f"config_schema.{place}: {pattern!r} must be a pattern that RE2 can search: {why}"


@pytest.mark.parametrize(
    ("pattern", "found", "missing"),
    [
        ("b", "abc", "ac"),
        ("^a$", "a", "a\n"),
        (r"^\d$", "1", "\u0661"),
        (r"^[\u00e0-\u00ff]$", "\u00e9", "e"),
        (r"^\u{1F600}$", "\U0001f600", "u"),
        (r"^\\u00e9$", "\\u00e9", "\u00e9"),
        (r"^\p{Lu}", "\u00c9", "\u00e9"),
        (r"^.\/(?<name>x)$", "\U0001f600/x", "//"),
    ],
)
def test_a_pattern_is_searched_as_ecma_262_means_it(pattern: str, found: str, missing: str) -> None:
    schema = {"properties": {"a": {"pattern": pattern}}}

    schemas.check_schema(schema)
    schemas.check({"a": found}, schema, field="configuration")
    assert "does not match" in refusal({"a": missing}, schema)


def test_a_pattern_that_was_stored_before_there_were_rules_is_searched_as_then() -> None:
    schema = {"properties": {"a": {"pattern": "^(?!x)"}}}

    schemas.check({"a": "y"}, schema, field="configuration")
    assert refusal({"a": "x"}, schema) == "configuration.a: 'x' does not match '^(?!x)'"


DRAFT_7, DRAFT_2019, DRAFT_2020 = DIALECTS


@pytest.mark.parametrize(
    ("dialect", "schema", "reason"),
    [
        (DRAFT_2020, {"requird": ["a"]}, ".requird: is not a keyword of https://json-schema.org/draft/2020-12/"),
        (DRAFT_2020, {"requird": ["a"]}, "schema; is required meant?"),
        (DRAFT_2020, {"properties": {"a": {"minimun": 1}}}, ".properties.a.minimun: is not a keyword of"),
        (DRAFT_2020, {"items": {"allOf": [{}, {"maxLenght": 1}]}}, ".items.allOf[1].maxLenght: is not a"),
        (DRAFT_2020, {"properties": {"a": {"nullable": True}}}, ".properties.a.nullable: is not a keyword of"),
        (DRAFT_2020, {"dependencies": {"a": ["b"]}}, ".dependencies: is not a keyword of"),
        (DRAFT_2020, {"dependencies": {"a": ["b"]}}, "but of http://json-schema.org/draft-07/schema; $schema"),
        (DRAFT_2020, {"additionalItems": False}, ".additionalItems: is not a keyword of"),
        (DRAFT_2020, {"items": [{"type": "string"}]}, ".items: [{'type': 'string'}] is not of type"),
        (DRAFT_2020, {"$recursiveRef": "#"}, ".$recursiveRef: is not a keyword of"),
        (DRAFT_2020, {"$recursiveAnchor": "a"}, ".$recursiveAnchor: is not a keyword of"),
        (DRAFT_2020, {"id": "a"}, ".id: is not a keyword of"),
        (DRAFT_2019, {"dependencies": {"a": ["b"]}}, ".dependencies: is not a keyword of"),
        (DRAFT_2019, {"prefixItems": [{}]}, ".prefixItems: is not a keyword of"),
        (DRAFT_2019, {"$dynamicRef": "#"}, ".$dynamicRef: is not a keyword of"),
        (DRAFT_2019, {"additionalItems": False}, ".additionalItems: has no effect unless items is an array"),
        (DRAFT_7, {"dependentRequired": {"a": ["b"]}}, ".dependentRequired: is not a keyword of"),
        (DRAFT_7, {"prefixItems": [{}]}, ".prefixItems: is not a keyword of"),
        (DRAFT_7, {"unevaluatedProperties": False}, ".unevaluatedProperties: is not a keyword of"),
        (DRAFT_7, {"minContains": 2, "contains": {}}, ".minContains: is not a keyword of"),
        (DRAFT_7, {"items": {}, "additionalItems": False}, ".additionalItems: has no effect unless items is"),
        (
            DRAFT_7,
            {"properties": {"a": {"$ref": "#/definitions/p", "minimum": 1}}, "definitions": {"p": {}}},
            ".properties.a.minimum: has no effect next to $ref in draft-07; put both into allOf",
        ),
        (DRAFT_7, {"definitions": {"p": {"requird": ["a"]}}}, ".definitions.p.requird: is not a keyword of"),
        (DRAFT_2020, {"then": {"required": ["a"]}}, ".then: has no effect without if"),
        (DRAFT_2020, {"minContains": 2}, ".minContains: has no effect without contains"),
        (DRAFT_2020, {"properties": {"a": {"format": "iri"}}}, ".properties.a.format: 'iri' is not one of the"),
        (DRAFT_2020, {"$ref": "#/x-p", "x-p": {"requird": []}}, ": where the $ref #/x-p points.requird: is not"),
    ],
)
def test_a_keyword_that_nothing_would_check_is_refused_with_its_place(
    dialect: str, schema: dict[str, Any], reason: str
) -> None:
    refused = schema_refusal({"$schema": dialect, **schema})
    assert refused.startswith("config_schema")
    assert reason in refused


@pytest.mark.parametrize("dialect", DIALECTS)
def test_annotations_and_names_that_look_like_keywords_are_allowed(dialect: str) -> None:
    about = {"title": "a", "description": "b", "default": 1, "examples": [1], "$comment": "c", "deprecated": True}
    own = {"x-unit": "s", "x-": {"requird": 1}, "readOnly": True, "writeOnly": False}
    named = {"properties": {"requird": {"enum": [{"requird": 1}], "default": {"requird": 1}}}}
    below = {"allOf": [{"$ref": "#/definitions/p", **about}], "definitions": {"p": {"contentEncoding": "base64"}}}
    below["$defs"] = {"q": {}}

    schemas.check_schema({"$schema": dialect, "$id": "https://example.org/a", **about, **own, **named, **below})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("name", "fits", "others"),
    [
        ("date", ["2024-02-29"], ["2023-02-29", "20240229", "2024-W01-1", "\u0662024-02-29"]),
        ("time", ["10:20:30Z", "10:20:30.123456789+01:00"], ["10:20:30", "10:20Z", "25:00:00Z"]),
        ("date-time", ["2024-02-29T10:20:30z", "2024-02-29t10:20:30.5-08:00"], ["2024-02-29 10:20:30Z", "now"]),
        ("email", ["a@example.org"], ["a"]),
        (
            "hostname",
            ["broker.example.org", "pi", "a" * 63],
            ["a_b", "-a", "a" * 64, "a..b", ("a" * 63 + ".") * 4],
        ),
        ("ipv4", ["192.168.0.1"], ["192.168.0.256", "192.168.0", "::1"]),
        ("ipv6", ["::1", "fe80::1"], ["192.168.0.1", ":::"]),
        ("uri", ["mqtts://broker:8883", "urn:x:%20", "http://[::1]/"], ["broker", "http://a b", "http://a:b/"]),
        ("uuid", ["0f8fad5b-d9cb-469f-a165-70867728950e"], ["0f8fad5bd9cb469fa16570867728950e"]),
        ("regex", ["^a$"], ["(", "(?!x)"]),
    ],
)
def test_a_format_is_checked_of_texts_and_of_nothing_else(
    dialect: str, name: str, fits: list[str], others: list[str]
) -> None:
    schema = {"$schema": dialect, "properties": {"a": {"format": name}}}

    schemas.check_schema(schema)
    for value in [*fits, 1, None]:
        schemas.check({"a": value}, schema, field="configuration")
    for value in others:
        assert refusal({"a": value}, schema) == f"configuration.a: {value!r} is not a {name!r}"
