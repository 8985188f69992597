"""The core in C without a broker: the vectors, and what comes of each event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.sdk.core import Core, file, library
from tests.sdk.packages import CLIENT, package


def vectors(name: str) -> dict[str, Any]:
    return dict(json.loads(file(name).read_text()))


def with_key(private_key: str) -> Core:
    """Return a started device with this private key."""
    core = Core({"package": package()}, firmware_version="1.0.0")
    data = core.ffi.new("uint8_t[32]")
    assert core.lib.mdm_from_base64url(private_key.encode(), len(private_key), data, 32) == 32
    core.ffi.memmove(core.m.key, data, 32)
    assert core.lib.mdm_public_key(core.m)
    return core


def unsealed(core: Core, jwe: str) -> str | None:
    text, opened = core.ffi.new("char[]", jwe.encode()), core.ffi.new("size_t *")
    found = core.lib.mdm_unseal(core.m, text, len(jwe), opened)
    return None if found == core.ffi.NULL else bytes(core.ffi.buffer(found, opened[0])).decode()


# ---- Vectors ----


def test_it_opens_the_sealed_texts_of_the_vectors_and_no_others() -> None:
    found = vectors("jwe.json")
    for vector in found["vectors"]:
        core = with_key(vector["private_key"])
        assert core.ffi.string(core.m.public_key).decode() == vector["public_key"]
        assert unsealed(core, vector["jwe"]) == vector["plaintext"]
    for wrong in found["must_not_open"]:
        assert unsealed(with_key(found["vectors"][0]["private_key"]), wrong["jwe"]) is None, wrong["why"]


def test_its_proofs_are_those_of_the_vectors() -> None:
    ffi, lib = library()
    core = Core({"package": package()})
    for vector in vectors("proofs.json")["vectors"]:
        text = ffi.new("char[200]", b"{")
        out = ffi.new("struct mdm_out *", {"at": text + 1, "end": text + 200})
        words = [vector[name].encode() for name in ("secret", "purpose", "rotation_id")]
        assert lib.mdm_put_proof(core.m, out, b"proof", *words)
        assert json.loads(ffi.string(text) + b"}") == {"proof": vector["proof"]}


def test_its_rotation_is_that_of_the_vectors() -> None:
    found = vectors("rotation.json")
    core = with_key(found["private_key"])
    core.m.boot = 2863311530
    core.run()
    spoken = core.accept()
    prefix = f"mdm/v1/d/{CLIENT}/"
    for message in found["messages"]:
        topic, payload = message["topic"].removeprefix(prefix), json.loads(message["payload"])
        if topic.startswith("down/"):
            if topic == "down/config":
                payload["request_id"] = core.ffi.string(core.m.request_id).decode()
            spoken = core.message(topic.removeprefix("down/"), payload)
            if any(action.kind == "CONNECT" for action in spoken):
                spoken = core.accept()
            continue
        (said_now, *_) = [it for it in spoken if it.kind == "PUBLISH" and it.topic == message["topic"]]
        told = {name: value for name, value in said_now.json.items() if name != "connection"}
        if topic == "up/config/get":
            payload["request_id"] = told["request_id"]
            payload |= {"have_version": told["have_version"]} if "have_version" in told else {}
        if topic == "up/status":
            payload |= {"config_version": told["config_version"]} if "config_version" in told else {}
        assert told == payload
    assert core.slots.first.generation == 2
    assert core.ffi.string(core.slots.second.secret) == b""


def test_its_recovery_is_that_of_the_vectors() -> None:
    for vector in vectors("recovery.json")["vectors"]:
        core = with_key(vector["device_private_key"])
        data = core.ffi.new("uint8_t[32]")
        server = vector["server_public_key"].encode()
        assert core.lib.mdm_from_base64url(server, len(server), data, 32) == 32
        core.ffi.memmove(core.m.recovery.server_key, data, 32)
        core.ffi.memmove(core.m.nonce, vector["nonce"].encode() + b"\0", 33)
        text = core.ffi.new("char[500]", b"{")
        out = core.ffi.new("struct mdm_out *", {"at": text + 1, "end": text + 500})
        assert core.lib.mdm_say_recover(core.m, out)
        assert core.ffi.string(text).decode() + "}" == vector["request"]["payload"]


# ---- Reading ----


def accepted(text: bytes) -> bool:
    ffi, lib = library()
    data = ffi.from_buffer(text) if text else ffi.new("char[1]")
    return bool(lib.mdm_json_object(data, len(text), ffi.new("const char *[1]"), ffi.NULL))


def is_object(text: bytes) -> bool:
    def refuse(_name: str) -> None:
        raise ValueError

    def walk(value: object) -> None:
        if isinstance(value, str) and "\0" in value:
            raise ValueError
        for it in value if isinstance(value, list) else []:
            walk(it)
        for name, it in value.items() if isinstance(value, dict) else []:
            walk(name)
            walk(it)

    try:
        value = json.loads(text.decode("latin-1"), parse_constant=refuse)
        walk(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=6), values, max_size=5), st.data())
@example({"a": {}, "b": [[], {}]}, None)
def test_it_takes_exactly_the_texts_that_are_json(document: dict[str, Any], data: st.DataObject | None) -> None:
    text = json.dumps(document, indent=None if data is None else data.draw(st.sampled_from([None, 1]))).encode()
    if data is not None:
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, len(text) - 1))
            text = (
                text[:at]
                + data.draw(st.sampled_from([b"", b",", b'"', b"{", b"]", b"0", b"\\", b"e", b" "]))
                + text[at + 1 :]
            )
    assert accepted(text) == is_object(text)


@pytest.mark.parametrize(("depth", "good"), [(64, True), (72, True), (73, False), (100_000, False)])
def test_it_takes_no_text_that_is_too_deep(depth: int, *, good: bool) -> None:
    assert accepted(b'{"a":' * depth + b"1" + b"}" * depth) == good
    assert accepted(b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}") == good


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40), st.booleans())
def test_it_reads_a_string_as_python_does(text: str, ascii_only: bool) -> None:
    ffi, lib = library()
    data = json.dumps({"a": text}, ensure_ascii=ascii_only).encode()
    found, to = ffi.new("struct mdm_json[1]"), ffi.new("char[200]")
    names = ffi.new("const char *[2]", [ffi.new("char[]", b"a"), ffi.NULL])
    name = ffi.new("char[]", b"a")
    names[0] = name
    assert lib.mdm_json_object(ffi.from_buffer(data), len(data), names, found)
    assert lib.mdm_json_text(found, to, 200) == len(text.encode())
    assert ffi.string(to).decode() == text


@settings(max_examples=200, deadline=None)
@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9998, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_it_reads_times_as_python_does(time: datetime) -> None:
    ffi, lib = library()
    offset = time.utcoffset()
    if offset is None or offset.total_seconds() % 60:
        return
    text, ms = time.isoformat().encode(), ffi.new("int64_t *")
    assert lib.mdm_from_time(text, len(text), ms)
    whole = time.astimezone(UTC).replace(microsecond=time.microsecond // 1000 * 1000)
    assert ms[0] == round(whole.timestamp() * 1000)


@pytest.mark.parametrize(
    "text", ["", "2026-11-25", "2026-11-25T15:00:00", "2026-13-25T15:00:00Z", "2026-11-25T15:00:00+1:00"]
)
def test_it_reads_no_time_from_anything_else(text: str) -> None:
    ffi, lib = library()
    assert not lib.mdm_from_time(text.encode(), len(text), ffi.new("int64_t *"))
