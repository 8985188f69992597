"""Text that means something to a database, a terminal, a log, a path or a page, in every text field there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from pydantic import ConfigDict, ValidationError

from cli.client import Admin, AnswerError
from dev.database import run
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import SERVICES, System
from shared.errors import ConflictError, InvalidInputError, MessageRefusedError, NotFoundError
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Operation, Request
from shared.protocol.messages import LogLevel
from tests.integration.test_tool import environment, mdm
from tests.raw import RawDevice

__all__ = ["environment"]

NASTY: Final = {
    "SQL": "x'; DROP TABLE mdm.devices; --",
    "SQL LIKE": "%_%",
    "a path": "../../../../etc/passwd",
    "a URL's path": "..%2f..%2fetc%2fpasswd",
    "a line of a log": 'x\n{"event": "forged", "level": "info"}',
    "a terminal's command": "x\x1b[2J\x9b2J",
    "another direction": "x\u202etxt.exe",
    "NUL": "x\x00y",
    "a page": "<script>alert(1)</script>",
    "a format": "%s%n{0}{secret}$" + "{jndi:ldap://x}",
    "half a character": "x\ud800",
    "a topic": "+/#/$share/x/#",
    "long": "x" * 50_000,
}
SENDABLE: Final = {name: text for name, text in NASTY.items() if name != "half a character"}
LINES: Final = sorted(set(NASTY) - {"a line of a log", "a terminal's command", "NUL", "long", "half a character"})
"""Those that a line of text may be, which must then come back as they are."""


KNOWN: Final[dict[str, object]] = {
    "tag": "up",
    "name": "hall",
    "role": "viewer",
    "password": "p" * 43,
    "uid": "a0b1c2d3e4f5",
    "claim": "claim-00000000",
    "batch_id": str(UUID(int=1)),
    "upload_id": str(UUID(int=1)),
    "version": "1.0.0",
    "chip": "esp32",
    "sha256": "0" * 64,
    "fingerprint": "0" * 64,
    "public_key": "A" * 43 + "=",
    "data": "AA==",
    "document": {},
    "overrides": {},
    "id": 1,
    "number": 1,
    "text": "hall",
    "rollout": 1,
    "offset": 0,
    "size_bytes": 1024,
    "devices": [],
    "condition": "silent",
    "url": "https://localhost/hook",
    "expression": "0 0 29 2 *",
}
"""A value for each field that an operation demands, but for the names of a device and a model."""
HANDLED: Final = {"done", InvalidInputError.code, NotFoundError.code, ConflictError.code}
SELECTORS: Final = {"device", "tag", "model", "all"}
"""Where an operation has all of these, exactly one is to be set."""


class Anything(Request):
    """A request with any fields, also such as its operation refuses."""

    model_config = ConfigDict(extra="allow")

    request_id: Any


def _listed(inner: Callable[[str], object], text: str) -> object:
    return [inner(text)]


def _under(name: str, inner: Callable[[str], object], text: str) -> object:
    return {name: inner(text)}


def places(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[Callable[[str], object]]:
    """Yield for each place that may hold text how to make the whole value with a text there."""
    if "$ref" in schema:
        yield from places(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for choice in schema.get("anyOf", []):
        yield from places(choice, definitions)
    match schema.get("type"):
        case "string":
            yield lambda text: text
        case "array":
            for inner in places(schema["items"], definitions):
                yield partial(_listed, inner)
        case "object" if "properties" in schema:
            for name, field in schema["properties"].items():
                for inner in places(field, definitions):
                    yield partial(_under, name, inner)
        case "object":
            yield lambda text: {text: text}


def valid(operation: Operation[Any, Any], names: dict[str, object], but: str = "") -> dict[str, object]:
    """Return the fields of a request that its operation takes, if field `but` is set to what it should be."""
    fields = operation.request.model_fields
    known = KNOWN | names
    found = {name: known[name] for name, field in fields.items() if field.is_required() and name != "request_id"}
    if operation is admin.CONFIG_ROLLBACK:
        found["version"] = 1
    if "all" in fields and "device" in fields and but not in SELECTORS:
        found["device"] = known["device"]
    return found


def nasty(
    operation: Operation[Any, Any], names: dict[str, object], texts: Iterable[str]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield requests that are valid but for one nasty text each, and the name of its field."""
    schema = operation.request.model_json_schema()
    for name, field in schema["properties"].items():
        for place in places(field, schema.get("$defs", {})):
            for text in texts:
                yield name, {"request_id": uuid4().hex, **valid(operation, names, name), name: place(text)}


def is_taken(operation: Operation[Any, Any], request: dict[str, object]) -> bool:
    """Say whether a request keeps its operation's rules for fields, so that it gets as far as a handler."""
    try:
        operation.request.model_validate(request)
    except ValidationError:
        return False
    return True


def test_nasty_text_gets_as_far_as_the_handlers() -> None:
    names: dict[str, object] = {"device": "iotdevice-blink-00000000", "model": "blink", "code": "blink"}
    reached: set[tuple[str, str]] = set()
    requests = 0
    for operation in admin.OPERATIONS.values():
        assert is_taken(operation, {"request_id": "1", **valid(operation, names)}), operation.name
        for field, request in nasty(operation, names, SENDABLE.values()):
            if field != "request_id" and is_taken(operation, request):
                reached.add((operation.name, field))
                requests += 1
    assert len(reached) > 20
    assert requests > 150


async def tables(stack: Stack) -> list[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'mdm' ORDER BY 1"
    return [row["table_name"] for row in await run(stack, query)]


def assert_logs_are_whole(system: System) -> None:
    """Each line in the services' logs since their start is one that a service has written itself."""
    for service in SERVICES:
        whole, _, _ = system.services[service].log_since().rpartition(b"\n")  # the last line may be half written
        for line in whole.splitlines():
            assert json.loads(line)["event"] != "forged", line


@pytest.fixture(scope="module")
async def names(admin: Admin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, object]]:
    """The names of a model and of a device of it."""
    async with watching(admin) as events:
        fleet = Fleet(admin, events, tmp_path_factory.mktemp("names"))
        model = await fleet.model(commands=["hall"])
        device = await fleet.device(model)
        yield {"device": device.client_id, "model": model, "code": model}


@pytest.mark.parametrize("operation", admin.OPERATIONS.values(), ids=lambda operation: operation.name)
async def test_a_request_with_nasty_text_is_answered_and_breaks_nothing(
    fleet: Fleet, stack: Stack, system: System, names: dict[str, object], operation: Operation[Any, Any]
) -> None:
    before = await tables(stack)
    for _, fields in nasty(operation, names, SENDABLE.values()):
        try:
            await fleet.admin.call(operation, Anything.model_validate(fields))
            outcome = "done"
        except AnswerError as error:
            outcome = error.answer_code
        assert outcome in (HANDLED if is_taken(operation, fields) else {MessageRefusedError.code}), fields
    assert await tables(stack) == before
    await asyncio.to_thread(assert_logs_are_whole, system)


@pytest.mark.parametrize("kind", LINES)
async def test_nasty_text_that_is_taken_is_kept_as_it_is(
    fleet: Fleet, system: System, environment: dict[str, str], kind: str
) -> None:
    text = NASTY[kind]
    model = await fleet.model(name=text)
    added = await fleet.ask(admin.DEVICE_ADD, model=model, name=text)
    await fleet.ask(admin.CONFIG_SET, device=added.client_id, overrides={text: text})
    package = await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)
    async with RawDevice(package) as device:
        status = messages.Status(online=True, project=text, reset_reason=text, chip=text, ip=text)
        await device.client.publish(
            topics.STATUS.of(client_id=package.client_id), topics.STATUS.encode(status), qos=1, retain=True
        )
        line = messages.LogLine(level=LogLevel.INFO, message=text, tag=text)
        await device.send(topics.LOG, messages.Log(boot=1, first=0, lines=[line]))
        report = messages.ConfigReport(version=2, outcome=messages.ConfigOutcome.REJECTED, error=text)
        await device.send(topics.CONFIG_REPORT, report)
        await fleet.until(package, lambda view: view.config_outcome == "rejected")
    view = await fleet.show(package)
    assert view.name == text
    assert (await fleet.ask(admin.CONFIG_GET, device=package.client_id)).document[text] == text
    shown = await mdm("device", "list", "--model", model, **environment)
    assert shown.status == 0
    assert all(character.isprintable() or character == "\n" for character in shown.output)
    assert len(shown.output.splitlines()) == 2
    await asyncio.to_thread(assert_logs_are_whole, system)


@pytest.mark.parametrize("kind", sorted(set(NASTY) - set(LINES)))
def test_text_that_is_no_line_is_refused_where_a_line_is_meant(kind: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        admin.DEVICE_ADD.request.model_validate({"request_id": "1", "model": "blink", "name": NASTY[kind]})
