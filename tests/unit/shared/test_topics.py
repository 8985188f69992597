from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import MessageRefusedError
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Operation
from shared.protocol.topics import Topic

OPERATIONS: list[Operation[Any, Any]] = [*admin.OPERATIONS.values()]
TOPICS: list[Topic[Any]] = [
    *topics.TOPICS.values(),
    topics.DEVICE_UP,
    admin.REPLY,
    *(operation.topic for operation in OPERATIONS),
]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1)
COMMAND_ID = '"command_id": "7b1f1d5e-7c7e-4b53-a6f5-0d2d8cf3b4f1"'


def template(topic: Topic[Any]) -> str:
    return topic.template


def names_of(topic: Topic[Any]) -> list[str]:
    return re.findall(r"\{(\w+)\}", topic.template)


def example(topic: Topic[Any]) -> str:
    return topic.of(**dict.fromkeys(names_of(topic), "x"))


def refusal(topic: Topic[Any], payload: bytes) -> str:
    with pytest.raises(MessageRefusedError) as caught:
        topic.decode(payload)
    return caught.value.message


def result(value: str) -> bytes:
    return f'{{{COMMAND_ID}, "ok": true, "result": {value}}}'.encode()


def request(**fields: str) -> bytes:
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}").encode()


def test_the_topics_of_the_protocol_and_of_all_operations_are_found() -> None:
    assert {topics.STATUS, topics.SERVICE_STATUS, admin.REPLY, admin.MODEL_ADD.topic} <= set(TOPICS)
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS) >= 12


@pytest.mark.parametrize("topic", TOPICS, ids=template)
def test_a_topic_matches_its_own_declaration_and_no_other(topic: Topic[Any]) -> None:
    assert [other.template for other in TOPICS if other.match(example(topic)) is not None] == [topic.template]


@pytest.mark.parametrize("topic", TOPICS, ids=template)
@settings(max_examples=25)
@given(data=st.data())
def test_names_put_into_a_topic_are_found_in_it(topic: Topic[Any], data: st.DataObject) -> None:
    names = {name: data.draw(NAMES, name) for name in names_of(topic)}

    assert topic.match(topic.of(**names)) == names


@pytest.mark.parametrize("topic", TOPICS, ids=template)
def test_a_filter_has_one_wildcard_for_each_name_and_keeps_every_other_level(topic: Topic[Any]) -> None:
    levels = topic.template.split("/")

    assert topic.filter.split("/") == ["+" if level.startswith("{") else level for level in levels]
    assert topic.filter.count("+") == len(names_of(topic)) >= 1


@pytest.mark.parametrize("topic", TOPICS, ids=template)
def test_a_topic_that_is_longer_shorter_or_has_an_empty_name_is_another(topic: Topic[Any]) -> None:
    inside = example(topic)
    empty = topic.of(**dict.fromkeys(names_of(topic), ""))

    assert [topic.match(other) for other in (f"{inside}/x", f"x/{inside}", inside[:-1], empty)] == [None] * 4


@pytest.mark.parametrize("topic", TOPICS, ids=template)
def test_every_topic_is_below_our_prefix_or_home_assistants_and_a_device_has_only_up_and_down(
    topic: Topic[Any],
) -> None:
    discovery = topics.HOMEASSISTANT_DISCOVERY
    assert topic.template.startswith("homeassistant/device/" if topic is discovery else "mdm/v1/")
    if "/d/" in topic.template:
        assert re.match(r"mdm/v1/d/\{client_id\}/(up|down)/", topic.template)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_has_its_account_and_its_name_in_its_topic(operation: Operation[Any, Any]) -> None:
    assert operation.topic.of(account="alice") == f"mdm/v1/admin/alice/{operation.name.replace('.', '/')}"
    assert operation.topic.max_bytes == operation.max_bytes


def test_only_what_somebody_is_now_is_retained() -> None:
    assert {topic for topic in TOPICS if topic.retain} == {
        topics.STATUS,
        topics.SERVICE_STATUS,
        topics.HOMEASSISTANT_DISCOVERY,
        topics.HOMEASSISTANT_UPDATE,
        topics.HOMEASSISTANT_DIAGNOSTICS,
    }


@pytest.mark.parametrize("topic", TOPICS, ids=template)
def test_a_payload_over_the_limit_is_refused_before_it_is_parsed(topic: Topic[Any]) -> None:
    size = topic.max_bytes + 1

    assert refusal(topic, b"[" * size) == f"payload: must be at most {topic.max_bytes} bytes, has {size}"


def test_a_payload_at_the_limit_is_taken() -> None:
    raw = bytes(topics.FIRMWARE_CHUNK_DATA.max_bytes)
    padded = b'{"online": true}'.ljust(topics.STATUS.max_bytes)

    assert topics.FIRMWARE_CHUNK_DATA.decode(raw) == topics.FIRMWARE_CHUNK_DATA.encode(raw) == raw
    assert topics.STATUS.decode(padded) == messages.Status(online=True)


SHA256 = "00ff" * 16
CHUNK = messages.CoreDumpChunk(sha256=SHA256, offset=0x01020304, data=b"piece")


def test_a_piece_of_a_core_dump_has_the_dump_and_the_offset_before_it() -> None:
    payload = bytes.fromhex(SHA256) + b"\1\2\3\4" + b"piece"

    assert topics.COREDUMP_CHUNK.encode(CHUNK) == payload
    assert topics.COREDUMP_CHUNK.decode(payload) == CHUNK


@given(
    sha256=st.binary(min_size=32, max_size=32),
    offset=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=100),
)
def test_each_piece_of_a_core_dump_comes_as_it_went(sha256: bytes, offset: int, data: bytes) -> None:
    piece = messages.CoreDumpChunk(sha256=sha256.hex(), offset=offset, data=data)

    assert topics.COREDUMP_CHUNK.decode(topics.COREDUMP_CHUNK.encode(piece)) == piece


@pytest.mark.parametrize("size", [0, 1, 32, 35])
def test_a_piece_of_a_core_dump_without_a_whole_header_is_refused(size: int) -> None:
    reason = refusal(topics.COREDUMP_CHUNK, bytes(size))

    assert reason == f"payload: must begin with a header of 36 bytes, has {size}"


@pytest.mark.parametrize(
    ("field", "value"), [("sha256", "00ff"), ("sha256", "0" * 63 + "G"), ("offset", -1), ("offset", 2**32)]
)
def test_a_piece_that_the_header_cannot_name_is_not_made(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        messages.CoreDumpChunk(**{"sha256": SHA256, "offset": 0, "data": b"", field: value})  # type: ignore[arg-type]


def test_the_largest_piece_that_a_device_may_be_asked_for_is_taken() -> None:
    def wanted(**changes: object) -> bytes:
        facts = {"sha256": SHA256, "chunk_size_bytes": 65500, "missing": [2**32 - 1]}
        return json.dumps(facts | changes).encode()

    asked = topics.COREDUMP_WANTED.decode(wanted())
    piece = messages.CoreDumpChunk(SHA256, asked.missing[0], bytes(asked.chunk_size_bytes))
    assert topics.COREDUMP_CHUNK.decode(topics.COREDUMP_CHUNK.encode(piece)) == piece
    assert refusal(topics.COREDUMP_WANTED, wanted(chunk_size_bytes=65501)).startswith("chunk_size_bytes: ")
    assert refusal(topics.COREDUMP_WANTED, wanted(missing=[2**32])).startswith("missing.0: ")


def test_what_is_absent_is_left_out_and_a_null_in_a_document_is_kept() -> None:
    config = messages.Config(request_id=None, version=1, document={"a": None}, secret_generation=2)

    assert json.loads(topics.CONFIG.encode(config)) == {
        "version": 1,
        "unchanged": False,
        "document": {"a": None},
        "secret_generation": 2,
    }


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "message: Invalid JSON: EOF while parsing a value"),
        (b'{"online": tru', "message: Invalid JSON: "),
        (b"\xff\xfe", "message: Invalid JSON: "),
        (b"[]", "message: must be an object"),
        (b"null", "message: must be an object"),
        (b"{}", "online: is missing"),
        (b'{"online": "perhaps"}', "online: must be true or false"),
        (b'{"online": true, "ip": "\\ud800"}', "message: Invalid JSON: unexpected end of hex escape"),
        (
            b'{"online": true, "new": ' + b"[" * 1000 + b"]" * 1000 + b"}",
            "message: Invalid JSON: recursion limit exceeded",
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_named_by_field_and_rule(payload: bytes, reason: str) -> None:
    assert refusal(topics.STATUS, payload).startswith(reason)


@pytest.mark.parametrize(
    ("value", "field", "rule"),
    [
        (b'"loud"', "rssi_dbm", "must be a whole number"),
        (b"NaN", "rssi_dbm", "must be a finite number"),
        (b"1.5", "config_version", "must be a whole number"),
        (b"-1", "config_version", "must be at least 0"),
        (b"9223372036854775808", "config_version", "must be at most 9223372036854775807"),
        (b'"1.0\\n"', "firmware_version", "must be printable ASCII characters only"),
        (b'"\xc3\xa9"', "firmware_version", "must be printable ASCII characters only"),
    ],
)
def test_what_is_left_out_of_a_message_is_named_by_field_and_rule(value: bytes, field: str, rule: str) -> None:
    message, (flaw,) = topics.STATUS.read(b'{"online": true, "%s": %s}' % (field.encode(), value))
    assert message == messages.Status(online=True)
    assert flaw.field == field
    assert flaw.rule.startswith(rule)


def test_every_wrong_field_is_named() -> None:
    assert refusal(topics.CONFIG_REPORT, b'{"version": -1, "outcome": "lost"}') == (
        "version: must be at least 0; outcome: must be 'applied', 'rejected' or 'reverted'"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", "result: must be an object"),
        ('{"a": NaN}', "result: must be plain JSON: Out of range float values"),
        ('{"a": [-Infinity]}', "result: must be plain JSON: Out of range float values"),
        ('{"a": 1e999}', "result: must be plain JSON: Out of range float values"),
        ('{"a": "\\u0000"}', "result: must not contain the character U+0000"),
        ('{"a": {"b\\u0000": 1}}', "result: must not contain the character U+0000"),
        ('{"a": "\\\\\\u0000"}', "result: must not contain the character U+0000"),
        ('{"a": "' + "x" * messages.MAX_DOCUMENT_BYTES + '"}', "result: must be at most 32768 bytes, has 32776"),
        ('{"a": [' + ",".join(["1e308"] * 300) + "]}", "result: must be at most 32768 bytes, has 93007"),
        ('{"a": ' + "[" * 64 + "]" * 64 + "}", "result: must be nested at most 64 levels deep"),
    ],
)
def test_a_document_that_the_database_could_not_hold_is_left_out(value: str, reason: str) -> None:
    message, (flaw,) = topics.COMMAND_RESULT.read(result(value))
    assert message.result is None
    assert f"{flaw.field}: {flaw.rule}".startswith(reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"a": "\\ud800"}', "message: Invalid JSON: unexpected end of hex escape"),
        ('{"a": ' + "[" * 1000 + "]" * 1000 + "}", "message: Invalid JSON: recursion limit exceeded"),
    ],
)
def test_a_document_that_is_no_json_takes_its_message_with_it(value: str, reason: str) -> None:
    assert refusal(topics.COMMAND_RESULT, result(value)).startswith(reason)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ('{"a": "\\\\u0000"}', {"a": r"\u0000"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        ('{"a": [null, {"b": null}]}', {"a": [None, {"b": None}]}),
        ('{"a": "' + "x" * 32760 + '"}', {"a": "x" * 32760}),
        ('{"a": [' + ",".join(["1e-300"] * 4600) + "]}", {"a": [1e-300] * 4600}),
        ('{"a": [0.12345678901234567890, -0.0, 1e20]}', {"a": [0.12345678901234568, -0.0, 1e20]}),
    ],
)
def test_an_unusual_document_is_taken_as_it_is(value: str, document: dict[str, Any]) -> None:
    assert topics.COMMAND_RESULT.decode(result(value)).result == document


def test_the_deepest_document_comes_back_in_an_answer() -> None:
    document = '{"a": ' * messages.MAX_DOCUMENT_DEPTH + "1" + "}" * messages.MAX_DOCUMENT_DEPTH
    payload = request(request_id='"r"', device='"k"', overrides=document)
    changed = admin.ConfigSetResult(
        client_id="k", version=1, changed=True, document=admin.CONFIG_SET.topic.decode(payload).overrides
    )
    answer = admin.Answer(ok=True, result=changed.model_dump(mode="json"))

    assert admin.REPLY.decode(admin.REPLY.encode(answer)) == answer


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_field_that_an_operation_does_not_have_is_refused(operation: Operation[Any, Any]) -> None:
    reasons = refusal(operation.topic, request(request_id='"r"', modle='"x"')).split("; ")

    assert "modle: is unknown" in reasons


def test_a_field_of_a_nested_value_is_named_with_its_path() -> None:
    payload = request(request_id='"r"', model='"m"', tags='["good", "bad tag"]')

    assert refusal(admin.DEVICE_ADD.topic, payload).startswith("tags.1: must be 1 to 50 of a-z, A-Z, 0-9")


@pytest.mark.parametrize("request_id", ['""', '"' + "x" * 65 + '"', '"a b"', '"\\n"', "1"])
def test_a_request_id_is_short_and_printable(request_id: str) -> None:
    assert refusal(admin.MODEL_LIST.topic, request(request_id=request_id)).startswith("request_id: ")


def setting(number: str) -> bytes:
    return f'{{"request_id": "r", "device": "d", "overrides": {{"a": [1, {{"b": {number}}}]}}}}'.encode()


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("1e308", "1e308: a number of 1e16 or more must be an integer in digits"),
        ("-1E16", "-1E16: a number of 1e16 or more must be an integer in digits"),
        ("9999999999999999.0", "9999999999999999.0: a number of 1e16 or more must be"),
        ("-0.0", "-0.0: zero must have no sign"),
        ("-0", "-0: zero must have no sign"),
        ("-0e7", "-0e7: zero must have no sign"),
        ("0.1234567890123456789", "0.1234567890123456789: would become 0.12345678901234568, the nearest double"),
        ("9007199254740993.5", "9007199254740993.5: would become 9007199254740994.0, the nearest double"),
        ("1e-400", "1e-400: would become 0.0, the nearest double"),
        ("1e-" + "9" * 30, f"1e-{'9' * 30}: would become 0.0, the nearest double"),
    ],
)
def test_a_number_that_would_be_changed_is_refused_with_its_place_and_the_rule(number: str, rule: str) -> None:
    assert refusal(admin.CONFIG_SET.topic, setting(number)).startswith(f"overrides.a[1].b: {rule}")


@pytest.mark.parametrize(
    "number",
    ["9007199254740993", "-" + "9" * 400, "0.1", "1.0", "1E2", "0.10", "1e-300", "5e-324", "1e15", "0.0", "0"],
)
def test_a_number_that_comes_out_as_it_went_in_is_taken(number: str) -> None:
    overrides = admin.CONFIG_SET.topic.decode(setting(number)).overrides
    assert repr(overrides["a"][1]["b"]) == repr(json.loads(number))  # type: ignore[index, call-overload]
